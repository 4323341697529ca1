"""Reference values of ln I_v(x) and ln K_v(x), and the constant tables of `linalg/src/special`.

    python scripts/oracle/log_bessel.py vectors > tests/vectors/log_bessel.csv
    python scripts/oracle/log_bessel.py tables  > linalg/src/special/tables.rs

Needs mpmath 1.3. mpmath's own besselk fails at some large orders, so that K comes from its integral representation by
the trapezoidal rule, whose step is halved until 60 digits stand still; I from the Wronskian with the continued fraction
of I_{v+1}/I_v. Beyond hypot(v, x) = 3000 both come from the uniform expansion with 40 terms, which the script first
compares with the integral. Each line: v, x, ln I (high and low part), ln K (high and low part), all exact as printed.
"""
import random
import sys
from fractions import Fraction

from mpmath import mp, mpf

mp.dps = 80


def debye(count):
    """U_k(p) = p^k * sum_j c[k][j] p^(2j), exactly."""
    rows = [[Fraction(1)]]
    for k in range(count):
        row = [Fraction(0)] * (k + 2)
        for j, c in enumerate(rows[k]):
            e = k + 2 * j
            row[j] += c * (Fraction(e, 2) + Fraction(1, 8 * (e + 1)))
            row[j + 1] -= c * (Fraction(e, 2) + Fraction(5, 8 * (e + 3)))
        rows.append(row)
    return rows


U = debye(40)
UF = [[mpf(c.numerator) / c.denominator for c in row] for row in U]


def uniform(v, x):
    s = mp.sqrt(v * v + x * x)
    p2 = (v / s) ** 2
    eta = s + v * mp.log(x / (v + s))
    a = [sum(c * p2**j for j, c in enumerate(row)) / s**k for k, row in enumerate(UF)]
    i = -mp.log(2 * mp.pi * s) / 2 + eta + mp.log(sum(a))
    k = mp.log(mp.pi / (2 * s)) / 2 - eta + mp.log(sum(t if n % 2 == 0 else -t for n, t in enumerate(a)))
    return i, k


def log_k(v, x):
    """ln of int_0^inf exp(-x cosh t) cosh(v t) dt."""
    top = mp.asinh(v / x)

    def f(t):
        return -x * mp.cosh(t) + v * t + mp.log1p(mp.exp(-2 * v * t)) - mp.log(2)

    peak = f(top)
    width = 1 / mp.sqrt(mp.sqrt(x * x + v * v))
    step = min(width, mpf(1) / 4)
    limit = peak - 175
    high = top
    while f(high) > limit:
        high += step
    low = top
    while low > 0 and f(low) > limit:
        low -= step
    low = max(low, mpf(0))
    before = None
    count = max(64, int((high - low) / step) * 2)
    while True:
        h = (high - low) / count
        total = mpf(0)
        for n in range(count + 1):
            term = mp.exp(f(low + n * h) - peak)
            total += term / 2 if n == 0 and low == 0 else term
        value = peak + mp.log(h * total)
        if before is not None and abs(value - before) < mpf(10) ** -50:
            return value
        before, count = value, count * 2


def log_i(v, x, k0, k1):
    """From I_v K_{v+1} + I_{v+1} K_v = 1/x; the ratio by backward recurrence from far above."""
    steps = int(90 + 4 * mp.sqrt(x) * 4 + 2 * x)
    r = x / (v + steps + mp.sqrt(x * x + (v + steps) ** 2))
    for j in range(steps, 0, -1):
        r = 1 / (2 * (v + j) / x + r)
    return -mp.log(x) - k0 - mp.log(mp.exp(k1 - k0) + r)


def reference(v, x):
    v, x = mpf(v), mpf(x)
    if mp.sqrt(v * v + x * x) > 3000:
        return uniform(v, x)
    k0 = log_k(v, x)
    i = log_i(v, x, k0, log_k(v + 1, x))
    if x < 20 and v < 20:  # mpmath itself is sound here
        assert abs(mp.log(mp.besselk(v, x)) - k0) < mpf(10) ** -40, (v, x)
    return i, k0


def pair(value):
    high = float(value)
    return high, float(value - mpf(high))


def near_zeros():
    """Pairs whose ln K, or ln I, is a small number given beforehand, down to the last digit of x."""
    draw = random.Random(11)
    points = []
    for first in (False, True):
        for n in range(140):
            v = 10 ** draw.uniform(-3, mp.log10(28)) if n % 2 else draw.uniform(0.02, 29)
            target = draw.choice([-1, 1]) * 10 ** draw.uniform(-4, 0) * (0 if n % 10 == 9 else 1)
            # I_v(x) = 1 has no root far below where the power alone is 1.
            mp.dps = 20
            low, high = mpf(10) ** -12, mpf(40)
            for _ in range(70):
                x = mp.sqrt(low * high)
                if first:
                    value = mp.log(mp.besseli(v, x)) - target
                else:
                    value = target - mp.log(mp.besselk(v, x))
                low, high = (x, high) if value < 0 else (low, x)
            mp.dps = 80
            points.append((float(v), float(low)))
    return points


