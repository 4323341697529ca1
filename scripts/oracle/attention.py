"""Kept vectors for the attention crate, from PyTorch.

    pip install numpy==2.4.6 torch==2.15.0
    python scripts/oracle/attention.py > tests/vectors/attention.json

Exact attention and its gradients: torch.nn.functional.scaled_dot_product_attention in float64 with autograd; a causal
case of fewer queries than keys through an explicit mask, the last query seeing all keys.

Neighborhood attention: NATTEN's definition (docs/operations of version 0.21) in NumPy, token by token, no tiles.
"""
import itertools
import json

import numpy as np
import torch
import torch.nn.functional as F


def pack(x):
    return {"shape": list(x.shape), "data": [float(f"{value:.15g}") for value in x.detach().flatten().tolist()]}


def exact(seed, batch, heads, kv_heads, n, s, d, e, causal, biased):
    torch.manual_seed(seed)
    shapes = {"q": (batch, heads, n, d), "k": (batch, kv_heads, s, d), "v": (batch, kv_heads, s, e)}
    t = {name: torch.randn(shape, dtype=torch.float64).requires_grad_() for name, shape in shapes.items()}
    bias = torch.randn((batch, heads, n, s), dtype=torch.float64) if biased else None
    mask = bias if biased else torch.zeros((n, s), dtype=torch.float64)
    if causal:
        hidden = torch.ones((n, s), dtype=torch.bool).triu(1 + s - n)
        mask = mask.masked_fill(hidden, float("-inf"))
    out = F.scaled_dot_product_attention(t["q"], t["k"], t["v"], attn_mask=mask, enable_gqa=heads != kv_heads)
    upstream = torch.randn_like(out)
    (out * upstream).sum().backward()
    found = {name: pack(x) for name, x in t.items()} | {f"d{name}": pack(x.grad) for name, x in t.items()}
    return found | {"bias": pack(bias) if biased else None, "causal": causal, "upstream": pack(upstream), "output": pack(out)}


def window(axis, i):
    """Coordinates along one axis that coordinate i attends to."""
    length, w, s, dilation, causal = axis
    members = list(range(i % dilation, length, dilation))
    place = members.index(i)
    if causal:
        leader = min(place // s * s + s - 1, len(members) - 1)
        return members[max(leader - w + 1, 0) : place + 1]
    leader = min(place // s * s + s // 2, len(members) - 1)
    start = min(max(leader - w // 2, 0), len(members) - w)
    return members[start : start + w]


def neighborhood(seed, d, axes):
    rng = np.random.default_rng(seed)
    sizes = [axis[0] for axis in axes]
    q, k, v = (np.array([float(f"{x:.15g}") for x in rng.standard_normal(2 * np.prod(sizes) * d)]) for _ in range(3))
    q, k, v = (x.reshape([1, 2, -1, d]) for x in (q, k, v))
    out = np.zeros_like(v)
    for head in range(2):
        for at in itertools.product(*map(range, sizes)):
            i = np.ravel_multi_index(at, sizes)
            near = itertools.product(*(window(axis, x) for axis, x in zip(axes, at)))
            js = [np.ravel_multi_index(place, sizes) for place in near]
            scores = k[0, head, js] @ q[0, head, i] / np.sqrt(d)
            weights = np.exp(scores - scores.max())
            out[0, head, i] = weights / weights.sum() @ v[0, head, js]
    names = ("length", "window", "stride", "dilation", "causal")
    found = {name: pack(torch.from_numpy(x)) for name, x in dict(q=q, k=k, v=v, output=out).items()}
    return found | {"axes": [dict(zip(names, axis)) for axis in axes]}


if __name__ == "__main__":
    print(json.dumps({"exact": [
        exact(0, 1, 2, 2, 7, 7, 4, 4, False, False),
        exact(1, 2, 2, 1, 5, 9, 3, 2, True, False),
        exact(2, 1, 1, 1, 6, 4, 8, 3, False, True),
        exact(3, 1, 4, 2, 3, 5, 4, 5, True, True),
    ], "neighborhood": [
        neighborhood(0, 3, [(11, 4, 1, 2, False)]),
        neighborhood(1, 2, [(13, 5, 3, 2, True)]),
        neighborhood(2, 4, [(6, 3, 1, 1, False), (7, 3, 2, 2, False)]),
        neighborhood(3, 2, [(5, 2, 2, 1, True), (6, 5, 1, 1, False)]),
        neighborhood(4, 2, [(3, 2, 1, 1, True), (4, 2, 1, 2, False), (5, 3, 3, 1, False)]),
    ]}))
