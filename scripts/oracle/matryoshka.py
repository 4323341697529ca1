"""Kept vectors for nested orthogonal bases of keys and values, from PyTorch and NumPy.

    pip install numpy==2.4.6 torch==2.15.0
    python scripts/oracle/matryoshka.py > tests/vectors/matryoshka.json

Attention at ranks through torch.nn.functional.scaled_dot_product_attention of the projections of keys and values onto their
subspaces in the whole space (not in coordinates, as the crate does), Cayley's map through torch.linalg.solve, the divergence
through torch.nn.functional.kl_div, all in float64 with autograd; principal components from numpy.linalg.eigh.
"""
import json

import numpy as np
import torch
import torch.nn.functional as F

from attention import pack


def four(x):
    return pack(x.reshape(*([1] * (4 - x.dim())), *x.shape))


def attention(seed, batch, heads, kv_heads, n, s, d, e, key_ranks, value_ranks, causal):
    torch.manual_seed(seed)
    make = lambda *shape: torch.randn(shape, dtype=torch.float64)
    q, k, v = make(batch, heads, n, d), make(batch, kv_heads, s, d), make(batch, kv_heads, s, e)
    key_bases = torch.linalg.qr(make(kv_heads, d, d))[0]
    value_bases = torch.linalg.qr(make(kv_heads, e, e))[0]
    leaves = [x.requires_grad_() for x in (q, k, v, key_bases, value_bases)]

    def onto(x, bases, ranks):
        kept = torch.stack([(torch.arange(bases.shape[1]) < r).to(torch.float64) for r in ranks])
        return torch.einsum("bhnd,hdr,hr,hcr->bhnc", x, bases, kept, bases)

    mask = torch.zeros(n, s, dtype=torch.float64)
    if causal:
        mask = mask.masked_fill(torch.ones(n, s, dtype=torch.bool).triu(1 + s - n), float("-inf"))
    keys, values = onto(k, key_bases, key_ranks), onto(v, value_bases, value_ranks)
    output = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=heads != kv_heads)
    upstream = torch.randn_like(output)
    (output * upstream).sum().backward()
    return {
        "operands": [four(x) for x in leaves],
        "gradients": [four(x.grad) for x in leaves],
        "key_ranks": key_ranks,
        "value_ranks": value_ranks,
        "causal": causal,
        "upstream": pack(upstream),
        "output": pack(output),
    }


def cayley(seed, n):
    torch.manual_seed(seed)
    a = torch.randn(n, n, dtype=torch.float64).requires_grad_()
    s = a - a.T
    identity = torch.eye(n, dtype=torch.float64)
    rotation = torch.linalg.solve(identity - s, identity + s, left=False)
    upstream = torch.randn_like(rotation)
    (rotation * upstream).sum().backward()
    return {"a": four(a), "rotation": four(rotation), "upstream": four(upstream), "gradient": four(a.grad)}


def divergence(seed):
    torch.manual_seed(seed)
    teacher = 3 * torch.randn(2, 1, 3, 7, dtype=torch.float64)
    student = torch.randn(2, 1, 3, 7, dtype=torch.float64).requires_grad_()
    p, q = (F.log_softmax(x, dim=-1).reshape(-1, 7) for x in (teacher, student))
    loss = F.kl_div(q, p, reduction="batchmean", log_target=True)
    loss.backward()
    return {"teacher": pack(teacher), "student": pack(student), "loss": loss.item(), "gradient": pack(student.grad)}


def components(seed):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(40, 6)) * [5, 4, 3, 2, 1, 0.5] + 1.0).astype(np.float32).astype(np.float64)
    x = x @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    x = x.astype(np.float32).astype(np.float64)
    values, vectors = np.linalg.eigh(x.T @ x)
    return {"x": four(torch.from_numpy(x)), "values": values[::-1].tolist(), "vectors": four(torch.from_numpy(vectors[:, ::-1].copy()))}


if __name__ == "__main__":
    print(json.dumps({
        "attention": [
            attention(0, 2, 4, 2, 3, 5, 4, 3, [2, 3], [1, 2], False),
            attention(1, 1, 2, 2, 4, 6, 5, 4, [5, 1], [4, 3], True),
        ],
        "cayley": [cayley(2, 5), cayley(3, 1)],
        "divergence": divergence(4),
        "components": components(5),
    }))
