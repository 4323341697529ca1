"""Kept vectors of LLM.int8(): bitsandbytes' own operators on CPU.

    pip install numpy==2.4.6 torch==2.15.0 bitsandbytes==0.50.2 safetensors==0.8.0
    python scripts/oracle/llm_int8.py data/minilm/model.safetensors > tests/vectors/llm-int8.json

Per case, for float16 activations [tokens, in] and a float16 weight [out, in]: `int8_vectorwise_quant` of both (codes,
row statistics, columns with an entry of 6 or more), the int32 product of the codes (`int8_linear_matmul`), the same
scaled to float32 (`int8_mm_dequant`), and the float16 output of `MatMul8bitLt.forward`.

`int8_mm_dequant` multiplies by 6.200124e-05 where 1/127^2 is 6.2000124e-05: its results are 1.8e-5 of themselves too
large. The reader of this file applies that constant to our exact sums and expects the same bits.

Cases: Gaussian tokens; loud columns; one token; heavy tails; exact ties of the rounding; tokens of zeros and of tiny
values; nothing at or above the threshold; the threshold itself; threshold 0.
"""
import json
import sys
import warnings

import numpy as np
import torch
from bitsandbytes import functional as F
from bitsandbytes.autograd._functions import MatMul8bitLt, MatmulLtState
from safetensors.numpy import load_file

IN, OUT = 96, 12


def hexed(tensor, dtype):
    return np.ascontiguousarray(tensor.detach().numpy(), dtype).tobytes().hex()


def activations():
    rng = np.random.default_rng(41)
    gaussian = rng.normal(size=(7, IN))
    loud = rng.normal(size=(9, IN))
    loud[:, [3, 50, 51]] *= 12.0
    heavy = rng.standard_t(2.0, size=(16, IN)) * 1.5
    # 127/absmax is a power of two, so that odd multiples of half a step are exact ties.
    ties = (rng.integers(-253, 254, size=(6, IN)) / 2.0) / 32.0
    ties[:, 0] = 127.0 / 32.0
    quiet = np.zeros((5, IN))
    quiet[1] = rng.normal(size=IN) * 6e-8
    quiet[2] = rng.normal(size=IN) * 1e-4
    quiet[3, 7] = -2.5
    edge = rng.normal(size=(4, IN))
    edge[1, 5], edge[2, 6], edge[3, 7] = 6.0, -6.0, 5.996
    calm = np.clip(rng.normal(size=(4, IN)), -5, 5)
    one = rng.normal(size=(1, IN)) * 4.0
    return [("gaussian", gaussian, 6.0), ("loud", loud, 6.0), ("heavy", heavy, 6.0), ("ties", ties, 6.0),
            ("quiet", quiet, 6.0), ("edge", edge, 6.0), ("calm", calm, 6.0), ("one", one, 6.0),
            ("no threshold", heavy[:4], 0.0)]


def main():
    warnings.simplefilter("ignore")
    weight = load_file(sys.argv[1])["encoder.layer.2.attention.self.key.weight"][:OUT, :IN]
    weight = torch.from_numpy(np.ascontiguousarray(weight)).to(torch.float16)
    codes, stats, _ = F.int8_vectorwise_quant(weight.clone())
    out = {"in": IN, "out": OUT, "weight": hexed(weight.float(), np.float32),
           "weight_codes": hexed(codes, np.int8), "weight_stats": hexed(stats, np.float32), "cases": []}
    for name, x, threshold in activations():
        x = torch.from_numpy(x).to(torch.float16)
        xc, xs, columns = F.int8_vectorwise_quant(x.clone(), threshold=threshold)
        sums = F.int8_linear_matmul(xc, codes)
        scaled = torch.ops.bitsandbytes.int8_mm_dequant.default(sums, xs, stats, dtype=torch.float32)
        state = MatmulLtState()
        state.threshold, state.has_fp16_weights = threshold, False
        y = MatMul8bitLt.apply(x.clone(), weight.clone(), None, None, state)
        out["cases"].append({
            "name": name, "threshold": threshold, "tokens": len(x), "x": hexed(x.float(), np.float32),
            "codes": hexed(xc, np.int8), "stats": hexed(xs, np.float32),
            "outliers": [] if columns is None else columns.tolist(),
            "sums": hexed(sums, np.int32), "scaled": hexed(scaled, np.float32), "y": hexed(y.float(), np.float32),
        })
    json.dump(out, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
