"""Kept vectors for the integer-only arithmetic: HAWQ's functions, written anew from their definition, and PyTorch.

    pip install numpy==2.4.6 torch==2.15.0
    python scripts/oracle/hawq_dyadic.py > tests/vectors/quant-dyadic.json

* `derive`: scales (hex of f64) and the dyadic number that HAWQ's `batch_frexp` gives: frexp, then b = m * 2^31 rounded
  half up in decimal arithmetic.
* `requantize`: accumulators, scales of input, weight and output (hex of f32), and HAWQ's `fixedpoint_fn`: numerator and
  denominator in f32, their quotient in f64, then (a) in exact fractions, ties up, which is the contract here, and (b) as
  HAWQ's simulation has it, in f64 with ties to even.
* `residual`: the same for the two branches of an addition.
* `convolution`, `maximum`, `average`: torch.nn.functional in f64, exact for these sizes. `average` also as HAWQ's
  `QuantAveragePool2d`: trunc(mean + 0.01) in f32.
"""
import decimal
import json
import struct
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F

rng = np.random.default_rng(10680)
BITS = 31


def f64_hex(value):
    return struct.pack("<d", value).hex()


def f32_hex(values):
    return np.asarray(values, dtype="<f4").tobytes().hex()


def batch_frexp(value):
    m, e = np.frexp(value)
    b = int(decimal.Decimal(float(m) * 2.0**BITS).quantize(decimal.Decimal("1"), rounding=decimal.ROUND_HALF_UP))
    return b, BITS - int(e)


def half_up(value):
    return (value + Fraction(1, 2)).__floor__()


def exact(acc, b, c):
    return half_up(Fraction(acc) * b / Fraction(2) ** c)


def simulated(acc, b, c):
    product = torch.tensor(float(acc), dtype=torch.float64) * torch.tensor(float(b), dtype=torch.float64)
    return int(torch.round(product / 2.0**c))


def derive():
    values = np.exp(rng.uniform(-25, 25, 200)).tolist()
    values += [2.0**k for k in range(-20, 21)] + [1.0 - 2.0**-k for k in range(1, 53)]
    values += [np.nextafter(1.0, 2.0), float((2**31 - 1) / 2**31 + 2**-33), float((2**30 + 0.5) / 2**30)]
    return [[f64_hex(v), *batch_frexp(v)] for v in values]


def ratio(numerator, denominator):
    """HAWQ: both in f32, then divided in f64."""
    return float(np.float64(np.float32(numerator)) / np.float64(np.float32(denominator)))


def scales(n):
    return np.exp(rng.uniform(-6, 1, n)).astype(np.float32)


def accumulators(n):
    values = np.concatenate([
        rng.integers(-2000, 2000, n // 2),
        rng.integers(-(2**31), 2**31, n - n // 2 - 2),
        [-(2**31), 2**31 - 1],
    ])
    return [int(v) for v in values]


def requantize():
    rows = []
    for _ in range(24):
        x, y = scales(2)
        w = scales(1)[0] / np.float32(64)
        unit = np.float32(x * w)
        b, c = batch_frexp(ratio(unit, y))
        acc = accumulators(24)
        rows.append({
            "scales": f32_hex([x, w, y]),
            "acc": acc,
            "exact": [exact(a, b, c) for a in acc],
            "simulated": [simulated(a, b, c) for a in acc],
        })
    return rows


def residual():
    rows = []
    for _ in range(24):
        m, r, y = scales(3)
        (bm, cm), (br, cr) = batch_frexp(ratio(m, y)), batch_frexp(ratio(r, y))
        left = [int(v) for v in rng.integers(-30000, 30000, 24)]
        right = [int(v) for v in rng.integers(-128, 128, 24)]
        rows.append({
            "scales": f32_hex([m, r, y]),
            "left": left,
            "right": right,
            "exact": [exact(a, bm, cm) + exact(b, br, cr) for a, b in zip(left, right)],
        })
    return rows


def convolution():
    rows = []
    cases = [
        # out, in, kernel, stride, padding, dilation, groups, size, unsigned input
        (4, 3, (3, 3), (1, 1), (1, 1), (1, 1), 1, (6, 7), True),
        (6, 4, (3, 2), (2, 1), (0, 1), (1, 1), 2, (7, 5), False),
        (5, 5, (3, 3), (1, 2), (2, 0), (2, 1), 5, (8, 6), False),
        (2, 6, (1, 1), (3, 2), (0, 0), (1, 1), 1, (5, 5), True),
        (8, 4, (2, 4), (2, 2), (1, 3), (1, 2), 4, (5, 9), False),
    ]
    for out, channels, kernel, stride, padding, dilation, groups, size, unsigned in cases:
        low, high = (0, 256) if unsigned else (-128, 128)
        x = rng.integers(low, high, (2, channels, *size))
        w = rng.integers(-128, 128, (out, channels // groups, *kernel))
        b = rng.integers(-50000, 50000, out)
        y = F.conv2d(*(torch.tensor(v, dtype=torch.float64) for v in (x, w, b)), stride, padding, dilation, groups)
        rows.append({
            "window": [*kernel, *stride, *padding, *dilation],
            "groups": groups,
            "unsigned": unsigned,
            "x": [list(x.shape), x.flatten().tolist()],
            "w": [list(w.shape), w.flatten().tolist()],
            "b": b.tolist(),
            "y": [list(y.shape), [int(v) for v in y.flatten()]],
        })
    return rows


def maximum():
    rows = []
    for kernel, stride, padding, dilation in [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2)]:
        x = rng.integers(-128, 128, (2, 3, 8, 7))
        y = F.max_pool2d(torch.tensor(x, dtype=torch.float64), kernel, stride, padding, dilation)
        rows.append({
            "window": [kernel, kernel, stride, stride, padding, padding, dilation, dilation],
            "x": [list(x.shape), x.flatten().tolist()],
            "y": [list(y.shape), [int(v) for v in y.flatten()]],
        })
    return rows


def average():
    rows = []
    for kernel, stride, padding in [(2, 2, 0), (3, 2, 1), (7, 1, 0), (4, 3, 2)]:
        x = rng.integers(-128, 128, (2, 3, 8, 7))
        mean = F.avg_pool2d(torch.tensor(x, dtype=torch.float32), kernel, stride, padding)
        sums = F.avg_pool2d(torch.tensor(x, dtype=torch.float64), kernel, stride, padding, divisor_override=1)
        input_scale, output_scale = scales(2)
        quotient = float(np.float64(input_scale) / (np.float64(output_scale) * kernel * kernel))
        b, c = batch_frexp(quotient)
        rows.append({
            "window": [kernel, kernel, stride, stride, padding, padding, 1, 1],
            "x": [list(x.shape), x.flatten().tolist()],
            "shape": list(mean.shape),
            "truncated": [int(v) for v in torch.trunc(mean + 0.01).flatten()],
            "scales": f32_hex([input_scale, output_scale]),
            "exact": [exact(int(v), b, c) for v in sums.flatten()],
        })
    return rows


print(json.dumps({
    "versions": {"numpy": np.__version__, "torch": torch.__version__},
    "derive": derive(),
    "requantize": requantize(),
    "residual": residual(),
    "convolution": convolution(),
    "maximum": maximum(),
    "average": average(),
}, separators=(",", ":")))
