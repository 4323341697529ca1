#!/bin/sh
# Gets the peers from their registries, builds, and measures the product beside them: BENCHMARKS.md, docs/matmul.svg.
#   scripts/bench.sh [--quick]
#     PEERS=folder      where the libraries are kept, target/peers if not said
#     PYTHON=program    an interpreter that has torch, onnxruntime, onnx and bitsandbytes, instead of a new environment
#     GGML_BINS=folder  llama.cpp's libraries, instead of npm's
#     ROUNDS=n          rounds through all products, 3 (1 with --quick) if not said
set -eu
cd "$(dirname "$0")/.."
peers=${PEERS:-target/peers}
mkdir -p "$peers"
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$peers/python/bin/python
    if [ ! -x "$PYTHON" ]; then
        python3 -m venv "$peers/python"
        "$PYTHON" -m pip install -q torch==2.15.0 numpy bitsandbytes==0.50.2 onnxruntime==1.32 onnx
    fi
fi
if [ -z "${GGML_BINS:-}" ]; then
    if [ ! -d "$peers/node_modules/@node-llama-cpp/linux-x64" ]; then
        npm install --ignore-scripts --no-audit --no-fund --prefix "$peers" @node-llama-cpp/linux-x64@3.22.1
    fi
    GGML_BINS=$(echo "$peers"/node_modules/@node-llama-cpp/linux-x64/bins/*)
fi
export GGML_BINS
cargo build --release -p rankbit-quant --example matmul_speed
"$PYTHON" benches/peers/matmul.py "$@"
