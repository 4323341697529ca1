#!/usr/bin/env bash
# Proves that rankbit's libraries need no standard library, and that the proof can fail.
#
# 1. tests/no_std, a static library with its own panic handler and allocator that calls every no_std crate,
#    builds; linked into a small C program, it runs and finds its results right.
# 2. The same for the products of rankbit-quant alone, whose dependencies are checked to hold no linear algebra.
# 3. With the crates' feature `std` on, the same build fails, for the one reason that it should: E0152, std's
#    panic handler beside the library's own.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'no-std: %s\n' "$*" >&2
    exit 1
}

target=${CARGO_TARGET_DIR:-target}/no_std
build=(cargo build --locked --manifest-path tests/no_std/Cargo.toml --target-dir "$target")

build_and_run() {
    "${build[@]}" "$@" || fail "tests/no_std does not build without std ($*)"
    cc tests/no_std/main.c "$target/debug/librankbit_no_std.a" -o "$target/no_std" ||
        fail "the static library does not link ($*)"
    "$target/no_std" || fail "the static library ran and found a wrong result ($*)"
}

build_and_run
build_and_run --no-default-features
dependencies=$(cargo tree --locked --manifest-path tests/no_std/Cargo.toml --no-default-features --edges normal --prefix none)
grep -q '^rankbit-quant ' <<<"$dependencies" || fail 'cargo tree does not list rankbit-quant'
if heavy=$(grep -E '^(faer|rankbit-linalg|rankbit-sparse|rankbit-lowrank|rankbit-attention|rayon)[ -]' <<<"$dependencies"); then
    fail "the products alone depend on $heavy"
fi

# Short messages have one line per error; a plain error without a code would be counted as a reason too.
if log=$("${build[@]}" --features std --message-format short --color never 2>&1); then
    fail "tests/no_std builds with std too: it proves nothing"
fi
reasons=$(grep -oE '(^|: )error(\[E[0-9]+\])?: ' <<<"$log" | tr -d ': ' | sort | uniq -c | tr -s ' \n' ' ')
# cargo's own closing line is the one error without a code.
[ "$reasons" = ' 1 error 1 error[E0152] ' ] || {
    printf '%s\n' "$log" >&2
    fail "with std the build must fail with E0152 and nothing else, found:$reasons"
}
echo 'no-std: builds and runs without std; with std it fails with E0152; products alone need no linear algebra'
