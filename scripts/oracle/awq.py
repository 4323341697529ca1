"""Kept vectors of AWQ's two searches: NumPy, written from the paper and the published algorithm alone.

    pip install numpy==2.4.6 safetensors==0.8.0
    python scripts/oracle/awq.py data/minilm/model.safetensors acts.safetensors > tests/vectors/awq.json

`acts.safetensors` is what `cargo run -p rankbit-kit --features model --example capture` writes. A corner of a real layer
(24 outputs, 64 inputs) with the matching corner of its Gram matrix; 4 and 3 bits, groups of 32, integer zero points,
scales in float16.

Per case: the loss tr(E H E^T) at each of the 20 exponents, the best exponent, the smoothing factors there (float16),
and, without smoothing, the cut (in twentieths) of each group that the clipping search takes, with its loss.
"""
import json
import sys

import numpy as np
from safetensors.numpy import load_file

NAME = "encoder.layer.2.intermediate.dense.weight"
OUT, IN, GROUP = 24, 64, 32


def grid(low, high, bits):
    levels = 2**bits - 1
    scale = np.float64(np.float16((high - low) / levels))
    zero = np.clip(np.rint(-low / scale), 0, levels) if scale > 0 else 0.0
    return scale, zero


def on_grid(w, scale, zero, bits):
    if scale == 0:
        return np.zeros_like(w)
    codes = np.clip(np.rint(np.float32(w) / np.float32(scale)) + zero, 0, 2**bits - 1)
    return (codes - zero) * scale


def quantize(w, bits):
    out = np.empty_like(w)
    for i in range(w.shape[0]):
        for first in range(0, w.shape[1], GROUP):
            g = w[i, first : first + GROUP]
            scale, zero = grid(min(g.min(), 0.0), max(g.max(), 0.0), bits)
            out[i, first : first + GROUP] = on_grid(g, scale, zero, bits)
    return out


def scales(mean_abs, alpha):
    s = np.maximum(mean_abs**alpha, 1e-4)
    return np.float64(np.float16(s / np.sqrt(s.max() * s.min())))


def form(e, h):
    return float(np.sum((e @ h) * e))


def main():
    weight = load_file(sys.argv[1])[NAME][:OUT, :IN].astype(np.float64)
    acts = load_file(sys.argv[2])
    gram = acts[NAME + ".gram"].astype(np.float64)[:IN, :IN]
    gram = (gram + gram.T) / 2
    mean_abs = acts[NAME + ".mean_abs"].astype(np.float64)[:IN]
    # As the reader will have them.
    gram, mean_abs = np.float64(np.float32(gram)), np.float64(np.float32(mean_abs))
    cases = []
    for bits in (4, 3):
        losses = []
        for i in range(20):
            s = scales(mean_abs, i / 20)
            q = quantize(np.float64(np.float32(weight * s)), bits) / s
            losses.append(form(weight - q, gram))
        best = int(np.argmin(losses))
        cuts, clipped = [], 0.0
        for i in range(OUT):
            for first in range(0, IN, GROUP):
                g, h = weight[i, first : first + GROUP], gram[first : first + GROUP, first : first + GROUP]
                top = np.abs(g).max()
                found = []
                for cut in range(10):
                    p = top * (1 - cut / 20)
                    scale, zero = grid(max(min(g.min(), 0.0), -p), min(max(g.max(), 0.0), p), bits)
                    found.append(form((g - on_grid(g, scale, zero, bits))[None], h))
                cuts.append(int(np.argmin(found)))
                clipped += min(found)
        cases.append({"bits": bits, "losses": losses, "best": best,
                      "factors": scales(mean_abs, best / 20).tolist(), "cuts": cuts, "clipped": clipped})
    hexed = lambda a: np.ascontiguousarray(a, np.float32).tobytes().hex()
    json.dump({"numpy": np.__version__, "layer": NAME, "shape": [OUT, IN], "group": GROUP, "weight": hexed(weight),
               "gram": hexed(gram), "mean_abs": hexed(mean_abs), "cases": cases}, sys.stdout)
    print()


main()
