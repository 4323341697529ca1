"""What SciPy, scikit-learn and celer need for what `rankbit-linalg` does, on one thread, in the same units.

    pip install numpy==2.4.6 scipy==1.17.1 scikit-learn celer
    cargo build --release -p rankbit-linalg --examples
    python scripts/linalg-peers-functions.py [bessel] [lasso]

Runs both sides, one after the other, and prints values per second and the non-finite cells of a grid (log-Bessel),
or thread CPU seconds and the true duality gap (Lasso, 2000×10000 at α_max/100).
"""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import subprocess
import sys
import tempfile
import time

import numpy as np


def ours(example, *arguments):
    return subprocess.run([f"target/release/examples/{example}", *arguments], check=True, capture_output=True, text=True).stdout


def bessel():
    from scipy.special import ive, kve

    def log_i(v, x):
        return np.log(ive(v, x)) + x

    def log_k(v, x):
        return np.log(kve(v, x)) - x

    print(ours("log_bessel"))
    rng = np.random.default_rng(1)
    np.seterr(all="ignore")
    for name, v0, v1, x0, x1 in [
        ("v, x in 1e-3 … 1e5", 1e-3, 1e5, 1e-3, 1e5),
        ("v, x in 1 … 1e4", 1, 1e4, 1, 1e4),
        ("v < 30, x in 1e-3 … 1", 1e-3, 30, 1e-3, 1),
    ]:
        v = np.exp(rng.uniform(np.log(v0), np.log(v1), 100_000))
        x = np.exp(rng.uniform(np.log(x0), np.log(x1), 100_000))
        line = f"SciPy {name:<28}"
        for f in (log_i, log_k):
            least, bad = 1e9, 0
            for _ in range(3):
                start = time.thread_time()
                values = f(v, x)
                least = min(least, time.thread_time() - start)
                bad = int((~np.isfinite(values)).sum())
            line += f" {len(x) / least / 1e6:8.2f} M/s, {bad / len(x):6.1%} non-finite"
        print(line)
    cells = [tuple(map(float, line.split())) for line in ours("log_bessel", "grid").splitlines()]
    bad = [0, 0]
    differ = 0.0
    for v, x, i, k in cells:
        peers = log_i(v, x), log_k(v, x)
        bad[0] += not (np.isfinite(i) and np.isfinite(k))
        bad[1] += not np.all(np.isfinite(peers))
        for mine, peer in zip((i, k), peers):
            if np.isfinite(peer):
                differ = max(differ, abs(mine - peer) / max(1.0, abs(mine)))
    print(f"grid of {len(cells)} cells: non-finite ours {bad[0]}, SciPy {bad[1]}; elsewhere they differ by at most {differ:.1e} of max(1, |ln|)")


def lasso():
    from sklearn.linear_model import Lasso

    rows, columns = 2000, 10000
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "problem.bin")
        print(ours("lasso", path))
        data = np.fromfile(path)
    x = data[: rows * columns].reshape(columns, rows).T
    y = data[rows * columns :]
    lam = np.abs(x.T @ y).max() / 100

    def gap(b):
        r = y - x @ b
        theta = r / max(lam, np.abs(x.T @ r).max())
        primal = r @ r / 2 + lam * np.abs(b).sum()
        dual = y @ y / 2 - lam**2 / 2 * np.sum((theta - y / lam) ** 2)
        return primal - dual

    def report(name, model):
        start = time.thread_time()
        model.fit(x, y)
        seconds = time.thread_time() - start
        print(f"{name:<34} {seconds:6.2f} s thread CPU, gap / ½|y|² {gap(model.coef_) / (y @ y / 2):.1e}")

    for tol in (1e-4, 1e-6):
        report(f"scikit-learn, tol {tol}", Lasso(alpha=lam / rows, fit_intercept=False, tol=tol, max_iter=100000))
    from celer import Lasso as Celer

    Celer(alpha=lam / rows, fit_intercept=False).fit(x[:50, :50], y[:50])
    for tol in (1e-4, 1e-6):
        report(f"celer, tol {tol}", Celer(alpha=lam / rows, fit_intercept=False, tol=tol))


for name in sys.argv[1:] or ["bessel", "lasso"]:
    {"bessel": bessel, "lasso": lasso}[name]()
