"""Kept optima for the multiple-choice knapsack, from SciPy's mixed-integer solver (HiGHS).

    pip install numpy==2.4.6 scipy==1.17.1
    python scripts/oracle/knapsack.py > tests/vectors/knapsack.json

Losses are multiples of 2^-10 and costs whole numbers, so that every sum is exact. The solver's selection is checked in
whole numbers before its loss is kept. Limits lie between the sums of smallest and largest costs; with several limits
the losses fall with bits as quantization errors do, and the three costs are bits, bit operations and a latency that is
not proportional to either.
"""
import json

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp


def solve(costs, losses, limits):
    n, m = losses.shape
    one_each = np.kron(np.eye(n), np.ones(m))
    scaled = [costs[:, :, k].ravel() / limits[k] for k in range(len(limits))]
    constraints = [LinearConstraint(one_each, 1, 1), LinearConstraint(np.array(scaled), -np.inf, 1)]
    found = milp(losses.ravel(), constraints=constraints, integrality=np.ones(n * m), bounds=Bounds(0, 1),
                 options={"mip_rel_gap": 0.0})
    assert found.status == 0, found.message
    chosen = found.x.reshape(n, m).argmax(1)
    total = costs[np.arange(n), chosen].sum(0)
    assert (total <= limits).all()
    return float(losses[np.arange(n), chosen].sum())


def dyadic(values):
    return np.round(values * 1024) / 1024


random = np.random.default_rng(20)
cases = []
for n, m, divisor, top in [(12, 5, 1, 10**6), (20, 7, 64, 10**4), (30, 4, 1, 1000), (25, 6, 3, 10**5), (40, 3, 1, 50)]:
    for fraction in (0.1, 0.5, 0.8):
        costs = random.integers(1, top, (n, m, 1)) * divisor
        losses = dyadic(random.random((n, m)) * 100)
        low, high = costs.min(1).sum(0), costs.max(1).sum(0)
        limits = (low + fraction * (high - low)).astype(int)
        cases.append((costs, losses, limits))
for n in (10, 18, 26):
    for fraction in (0.25, 0.5, 0.75):
        bits = np.array([4, 6, 8])
        size = random.integers(1000, 10**5, n)
        macs = size * random.integers(1, 200, n)
        latency = random.integers(100, 900, (n, 1)) + size[:, None] * bits // 40
        costs = np.stack([size[:, None] * bits, macs[:, None] * bits**2, latency], 2)
        losses = dyadic(random.random((n, 1)) * 4000.0 / 4.0 ** (bits - 4))
        low, high = costs.min(1).sum(0), costs.max(1).sum(0)
        limits = (low + fraction * (high - low)).astype(int)
        cases.append((costs, losses, limits))
print(json.dumps([{"costs": costs.tolist(), "losses": losses.tolist(), "limits": limits.tolist(),
                   "optimum": solve(costs, losses, limits)} for costs, losses, limits in cases],
                 separators=(",", ":")))
