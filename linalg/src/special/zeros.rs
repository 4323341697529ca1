//! The log-Bessel functions near their zeros, in numbers of two parts: where I or K is close to 1 its logarithm is the
//! difference of larger ones, and one part of them is not enough for a small relative error.
//!
//! The formulas are those of `kernel`: for ln K the trapezoidal rule, at the order itself and without a recurrence, and
//! Temme's series; for ln I the power series. Terms that are less than 1e-4 of the sum are computed in one part.
//!
//! Errors are about 1e-19 absolute, so that the logarithm is good to a unit in the last place down to |ln| = 1e-3.

use super::elementary::{Pair, ln, polynomial, two_product, two_sum};
use super::kernel::{divide_order, ln_half};
use super::lanes::Lanes;
use super::tables::{NODES, NODES_NEAR, RECIPROCAL_FACTORIALS, RECIPROCAL_GAMMA, RECIPROCAL_GAMMA_LOW};
use super::twice::{add, below, constant, divide, exact, exp, multiply, scale};

/// ln K where |ln K| < 1, x > 1 and hypot(v, x) < 32.
///
/// ```text
/// eˣ·K_v(x) ≈ h·(½ + Σⱼ exp(−x(cosh jh − 1))·cosh(jvh))
/// ```
///
/// The rule is off by 2·Re K_{v+2πi/h}(x) + …: below e⁻⁴⁶·K_v(x) with h = ⅛ where x ≤ 8 (so that v < 14), else 5/64.
#[inline(always)]
pub(super) fn quadrature<L: Lanes, const NEAR: bool>(v: L, x: L) -> L {
    let h = L::splat(if NEAR { 0.125 } else { 0.078125 });
    let nodes: &[(f64, f64)] = if NEAR { &NODES_NEAR } else { &NODES };
    let step = exp(two_product(v, h));
    let twice_cosh = add(step, divide(exact(1.0), step));
    let half = L::splat(0.5);
    let (mut before, mut now) = (exact::<L>(1.0), (twice_cosh.0 * half, twice_cosh.1 * half));
    let mut sum = exact(0.5);
    for &node in nodes {
        let exponent = scale(constant(node), -x);
        sum = add(sum, multiply(exp(exponent), now));
        let next = add(multiply(twice_cosh, now), (-before.0, -before.1));
        (before, now) = (now, next);
    }
    let (high, low) = scale(sum, h);
    let log = ln(high, low);
    let (value, lost) = two_sum(log.0, -x);
    value + (lost + log.1)
}

/// Even and odd parts of 1/Γ(1 + z) for |z| ≤ ½: even(z²), and the odd part over z.
#[inline(always)]
fn reciprocal_gamma<L: Lanes>(z: L) -> (Pair<L>, Pair<L>) {
    let (square, square_low) = two_product(z, z);
    // From the degree on whose terms one part serves.
    let (first, rest) = RECIPROCAL_GAMMA.split_at(RECIPROCAL_GAMMA_LOW.len());
    let (mut even, mut odd) = (L::splat(0.0), L::splat(0.0));
    for two in rest.chunks_exact(2).rev() {
        let &[of_even, of_odd] = two else { continue };
        even = even.fma(square, L::splat(of_even));
        odd = odd.fma(square, L::splat(of_odd));
    }
    let (mut even, mut odd) = ((even, L::splat(0.0)), (odd, L::splat(0.0)));
    let square = (square, square_low);
    for (at, (&high, &low)) in first.iter().zip(&RECIPROCAL_GAMMA_LOW).enumerate().rev() {
        // Entry `at` is of degree at + 1.
        let part = if at % 2 == 0 { &mut odd } else { &mut even };
        *part = add(multiply(*part, square), constant((high, low)));
    }
    (add(multiply(even, square), exact(1.0)), odd)
}

/// cosh σ and sinh σ/σ for |σ| < 1.75.
#[inline(always)]
fn hyperbolic<L: Lanes>(sigma: Pair<L>) -> (Pair<L>, Pair<L>) {
    let square = multiply(sigma, sigma);
    let (cosh, sinh_over) = (
        polynomial(
            square.0,
            [
                2.755_731_922_398_589e-7,
                2.087_675_698_786_81e-9,
                1.147_074_559_772_972_5e-11,
                4.779_477_332_387_385e-14,
                1.561_920_696_858_622_7e-16,
                4.110_317_623_312_165e-19,
            ],
        ),
        polynomial(
            square.0,
            [
                2.505_210_838_544_172e-8,
                1.605_904_383_682_161_3e-10,
                7.647_163_731_819_816e-13,
                2.811_457_254_345_520_6e-15,
                8.220_635_246_624_33e-18,
                1.957_294_106_339_126e-20,
            ],
        ),
    );
    let (mut cosh, mut sinh_over) = ((cosh, L::splat(0.0)), (sinh_over, L::splat(0.0)));
    for two in RECIPROCAL_FACTORIALS.chunks_exact(2).rev() {
        let &[even, odd] = two else { continue };
        cosh = add(multiply(cosh, square), constant(even));
        sinh_over = add(multiply(sinh_over, square), constant(odd));
    }
    (cosh, sinh_over)
}

