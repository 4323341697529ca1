#!/usr/bin/env python3
"""Writes tests/vectors/minilm-embeddings.json: what the published path makes of a few sentences.

The encoder of scripts/fetch-model.sh through Hugging Face's tokenizer and BertModel in float32, mean pooling
over the attention mask, unit length. The Rust forward pass of tests/kit must agree.

    pip install numpy==2.4.6 torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    scripts/fetch-model.sh && python3 scripts/oracle/minilm_embeddings.py

Format: {"origin": {package: version}, "cases": [{"text", "ids": [token], "embedding": [384 floats]}]}.
"""
import json
import pathlib

import safetensors
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "data" / "minilm"
TARGET = ROOT / "tests" / "vectors" / "minilm-embeddings.json"

SENTENCES = [
    "Rain.",
    "A large matrix can be written as a few bits, a few ranks and a few non-zeros.",
    "Ünïcode, naïve café — 42 % of the “quoted” words, 北京 and Ελλάδα, plus an emoji 🦀 and a tab\there.",
    "mRNA-1273 vs. BNT162b2: p<0.05; see http://example.org/?q=a&b=c (accessed 2021-03-04), e.g. Pneumonoultramicroscopicsilicovolcanoconiosis!",
    "When the ferry left the harbour the wind had already turned, and nobody on deck believed that the crossing "
    "would take less than the three hours which the captain had promised them that morning over breakfast.",
    # Far more than 128 tokens: the tokenizer must cut it where the published path does.
    " ".join(f"In year {year} the gauge by the old bridge read {year % 97} centimetres." for year in range(1900, 1925)),
]


def main():
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    network = transformers.BertModel.from_pretrained(MODEL).eval().float()
    cases = []
    for text in SENTENCES:
        encoded = tokenizer([text], truncation=True, max_length=128, return_tensors="pt")
        with torch.no_grad():
            hidden = network(**encoded).last_hidden_state
        mask = encoded["attention_mask"][..., None].float()
        embedding = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)[0]
        # Nine significant digits name a float32 exactly.
        cases.append({"text": text, "ids": encoded["input_ids"][0].tolist(),
                      "embedding": [float(f"{value:.9g}") for value in embedding.tolist()]})
    origin = {module.__name__: module.__version__ for module in (torch, transformers, safetensors)}
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    TARGET.write_text(f'{{"origin": {json.dumps(origin)}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{TARGET}: tokens {[len(case['ids']) for case in cases]}")


if __name__ == "__main__":
    main()
