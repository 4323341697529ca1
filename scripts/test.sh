#!/usr/bin/env bash
# Everything that must hold before a change lands. Runs on a fresh machine with Rust (rustup) and a network.
#
#   scripts/test.sh
#
# On Debian and Ubuntu it installs what is missing (as root, or through sudo); elsewhere it says what that would
# be and goes on. Then: formatting, lints (also per crate, as a user builds it), documentation, the no_std proof,
# minutes of fuzzing what reads stored bytes, and all tests, doctests and examples, those of the GPU on a real
# GPU where there is one and else on Mesa's software driver. A GPU test without any driver fails.
#
# CARGO_TARGET_DIR and RANKBIT_DATA work as usual; VK_DRIVER_FILES, when set, chooses the GPU driver.
set -euo pipefail
cd "$(dirname "$0")/.."

private=$(mktemp -d)
chmod 700 "$private"
step='start'
finish() {
    status=$?
    rm -rf "$private"
    [ "$status" = 0 ] || printf 'test: failed at: %s\n' "$step" >&2
}
trap finish EXIT

begin() {
    step=$*
    printf '\n== %s (after %d s)\n' "$step" "$SECONDS"
}

# Packages of Debian's and Ubuntu's names, and whether what they bring is already there.
missing_packages() {
    command -v cc >/dev/null || echo gcc libc6-dev
    command -v python3 >/dev/null || echo python3
    python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
    if [ "$(uname)" = Linux ]; then
        { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -q 'libvulkan\.so\.1' || echo libvulkan1
        [ -n "$(software_driver)" ] || echo mesa-vulkan-drivers
    fi
}

# Mesa's software driver as the Vulkan loader describes it.
software_driver() {
    local found
    for found in /usr/share/vulkan/icd.d/lvp_icd*.json /usr/local/share/vulkan/icd.d/lvp_icd*.json \
        /etc/vulkan/icd.d/lvp_icd*.json; do
        if [ -f "$found" ]; then
            echo "$found"
            return
        fi
    done
}

install_missing() {
    local packages administrator=()
    read -r -d '' -a packages < <(missing_packages) || true
    if [ "${#packages[@]}" = 0 ]; then
        echo 'nothing to install'
        return
    fi
    if ! command -v apt-get >/dev/null; then
        echo "this is not Debian or Ubuntu: please install what they call ${packages[*]}; going on without"
        return
    fi
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || {
            echo "no sudo: please let root run: apt-get install ${packages[*]}; going on without"
            return
        }
        administrator=(sudo)
    fi
    echo "installing ${packages[*]}"
    "${administrator[@]}" apt-get update
    "${administrator[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends "${packages[@]}"
}

choose_gpu_driver() {
    # Mesa wants a private folder, and complains where a service has none.
    export XDG_RUNTIME_DIR=$private
    if [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then
        echo "GPU tests: the driver that the environment names, ${VK_DRIVER_FILES:-$VK_ICD_FILENAMES}"
    elif [ "$(uname)" != Linux ] || compgen -G '/dev/dri/renderD*' >/dev/null || [ -e /dev/nvidiactl ]; then
        echo "GPU tests: this machine's best adapter"
    else
        VK_DRIVER_FILES=$(software_driver)
        # Loaders before 1.3.207 know the older name only.
        export VK_DRIVER_FILES VK_ICD_FILENAMES=$VK_DRIVER_FILES
        echo "GPU tests: no GPU here, so Mesa's software driver, ${VK_DRIVER_FILES:-which is missing: they will fail}"
    fi
}

# A crate as a user's build sees it: no other crate of the workspace and no test adds features to what it uses.
lint_alone() {
    cargo clippy --locked --quiet "$@" -- -D warnings
}

begin 'set-up'
command -v cargo >/dev/null || {
    echo 'test: Rust is missing; install rustup (rustup.rs, or the package rustup)' >&2
    exit 1
}
install_missing
choose_gpu_driver
scripts/fetch-model.sh

begin 'formatting'
cargo fmt --all --check
cargo fmt --check --manifest-path tests/no_std/Cargo.toml

begin 'lints'
cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

begin 'documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --all-features --no-deps

begin 'lints, each library alone'
for crate in rankbit-linalg rankbit-quant rankbit-sparse rankbit-lowrank rankbit-attention rankbit; do
    lint_alone --lib -p "$crate"
    lint_alone --lib -p "$crate" --no-default-features
done
lint_alone --lib -p rankbit-quant --no-default-features --features std
lint_alone --lib -p rankbit-quant --no-default-features --features solve
lint_alone --lib -p rankbit-lowrank --no-default-features --features file
lint_alone -p rankbit-cli

begin 'no_std'
scripts/no-std.sh

# What reads stored bytes, on fresh random seeds; a failure prints the seed that brings it back.
begin 'fuzzing the decoders, a minute for each test binary'
RANKBIT_FUZZ_SECONDS=60 cargo test --locked --workspace --all-features --lib --bins --tests fuzz_

begin 'tests, doctests, examples'
log=$private/log
status=0
cargo test --locked --workspace --all-features --no-fail-fast 2>&1 | tee "$log" || status=$?

# cargo closes each test binary with a summary of its own; this is their sum.
awk '/^test result: / { passed += $4; failed += $6; skipped += $8 }
     END { printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit passed == 0 }' "$log"
exit "$status"
