"""Kept vectors for rank-augmented linear attention and the rank meter, from PyTorch and NumPy.

    pip install numpy==2.4.6 torch==2.15.0
    python scripts/oracle/rank_augmented.py > tests/vectors/rank_augmented.json

The dense n x n form of the paper's formulas in float64, its softmax, elu and gradients PyTorch's own; numerical ranks from
numpy.linalg.matrix_rank.
"""
import json

import numpy as np
import torch
import torch.nn.functional as F

from attention import pack


def rotate(x, plane):
    height, width = plane
    d = x.shape[-1]
    frequency = 1.0 / 10000 ** torch.linspace(0, 1, d // 4, dtype=torch.float64)
    row = torch.arange(height).repeat_interleave(width)
    column = torch.arange(width).repeat(height)
    angles = torch.cat([row[:, None] * frequency, column[:, None] * frequency], dim=1)
    turned = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous()) * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2)


def rala(query, key, value, plane=None, local=None, gate=None):
    q, k = F.elu(query) + 1, F.elu(key) + 1
    n, s, d = q.shape[2], k.shape[2], q.shape[3]
    alpha = s * F.softmax(q.mean(dim=2, keepdim=True) @ k.transpose(2, 3) / d**0.5, dim=-1)
    turn = (lambda x: rotate(x, plane)) if plane else (lambda x: x)
    weights = alpha / s * (turn(q) @ turn(k).transpose(2, 3))
    total = (alpha / s * (q @ k.transpose(2, 3))).sum(dim=3, keepdim=True)
    y = weights @ value / (total + 1e-6)
    y = y if local is None else y + local
    return y if gate is None else y * gate


def case(seed, sizes, plane, extra):
    torch.manual_seed(seed)
    batch, heads, n, s, d, e = sizes
    shapes = {"query": (n, d), "key": (s, d), "value": (s, e)} | {name: (n, e) for name in extra}
    leaves = {name: torch.randn(batch, heads, *shape, dtype=torch.float64).requires_grad_() for name, shape in shapes.items()}
    output = rala(plane=plane, **leaves)
    upstream = torch.randn_like(output)
    (output * upstream).sum().backward()
    return {
        "operands": [pack(x) for x in leaves.values()],
        "gradients": [pack(x.grad) for x in leaves.values()],
        "names": list(leaves),
        "plane": plane,
        "upstream": pack(upstream),
        "output": pack(output),
    }


def meter(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(9, 3)) @ rng.normal(size=(3, 5)) + 1e-3 * rng.normal(size=(9, 5))
    tolerances = [1e-1, 1e-2, 1e-6]
    return {
        "features": pack(torch.from_numpy(x)[None, None]),
        "tolerances": tolerances,
        "numerical": [int(np.linalg.matrix_rank(x, rtol=t)) for t in tolerances],
    }


if __name__ == "__main__":
    print(json.dumps({
        "attention": [
            case(0, (2, 2, 5, 7, 3, 4), None, []),
            case(1, (1, 2, 6, 6, 8, 3), (2, 3), ["local", "gate"]),
            case(2, (1, 1, 4, 4, 12, 5), (4, 1), ["gate"]),
            case(3, (1, 2, 3, 3, 2, 2), None, ["local"]),
        ],
        "meter": meter(4),
    }))