def vectors():
    a, b = uniform(mpf(1500), mpf(800)), (lambda v, x: (log_i(v, x, log_k(v, x), log_k(v + 1, x)), log_k(v, x)))(mpf(1500), mpf(800))
    assert abs(a[0] - b[0]) < mpf(10) ** -45 and abs(a[1] - b[1]) < mpf(10) ** -45
    draw = random.Random(7)
    points = []
    edges_v = [0.0, 1e-300, 1e-8, 1e-3, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.25, 7.5, 12.0, 20.5, 31.0, 33.0, 100.3]
    edges_x = [1e-300, 1e-30, 1e-8, 1e-3, 0.1, 0.5, 1.0, 1.0000000001, 2.0, 3.999, 4.001, 7.999, 8.001, 16.0, 30.0, 33.0, 60.0]
    points += [(v, x) for v in edges_v for x in edges_x]
    points += [(10 ** draw.uniform(-3, 5), 10 ** draw.uniform(-3, 5)) for _ in range(250)]
    points += [(10 ** draw.uniform(-3, 1.6), 10 ** draw.uniform(-3, 1.6)) for _ in range(250)]
    points += [(draw.uniform(0, 40), draw.uniform(0, 40)) for _ in range(150)]
    for _ in range(60):  # where ln I crosses zero
        v = 10 ** draw.uniform(0, 5)
        points.append((v, v * draw.uniform(0.6, 0.75)))
    points += [(v, x) for v in (512.0, 4096.0) for x in (0.01, 1.0, 60.0, 120.0, 700.0, 6000.0, 11900.0)]
    points += [(v, x) for v in (1e-3, 1.0, 1e10, 1e100, 1e300) for x in (1e-300, 1e-100, 1.0, 1e10, 1e100, 1e300)]
    points += near_zeros()
    print("# scripts/oracle/log_bessel.py, mpmath " + __import__("mpmath").__version__)
    for v, x in points:
        i, k = reference(v, x)
        print(",".join(repr(t) for t in (v, x, *pair(i), *pair(k))), flush=True)


def tables():
    mp.dps = 60

    def number(value):
        return repr(float(value))

    def constant(name, doc, values):
        print(f"\n/// {doc}\npub(super) const {name}: [f64; {len(values)}] = [")
        for value in values:
            print(f"    {number(value)},")
        print("];")

    def parts(name, doc, value):
        high, low = pair(value)
        print(f"\n/// {doc}, in two parts.\npub(super) const {name}: (f64, f64) = ({high!r}, {low!r});")

    print("//! Constants of the log-Bessel kernels. Made by `scripts/oracle/log_bessel.py tables`; do not edit.")
    flat = [UF[k][j] for k in range(1, 16) for j in range(k + 1)]
    constant("DEBYE", "Coefficients of the uniform expansion: row k (from 1) has k + 1 entries, the polynomial of U_k(p)/pᵏ in p².", flat)
    slopes = [-(UF[k - 1][j] * (mpf(1) / 2 + (k - 1 + 2 * j))) for k in range(1, 16) for j in range(k)]
    constant("DEBYE_SLOPE", "Coefficients of (V_k − U_k)/(pᵏ(1 − p²)): row k (from 1) has k entries, a polynomial in p².", slopes)
    gamma = mp.taylor(lambda z: mp.rgamma(1 + z), 0, 25)
    constant("RECIPROCAL_GAMMA", "Taylor coefficients of 1/Γ(1 + z) from degree 1 on.", gamma[1:])
    print(f"\n/// Second parts of the first of them.\npub(super) const RECIPROCAL_GAMMA_LOW: [f64; 9] = [")
    for value in gamma[1:10]:
        print(f"    {pair(value)[1]!r},")
    print("];")
    constant("FIFTH", "cosh(j/5) − 1, j = 1, 2, …", [mp.cosh(mpf(j) / 5) - 1 for j in range(1, 23)])
    constant("EIGHTH", "cosh(j/8) − 1, j = 1, 2, …", [mp.cosh(mpf(j) / 8) - 1 for j in range(1, 22)])
    print("\n/// 1/0!, 1/1!, …, 1/9!, each in two parts.\npub(super) const RECIPROCAL_FACTORIALS: [(f64, f64); 10] = [")
    for k in range(10):
        high, low = pair(1 / mp.factorial(k))
        print(f"    ({high!r}, {low!r}),")
    print("];")
    for name, step, count in (("NODES_NEAR", mpf(8) / 64, 37), ("NODES", mpf(5) / 64, 42)):
        text = f"cosh jh − 1, h = {int(step * 64)}/64, j = 1, 2, …, in two parts."
        print(f"\n/// {text}\npub(super) const {name}: [(f64, f64); {count}] = [")
        for j in range(1, count + 1):
            high, low = pair(mp.cosh(j * step) - 1)
            print(f"    ({high!r}, {low!r}),")
        print("];")
    ln2 = mp.log(2)
    import math, struct
    bits = struct.unpack("<Q", struct.pack("<d", float(ln2)))[0] & ~((1 << 21) - 1)
    high = struct.unpack("<d", struct.pack("<Q", bits))[0]
    print(f"\n/// ln 2, in two parts; the first has 21 zero bits at its end.\npub(super) const LN_2: (f64, f64) = ({high!r}, {float(ln2 - high)!r});")
    parts("HALF_LN_2_PI", "½·ln(2π)", mp.log(2 * mp.pi) / 2)
    parts("HALF_LN_HALF_PI", "½·ln(π/2)", mp.log(mp.pi / 2) / 2)
    parts("TWO_THIRDS", "⅔", mpf(2) / 3)


if __name__ == "__main__":
    if sys.argv[1] == "tables":
        tables()
    else:
        vectors()
