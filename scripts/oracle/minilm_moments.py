#!/usr/bin/env python3
"""Writes tests/vectors/minilm-moments.json: what scripts/capture.py finds on 16 calibration sentences.

Only sums are kept, a few per layer input; the Rust capture of tests/kit must agree with each.

    pip install numpy==2.4.6 torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    scripts/fetch-model.sh && python3 scripts/oracle/minilm_moments.py

Format: {"origin": {package: version}, "sentences": 16, "tokens": n, "alias": {weight: weight},
         "inputs": {weight: {"trace", "frobenius", "corner", "absmax", "mean_abs", "mean"}}} where, of the Gram
matrix, trace, Frobenius norm and last element of the first row, and of each vector the sum.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import safetensors
import torch
import transformers
from safetensors import safe_open

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = ROOT / "data" / "text" / "lee_background.cor"
TARGET = ROOT / "tests" / "vectors" / "minilm-moments.json"
COUNT = 16


def calibration_sentences():
    """Sentences of 6 to 60 words of documents 0-199, in order."""
    documents = TEXT.read_text(encoding="utf-8").strip().split("\n")[:200]
    found = (s.strip() for document in documents for s in re.split(r"(?<=[.!?])\s+", document))
    return [s for s in found if 6 <= len(s.split()) <= 60][:COUNT]


def main():
    with tempfile.TemporaryDirectory() as scratch:
        texts, acts = pathlib.Path(scratch, "texts.txt"), pathlib.Path(scratch, "acts.safetensors")
        texts.write_text("\n".join(calibration_sentences()), encoding="utf-8")
        subprocess.run([sys.executable, ROOT / "scripts" / "capture.py", ROOT / "data" / "minilm", texts,
                        "-o", acts, "--include", "^encoder"], check=True)
        inputs = {}
        with safe_open(acts, framework="pt") as file:
            alias = json.loads(file.metadata()["alias"])
            tokens = {int(file.get_tensor(name)) for name in file.keys() if name.endswith(".tokens")}
            for name in sorted(name.removesuffix(".gram") for name in file.keys() if name.endswith(".gram")):
                gram = file.get_tensor(name + ".gram")
                vectors = {part: float(file.get_tensor(f"{name}.{part}").double().sum())
                           for part in ("absmax", "mean_abs", "mean")}
                inputs[name] = {"trace": float(gram.trace()), "frobenius": float(gram.norm()),
                                "corner": float(gram[0, -1]), **vectors}
    (total,) = tokens
    origin = {module.__name__: module.__version__ for module in (torch, transformers, safetensors)}
    kept = {"origin": origin, "sentences": COUNT, "tokens": total, "alias": alias, "inputs": inputs}
    TARGET.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(f"{TARGET}: {len(inputs)} inputs, {total} tokens")


if __name__ == "__main__":
    main()