/// ln K where |ln K| < 1 and x ≤ 1 (so that x > 0.07), by Temme's series.
#[inline(always)]
pub(super) fn temme<L: Lanes>(v: L, x: L, steps: usize) -> L {
    let (n, mu) = divide_order(v);
    let half = L::splat(0.5);
    let (square, square_low) = two_product(x * half, x * half);
    let y = (square, square_low);
    let log = ln_half(x);
    let (mean, odd) = reciprocal_gamma(mu);
    let across = scale(odd, mu);
    let (plus, minus) = (add(mean, across), add(mean, (-across.0, -across.1)));
    let sigma = scale(log, -mu);
    let (cosh, sinh_over) = hyperbolic(sigma);
    let sinh = multiply(sinh_over, sigma);
    let (up, down) = (add(cosh, sinh), add(cosh, (-sinh.0, -sinh.1)));
    let halved = |a: Pair<L>| (a.0 * half, a.1 * half);
    let f = add(multiply(odd, cosh), multiply(multiply(sinh_over, log), mean));
    let mut f = divide((-f.0, -f.1), multiply(plus, minus));
    let (mut p, mut q) = (halved(divide(up, plus)), halved(divide(down, minus)));
    let (mut low, mut high) = (f, p);
    let mut c = exact(1.0);
    let (mu2, mu2_low) = two_product(mu, mu);
    for k in 1..=4 {
        let whole = f64::from(k);
        let k = L::splat(whole);
        let inverse = divide(exact(1.0), add(exact(whole * whole), (-mu2, -mu2_low)));
        f = multiply(add(scale(f, k), add(p, q)), inverse);
        p = multiply(multiply(p, two_sum(k, mu)), inverse);
        q = multiply(multiply(q, two_sum(k, -mu)), inverse);
        c = divide(multiply(c, y), exact(whole));
        low = add(low, multiply(c, f));
        let turned = scale(f, -k);
        high = add(high, multiply(c, add(p, turned)));
    }
    let (mut f, mut p, mut q, mut c) = (f.0, p.0, q.0, c.0);
    let (mut more_low, mut more_high) = (L::splat(0.0), L::splat(0.0));
    for k in 5..=11 {
        let k = L::splat(f64::from(k));
        let inverse = L::splat(1.0) / (k * k - mu2);
        f = k.fma(f, p + q) * inverse;
        p = p * (k + mu) * inverse;
        q = q * (k - mu) * inverse;
        c = c * square / k;
        more_low = c.fma(f, more_low);
        more_high = c.fma(p - k * f, more_high);
    }
    let (mut low, mut high) = (add(low, (more_low, L::splat(0.0))), add(high, (more_high, L::splat(0.0))));
    for j in 0..steps {
        let factor = two_sum(mu, L::splat((j + 1) as f64));
        let next = add(multiply(factor, high), multiply(y, low));
        let j = L::splat(j as f64);
        (low, high) = (below(j, n, high, low), below(j, n, next, high));
    }
    let value = ln(low.0, low.1);
    let (power, power_low) = two_product(-n, log.0);
    let (sum, lost) = two_sum(power, value.0);
    sum + (lost + (value.1 + (-n).fma(log.1, power_low)))
}

/// ln I where |ln I| < 1 and hypot(v, x) < 32; `NEAR` for x ≤ 4.
///
/// ```text
/// I = (x/2)ᵛ·(1 + Σₖ yᵏ/(k!·(v+1)…(v+k)))/Γ(1 + v),   y = x²/4
/// ```
#[inline(always)]
pub(super) fn series<L: Lanes, const NEAR: bool>(v: L, x: L, steps: usize) -> L {
    let (first, last) = if NEAR { (6, 20) } else { (11, 32) };
    let half = L::splat(0.5);
    let y = two_product(x * half, x * half);
    // Horner's rule with numerator and denominator apart; the far terms in one part.
    let (mut top, mut bottom) = (L::splat(1.0), L::splat(1.0));
    for k in (first..=last).rev() {
        let k = L::splat(f64::from(k));
        bottom = bottom * (k * (v + k));
        top = top.fma(y.0, bottom);
    }
    let (mut top, mut bottom) = ((top, L::splat(0.0)), (bottom, L::splat(0.0)));
    for k in (2..first).rev() {
        let k = L::splat(f64::from(k));
        bottom = multiply(bottom, scale(two_sum(v, k), k));
        top = add(multiply(top, y), bottom);
    }
    let sum = divide(multiply(y, top), multiply(bottom, two_sum(v, L::splat(1.0))));
    let (n, mu) = divide_order(v);
    let (even, odd) = reciprocal_gamma(mu);
    let gamma = add(even, scale(odd, mu));
    let mut product = exact(1.0);
    for j in 0..steps {
        let next = multiply(product, two_sum(mu, L::splat((j + 1) as f64)));
        product = below(L::splat(j as f64), n, next, product);
    }
    let (high, low) = divide(multiply(add(exact(1.0), sum), gamma), product);
    let log = ln(high, low);
    let base = ln_half(x);
    let (power, power_low) = two_product(v, base.0);
    let (value, lost) = two_sum(power, log.0);
    value + (lost + (log.1 + v.fma(base.1, power_low)))
}
