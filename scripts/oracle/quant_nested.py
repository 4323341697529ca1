"""Kept vectors of double quantization: bitsandbytes' NF4 with compress_statistics, on CPU.

    pip install numpy==2.4.6 bitsandbytes==0.50.2 torch==2.15.0 safetensors==0.8.0
    python scripts/oracle/quant_nested.py data/minilm/model.safetensors > tests/vectors/quant-nested.json

Per case: the input, packed codes (bitsandbytes keeps the first of two in the high half), codes of the scales, the scales
of blocks of 256 scales, the mean, the FNV-1a hash of the decoded values; and the 256 values of the dynamic map. Cases: Gaussian, heavy-tailed
(one long and one ragged second block), all scales equal, a matrix of zeros, zero groups, one outlier, magnitudes over many powers of two, a
real sentence encoder. bitsandbytes sums the mean in f32 in an order that depends on the machine: the inputs are those
where that is the mean rounded once, and the script stops otherwise.
"""
import json
import sys

import bitsandbytes.functional as F
import numpy as np
import torch
from safetensors.numpy import load_file


def hexadecimal(x):
    return np.ascontiguousarray(x).tobytes().hex()


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def is_mean_exact(x):
    _, plain = F.quantize_4bit(torch.from_numpy(x), blocksize=64, quant_type="nf4", compress_statistics=False)
    return np.float32(plain.absmax.double().mean().item()) == np.float32(plain.absmax.mean().item())


def case(name, x):
    x = np.asarray(x, np.float32)
    packed, state = F.quantize_4bit(torch.from_numpy(x), blocksize=64, quant_type="nf4", compress_statistics=True)
    _, plain = F.quantize_4bit(torch.from_numpy(x), blocksize=64, quant_type="nf4", compress_statistics=False)
    mean = np.float32(plain.absmax.double().mean().item())
    if mean != np.float32(state.offset.item()):
        sys.exit(f"{name}: the mean of the scales depends on the order of summation")
    decoded = F.dequantize_4bit(packed, state).numpy()
    return {
        "rows": x.shape[0],
        "cols": x.shape[1],
        "input": hexadecimal(x),
        "codes": hexadecimal(packed.numpy().reshape(-1)),
        "scale_codes": hexadecimal(state.absmax.numpy()),
        "block_scales": hexadecimal(state.state2.absmax.numpy()),
        "offset": hexadecimal(np.float32(state.offset.item())),
        "decoded": fnv(decoded.astype(np.float32).tobytes()),
    }


def main():
    rng = np.random.default_rng(31)
    even = lambda x: np.round(np.asarray(x) * 4096) / 4096  # sums of these are exact
    zero_groups = even(rng.normal(size=(4, 320)))
    zero_groups[1] = 0
    zero_groups[2, 64:128] = -0.0
    outlier = even(rng.normal(size=(5, 256)) * 0.01)
    outlier[2, 77] = -500
    powers = rng.choice([-1.0, 1.0], size=(6, 384)) * np.exp2(rng.integers(-12, 1, size=(6, 6)).repeat(64, 1))
    weight = load_file(sys.argv[1])["encoder.layer.3.attention.output.dense.weight"]
    cases = {
        "gaussian": even(rng.normal(size=(4, 448)) * 0.5),
        "heavy": even(np.clip(rng.standard_t(2.0, size=(45, 384)), -60, 60)),
        "equal": np.where(rng.uniform(size=(3, 192)) < 0.5, -0.75, 0.75),
        "zeros": np.zeros((2, 128)),
        "zero groups": zero_groups,
        "outlier": outlier,
        "powers": powers,
        "real": next(weight[i : i + 8] for i in range(len(weight)) if is_mean_exact(weight[i : i + 8])),
    }
    kept = {
        "source": f"bitsandbytes {__import__('bitsandbytes').__version__}",
        "map": hexadecimal(F.create_dynamic_map().numpy()),
        "cases": {name: case(name, x) for name, x in cases.items()},
    }
    json.dump(kept, sys.stdout, indent=0)
    print()


main()
