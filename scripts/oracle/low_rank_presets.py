"""Kept vectors of the presets with a low-rank term: NumPy and SciPy, written from the papers' formulas alone.

    pip install numpy==2.4.6 scipy==1.17.1 safetensors==0.8.0
    python scripts/oracle/low_rank_presets.py data/minilm/model.safetensors acts.safetensors > tests/vectors/low-rank-presets.json

`acts.safetensors` is what `cargo run -p rankbit-kit --features model --example capture` writes. A corner of a real layer
(28 outputs, 40 inputs) and 120 tokens with the matching corner of its inputs' second moments, rank 5. Quantized terms are
symmetric 4-bit integers, one float32 scale a row.

Per preset: the product L.R (float64, from another root of the metric than a Cholesky factor where it has a choice),
the relative error in the preset's own norm, and the bias where there is one. Metrics are damped by 1e-4 of their mean
diagonal before a root is taken, as the crate documents.
"""
import json
import sys

import numpy as np
from scipy.linalg import lu
from safetensors.numpy import load_file

NAME = "encoder.layer.3.attention.output.dense.weight"
OUT, IN, TOKENS, RANK, ROUNDS, DAMPING = 28, 40, 120, 5, 3, 1e-4
CALDERA_ROUNDS, DENSITY = 15, 0.05


def quantize(w):
    scale = np.float32(np.abs(w).max(axis=1, keepdims=True).astype(np.float32) / np.float32(7))
    codes = np.clip(np.rint(w.astype(np.float32) / np.where(scale > 0, scale, 1)), -7, 7)
    return (codes * scale).astype(np.float64)


def ldlq(w, h):
    """QuIP's LDLQ on the grid of `quantize`: H = (I + U) D (I + U)^T, U strictly upper, from the other end's Cholesky."""
    scale = np.float32(np.abs(w).max(axis=1).astype(np.float32) / np.float32(7)).astype(np.float64)
    h = h + 0.01 * np.trace(h) / len(h) * np.eye(len(h))
    lower = np.linalg.cholesky(h[::-1, ::-1])
    upper = (lower / np.diag(lower))[::-1, ::-1]
    q = np.zeros_like(w)
    for j in range(w.shape[1]):
        fed = w[:, j] + (w[:, :j] - q[:, :j]) @ upper[:j, j]
        q[:, j] = np.clip(np.rint(fed / scale), -7, 7) * scale
    return q


def largest(e, count):
    """The `count` entries of largest modulus, in half precision; the others zero."""
    kept = np.zeros(e.size)
    at = np.argsort(-np.abs(e), axis=None)[:count]
    kept[at] = e.ravel()[at].astype(np.float16)
    return kept.reshape(e.shape)


def truncated(e, left, right):
    """[D E S]_r back through the inverses; left a vector of row weights, right a symmetric root."""
    root = np.sqrt(left)[:, None]
    u, s, v = np.linalg.svd(root * e @ right, full_matrices=False)
    return (u[:, :RANK] * s[:RANK]) @ v[:RANK] @ np.linalg.inv(right) / root


def symmetric_root(h):
    values, vectors = np.linalg.eigh(h)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def damped(h):
    return h + DAMPING * np.trace(h) / len(h) * np.eye(len(h))


def norm(e, h, rows):
    return float(np.sum(rows[:, None] * (e @ h) * e))


