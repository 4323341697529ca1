#!/usr/bin/env python3
"""What the decompositions of rankbit-linalg take and what the Python libraries take, on one thread, with the ratios.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install numpy scipy scikit-learn torch tensorly
    /tmp/peers/bin/python scripts/linalg-peers.py DIR [PART]...

Both read the same matrices from DIR, which this script fills once: singular values i^-0.5 and i^-1, row-major f32. After
the peers it runs the example lowrank_times (with cargo, in release) on the same parts and divides each of its times by each
peer's. PART is svd or tucker; both without. Times are the least of several runs, in CPU time of the thread; errors are
divided by the least possible of that rank.
"""

import os
import subprocess
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402

SVD = [(4096, 4096, 128, 0.5), (4096, 4096, 128, 1.0), (4096, 11008, 128, 0.5), (1024, 1024, 32, 0.5)]


def matrix(folder, m, n, decay):
    path = f"{folder}/{m}x{n}-{decay}.f32"
    if not os.path.exists(path):
        rng = np.random.default_rng(0)
        k = min(m, n)
        left = np.linalg.qr(rng.standard_normal((m, k), dtype=np.float32))[0]
        right = np.linalg.qr(rng.standard_normal((n, k), dtype=np.float32))[0]
        values = np.arange(1, k + 1) ** -decay
        ((left * values.astype(np.float32)) @ right.T).tofile(path)
    return np.fromfile(path, dtype=np.float32).reshape(m, n)


def least(run, count=3):
    best, result = float("inf"), None
    for _ in range(count):
        start = time.thread_time()
        result = run()
        best = min(best, time.thread_time() - start)
    return best, result


PEERS = {}


def report(what, peer, seconds, error):
    PEERS.setdefault(what, []).append((peer, seconds))
    print(f"{what:28} {peer:36} {seconds * 1e3:10.1f} ms   {error}", flush=True)


def svd(folder):
    import torch
    from sklearn.utils.extmath import randomized_svd

    torch.set_num_threads(1)
    for m, n, rank, decay in SVD:
        a = matrix(folder, m, n, decay)
        optimum = np.sqrt(np.sum(np.arange(rank + 1, min(m, n) + 1) ** (-2 * decay)))

        def ratio(u, s, v):
            return f"{np.linalg.norm(a - (u * s) @ v) / optimum:.4f}"

        what = f"svd {m}x{n} r{rank} i^-{decay}"
        seconds, (u, s, v) = least(lambda: randomized_svd(a, rank, random_state=0))
        report(what, "scikit-learn randomized_svd", seconds, ratio(u, s, v))
        t = torch.from_numpy(a)
        for iterations in (2, 4):
            seconds, (u, s, v) = least(lambda: torch.svd_lowrank(t, q=rank + 10, niter=iterations))
            u, s, v = u[:, :rank], s[:rank], v[:, :rank]
            report(what, f"torch svd_lowrank niter={iterations}", seconds, ratio(u.numpy(), s.numpy(), v.numpy().T))


def tucker(folder):
    import tensorly
    from tensorly.decomposition import partial_tucker

    path = f"{folder}/tucker.f32"
    if not os.path.exists(path):
        np.random.default_rng(1).standard_normal((512, 512, 3, 3), dtype=np.float32).tofile(path)
    t = np.fromfile(path, dtype=np.float32).reshape(512, 512, 3, 3)
    norm = np.linalg.norm(t)

    def error(core, factors):
        return f"{np.linalg.norm(t - np.einsum('abhw,oa,ib->oihw', core, *factors, optimize=True)) / norm:.5f}"

    def gram():
        factors = []
        for mode in (0, 1):
            unfolded = np.moveaxis(t, mode, 0).reshape(512, -1)
            factors.append(np.linalg.eigh(unfolded @ unfolded.T)[1][:, -128:])
        return np.einsum("oihw,oa,ib->abhw", t, *factors, optimize=True), factors

    seconds, (core, factors) = least(gram)
    report("tucker 512x512x3x3 128 128", "NumPy Gram and eigen (HOSVD)", seconds, error(core, factors))
    del tensorly
    for tolerance in (1e-4, 1e-5):
        seconds, ((core, factors), _) = least(
            lambda: partial_tucker(t, rank=[128, 128], modes=[0, 1], init="svd", tol=tolerance), 1
        )
        report("tucker 512x512x3x3 128 128", f"tensorly partial_tucker tol={tolerance}", seconds, error(core, factors))


def ours(folder, parts):
    """Runs the example and prints its lines, each with its time over that of each peer of the same work."""
    example = ["cargo", "run", "--quiet", "--release", "-p", "rankbit-linalg", "--example", "lowrank_times", "--"]
    lines = subprocess.run([*example, folder, *parts], check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in lines.splitlines():
        what, rest = line[:28].strip(), line[29:]
        seconds = float(rest[36:].split()[0]) / 1e3
        ratios = [f"{seconds / peer:.2f} of {name}" for name, peer in PEERS.get(what, [])]
        print(line, *ratios, sep="\n        " if ratios else "", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    parts = sys.argv[2:] or ["svd", "tucker"]
    for part in parts:
        {"svd": svd, "tucker": tucker}[part](sys.argv[1])
    ours(sys.argv[1], parts)
