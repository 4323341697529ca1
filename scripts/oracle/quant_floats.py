"""Kept vectors for the mini floats and the formats made of them: ml_dtypes, torchao and NumPy.

    pip install numpy==2.4.6 torch==2.15.0 torchao==0.18.0 ml_dtypes==0.6.0 safetensors==0.8.0
    python scripts/oracle/quant_floats.py data/minilm/model.safetensors > tests/vectors/quant-floats.json

* `elements`: every code's value (ml_dtypes), and the codes of all 2^16 f16 inputs, saturating, as one FNV-1a hash
  per 256 inputs (inputs that are NaN count as code 0).
* `formats`: codes (one byte each), scales (as stored) and, per row, the FNV-1a hash of the decoded f32 values, a
  negative zero counted as a zero. FP8 per row: ml_dtypes. MX but MXINT8, and NVFP4: torchao on CPU. MXINT8: NumPy.

torchao divides a block whose scale is 2^-127 by 2^-126 (its own note: a subnormal scale does not survive its
compiler). The standard does not, and neither do we, so no input block has a largest magnitude below 2^-100 unless it
is zero.

Inputs: Gaussian, heavy-tailed, exact ties of E2M1, all-zero blocks with signed zeros, one outlier, magnitudes over 60
powers of two, subnormals next to normal values, values that saturate under the floor rule, rows of a real sentence encoder.
"""
import json
import sys

import ml_dtypes
import numpy as np
import torch
from safetensors.numpy import load_file
from torchao.prototype.mx_formats import mx_tensor
from torchao.prototype.mx_formats.constants import DTYPE_FP6_E2M3, DTYPE_FP6_E3M2
from torchao.prototype.mx_formats.kernels import unpack_uint4
from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

COLS = 256
ELEMENTS = {
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
}


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in bytes(data):
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def inputs(path):
    rng = np.random.default_rng(21)
    rows = [rng.normal(size=COLS) * 0.05, rng.standard_t(2.0, size=COLS)]
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, 0.0, -0.25, -1.25, -2.5, -5.0, -0.75, 4.0, 1.0])
    rows.append(np.tile(ties, COLS // 16))
    zeros = np.where(np.arange(COLS) % 3 == 0, -0.0, 0.0)
    zeros[200] = -3.0
    rows.append(zeros)
    outlier = rng.normal(size=COLS) * 1e-3
    outlier[77] = 250.0
    rows.append(outlier)
    rows.append(rng.normal(size=COLS) * np.exp2(rng.integers(-40, 20, size=COLS)))
    small = rng.normal(size=COLS) * 1e-40
    small[::16] = 1e-20
    rows.append(small)
    rows.append(np.tile([7.99, -7.5, 6.5, 7.0, -6.99, 1.999, -1.999, 0.124], COLS // 8))
    weight = load_file(path)["encoder.layer.3.attention.self.query.weight"]
    rows.extend(weight[:4, :COLS])
    return np.asarray(rows, np.float32)


def saturated(x, dtype):
    largest = float(ml_dtypes.finfo(dtype).max)
    return np.clip(x, -largest, largest).astype(dtype)


def elements():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    out = {}
    for name, dtype in ELEMENTS.items():
        bits = {"e2m1": 4, "e2m3": 6, "e3m2": 6}.get(name, 8)
        values = np.arange(1 << bits, dtype=np.uint8).view(dtype).astype(np.float32)
        codes = saturated(np.nan_to_num(halves, nan=0.0, posinf=np.inf, neginf=-np.inf), dtype).view(np.uint8)
        codes = np.where(np.isnan(halves), 0, codes & ((1 << bits) - 1)).astype(np.uint8)
        out[name] = {
            "values": values.view(np.uint32).tolist(),
            "codes_of_f16": [fnv(chunk) for chunk in codes.reshape(-1, 256)],
        }
    return out


def fp8(x, name):
    dtype = ELEMENTS[name]
    largest = float(ml_dtypes.finfo(dtype).max)
    scale = (np.abs(x).max(1).astype(np.float64) / largest).astype(np.float32)
    divisor = np.where(scale > 0, scale, np.float32(1))[:, None]
    codes = saturated(x / divisor, dtype)
    return codes.view(np.uint8), scale.tobytes(), codes.astype(np.float32) * scale[:, None]


def mx(x, element):
    t = torch.from_numpy(x)
    scale, data = mx_tensor.to_mx(t, element, 32)
    if element == torch.float4_e2m1fn_x2:
        codes = unpack_uint4(data.view(torch.uint8)).numpy().reshape(x.shape)
    else:
        codes = data.view(torch.uint8).numpy().reshape(x.shape)
    decoded = mx_tensor.to_dtype(data, scale, element, 32, torch.float32).numpy().reshape(x.shape)
    return codes, scale.view(torch.uint8).numpy().tobytes(), decoded


def mxint8(x):
    b = x.astype(np.float64).reshape(-1, 32)
    exponent = np.frexp(np.abs(b).max(1))[1] - 1
    exponent = np.where(np.abs(b).max(1) == 0, -127, np.clip(exponent, -127, 127))
    scale = np.exp2(exponent.astype(np.float64))[:, None]
    codes = np.clip(np.round(b / scale * 64), -127, 127)
    decoded = (codes / 64 * scale).astype(np.float32).reshape(x.shape)
    return codes.astype(np.int8).view(np.uint8).reshape(x.shape), (exponent + 127).astype(np.uint8).tobytes(), decoded


def nvfp4(x):
    t = torch.from_numpy(x)
    q = NVFP4Tensor.to_nvfp4(t, per_tensor_scale=per_tensor_amax_to_scale(t.abs().max()))
    codes = unpack_uint4(q.qdata.view(torch.uint8)).numpy().reshape(x.shape)
    decoded = q.dequantize(torch.float32).numpy()
    scales = q.scale.view(torch.uint8).numpy().tobytes()
    return codes, scales, decoded, int(q.per_tensor_scale.numpy().view(np.uint32))


def main():
    x = inputs(sys.argv[1])
    out = {"rows": len(x), "cols": COLS, "input": x.tobytes().hex(), "elements": elements(), "formats": {}}
    made = {
        "fp8-e4m3": fp8(x, "e4m3"),
        "fp8-e5m2": fp8(x, "e5m2"),
        "mxfp4": mx(x, torch.float4_e2m1fn_x2),
        "mxfp6-e2m3": mx(x, DTYPE_FP6_E2M3),
        "mxfp6-e3m2": mx(x, DTYPE_FP6_E3M2),
        "mxfp8-e4m3": mx(x, torch.float8_e4m3fn),
        "mxfp8-e5m2": mx(x, torch.float8_e5m2),
        "mxint8": mxint8(x),
        "nvfp4": nvfp4(x),
    }
    for name, (codes, scales, decoded, *rest) in made.items():
        decoded = np.ascontiguousarray(decoded, np.float32) + np.float32(0)
        out["formats"][name] = {
            "codes": np.ascontiguousarray(codes).tobytes().hex(),
            "scales": scales.hex(),
            "decoded": [fnv(row.tobytes()) for row in decoded],
        }
        if rest:
            out["formats"][name]["global_scale"] = rest[0]
    json.dump(out, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
