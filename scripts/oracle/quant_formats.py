"""Kept vectors for the quantizers: codes, scales, zero points and decoded values of NumPy and bitsandbytes.

    pip install numpy==2.4.6 scipy==1.17.1 bitsandbytes==0.50.2 torch==2.15.0
    python scripts/oracle/quant_formats.py > tests/vectors/quant-formats.json

Integers: NumPy's own float16 conversion and round-half-even, in float64. NF4 and FP4: bitsandbytes' CPU quantizer.
AF4: the table of bitsandbytes. NF2 and NF3: SciPy's normal quantiles with QLoRA's offset, rounded as bitsandbytes does for NF4. Binary and ternary:
the least squared error over every possible number of entries that are not zero.
Inputs: Gaussian, heavy-tailed, exact ties, an all-zero group, one outlier, all-positive and all-negative
groups, subnormals and signed zeros. Rows are whole numbers of groups.
"""
import json
import sys

import numpy as np

GROUP = 32
COLS = 96


def inputs():
    rng = np.random.default_rng(20)
    rows = [rng.normal(size=COLS) * 0.05 for _ in range(3)]
    rows.append(rng.standard_t(2.0, size=COLS))
    ties = np.arange(COLS) % 15 - 7.0
    ties[::2] += 0.5
    rows.append(np.clip(ties, -7, 7))
    zeros = np.zeros(COLS)
    zeros[40] = 3.0
    zeros[41] = -0.0
    rows.append(zeros)
    rows.append(np.abs(rng.normal(size=COLS)) + 2.0)
    rows.append(-np.abs(rng.normal(size=COLS)) - 0.5)
    rows.append(rng.normal(size=COLS) * 1e-3)
    return np.asarray(rows, np.float32)


def integers(x, bits, signed):
    b = x.astype(np.float64).reshape(-1, GROUP)
    if signed:
        top = 2 ** (bits - 1) - 1
        scale = np.float16(np.abs(b).max(1) / top).astype(np.float64)
    else:
        low, high = np.minimum(b.min(1), 0), np.maximum(b.max(1), 0)
        scale = np.float16((high - low) / (2**bits - 1)).astype(np.float64)
    safe = np.where(scale > 0, scale, 1.0)[:, None]
    if signed:
        zero = np.zeros(len(b))
        q = np.clip(np.round(b / safe), -top, top)
        codes = q + 2 ** (bits - 1)
    else:
        zero = np.clip(np.round(-low / safe[:, 0]), 0, 2**bits - 1)
        codes = np.clip(np.round(b / safe) + zero[:, None], 0, 2**bits - 1)
        q = codes - zero[:, None]
    decoded = (q * scale[:, None]).astype(np.float32)
    return codes, scale, zero, decoded


def bitsandbytes(x, kind):
    import bitsandbytes.functional as F
    import torch

    packed, state = F.quantize_4bit(torch.from_numpy(x.reshape(-1)), blocksize=GROUP, quant_type=kind)
    byte = packed.reshape(-1).numpy()
    codes = np.stack([byte >> 4, byte & 15], 1).reshape(-1, GROUP)  # bitsandbytes keeps the first code high
    decoded = F.dequantize_4bit(packed, state).numpy().reshape(-1, GROUP)
    return codes, state.absmax.numpy().astype(np.float64), np.zeros(len(codes)), decoded


def normal_float(x, bits):
    from scipy.stats import norm

    offset = 1 - (1 / 2 ** (bits + 1) + 1 / (2 ** (bits + 1) - 2)) / 2
    positive = norm.ppf(np.linspace(offset, 0.5, 2 ** (bits - 1) + 1)[:-1])
    negative = -norm.ppf(np.linspace(offset, 0.5, 2 ** (bits - 1))[:-1])
    table = np.sort(np.concatenate([positive, [0.0], negative]))
    return table_codes(x, (table / table.max()).astype(np.float32))


def abnormal_float(x):
    import bitsandbytes.functional as F

    return table_codes(x, np.sort(F.get_4bit_type("af4", device="cpu", blocksize=64).numpy().astype(np.float32)))


def table_codes(x, table):
    """Nearest in a rising table, ties down, as bitsandbytes does it for NF4."""
    middle = ((table[1:].astype(np.float64) + table[:-1]) / 2).astype(np.float32)
    b = x.reshape(-1, GROUP)
    scale = np.abs(b).max(1)
    reciprocal = np.float32(1) / np.where(scale > 0, scale, np.float32(1))
    codes = np.searchsorted(middle, b * reciprocal[:, None], side="left")
    return codes, scale.astype(np.float64), np.zeros(len(codes)), table[codes] * scale[:, None]


def least_squares(x, ternary):
    b = x.astype(np.float64).reshape(-1, GROUP)
    top = np.cumsum(-np.sort(-np.abs(b), 1), 1)
    count = np.arange(1, GROUP + 1)
    best = np.argmax(top**2 / count, 1) if ternary else np.full(len(b), GROUP - 1)
    scale = np.float16(top[np.arange(len(b)), best] / (best + 1)).astype(np.float64)
    safe = np.where(scale > 0, scale, 1.0)[:, None]
    q = np.clip(np.round(b / safe), -1, 1) if ternary else np.where(b > 0, 1.0, -1.0)
    codes = q + 2 if ternary else (q + 1) / 2
    return codes, scale, np.zeros(len(b)), (q * scale[:, None]).astype(np.float32)


def bits_of(values):
    return np.asarray(values, np.float32).reshape(-1).view(np.uint32).tolist()


def main():
    x = inputs()
    out = {"rows": len(x), "cols": COLS, "group": GROUP, "input": bits_of(x), "formats": {}}
    for name, made in [(f"{'' if s else 'u'}int{b}", integers(x, b, s)) for b in range(8, 1, -1) for s in (True, False)] + [
        ("nf4", bitsandbytes(x, "nf4")),
        ("nf3", normal_float(x, 3)),
        ("nf2", normal_float(x, 2)),
        ("bnb-fp4", bitsandbytes(x, "fp4")),
        ("af4", abnormal_float(x)),
        ("binary", least_squares(x, False)),
        ("ternary", least_squares(x, True)),
    ]:
        codes, scale, zero, decoded = made
        out["formats"][name] = {
            "codes": codes.reshape(-1).astype(int).tolist(),
            "scales": bits_of(scale),
            "zeros": zero.astype(int).tolist(),
            "decoded": bits_of(decoded),
        }
    json.dump(out, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