def main():
    w = load_file(sys.argv[1])[NAME][:OUT, :IN].astype(np.float32).astype(np.float64)
    acts = load_file(sys.argv[2])
    gram = acts[NAME + ".gram"].astype(np.float64)[:IN, :IN]
    # Tokens of that second moment, with a mean: what the crate's streaming statistics see.
    rng = np.random.default_rng(11)
    x = rng.standard_normal((TOKENS, IN)) @ symmetric_root((gram + gram.T) / 2)
    x = (x + 0.5 * np.sqrt(np.diag(gram)) * np.sign(rng.standard_normal(IN))).astype(np.float32).astype(np.float64)
    h, mean, magnitudes = x.T @ x / TOKENS, x.mean(axis=0), np.abs(x).mean(axis=0)
    rows = np.exp(rng.standard_normal(OUT)).astype(np.float32).astype(np.float64)
    rows /= rows.sum()
    ones, plain = np.ones(OUT), np.eye(IN)
    diagonal = np.diag(np.diag(h))

    def case(name, low_rank, q, form, weights, bias=None):
        e = w - q - low_rank
        found = {"name": name, "low_rank": low_rank,
                 "error": float(np.sqrt(norm(e, form, weights) / norm(w, form, weights)))}
        if bias is not None:
            found["bias"] = bias
        return found

    def under(e, form, weights=ones):
        return truncated(e, weights, symmetric_root(damped(form)))

    q, zero = quantize(w), np.zeros_like(w)
    cases = [
        case("lorc", under(w - q, plain), q, plain, ones),
        case("eora", under(w - q, h), q, h, ones),
        case("qera-diagonal", under(w - q, diagonal), q, diagonal, ones),
        case("svd-llm", under(w, h), zero, h, ones),
    ]
    scaled = np.diag(magnitudes)  # the square of diag(mean|x|^0.5)
    cases.append(case("asvd", under(w, scaled), zero, scaled, ones))
    # Unified CTR's table: rows weighted alone.
    cases.append(case("unified-ctr", truncated(w, rows, plain), zero, plain, rows))
    # LORD by its own route: eigenvectors of the outputs' covariance.
    covariance = h - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(w @ damped(covariance) @ w.T)
    u = vectors[:, np.argsort(values)[::-1][:RANK]]
    lord = u @ u.T @ w
    cases.append(case("lord", lord, zero, covariance, ones, bias=(w - lord) @ mean))

    # LoLDU: the first pivots, then what they leave, rounded.
    p, lower, upper = lu(w)
    low = p @ lower[:, :RANK] @ upper[:RANK]
    cases.append(case("loldu", low, quantize(w - low), plain, ones))
    cases.append(case("loldu-alone", low, zero, plain, ones))

    # LoftQ, algorithm 1: the least of the iterates in the plain norm.
    low, best = zero, None
    for _ in range(ROUNDS):
        q = quantize(w - low)
        low = under(w - q, plain)
        found = case("loftq", low, q, plain, ones)
        best = found if best is None or found["error"] < best["error"] else best
    cases.append(best)

    # LQ-LoRA under Fisher weights: low rank first, every half step a candidate, until a round does not improve.
    q, low, best, last = zero, zero, None, np.inf
    for _ in range(ROUNDS):
        low = under(w - q, diagonal, rows)
        steps = [(low, q)] if q.any() else []
        q = quantize(w - low)
        for l, r in [*steps, (low, q)]:
            found = case("lq-lora-fisher", l, r, diagonal, rows)
            best = found if best is None or found["error"] < best["error"] else best
        if found["error"] > last:
            break
        last = found["error"]
    cases.append(best)

    # CALDERA, algorithm 1, with factors in full precision: until a round gains less than 0.1 %.
    for name, rounded in [("caldera", quantize), ("caldera-ldlq", lambda w: ldlq(w, h))]:
        low, best, last = zero, None, np.inf
        for _ in range(CALDERA_ROUNDS):
            q = rounded(w - low)
            low = under(w - q, h)
            found = case(name, low, q, h, ones)
            best = found if best is None or found["error"] < best["error"] else best
            if found["error"] > last * (1 - 1e-3):
                break
            last = found["error"]
        cases.append(best)

    # GoDec: the entries that fit worst and the low rank, in turn, until the error rises.
    low, best, last = zero, None, np.inf
    for _ in range(ROUNDS):
        sparse = largest(w - low, int(np.ceil(DENSITY * w.size)))
        low = under(w - sparse, plain)
        found = case("rpca", low, sparse, plain, ones)
        best = found if best is None or found["error"] < best["error"] else best
        if found["error"] > last:
            break
        last = found["error"]
    cases.append(best)

    def digits(values):
        return [float(f"{value:.9g}") for value in np.ravel(values)]

    for found in cases:
        found.update({key: digits(found[key]) for key in ("low_rank", "bias") if key in found})
    json.dump({"out": OUT, "in": IN, "tokens": TOKENS, "rank": RANK, "rounds": ROUNDS,
               "caldera_rounds": CALDERA_ROUNDS, "density": DENSITY,
               "weight": digits(w), "x": digits(x), "rows": digits(rows), "cases": cases}, sys.stdout)


main()
