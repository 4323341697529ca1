"""Kept vectors for RAVLT's block, CRAFT's hybrid fusion and VBReg's inlier search, from PyTorch.

    pip install numpy==2.4.6 torch==2.15.0
    python scripts/oracle/vision_networks.py > tests/vectors/vision-networks.json

Convolutions, normalizations, softmax, elu, gelu, cosine similarity, top-k order and SVD are PyTorch's own functions in float64,
gradients autograd's. Leaves are drawn in the crate's layouts and permuted to PyTorch's, as in vision_blocks.py.
"""
import json

import torch
import torch.nn.functional as F

from attention import pack
from vision_blocks import case, conv, layer, rows


def normal(x, scale, shift, epsilon):
    return F.layer_norm(x, x.shape[-1:], scale.flatten(), shift.flatten(), epsilon)


def hybrid_fusion(low, high, first_scale, first_shift, query, query_kernel, pair, pair_kernel, temperature, output, *rest):
    second_scale, second_shift, inner, inner_kernel, outer = rest
    b, h, w, c = low.shape
    heads = temperature.shape[3]
    depthwise = lambda x, kernel: conv(x, kernel, groups=x.shape[3])
    q = depthwise(layer(high, query), query_kernel)
    k, v = depthwise(layer(normal(low, first_scale, first_shift, 1e-5), pair), pair_kernel).chunk(2, 3)
    split = lambda x: x.permute(0, 3, 1, 2).reshape(b, heads, c // heads, h * w)
    q, k, v = F.normalize(split(q), dim=-1), F.normalize(split(k), dim=-1), split(v)
    weights = F.softmax(q @ k.transpose(2, 3) * temperature.reshape(1, heads, 1, 1), -1)
    mixed = (weights @ v).reshape(b, c, h, w).permute(0, 2, 3, 1)
    x = low + layer(mixed, output)
    first, second = depthwise(layer(normal(x, second_scale, second_shift, 1e-5), inner), inner_kernel).chunk(2, 3)
    return x + layer(F.gelu(first) * second, outer)


def turned(x, h, w):
    """Complex numbers turned by the row in the first half of a head's channels, by the column in the second."""
    quarter = x.shape[3] // 4
    frequency = 10000.0 ** -torch.linspace(0, 1, quarter, dtype=torch.float64)
    row, column = torch.arange(h, dtype=torch.float64), torch.arange(w, dtype=torch.float64)
    angle = torch.cat([
        (row[:, None, None] * frequency).expand(h, w, quarter), (column[None, :, None] * frequency).expand(h, w, quarter),
    ], 2).reshape(h * w, 2 * quarter)
    pairs = torch.view_as_complex(x.unflatten(3, (2 * quarter, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(3)


def rank_block(heads, softmax):
    def block(x, place, place_bias, first_scale, first_shift, projection, projection_bias, local, local_bias, *rest):
        output, output_bias, second_scale, second_shift, inner, inner_bias, near, near_bias, outer, outer_bias = rest
        b, h, w, c = x.shape
        x = x + conv(x, place, place_bias, groups=c)
        q, k, v, gate = layer(normal(x, first_scale, first_shift, 1e-6), projection, projection_bias).chunk(4, 3)
        close = conv(v, local, local_bias, groups=c)
        split = lambda x: x.reshape(b, h * w, heads, c // heads).transpose(1, 2)
        q, k, v = split(q), split(k), split(v)
        if softmax:
            seen = F.scaled_dot_product_attention(turned(q, h, w), turned(k, h, w), v)
        else:
            q, k, n = F.elu(q) + 1, F.elu(k) + 1, h * w
            weights = F.softmax(q.mean(2, keepdim=True) @ k.transpose(2, 3) / (c // heads) ** 0.5, 3).transpose(2, 3)
            k = k * weights * n
            kv = turned(k, h, w).transpose(2, 3) @ v / n
            seen = turned(q, h, w) @ kv / (q @ k.mean(2, keepdim=True).transpose(2, 3) + 1e-6)
        seen = seen.transpose(1, 2).reshape(b, h, w, c)
        x = x + layer((seen + close) * gate, output, output_bias)
        t = F.gelu(layer(normal(x, second_scale, second_shift, 1e-6), inner, inner_bias))
        return x + layer(t + conv(t, near, near_bias, groups=t.shape[3]), outer, outer_bias)

    return block


def inliers(n, inside, layers, size, count):
    """The whole search on pairs of which the first `inside` move rigidly."""
    torch.manual_seed(21)
    randn = lambda *shape: torch.randn(*shape, dtype=torch.float64)
    c, sigma, feature_sigma, radius, threshold = 4, 0.3, 0.8, 0.5, 0.2
    x = randn(n, 3)
    rotation = torch.linalg.qr(randn(3, 3))[0]
    rotation = rotation * torch.sign(torch.linalg.det(rotation))
    y = x @ rotation.t() + randn(3) + 0.02 * randn(n, 3)
    y[inside:] = randn(n - inside, 3)
    scores = randn(n)
    scores[:inside] += 2
    distance = lambda p: torch.cdist(p, p, compute_mode="donot_use_mm_for_euclid_dist")
    beta = torch.clamp(1 - (distance(x) - distance(y)) ** 2 / sigma**2, min=0)
    largest = ((scores[:, None] >= scores[None]) | (distance(x) >= radius)).all(1)
    order = torch.argsort(torch.where(largest, scores, -torch.inf), descending=True, stable=True)
    seeds = order[: min(count, int(largest.sum()))]
    cosine = lambda f: F.cosine_similarity(f[:, None], f[None], dim=2)
    packed, maps, feature = [], [], None
    for _ in range(layers):
        query, key, feature = randn(n, c), randn(n, c), randn(n, c)
        feature[:inside] += 2
        layers_of = [randn(c, c), randn(c), randn(c, c), randn(c)]
        scores_of = beta * (F.linear(query, *layers_of[:2]) @ F.linear(key, *layers_of[2:]).t()) / c**0.5
        attention = F.softmax(scores_of, 1).fill_diagonal_(0)
        near = (torch.clamp(1 - (1 - cosine(feature)) / feature_sigma**2, 0, 1) * beta).fill_diagonal_(0)
        maps = [near[seeds], attention[seeds]] + maps
        packed.append({name: pack(value) for name, value in zip(
            ["query", "key", "after", "query_layer", "query_bias", "key_layer", "key_bias"],
            [value.reshape(1, 1, -1, c) for value in [query, key, feature, *layers_of]],
        )})
    votes, best = torch.zeros(len(seeds), n, dtype=torch.float64), None
    own = F.one_hot(seeds, n).bool()
    first = lambda x: torch.argsort(torch.where(own, -torch.inf, x), dim=1, descending=True, stable=True)[:, : size - 1]
    for m, rows_of in enumerate(maps, 1):
        votes.scatter_add_(1, first(rows_of), torch.ones(len(seeds), size - 1, dtype=torch.float64))
        p, z = votes / m, 1.96
        bound = (p + z**2 / (2 * m) - z * torch.sqrt(p * (1 - p) / m + z**2 / (4 * m**2))) / (1 + z**2 / m)
        best = bound if best is None else torch.maximum(best, bound)
    groups = torch.cat([seeds[:, None], first(best)], 1)
    found = []
    for group in groups:
        weights = beta[group][:, group] * torch.clamp(1 - (1 - cosine(feature[group])) / feature_sigma**2, min=0)
        weights.fill_diagonal_(0)
        v = torch.ones(size, dtype=torch.float64)
        for _ in range(10):
            v = weights @ v
            v = v / (v.norm() + 1e-6)
        v = v / (v.sum() + 1e-6)
        centre = lambda p: (v[:, None] * p[group]).sum(0) / v.sum()
        covariance = (x[group] - centre(x)).t() @ torch.diag(v) @ (y[group] - centre(y))
        u, _, vt = torch.linalg.svd(covariance)
        flip = torch.diag(torch.tensor([1, 1, torch.sign(torch.linalg.det(vt.t() @ u.t()))], dtype=torch.float64))
        turn = vt.t() @ flip @ u.t()
        shift = centre(y) - turn @ centre(x)
        d = (x @ turn.t() + shift - y).norm(dim=1)
        found.append((((d < threshold) * (1 - d**2 / threshold**2)).mean(), turn, shift, d < threshold))
    fitness, turn, shift, near = max(found, key=lambda entry: entry[0])
    four = lambda value: pack(value.reshape(1, 1, -1, value.shape[-1]))
    return {
        "source": four(x), "target": four(y), "scores": four(scores), "layers": packed,
        "options": [sigma, feature_sigma, radius, threshold], "size": size, "count": count, "seeds": seeds.tolist(),
        "maps": pack(torch.stack(maps)[:, None]), "bounds": four(best), "groups": groups.tolist(),
        "fitness": float(fitness), "rotation": four(turn), "translation": four(shift),
        "inliers": torch.nonzero(near).flatten().tolist(), "feature": four(feature),
    }


if __name__ == "__main__":
    kernel = lambda size, side=3: (size, side, side, 1)

    def fusion(c, f, heads):
        image = (2, 3, 4, c)
        start = [image, image, *rows(c, c), (1, 1, c, c), kernel(c), (1, 1, 2 * c, c), kernel(2 * c), *rows(heads)]
        return start + [(1, 1, c, c), *rows(c, c), (1, 1, 2 * f, c), kernel(2 * f), (1, 1, c, f)]

    def ranks(c, f):
        start = [(2, 3, 4, c), kernel(c), *rows(c, c, c), (1, 1, 4 * c, c), *rows(4 * c), kernel(c, 5), *rows(c)]
        return start + [(1, 1, c, c), *rows(c, c, c), (1, 1, f, c), *rows(f), kernel(f), *rows(f), (1, 1, c, f), *rows(c)]

    print(json.dumps({
        "hybrid-fusion": [case(1, fusion(8, 5, 2), hybrid_fusion, 0.7), case(2, fusion(6, 3, 1), hybrid_fusion, 0.7)],
        "rank-block": [
            case(3 + i, ranks(8 * heads, 6), rank_block(heads, softmax), 0.6)
            for i, (heads, softmax) in enumerate([(1, False), (2, False), (2, True)])
        ],
        "inliers": [inliers(40, 22, 3, 8, 6)],
    }))
