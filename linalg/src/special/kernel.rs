//! The log-Bessel functions region by region, on lanes.
//!
//! ```text
//! region            where                              ln I                      ln K
//! Far, Uniform      hypot(v, x) ≥ 256, 32              uniform expansion of 6 or 13 terms
//! Middle, Near      4 or 1 < x ≤ 8, x > 8              from K by the Wronskian   trapezoidal rule at the order's
//!                                                                                 fraction, recurrence upwards
//! Origin            x ≤ 4 (I), x ≤ 1 (K)               power series              Temme's series, recurrence upwards
//! ```
//!
//! The last three once more in numbers of two parts where the logarithm is near 0 (`zeros`).
//!
//! Sources: DLMF 10.40, 10.41 (expansions), 10.32.9 (the integral), 10.29 (recurrences), 10.28.2 (Wronskian);
//! N. M. Temme, *On the numerical evaluation of the modified Bessel function of the third kind* (1975); dispatch by
//! region: Plesner, Sørensen, Hauberg, *Accurate computation of the logarithm of modified Bessel functions on GPUs*
//! (2024), whose expansions are here written in 1/hypot(v, x) so that one of them serves all orders.

use super::elementary::{Pair, exp, ln, ln_1p, ln_1p_small, ln_parts, polynomial, two_product, two_sum};
use super::lanes::Lanes;
use super::tables::{DEBYE, DEBYE_SLOPE, EIGHTH, FIFTH, HALF_LN_2_PI, HALF_LN_HALF_PI, RECIPROCAL_GAMMA};

/// Orders and arguments for which one formula holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Region {
    /// hypot(v, x) ≥ 256.
    Far,
    /// hypot(v, x) ≥ 32.
    Uniform,
    /// x > 8.
    Middle,
    /// x ≤ 8, above `Origin`.
    Near,
    /// x ≤ 4 (I), x ≤ 1 (K).
    Origin,
}

/// Which function: the first kind if true.
pub(super) type FirstKind = bool;

/// The region of a positive x ≤ 1e300 and an order in 0 … 1e300.
#[inline(always)]
pub(super) fn region(first: FirstKind, v: f64, x: f64) -> Region {
    let square = v * v + x * x;
    if square >= 65536.0 {
        Region::Far
    } else if square >= 1024.0 {
        Region::Uniform
    } else if x > 8.0 {
        Region::Middle
    } else if x > if first { 4.0 } else { 1.0 } {
        Region::Near
    } else {
        Region::Origin
    }
}

/// Whether a logarithm found in a region is so small that the rounding of what cancelled in it shows.
#[inline(always)]
pub(super) fn near_zero(first: FirstKind, v: f64, x: f64, value: f64) -> bool {
    let size = num_traits::Float::abs(value);
    if !(first && v < 0.5) {
        return size < 1.0;
    }
    // Each term of v·ln(x/2) + ln(1 + …) is right to its last digits: only their cancelling loses any. log₂ to within a
    // tenth is near enough to tell.
    let log2 = x.to_bits() as f64 * power(-52) - 1024.0;
    size < 1.0 && size < num_traits::Float::abs(0.5 * core::f64::consts::LN_2 * v * log2)
}

/// 2ⁿ of a normal number.
const fn power(n: i64) -> f64 {
    f64::from_bits((1023 + n).cast_unsigned() << 52)
}

/// hypot(v, x) in two parts, and its reciprocal.
#[inline(always)]
fn hypotenuse<L: Lanes>(v: L, x: L) -> (Pair<L>, L) {
    let huge = L::splat(3.3e150); // squares of more might overflow
    let one = L::splat(1.0);
    let (down, up) = (L::splat(power(-600)), L::splat(power(600)));
    let largest = v.below(x, x, v);
    let (scale, back) = (largest.below(huge, one, down), largest.below(huge, one, up));
    let (v, x) = (v * scale, x * scale);
    let (a, a_rest) = two_product(v, v);
    let (b, b_rest) = two_product(x, x);
    let (square, rest) = two_sum(a, b);
    let root = square.sqrt();
    let inverse = one / root;
    let rest = ((-root).fma(root, square) + (rest + (a_rest + b_rest))) * (inverse * L::splat(0.5));
    ((root * back, rest * back), inverse * scale)
}

/// Σ_{k=1}^{TERMS} (±1/s)ᵏ·cₖ(p²), p = v/s, from a flat table whose row k has k + `EXTRA` entries.
#[inline(always)]
fn expansion<L: Lanes, const TERMS: usize, const EXTRA: usize>(table: &[f64], step: L, p2: L) -> L {
    let mut sum = L::splat(0.0);
    let mut end = (1..=TERMS).map(|k| k + EXTRA).sum::<usize>();
    let mut k = TERMS;
    while k > 0 {
        let start = end - (k + EXTRA);
        let mut row = L::splat(0.0);
        for &c in table.get(start..end).unwrap_or(&[]).iter().rev() {
            row = row.fma(p2, L::splat(c));
        }
        sum = (sum + row) * step;
        end = start;
        k -= 1;
    }
    sum
}

