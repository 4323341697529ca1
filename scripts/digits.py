"""The data and the float weights of quant's example `digits`.

    pip install numpy==2.4.6 torch==2.15.0 scikit-learn==1.8.0
    python scripts/digits.py quant/examples/digits

Writes two files:

* `digits.bin`: the 1797 images of scikit-learn's `load_digits`, in a fixed random order, 65 bytes each: 64 pixels
  (0 to 16, row by row), then the label. The first 1200 are for training and calibration, the other 597 for tests.
* `weights.bin`: f32, little-endian: per convolution its weights, then γ, β, mean and variance of its batch norm
  (ε = 1e-5); then weights and bias of the linear layer. PyTorch's order of axes. Convolutions 3 × 3, padding 1, without
  bias:

      1 → 16, ReLU; 16 → 16, ReLU; 16 → 16, plus the first ReLU's output, ReLU; max 2 × 2;
      16 → 32, ReLU; mean over 4 × 4; linear 32 → 10

Training ends with epochs in which weights and activations of the middle layers pass through 4-bit rounding (straight
through), so that the float network is one that 4 bits can follow; the weights that are written are the float ones.
"""
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

TRAIN, EPOCHS, BATCH = 1200, 40, 50


class Round(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return torch.round(x)

    @staticmethod
    def backward(_, gradient):
        return gradient


def weight4(w):
    scale = w.detach().abs().amax(dim=(1, 2, 3), keepdim=True) / 7
    return Round.apply(w / scale).clamp(-8, 7) * scale


def activation4(x):
    scale = x.detach().max() / 15
    return Round.apply(x / scale).clamp(0, 15) * scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in [(1, 16), (16, 16), (16, 16), (16, 32)]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in [16, 16, 16, 32])
        self.linear = nn.Linear(32, 10)
        self.few_bits = False

    def layer(self, i, x):
        w = self.convolutions[i].weight
        if self.few_bits and i > 0:
            w, x = weight4(w), activation4(x)
        return self.norms[i](F.conv2d(x, w, padding=1))

    def forward(self, x):
        first = F.relu(self.layer(0, x))
        x = F.relu(self.layer(1, first))
        x = F.relu(self.layer(2, x) + first)
        x = F.relu(self.layer(3, F.max_pool2d(x, 2)))
        return self.linear(F.avg_pool2d(x, 4).flatten(1))


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean().item()


def main(folder):
    torch.manual_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = digits.images[order].astype(np.uint8)
    labels = digits.target[order].astype(np.uint8)
    records = np.concatenate([images.reshape(-1, 64), labels[:, None]], axis=1)
    (folder / "digits.bin").write_bytes(records.tobytes())

    x = torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(labels, dtype=torch.long)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=EPOCHS * TRAIN // BATCH)
    for epoch in range(EPOCHS):
        net.train()
        net.few_bits = epoch >= EPOCHS // 2 and epoch % 2 == 0
        for batch in torch.randperm(TRAIN).split(BATCH):
            dy, dx = (int(v) for v in torch.randint(-1, 2, (2,)))
            shifted = torch.roll(x[batch], (dy, dx), (2, 3))
            optimizer.zero_grad()
            F.cross_entropy(net(shifted), y[batch], label_smoothing=0.05).backward()
            optimizer.step()
            schedule.step()
    for few_bits in [True, False]:
        net.few_bits = few_bits
        train, test = accuracy(net, x[:TRAIN], y[:TRAIN]), accuracy(net, x[TRAIN:], y[TRAIN:])
        print(f"{'4 bits' if few_bits else 'float'}: {train:.4f} of the training images, {test:.4f} of the others")

    parts = []
    for convolution, norm in zip(net.convolutions, net.norms):
        parts += [convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var]
    parts += [net.linear.weight, net.linear.bias]
    weights = np.concatenate([part.detach().numpy().ravel() for part in parts]).astype("<f4")
    (folder / "weights.bin").write_bytes(weights.tobytes())


main(Path(sys.argv[1]))
