"""Kept vectors for the attention crate, from PyTorch.

    pip install numpy==2.4.6 torch==2.15.0
    python scripts/oracle/attention.py > tests/vectors/attention.json

Exact attention and its gradients: torch.nn.functional.scaled_dot_product_attention in float64 with autograd; a causal
case of fewer queries than keys through an explicit mask, the last query seeing all keys.
"""
import json

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


print(json.dumps({"exact": [
    exact(0, 1, 2, 2, 7, 7, 4, 4, False, False),
    exact(1, 2, 2, 1, 5, 9, 3, 2, True, False),
    exact(2, 1, 1, 1, 6, 4, 8, 3, False, True),
    exact(3, 1, 4, 2, 3, 5, 4, 5, True, True),
]}))
