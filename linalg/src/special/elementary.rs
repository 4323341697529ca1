//! Logarithm and exponential on lanes; the logarithm in two parts, because products with large orders magnify its
//! rounding.

use super::lanes::Lanes;
use super::tables::{LN_2, TWO_THIRDS};

/// A value in two parts, the second below half a unit of the first.
pub(super) type Pair<L> = (L, L);

/// a + b and what rounding lost.
#[inline(always)]
pub(super) fn two_sum<L: Lanes>(a: L, b: L) -> Pair<L> {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// a·b and what rounding lost.
#[inline(always)]
pub(super) fn two_product<L: Lanes>(a: L, b: L) -> Pair<L> {
    let product = a * b;
    (product, a.fma(b, -product))
}

/// Σ cⱼ·xʲ.
#[inline(always)]
pub(super) fn polynomial<L: Lanes, const N: usize>(x: L, coefficients: [f64; N]) -> L {
    let mut sum = L::splat(0.0);
    for &c in coefficients.iter().rev() {
        sum = sum.fma(x, L::splat(c));
    }
    sum
}

/// eʸ for −700 ≤ y ≤ 700 (below that 2⁻¹⁰¹⁰), to about one unit in the last place.
#[inline(always)]
pub(super) fn exp<L: Lanes>(y: L) -> L {
    let y = y.below(L::splat(-700.0), L::splat(-700.0), y);
    let n = (y * L::splat(core::f64::consts::LOG2_E)).round();
    let r = n.fma(L::splat(-LN_2.0), y);
    let r = n.fma(L::splat(-LN_2.1), r);
    let tail = polynomial(
        r,
        [
            1.0 / 2.0,
            1.0 / 6.0,
            1.0 / 24.0,
            1.0 / 120.0,
            1.0 / 720.0,
            1.0 / 5040.0,
            1.0 / 40320.0,
            1.0 / 362_880.0,
            1.0 / 3_628_800.0,
            1.0 / 39_916_800.0,
            1.0 / 479_001_600.0,
            1.0 / 6_227_020_800.0,
        ],
    );
    (L::splat(1.0) + (r * r).fma(tail, r)) * n.power_of_two()
}

/// ln of m·2ᵉ·(1 + rest), with m in ½ … 2 and a tiny rest, in two parts: absolute error about 1e-20.
///
/// ln m = 2·artanh t, t = (m − 1)/(m + 1), with t and t³ in two parts.
#[inline(always)]
pub(super) fn ln_parts<L: Lanes>(m: L, e: L, rest: L) -> Pair<L> {
    let one = L::splat(1.0);
    let large = L::splat(core::f64::consts::SQRT_2);
    let small = L::splat(core::f64::consts::FRAC_1_SQRT_2);
    let (m, e) = (m.below(large, m, m * L::splat(0.5)), m.below(large, e, e + one));
    let (m, e) = (m.below(small, m + m, m), m.below(small, e - one, e));
    let top = m - one;
    let bottom = m + one;
    let bottom_rest = m - (bottom - one);
    let inverse = one / bottom;
    let t = top * inverse;
    let t_rest = ((-t).fma(bottom, top) - t * bottom_rest) * inverse;
    let (square, square_rest) = two_product(t, t);
    let square_rest = (t + t).fma(t_rest, square_rest);
    let (cube, cube_rest) = two_product(square, t);
    let cube_rest = square_rest.fma(t, square.fma(t_rest, cube_rest));
    let third = L::splat(TWO_THIRDS.0);
    let (second, second_rest) = two_product(third, cube);
    let second_rest = third.fma(cube_rest, L::splat(TWO_THIRDS.1).fma(cube, second_rest));
    let tail = polynomial(
        square,
        [
            2.0 / 5.0,
            2.0 / 7.0,
            2.0 / 9.0,
            2.0 / 11.0,
            2.0 / 13.0,
            2.0 / 15.0,
            2.0 / 17.0,
            2.0 / 19.0,
            2.0 / 21.0,
            2.0 / 23.0,
            2.0 / 25.0,
        ],
    ) * (cube * square);
    let (sum, lost) = two_sum(e * L::splat(LN_2.0), t + t);
    let (sum, lost_again) = two_sum(sum, second);
    let low =
        ((tail + second_rest) + (t_rest + t_rest)) + (lost + lost_again) + (e.fma(L::splat(LN_2.1), rest));
    let high = sum + low;
    (high, low - (high - sum))
}

/// ln(high + low) of a positive normal number, in two parts.
#[inline(always)]
pub(super) fn ln<L: Lanes>(high: L, low: L) -> Pair<L> {
    let (m, e) = high.split();
    ln_parts(m, e, low / high)
}

/// ln(1 + q) of −½ < q, to a relative error of about one unit in the last place.
#[inline(always)]
pub(super) fn ln_1p<L: Lanes>(q: L) -> Pair<L> {
    let sum = L::splat(1.0) + q;
    ln(sum, q - (sum - L::splat(1.0)))
}

/// ln(1 + q) of |q| < 0.005.
#[inline(always)]
pub(super) fn ln_1p_small<L: Lanes>(q: L) -> L {
    let tail =
        polynomial(q, [-1.0 / 2.0, 1.0 / 3.0, -1.0 / 4.0, 1.0 / 5.0, -1.0 / 6.0, 1.0 / 7.0, -1.0 / 8.0]);
    (q * q).fma(tail, q)
}
