"""Kept vectors for the block layouts of GGUF: ggml's own quantizers through libgguf.

    pip install numpy==2.4.6 libgguf==0.2.2 gguf==0.19.0 safetensors==0.8.0
    python scripts/oracle/quant_gguf.py data/minilm/model.safetensors > tests/vectors/quant-gguf.json

Per format and row: the bytes, and the FNV-1a hash of the decoded f32 values (a negative zero counted as a zero). The
bytes are ggml's reference quantizers, no importance matrix; decoded by libgguf. The script prints whether gguf's NumPy
decoder agrees to the last bit; it did for every format. `foreign` are random bytes with sane f16 fields, for
codes and scales that no encoder produces.

Inputs: Gaussian, heavy-tailed, ties, zero groups with signed zeros, one outlier, all positive, all negative, magnitudes
over 60 powers of two, constant groups, rows of a real sentence encoder.
"""
import json
import sys

import gguf
import libgguf
import numpy as np
from safetensors.numpy import load_file

COLS = 512
KINDS = {
    "q4_0": "Q4_0",
    "q4_1": "Q4_1",
    "q5_0": "Q5_0",
    "q5_1": "Q5_1",
    "q8_0": "Q8_0",
    "iq4_nl": "IQ4_NL",
    "q2_k": "Q2_K",
    "q3_k": "Q3_K",
    "q4_k": "Q4_K",
    "q5_k": "Q5_K",
    "q6_k": "Q6_K",
}
HALVES = {
    "q4_0": (18, [0]),
    "q4_1": (20, [0, 2]),
    "q5_0": (22, [0]),
    "q5_1": (24, [0, 2]),
    "q8_0": (34, [0]),
    "iq4_nl": (18, [0]),
    "q2_k": (84, [80, 82]),
    "q3_k": (110, [108]),
    "q4_k": (144, [0, 2]),
    "q5_k": (176, [0, 2]),
    "q6_k": (210, [208]),
}


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in bytes(data):
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def inputs(path):
    rng = np.random.default_rng(22)
    rows = [rng.normal(size=COLS) * 0.05, rng.standard_t(2.0, size=COLS)]
    rows.append(np.arange(COLS) % 16 - 8.0 + 0.5 * (np.arange(COLS) % 2))
    zeros = np.where(np.arange(COLS) % 3 == 0, -0.0, 0.0)
    zeros[300] = -3.0
    rows.append(zeros)
    outlier = rng.normal(size=COLS) * 1e-3
    outlier[77] = 250.0
    rows.append(outlier)
    rows.append(np.abs(rng.normal(size=COLS)) + 2.0)
    rows.append(-np.abs(rng.normal(size=COLS)) - 0.5)
    rows.append(rng.normal(size=COLS) * np.exp2(rng.integers(-50, 10, size=COLS)))
    rows.append(np.repeat(rng.normal(size=COLS // 32), 32))
    weight = load_file(path)["encoder.layer.2.output.dense.weight"]
    rows.extend(weight[:3, :COLS])
    return np.asarray(rows, np.float32)


def decode(raw, kind):
    values = np.asarray(libgguf.dequantize_rows(raw, kind, n_per_row=COLS), np.float32)
    other = gguf.quants.dequantize(raw, kind).astype(np.float32)
    return values, np.array_equal(values + np.float32(0), other.reshape(values.shape) + np.float32(0))


def main():
    x = inputs(sys.argv[1])
    rng = np.random.default_rng(23)
    out = {"rows": len(x), "cols": COLS, "input": x.tobytes().hex(), "formats": {}}
    for name, kind in KINDS.items():
        kind = gguf.GGMLQuantizationType[kind]
        raw = np.asarray(libgguf.quantize_rows(x, kind), np.uint8).reshape(len(x), -1)
        values, same = decode(raw, kind)
        size, halves = HALVES[name]
        foreign = rng.integers(0, 256, size=(3, raw.shape[1]), dtype=np.uint8)
        for at in halves:
            fields = rng.normal(size=(3, raw.shape[1] // size)).astype(np.float16).view(np.uint8).reshape(3, -1, 2)
            foreign.reshape(3, -1, size)[:, :, at : at + 2] = fields
        strange, also_same = decode(foreign, kind)
        print(name, "decoders agree:", same, also_same, file=sys.stderr)
        out["formats"][name] = {
            "bytes": raw.tobytes().hex(),
            "decoded": [fnv((row + np.float32(0)).tobytes()) for row in values],
            "foreign": foreign.tobytes().hex(),
            "foreign_decoded": [fnv((row + np.float32(0)).tobytes()) for row in strange],
        }
    json.dump(out, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
