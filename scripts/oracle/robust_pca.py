"""Kept vectors of robust principal component analysis: NumPy, another algorithm than the crate's.

    pip install numpy==2.4.6
    python scripts/oracle/robust_pca.py > tests/vectors/robust-pca.json

Three matrices (tall, wide, square: low rank, spikes and some noise), the weight of the sparse term 1/sqrt(max(m, n))
and once twice that. Solved by Douglas-Rachford splitting of

    minimize |L|_* + w |S|_1   subject to   L + S = A

with one fixed step, until nothing moves in float64; the duality gap of what is written is below 1e-11 of the minimum:
Y = the multiplier, scaled into |Y|_2 <= 1, |Y|_inf <= w, gives the lower bound <Y, A>.
"""
import json
import sys

import numpy as np


def shrink(x, cut):
    return np.sign(x) * np.maximum(np.abs(x) - cut, 0)


def shrink_spectrum(x, cut):
    u, s, v = np.linalg.svd(x, full_matrices=False)
    return (u * np.maximum(s - cut, 0)) @ v


def solve(a, weight):
    step = 1 / np.abs(a).mean()
    sparse, dual = np.zeros_like(a), np.zeros_like(a)
    for at in range(20_000):
        low = shrink_spectrum(a - sparse + dual / step, 1 / step)
        sparse = shrink(a - low + dual / step, weight / step)
        move = a - low - sparse
        dual += step * move
        if at % 50 == 49 and np.linalg.norm(move) <= 1e-9 * np.linalg.norm(a):
            least = objective(a - sparse, sparse, weight)
            inside = dual / max(1, np.linalg.norm(dual, 2), np.abs(dual).max() / weight)
            if least - np.sum(inside * a) <= 1e-11 * least:
                return a - sparse, sparse
    raise SystemExit("no convergence")


def objective(low, sparse, weight):
    return np.linalg.svd(low, compute_uv=False).sum() + weight * np.abs(sparse).sum()


def main():
    rng = np.random.default_rng(5)

    def matrix(rows, cols, rank, noise):
        low = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, cols))
        spikes = 8 * rng.standard_normal((rows, cols)) * (rng.random((rows, cols)) < 0.06)
        return low + spikes + noise * rng.standard_normal((rows, cols))

    cases = []
    for rows, cols, rank, noise, factor in [(24, 14, 2, 0.1, 1), (13, 26, 3, 0.1, 2), (20, 20, 2, 0.02, 1)]:
        a = np.array([float(f"{x:.9g}") for x in matrix(rows, cols, rank, noise).ravel()]).reshape(rows, cols)
        weight = factor / np.sqrt(max(rows, cols))
        low, sparse = solve(a, weight)
        cases.append({"rows": rows, "cols": cols, "weight": weight, "matrix": a.ravel().tolist(),
                      "low_rank": [float(f"{x:.10g}") for x in low.ravel()],
                      "sparse": [float(f"{x:.10g}") for x in sparse.ravel()],
                      "rank": int(np.sum(np.linalg.svd(low, compute_uv=False) > 1e-6)),
                      "nonzeros": int(np.count_nonzero(sparse)),
                      "objective": objective(low, sparse, weight)})
    json.dump({"cases": cases}, sys.stdout)


main()
