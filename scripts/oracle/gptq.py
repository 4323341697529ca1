"""Kept vectors for the GPTQ rounder, from optimal brain quantization's own recursion in NumPy.

    pip install numpy==2.4.6
    python scripts/oracle/gptq.py > tests/vectors/gptq.json

No Cholesky factor and no blocks: after column j is rounded, the other columns take up its error through the inverse
of the damped Gram matrix, and column j is then eliminated from that inverse. Groups of 32, float16 scales, zero
points from the rounded scale. The blocked formulation of the same formulas agrees with llmcompressor 0.14.0.1's
`quantize_weight` on every value of two trained matrices; the two formulations agree on these inputs.
"""
import json

import numpy as np

GROUP, ROWS, COLS, TOKENS = 32, 6, 96, 160


def grid(block, bits, signed):
    lo, hi = min(block.min(), 0.0), max(block.max(), 0.0)
    if signed:
        return float(np.float16(max(hi, -lo) / (2 ** (bits - 1) - 1))), 0.0
    scale = float(np.float16((hi - lo) / (2 ** bits - 1)))
    return scale, float(np.clip(np.round(-lo / scale), 0, 2 ** bits - 1))


def nearest(x, scale, zero, bits, signed):
    low, high = (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1) if signed else (0, 2 ** bits - 1)
    return (np.clip(np.round(x / scale) + zero, low, high) - zero) * scale


def gptq(weight, gram, bits, signed, act_order):
    n = weight.shape[1]
    damped = gram + 0.01 * np.diag(gram).mean() * np.eye(n)
    order = np.argsort(-np.diag(gram), kind="stable") if act_order else np.arange(n)
    out = np.empty_like(weight)
    for i, original in enumerate(weight):
        grids = [grid(original[g:g + GROUP], bits, signed) for g in range(0, n, GROUP)]
        row, inverse = original.copy(), np.linalg.inv(damped)
        for j in order:
            if not act_order and j % GROUP == 0:
                grids[j // GROUP] = grid(row[j:j + GROUP], bits, signed)
            out[i, j] = nearest(row[j], *grids[j // GROUP], bits, signed)
            row -= (row[j] - out[i, j]) / inverse[j, j] * inverse[j]
            inverse -= np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    return out


if __name__ == "__main__":
    rng = np.random.default_rng(31)
    weight = (rng.standard_t(4.0, size=(ROWS, COLS)) * 0.05).astype(np.float32).astype(np.float64)
    x = rng.normal(size=(TOKENS, COLS)) + rng.normal(size=(TOKENS, 1))
    x[:, 5] *= 6.0
    gram = np.round(x.T @ x / TOKENS, 6)
    cases = [{"format": f"{'int' if signed else 'uint'}{bits}", "act_order": act_order,
              "decoded": gptq(weight, gram, bits, signed, act_order).ravel().tolist()}
             for bits, signed in [(4, False), (3, False), (2, False), (4, True), (8, True)]
             for act_order in (False, True)]
    print(json.dumps({"rows": ROWS, "cols": COLS, "group": GROUP, "weight": weight.ravel().tolist(),
                      "gram": gram.ravel().tolist(), "cases": cases}))
