"""rankbit-attention beside PyTorch and performer-pytorch in one run: one thread, f32, 8 heads of 64, thread CPU time, least of some runs.

    pip install torch==2.15.0 performer-pytorch==1.1.4
    python scripts/attention-peers.py [TOKENS]
"""
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

HEADS, DIM, SIDE, WINDOW = 8, 64, 56, 7
TOKENS = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
torch.set_num_threads(1)


def least(work, runs):
    work()
    best = float("inf")
    for _ in range(runs):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return best * 1e3


def operands(tokens, gradients=False):
    torch.manual_seed(1)
    return [torch.randn((1, HEADS, tokens, DIM), requires_grad=gradients) for _ in range(3)]


def gradient(causal):
    q, k, v = operands(TOKENS, True)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    upstream = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, (q, k, v), upstream, retain_graph=True)


def windows():
    """Masked attention over the rows of the grid that each row of queries can see."""
    q, k, v = (x.reshape(1, HEADS, SIDE, SIDE, DIM) for x in operands(SIDE * SIDE))
    start = [min(max(i - WINDOW // 2, 0), SIDE - WINDOW) for i in range(SIDE)]
    mask = torch.tensor([[start[i] <= j < start[i] + WINDOW for j in range(SIDE)] for i in range(SIDE)])
    mask = mask[:, None, :].expand(SIDE, WINDOW, SIDE).reshape(SIDE, WINDOW * SIDE)

    def work():
        for i in range(SIDE):
            rows = slice(start[i], start[i] + WINDOW)
            F.scaled_dot_product_attention(q[:, :, i], k[:, :, rows].flatten(2, 3), v[:, :, rows].flatten(2, 3), attn_mask=mask)

    return work


def elu():
    q, k, v = operands(TOKENS)

    def work():
        a, b = F.elu(q) + 1, F.elu(k) + 1
        return a @ (b.transpose(-1, -2) @ v) / (a @ b.sum(-2, keepdim=True).transpose(-1, -2))

    return work


def performer():
    from performer_pytorch import FastAttention

    q, k, v = operands(TOKENS)
    attention = FastAttention(dim_heads=DIM, nb_features=256)
    return lambda: attention(q, k, v)


def toeplitz(dense):
    """One Toeplitz matrix for all heads, times their values."""
    _, _, v = operands(TOKENS)
    c = torch.exp(-0.01 * torch.arange(1 - TOKENS, TOKENS).abs().float())
    if dense:
        matrix = torch.stack([c[TOKENS - 1 - i : 2 * TOKENS - 1 - i] for i in range(TOKENS)])
        return lambda: matrix @ v
    column = torch.cat([c[:TOKENS].flip(0), torch.zeros(1), c[TOKENS:].flip(0)])

    def work():
        spectrum = torch.fft.rfft(column)[:, None] * torch.fft.rfft(v, n=2 * TOKENS, dim=2)
        return torch.fft.irfft(spectrum, n=2 * TOKENS, dim=2)[:, :, :TOKENS]

    return work


subprocess.run(["cargo", "build", "--release", "-q", "-p", "rankbit-attention", "--example", "speed"], check=True)
command = ["cargo", "run", "--release", "-q", "-p", "rankbit-attention", "--example", "speed", "--", str(TOKENS)]
lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
ours = {name.strip(): float(value.split()[0]) for name, value in ((line[:32], line[32:]) for line in lines if line[0] != "#")}
q, k, v = operands(TOKENS)
peers = {}
with torch.no_grad():
    peers["exact"] = least(lambda: F.scaled_dot_product_attention(q, k, v), 4)
    peers["exact causal"] = least(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), 4)
    peers["neighborhood 56x56, window 7"] = least(windows(), 10)
    peers["linear, elu"] = least(elu(), 10)
    peers["Toeplitz by FFT"] = least(toeplitz(False), 10)
    dense = least(toeplitz(True), 2)
    try:
        peers["FAVOR+, 256 features"] = least(performer(), 5)
    except ImportError:
        print("performer-pytorch is not installed")
peers["exact gradient"] = least(gradient(False), 2)
peers["exact causal gradient"] = least(gradient(True), 2)
print(f"{'':32} {'rankbit':>9} {'torch':>9}  ratio     (ms)")
for name, value in ours.items():
    peer = peers.get(name)
    print(f"{name:32} {value:9.2f}" + (f" {peer:9.2f}  {value / peer:.2f}" if peer else ""))
print(f"{'Toeplitz, dense':32} {'':9} {dense:9.2f}")
