"""Kept vectors for the sparse crate, from NumPy, SciPy and PyTorch.

    pip install numpy==2.4.6 scipy==1.17.1 torch==2.15.0
    python scripts/oracle/sparse.py > tests/vectors/sparse.json

Masks by sorting whole groups; SparseGPT by optimal brain surgery's own recursion (after column j is pruned, the other
columns take up its error through the inverse of the damped Gram matrix, and column j is eliminated from that inverse);
the refit by a dense solve per row; transposable optima by SciPy's linear programme; the hardware's metadata by PyTorch.
"""
import json

import numpy as np
import torch
from scipy.optimize import linprog
from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass

ROWS, COLS, TOKENS = 6, 24, 60


def groups_mask(scores, keep, of):
    mask = np.zeros(scores.shape, bool)
    for i in range(scores.shape[0]):
        for g in range(0, scores.shape[1], of):
            order = sorted(range(g, min(g + of, scores.shape[1])), key=lambda j: (-scores[i, j], j))
            mask[i, order[:keep]] = True
    return mask


def sparse_gpt(weight, gram, keep, of):
    n = weight.shape[1]
    damped = gram + 0.01 * np.diag(gram).mean() * np.eye(n)
    out = np.zeros_like(weight)
    for i, original in enumerate(weight):
        row, inverse = original.copy(), np.linalg.inv(damped)
        for g in range(0, n, of):
            # The saliency of column j of the group when the columns before it are gone.
            columns, left = list(range(g, min(g + of, n))), inverse.copy()
            scores = {}
            for j in columns:
                scores[j] = row[j] ** 2 / left[j, j]
                left -= np.outer(left[:, j], left[j]) / left[j, j]
            kept = set(sorted(columns, key=lambda j: (-scores[j], j))[:keep])
            for j in columns:
                out[i, j] = row[j] if j in kept else 0.0
                row = row - (row[j] - out[i, j]) / inverse[j, j] * inverse[j]
                inverse = inverse - np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    return out


def refit(weight, gram, mask):
    damped = gram + 0.01 * np.diag(gram).mean() * np.eye(weight.shape[1])
    out = np.zeros_like(weight)
    for i, row in enumerate(weight):
        s = np.flatnonzero(mask[i])
        out[i, s] = np.linalg.solve(damped[np.ix_(s, s)], (damped @ row)[s])
    return out


def transposable_optimum(block, keep):
    m = block.shape[0]
    rows = np.kron(np.eye(m), np.ones((1, m)))
    cols = np.kron(np.ones((1, m)), np.eye(m))
    solved = linprog(-block.ravel(), A_eq=np.vstack([rows, cols]), b_eq=np.full(2 * m, keep), bounds=(0, 1))
    return -solved.fun


def bits(mask):
    return ["".join("1" if kept else "0" for kept in row) for row in mask]


if __name__ == "__main__":
    rng = np.random.default_rng(11)
    weight = rng.standard_t(4.0, size=(ROWS, COLS)).astype(np.float32).astype(np.float64)
    loud = np.where(np.arange(COLS) % 5 == 0, 4.0, 1.0)
    x = (rng.standard_normal((TOKENS, COLS)) @ (np.eye(COLS) + 0.4 * rng.standard_normal((COLS, COLS)))) * loud
    gram = x.T @ x
    moments = np.diag(gram)
    magnitude = np.abs(weight)
    wanda = magnitude * np.sqrt(moments)
    share = magnitude / magnitude.sum(1, keepdims=True) + magnitude / magnitude.sum(0, keepdims=True)
    cases = []
    for keep, of in [(2, 4), (1, 4), (4, 8), (3, 5)]:
        mask = groups_mask(wanda, keep, of)
        cases.append({
            "keep": keep, "of": of,
            "magnitude": bits(groups_mask(magnitude, keep, of)),
            "wanda": bits(mask),
            "ria": bits(groups_mask(share * moments ** 0.25, keep, of)),
            "sparse_gpt": sparse_gpt(weight, gram, keep, of).ravel().tolist(),
            "refit": refit(weight, gram, mask).ravel().tolist(),
        })
    blocks = []
    for keep, of in [(2, 4), (4, 8), (3, 8), (5, 16)]:
        block = np.abs(rng.standard_normal((of, of)))
        blocks.append({"keep": keep, "of": of, "scores": block.ravel().tolist(),
                       "optimum": transposable_optimum(block, keep)})
    module = np.abs(rng.standard_normal(12)).astype(np.float32).astype(np.float64)
    dimap = [w * w / (module[module >= w] ** 2).sum() for w in module]
    hardware = []
    for dtype, name in [(torch.float16, "bits16"), (torch.int8, "bits32")]:
        dense = torch.tensor(rng.integers(1, 100, size=(64, 64)), dtype=torch.int32)
        keep = torch.tensor(groups_mask(rng.random((64, 64)), 2, 4))
        dense = (dense * keep).to(dtype)
        values, meta = sparse_semi_structured_from_dense_cutlass(dense)
        hardware.append({"word": name, "dense": dense.to(torch.int32).ravel().tolist(),
                         "values": values.to(torch.int32).ravel().tolist(),
                         "metadata": meta.contiguous().view(torch.uint8).numpy().tobytes().hex()})
    print(json.dumps({
        "rows": ROWS, "cols": COLS, "weight": weight.ravel().tolist(), "gram": gram.ravel().tolist(),
        "cases": cases, "blocks": blocks, "module": module.tolist(), "dimap": dimap, "hardware": hardware,
    }, indent=None))