/// The uniform expansion.
///
/// ```text
/// ln I = η − ½ln(2πs) + ln(1 + Σ Uₖ(p)/vᵏ)      s = hypot(v, x),  η = s + v·ln(x/(v + s)),  p = v/s
/// ln K = −η + ½ln(π/(2s)) + ln(1 + Σ (−1)ᵏ Uₖ(p)/vᵏ)
/// ```
#[inline(always)]
pub(super) fn uniform<L: Lanes, const TERMS: usize>(first: FirstKind, v: L, x: L) -> L {
    let ((s, s_rest), inverse) = hypotenuse(v, x);
    // v + s, and the logarithm of x/(v + s) from mantissas and exponents, which cannot underflow.
    let (sum, sum_rest) = two_sum(s, v);
    let (bottom, bottom_exponent) = sum.split();
    let tiny = L::splat(1e-290);
    let lift = L::splat(power(200));
    let (top, top_exponent) = x.below(tiny, x * lift, x).split();
    let top_exponent = x.below(tiny, top_exponent - L::splat(200.0), top_exponent);
    let reciprocal = L::splat(1.0) / bottom;
    let ratio = top * reciprocal;
    let rest = (-ratio).fma(bottom, top) * reciprocal / ratio - (sum_rest + s_rest) / sum;
    let (log, log_rest) = ln_parts(ratio, top_exponent - bottom_exponent, rest);
    let (product, product_rest) = two_product(v, log);
    let (eta, eta_rest) = two_sum(s, product);
    let eta_rest = eta_rest + (s_rest + v.fma(log_rest, product_rest));

    let (root, root_rest) = ln(s, s_rest);
    let half = L::splat(-0.5);
    let p = v * inverse;
    // v·inverse underflows harmlessly where v is far below x; where both are huge the scale cancels.
    let step = if first { inverse } else { -inverse };
    let series = ln_1p_small(expansion::<L, TERMS, 1>(&DEBYE, step, p * p));
    let (sign, constant) = if first {
        (L::splat(1.0), (-HALF_LN_2_PI.0, -HALF_LN_2_PI.1))
    } else {
        (L::splat(-1.0), HALF_LN_HALF_PI)
    };
    let (value, lost) = two_sum(sign * eta, half * root);
    let (value, lost_again) = two_sum(value, L::splat(constant.0));
    value + ((series + sign * eta_rest) + (lost + lost_again) + half.fma(root_rest, L::splat(constant.1)))
}

/// I_{v+1}/I_v or K_{v+1}/K_v where the uniform expansion holds:
///
/// ```text
/// I_{v+1}/I_v = x/(v + s) + (x/s)·W₊/(1 + Σ₊)      K_{v+1}/K_v = (v + s)/x + (x/s)·W₋/(1 + Σ₋)
/// W = Σ (±1/s)ᵏ·(V_k − U_k)/(pᵏ·x²/s²)
/// ```
#[inline(always)]
pub(super) fn uniform_ratio<L: Lanes>(first: FirstKind, v: L, x: L) -> L {
    let ((s, _), inverse) = hypotenuse(v, x);
    let p = v * inverse;
    let step = if first { inverse } else { -inverse };
    let series = L::splat(1.0) + expansion::<L, 13, 1>(&DEBYE, step, p * p);
    let slope = expansion::<L, 13, 0>(&DEBYE_SLOPE, step, p * p);
    let leading = if first { x / (v + s) } else { (v + s) / x };
    leading + (x * inverse) * slope / series
}

/// v as its nearest integer n and the rest in −½ … ½.
#[inline(always)]
pub(super) fn divide_order<L: Lanes>(v: L) -> (L, L) {
    let n = v.round();
    (n, v - n)
}

/// cosh θ − 1 of |θ| ≤ ½.
#[inline(always)]
fn cosh_less_one<L: Lanes>(theta: L) -> L {
    let square = theta * theta;
    square
        * polynomial(
            square,
            [
                1.0 / 2.0,
                1.0 / 24.0,
                1.0 / 720.0,
                1.0 / 40320.0,
                1.0 / 3_628_800.0,
                1.0 / 479_001_600.0,
                1.0 / 87_178_291_200.0,
            ],
        )
}

