#!/usr/bin/env python3
"""Ledoit and Wolf's shrinkage by scikit-learn 1.9.1, for linalg/tests/moments.rs: tokens, inputs, weight, S*[0, 0], S*[1, 0].

    python3 -m venv /tmp/oracle && /tmp/oracle/bin/pip install scikit-learn==1.9.1
    /tmp/oracle/bin/python scripts/oracle/shrinkage.py
"""

import numpy as np
from sklearn.covariance import ledoit_wolf

for tokens, inputs in [(7, 4), (40, 4), (3, 6)]:
    i, j = np.indices((tokens, inputs))
    x = ((i * 7 + j * 13) % 11 - 5) / 4 + (i * i * 3 + j * j * 5) % 7 / 8
    covariance, weight = ledoit_wolf(x, assume_centered=True)
    print(tokens, inputs, repr(float(weight)), repr(float(covariance[0, 0])), repr(float(covariance[1, 0])))
