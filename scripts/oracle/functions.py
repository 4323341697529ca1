"""Kept values of quantiles, binomial bounds, concentrations and principal angles, from SciPy and mpmath.

    pip install numpy==2.4.6 scipy==1.17.1 mpmath==1.3.0
    python scripts/oracle/functions.py > tests/vectors/functions.json
"""
import json

import mpmath
import numpy as np
from scipy.linalg import subspace_angles
from scipy.stats import beta

mpmath.mp.dps = 40


def quantile(p):
    p = mpmath.mpf(p)
    if p > 0.5:
        return -quantile_tail(1 - p)
    return quantile_tail(p)


def quantile_tail(p):
    z = -mpmath.sqrt(max(-2 * mpmath.log(p) - mpmath.log(max(-4 * mpmath.pi * mpmath.log(p), 1)), 0))
    return mpmath.findroot(lambda z: mpmath.log(mpmath.erfc(-z / mpmath.sqrt(2)) / 2) - mpmath.log(p), z)


def concentration(p, resultant):
    v = mpmath.mpf(p) / 2 - 1
    resultant = mpmath.mpf(resultant)

    def ratio(k):
        # Lentz's continued fraction.
        f = mpmath.mpf("1e-60")
        c, d = f, mpmath.mpf(0)
        for j in range(10**6):
            b = 2 * (v + 1 + j) / k
            d = 1 / (b + d)
            c = b + 1 / c
            f *= c * d
            if abs(c * d - 1) < mpmath.mpf("1e-36"):
                break
        return f

    start = resultant * (p - resultant**2) / (1 - resultant**2)
    return mpmath.findroot(lambda k: ratio(k) - resultant, (start, start * mpmath.mpf("1.001")), tol=1e-30)


quantiles = [1e-300, 1e-100, 1e-20, 1e-9, 1e-4, 0.02, 0.1, 0.3, 0.49, 0.5, 0.6, 0.9, 0.975, 0.999, 1 - 1e-6, 1 - 1e-12]
bounds = []
for n, ks in [(1, [0, 1]), (7, [1, 3, 6, 7]), (1000, [1, 500, 990, 999]), (100000, [3, 40000, 99000, 99999, 100000]), (10**8, [5 * 10**7, 99999000])]:
    for k in ks:
        for alpha in (0.0005, 0.05, 0.7):
            bounds.append([k, n, alpha, 0.0 if k == 0 else float(beta.ppf(alpha, k, n - k + 1))])
cases = [(2, 0.3), (2, 0.99), (3, 1e-5), (3, 0.9), (3, 0.9999999), (4, 0.5), (100, 0.01), (100, 0.95), (2048, 0.5), (8192, 0.3), (32768, 0.2), (32768, 0.9)]
rng = np.random.default_rng(5)
angles = []
for rows, k, l in [(6, 2, 2), (10, 4, 3), (5, 4, 4), (9, 1, 1)]:
    a = np.linalg.qr(rng.standard_normal((rows, k)))[0]
    b = np.linalg.qr(rng.standard_normal((rows, l)))[0]
    angles.append({"rows": rows, "a": a.ravel().tolist(), "b": b.ravel().tolist(), "k": k, "l": l, "angles": sorted(subspace_angles(a, b).tolist())})
print(json.dumps({
    "quantiles": [[p, float(quantile(p))] for p in quantiles],
    "bounds": bounds,
    "concentrations": [[p, r, float(concentration(p, r))] for p, r in cases],
    "angles": angles,
}))