/// eˣ·K_v(x) and eˣ·K_{v+1}(x) for x > 1 and hypot(v, x) < 32; `steps` is at least the nearest integer of all lanes' v.
///
/// ```text
/// eˣ·K_μ(x) = ∫₀^∞ exp(−x(cosh t − 1))·cosh(μt) dt ≈ h·(½ + Σⱼ exp(−x(cosh jh − 1))·cosh(jμh)),   |μ| ≤ ½
/// K_{μ+1} = K_{μ−1} + (2μ/x)·K_μ
/// ```
///
/// The integrand is analytic, so that h = ⅕ (x ≤ 8) or ⅛ leaves less than e⁻³⁹.
#[inline(always)]
pub(super) fn scaled_k<L: Lanes, const NEAR: bool>(v: L, x: L, steps: usize) -> Pair<L> {
    let (n, mu) = divide_order(v);
    let h = L::splat(if NEAR { 0.2 } else { 0.125 });
    let one = L::splat(1.0);
    // cosh jθ − 1 by its recurrence in differences, which does not magnify rounding.
    let slow = cosh_less_one(mu * h);
    let fast = cosh_less_one((mu + one) * h);
    let (mut a0, mut a1) = (L::splat(0.0), slow);
    let (mut b0, mut b1) = (L::splat(0.0), fast);
    let (mut low, mut high) = (L::splat(0.5), L::splat(0.5));
    let nodes: &[f64] = if NEAR { &FIFTH } else { &EIGHTH };
    for &node in nodes {
        let weight = exp(-x * L::splat(node));
        low = low + weight.fma(a1, weight);
        high = high + weight.fma(b1, weight);
        let a2 = (slow + slow).fma(a1 + one, (a1 + a1) - a0);
        let b2 = (fast + fast).fma(b1 + one, (b1 + b1) - b0);
        (a0, a1, b0, b1) = (a1, a2, b1, b2);
    }
    let (mut low, mut high) = (low * h, high * h);
    let double = L::splat(2.0) / x;
    for j in 0..steps {
        let j = L::splat(j as f64);
        let next = ((mu + (j + one)) * double).fma(high, low);
        (low, high) = (j.below(n, high, low), j.below(n, next, high));
    }
    (low, high)
}

/// I_{v+1}/I_v for 1 < x and hypot(v, x) < 32 (or x up to 8 and any order), by the recurrence downwards from an order so
/// far above that what it starts from no longer shows.
#[inline(always)]
pub(super) fn descending_ratio<L: Lanes, const NEAR: bool>(v: L, x: L) -> L {
    let far = if NEAR { 22 } else { 38 };
    let top = v + L::splat(f64::from(far) + 0.5);
    let start = x / (top + top.fma(top, x * x).sqrt());
    let double = L::splat(2.0) / x;
    let (mut upper, mut lower) = (start, L::splat(1.0));
    for j in (1..=far).rev() {
        let next = ((v + L::splat(f64::from(j))) * double).fma(lower, upper);
        (upper, lower) = (lower, next);
    }
    upper / lower
}

/// ln K or ln I from the trapezoidal rule; ln I by I_v·(K_{v+1} + K_v·I_{v+1}/I_v) = 1/x.
#[inline(always)]
pub(super) fn quadrature<L: Lanes, const NEAR: bool>(first: FirstKind, v: L, x: L, steps: usize) -> L {
    let (low, high) = scaled_k::<L, NEAR>(v, x, steps);
    let (sign, log) = if first {
        let ratio = descending_ratio::<L, NEAR>(v, x);
        (L::splat(-1.0), ln(x * low.fma(ratio, high), L::splat(0.0)))
    } else {
        (L::splat(1.0), ln(low, L::splat(0.0)))
    };
    let (sum, lost) = two_sum(log.0, -x);
    sign * (sum + (lost + log.1))
}

/// Even and odd parts of 1/Γ(1 + z) − 1 for |z| ≤ ½: even(z²) and the odd part over z.
#[inline(always)]
fn reciprocal_gamma<L: Lanes>(z: L) -> Pair<L> {
    let square = z * z;
    let (mut even, mut odd) = (L::splat(0.0), L::splat(0.0));
    for two in RECIPROCAL_GAMMA.chunks_exact(2).take(10).rev() {
        let &[first, second] = two else { continue };
        odd = odd.fma(square, L::splat(first));
        even = even.fma(square, L::splat(second));
    }
    (even * square, odd)
}

/// ln(x/2) in two parts, subnormal x included.
#[inline(always)]
pub(super) fn ln_half<L: Lanes>(x: L) -> Pair<L> {
    let tiny = L::splat(1e-290);
    let (m, e) = x.below(tiny, x * L::splat(power(200)), x).split();
    let e = x.below(tiny, e - L::splat(200.0), e);
    ln_parts(m, e - L::splat(1.0), L::splat(0.0))
}

