"""Kept vectors for feature maps and Scatterbrain, from performer-pytorch and PyTorch.

    pip install torch==2.15.0 performer-pytorch==1.1.4
    python scripts/oracle/attention_features.py > tests/vectors/attention-features.json

FAVOR+ with a given projection: softmax_kernel (its eps set to 0) and linear_attention of performer-pytorch in float64; hyperbolic
features through the projection and its negative. elu + 1 and the Taylor polynomial: their dense matrices in PyTorch, causal too.

Scatterbrain, given projection and hashes: equal clusters along given directions of lifted vectors, as in the published code; each
round adds (exp(logit) - features)/count for its pairs, count the rounds that found the pair; then one division by the row's sum.
"""
import json

import torch
import torch.nn.functional as F
from performer_pytorch.performer_pytorch import linear_attention, softmax_kernel

torch.set_default_dtype(torch.float64)


def pack(x):
    return {"shape": list(x.shape), "data": [float(f"{value:.15g}") for value in x.flatten().tolist()]}


def operands(seed, heads, n, s, d, e):
    torch.manual_seed(seed)
    return torch.randn(1, heads, n, d), torch.randn(1, heads, s, d), torch.randn(1, heads, s, e)


def signed(w, hyperbolic):
    return torch.cat([w, -w]) if hyperbolic else w


def performer(seed, heads, n, s, d, e, draws, hyperbolic):
    q, k, v = operands(seed, heads, n, s, d, e)
    w = torch.randn(draws, d)
    options = dict(projection_matrix=signed(w, hyperbolic), eps=0.0)
    out = linear_attention(softmax_kernel(q, is_query=True, **options), softmax_kernel(k, is_query=False, **options), v)
    return dict(q=pack(q), k=pack(k), v=pack(v), projection=pack(w), hyperbolic=hyperbolic, output=pack(out))


def dense(seed, heads, n, s, d, e, causal):
    q, k, v = operands(seed, heads, n, s, d, e)
    x = q @ k.transpose(-1, -2) / d**0.5
    found = dict(q=pack(q), k=pack(k), v=pack(v), causal=causal)
    for name, weights in dict(elu=(F.elu(q) + 1) @ (F.elu(k) + 1).transpose(-1, -2), taylor=1 + x + x * x / 2).items():
        weights = weights.tril() if causal else weights
        found[name] = pack(weights @ v / weights.sum(-1, keepdim=True))
    return found


def clusters(x, hashes, count):
    """Tokens of each cluster and round: [rounds, heads, count, size]."""
    order = torch.einsum("hnd,rd->rhn", x, hashes).argsort(-1)
    return order.reshape(len(hashes), x.shape[0], count, -1)


def scatterbrain(seed, heads, n, d, e, draws, hyperbolic, size, rounds):
    q, k, v = operands(seed, heads, n, n, d, e)
    w, hashes = torch.randn(draws, d), torch.randn(rounds, d + 2)
    square = (q**2).sum(-1, keepdim=True), (k**2).sum(-1, keepdim=True)
    radius = square[0].amax(-2, keepdim=True) + square[1].amax(-2, keepdim=True)
    zero = torch.zeros_like(square[0])
    lifted = torch.cat([q, zero, (radius - square[0]).sqrt()], -1), torch.cat([k, (radius - square[1]).sqrt(), zero], -1)
    of_queries, of_keys = (clusters(x[0], hashes, n // size) for x in lifted)
    found = torch.zeros(rounds, heads, n, n)
    for r in range(rounds):
        for h in range(heads):
            for rows, columns in zip(of_queries[r, h], of_keys[r, h]):
                found[r, h, rows[:, None], columns] = 1
    count = found.sum(0)

    def phi(x):
        projected = x / d**0.25 @ signed(w, hyperbolic).T
        return (projected - (x**2).sum(-1, keepdim=True) / (2 * d**0.5)).exp() / projected.shape[-1] ** 0.5

    low_rank = phi(q) @ phi(k).transpose(-1, -2)
    exact = (q @ k.transpose(-1, -2) / d**0.5).exp()
    each = found * ((exact - low_rank)[0] / count.clamp(min=1))
    weights = low_rank + each.sum(0)
    out = weights @ v / weights.sum(-1, keepdim=True)
    pairs = [[torch.nonzero(row).flatten().tolist() for row in head] for head in count]
    parts = dict(q=pack(q), k=pack(k), v=pack(v), projection=pack(w), hyperbolic=hyperbolic, pairs=pairs)
    return parts | dict(weights=pack(weights), output=pack(out))


if __name__ == "__main__":
    print(json.dumps({
        "performer": [performer(0, 2, 9, 12, 4, 3, 10, False), performer(1, 1, 33, 33, 6, 2, 7, True)],
        "dense": [dense(2, 2, 7, 11, 5, 3, False), dense(3, 1, 35, 35, 3, 2, True)],
        "scatterbrain": [scatterbrain(4, 2, 16, 4, 3, 12, False, 4, 2), scatterbrain(5, 1, 36, 6, 2, 9, True, 6, 3)],
    }))
