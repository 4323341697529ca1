#!/usr/bin/env bash
# What each recipe costs a real network: the table in QUALITY.md, from nothing.
#
#     scripts/quality.sh [--propagate] [--only WORDS] [OUT.md]
#
# --only takes the recipes that hold these words. With --propagate each recipe with calibration A is calibrated layer by
# layer, on inputs that come through the layers it has compressed before (the kit's example `propagate`), as the field
# measures.
#
# Fetches the sentence model, captures its calibration (768 sentences), held-out moments (384 others) and gradient-weighted
# moments (scripts/capture.py, in a Python environment of its own), compresses the 36 matrices of the encoder by every
# recipe below and scores each on the held-out text. Everything but the table stays in target/quality. Needs python3
# with venv. Seconds are CPU time, summed over threads.
set -euo pipefail
cd "$(dirname "$0")/.."
propagate=
only=
while true; do
    case "${1:-}" in
    --propagate)
        propagate=yes
        shift
        ;;
    --only)
        only=$2
        shift 2
        ;;
    *) break ;;
    esac
done
out=$(realpath -m "${1:-QUALITY.md}")
work=$PWD/target/quality
data=${RANKBIT_DATA:-$PWD/data}
model=$data/minilm/model.safetensors
mkdir -p "$work"

scripts/fetch-model.sh
cargo build --release -p rankbit-cli --bin rankbit --example score
cargo build --release -p rankbit-kit --features model --example capture --example propagate
rankbit=target/release/rankbit
capture=target/release/examples/capture

# A file is renamed into place once it is whole, and measured rows stay in the table, so a run that was cut off goes on where
# it stopped. Without the folder target/quality everything is done anew.
once() {
    local file=$1
    shift
    [ -e "$file" ] && return
    "$@"
    mv "$file.new" "$file"
}
once "$work/acts" "$capture" "$work/acts.new"
once "$work/held" "$capture" "$work/held.new" held-out
once "$work/sentences" "$capture" "$work/sentences.new" sentences
if [ ! -e "$work/gradients" ]; then
    [ -e "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --extra-index-url https://download.pytorch.org/whl/cpu numpy torch transformers safetensors
    once "$work/gradients" "$work/venv/bin/python" scripts/capture.py "$data/minilm" "$work/sentences" \
        -o "$work/gradients.new" --gradients 3 --batch 64 --seed 0
fi

# One recipe a line: its flags, with A for the calibration and G for the gradient-weighted moments.
recipes() {
    cat <<'LIST'
--method rtn --format uint4
--method gptq --act-order --format uint4 --calib A
--method gptq --act-order --format uint3 --calib A
--method gptq --act-order --format uint2 --calib A
--method eora --format uint4 --rank 16 --calib A
--method eora --format uint4 --rank 32 --calib A
--method eora --rounder gptq --act-order --format uint4 --rank 16 --calib A
--method eora --rounder gptq --act-order --format uint4 --rank 32 --calib A
--method eora --rounder gptq --act-order --format uint3 --rank 16 --calib A
--method eora --rounder cd --format uint2 --rank 16 --calib A
--method caldera --format uint4 --rank 16 --calib A
--method caldera --format uint3 --rank 16 --calib A
--method caldera --format uint2 --rank 16 --calib A
--method caldera --format uint3 --rank 31 --factors int8 --calib A
--method caldera --format uint3 --rank 60 --factors int4 --calib A
--method caldera --format uint2 --rank 31 --factors int8 --calib A
--method caldera --format uint2 --rank 60 --factors int4 --calib A
--method svdquant --format int4 --rank 32 --activations int8 --calib A
--method svdquant --format int4 --rank 32 --activations int4 --calib A
--method svdquant --format int4 --rank 32 --rounder gptq --activations int4 --calib A
--method svdquant --format nvfp4 --rank 32 --calib A
--method best --budget 2.5 --calib G
--method best --budget 3.5 --calib G
--method best --budget 4.5 --calib G
--method best --budget 5.35 --calib G
--method best --budget 2.5 --calib G --fast
--method best --budget 4.5 --calib G --fast
--method best --budget 2.5 --calib A
--method best --budget 3.5 --calib A
--method best --budget 4.5 --calib A
--method best --budget 5.35 --calib A
--method best --budget 2.5
--method best --budget 4.5
--method best --budget 2.5 --formats uint --calib G
--method best --budget 3.5 --formats uint --calib G
--method best --budget 4.5 --formats uint --calib G
--method best --budget 5.35 --formats uint --calib G
LIST
}

export LC_ALL=C TIMEFORMAT='%U %S'
table=$work/table${propagate:+-through}
[ -e "$table" ] || {
    echo '# Quality on a real network'
    echo
    echo 'Written by `scripts/quality.sh`: the sentence model, 36 matrices, 10.6 M weights. Calibration: 768 sentences (A), or'
    echo 'the same with tokens and rows weighted by their gradients (G). Scored on 384 other sentences (96 where inputs are'
    echo 'quantized): relative error of the layers'"'"' outputs, mean and worst of the matrices, and cosine of the embeddings to'
    echo 'the original'"'"'s, mean and lowest.'
    echo
    echo '| flags of `rankbit compress` | bits a weight | output error | worst | cosine | lowest | CPU s |'
    echo '|---|---|---|---|---|---|---|'
} >"$table"
while read -r flags; do
    grep -qF "| \`$flags\` |" "$table" && continue
    echo "quality: $flags" >&2
    arguments=${flags/--calib A/--calib $work/acts}
    arguments=${arguments/--calib G/--calib $work/gradients}
    if [ -n "$propagate" ] && [[ $flags == *'--calib A'* ]]; then
        # shellcheck disable=SC2086 -- the flags are words
        target/release/examples/propagate "$rankbit" "$work/through" ${flags/--calib A/} >&2
        arguments=${flags/--calib A/--calib $work/through}
    fi
    # shellcheck disable=SC2086 -- the flags are words
    { time "$rankbit" compress "$model" -o "$work/small" --include encoder --quiet --report "$work/report.json" \
        $arguments 2>&3; } 3>&2 2>"$work/time"
    target/release/examples/score "$work/held" "$work/small" >"$work/score.json"
    python3 - "$flags" "$work/report.json" "$work/score.json" "$work/time" >>"$table" <<'PYTHON'
import json, sys
flags, report, score = sys.argv[1], json.load(open(sys.argv[2]))["total"], json.load(open(sys.argv[3]))
seconds = sum(map(float, open(sys.argv[4]).read().split()))
print(f"| `{flags}` | {report['bits_per_weight']:.3f} | {score['output_error']:.4f} | {score['worst']:.4f} "
      f"| {score['cosine']:.5f} | {score['lowest']:.4f} | {seconds:.0f} |")
PYTHON
done < <(recipes | grep -F -e "$only")
mv "$table" "$out"
echo "quality: $out"