/// ln I for x ≤ 4 and v < 32.
///
/// ```text
/// I = (x/2)ᵛ/Γ(1 + v)·(1 + Σₖ yᵏ/(k!·(v+1)…(v+k))),   y = x²/4,   Γ(1 + v) = Γ(1 + μ)·(μ+1)…(μ+n)
/// ```
#[inline(always)]
pub(super) fn series<L: Lanes>(v: L, x: L, steps: usize) -> L {
    let one = L::splat(1.0);
    let y = x * x * L::splat(0.25);
    // Horner's rule with numerator and denominator apart: no division in the loop.
    let (mut top, mut bottom) = (one, one);
    for k in (2..=19).rev() {
        let k = L::splat(f64::from(k));
        bottom = bottom * (k * (v + k));
        top = top.fma(y, bottom);
    }
    let sum = y * top / (bottom * (v + one));
    let (n, mu) = divide_order(v);
    let (even, odd) = reciprocal_gamma(mu);
    let gamma = odd.fma(mu, even);
    let mut product = one;
    for j in 0..steps {
        let j = L::splat(j as f64);
        product = j.below(n, product * (mu + (j + one)), product);
    }
    // Orders below ½ need the logarithm of a number near 1.
    let near_one = sum.fma(gamma, sum + gamma);
    let large = (one + sum) * (one + gamma) / product;
    let half = L::splat(0.5);
    let small_order = ln_1p(n.below(half, near_one, one));
    let log_large = ln(large, L::splat(0.0));
    let log = (n.below(half, small_order.0, log_large.0), n.below(half, small_order.1, log_large.1));
    let (base, base_rest) = ln_half(x);
    let (power, power_rest) = two_product(v, base);
    let (value, lost) = two_sum(power, log.0);
    value + (lost + (log.1 + v.fma(base_rest, power_rest)))
}

/// K_μ(x), K_{μ+1}(x)·x/2 for x ≤ 1 by Temme's series, then (x/2)ⁿ·K_{μ+n} for the next n orders: returns
/// (x/2)ⁿ·K_v, (x/2)ⁿ⁺¹·K_{v+1}, n and ln(x/2).
#[inline(always)]
pub(super) fn temme<L: Lanes>(v: L, x: L, steps: usize) -> (L, L, L, Pair<L>) {
    let one = L::splat(1.0);
    let half = L::splat(0.5);
    let (n, mu) = divide_order(v);
    let y = x * x * L::splat(0.25);
    let log = ln_half(x);
    let (even, odd) = reciprocal_gamma(mu);
    let mean = one + even; // ½(1/Γ(1−μ) + 1/Γ(1+μ))
    let plus = odd.fma(mu, mean); // 1/Γ(1+μ)
    let minus = (-odd).fma(mu, mean); // 1/Γ(1−μ)
    let sigma = -mu * log.0;
    let up = exp(sigma);
    let down = one / up;
    // sinh σ/σ: by its series where the difference of exponentials cancels.
    let square = sigma * sigma;
    let short = polynomial(
        square,
        [
            1.0,
            1.0 / 6.0,
            1.0 / 120.0,
            1.0 / 5040.0,
            1.0 / 362_880.0,
            1.0 / 39_916_800.0,
            1.0 / 6_227_020_800.0,
            1.0 / 1_307_674_368_000.0,
            1.0 / 355_687_428_096_000.0,
            1.0 / 121_645_100_408_832_000.0,
        ],
    );
    let long = (up - down) * half / square.below(one, one, sigma);
    let sinh_over = square.below(one, short, long);
    let cosh = (up + down) * half;
    let mut f = (-odd * cosh - sinh_over * log.0 * mean) / (plus * minus);
    let mut p = half * up / plus;
    let mut q = half * down / minus;
    let (mut low, mut high) = (f, p);
    let mut c = one;
    let mu2 = mu * mu;
    for k in 1..=10 {
        let k = L::splat(f64::from(k));
        let inverse = one / (k * k - mu2);
        f = (k.fma(f, p + q)) * inverse;
        p = p * (k + mu) * inverse;
        q = q * (k - mu) * inverse;
        c = c * y / k;
        low = c.fma(f, low);
        high = c.fma(p - k * f, high);
    }
    for j in 0..steps {
        let j = L::splat(j as f64);
        let next = (mu + (j + one)).fma(high, y * low);
        (low, high) = (j.below(n, high, low), j.below(n, next, high));
    }
    (low, high, n, log)
}

/// ln K for x ≤ 1 and v < 32.
#[inline(always)]
pub(super) fn origin_k<L: Lanes>(v: L, x: L, steps: usize) -> L {
    let (low, _, n, log) = temme(v, x, steps);
    let value = ln(low, L::splat(0.0));
    let (power, power_rest) = two_product(-n, log.0);
    let (sum, lost) = two_sum(power, value.0);
    sum + (lost + (value.1 + (-n).fma(log.1, power_rest)))
}
