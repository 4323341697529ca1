"""Kept vectors for adapters of a few bits: SciPy's normal distribution and PyTorch's automatic differentiation.

    pip install numpy==2.4.6 scipy==1.17.1 torch==2.15.0
    python scripts/oracle/clustered.py > tests/vectors/clustered.json

Formulas of arXiv 2307.16867 and its released code, written anew: 500 alternations of thresholds and cell medians from
zero; latent weights normalized by mean and unbiased deviation plus 1e-5; nearest value, straight-through gradient
through the codebook and the true one through mean and deviation. In float64, so that rounding does not blur it.
"""
import json

import numpy as np
import torch
from scipy.stats import norm

OUT, IN, TOKENS = 6, 20, 5


def codebook(bits):
    values = np.zeros(2 ** bits)
    for _ in range(500):
        bounds = (values[1:] + values[:-1]) / 2
        cumulative = np.concatenate([[0.0], norm.cdf(bounds), [1.0]])
        values = norm.ppf((cumulative[1:] + cumulative[:-1]) / 2)
    return values


def main():
    rng = np.random.default_rng(51)
    latent = (rng.normal(size=(OUT, IN)) * 0.03 + 0.004).astype(np.float32)
    x = rng.normal(size=(TOKENS, IN)).astype(np.float32)
    upstream = rng.normal(size=(TOKENS, OUT)).astype(np.float32)
    cases = []
    for bits in (1, 2, 4, 8):
        book = torch.tensor(codebook(bits))
        w = torch.tensor(latent, dtype=torch.float64, requires_grad=True)
        inputs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        mean, deviation = w.mean(), w.std()
        unit = (w - mean) / (deviation + 1e-5)
        codes = (unit.detach().reshape(-1, 1) - book).abs().argmin(1)
        value = book[codes].reshape(w.shape)
        used = (value + unit - unit.detach()) * deviation + mean
        y = inputs @ used.T
        y.backward(torch.tensor(upstream, dtype=torch.float64))
        packed = bytearray()
        for at in range(0, len(codes), 8 // bits):
            packed.append(sum(int(c) << (bits * i) for i, c in enumerate(codes[at:at + 8 // bits])))
        cases.append({"bits": bits, "codebook": book.tolist(), "packed": packed.hex(), "mean": mean.item(),
                      "deviation": deviation.item(), "y": y.detach().ravel().tolist(),
                      "input_gradient": inputs.grad.ravel().tolist(), "latent_gradient": w.grad.ravel().tolist()})
    print(json.dumps({"out": OUT, "in": IN, "tokens": TOKENS, "latent": latent.ravel().tolist(),
                      "x": x.ravel().tolist(), "upstream": upstream.ravel().tolist(), "cases": cases}))


if __name__ == "__main__":
    main()
