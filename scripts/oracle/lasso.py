"""Kept solutions of the Lasso, from scikit-learn.

    pip install numpy==2.4.6 scikit-learn==1.9.1
    python scripts/oracle/lasso.py > tests/vectors/lasso.json
"""
import json

import numpy as np
from sklearn.linear_model import Lasso

rng = np.random.default_rng(3)
rows, columns = 30, 60
x = rng.standard_normal((rows, columns)).round(3)
x[:, 7] = x[:, 8] * 0.5 + x[:, 7] * 0.5
y = (x[:, 2] * 1.5 - x[:, 7] + 0.7 * x[:, 40] + 0.2 * rng.standard_normal(rows)).round(3)
largest = np.abs(x.T @ y).max()
cases = []
for part in (0.3, 0.05, 0.01):
    for positive in (False, True):
        lam = part * largest
        model = Lasso(alpha=lam / rows, fit_intercept=False, tol=1e-14, max_iter=10**7, positive=positive).fit(x, y)
        cases.append({"lambda": lam, "non_negative": positive, "coefficients": model.coef_.tolist()})
print(json.dumps({"x": x.ravel().tolist(), "y": y.tolist(), "cases": cases}))
