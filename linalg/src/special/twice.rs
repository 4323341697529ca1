//! Numbers in two parts, on lanes: sums, products and the exponential to about 100 bits, 60 bits where said.

use super::elementary::{Pair, polynomial, two_product, two_sum};
use super::lanes::Lanes;
use super::tables::LN_2;

/// high + low with the second below half a unit of the first, for |high| ≥ |low|.
#[inline(always)]
fn settle<L: Lanes>(high: L, low: L) -> Pair<L> {
    let sum = high + low;
    (sum, low - (sum - high))
}

/// An exact number in two parts.
#[inline(always)]
pub(super) fn exact<L: Lanes>(value: f64) -> Pair<L> {
    (L::splat(value), L::splat(0.0))
}

/// A constant in two parts.
#[inline(always)]
pub(super) fn constant<L: Lanes>((high, low): (f64, f64)) -> Pair<L> {
    (L::splat(high), L::splat(low))
}

/// a + b.
#[inline(always)]
pub(super) fn add<L: Lanes>(a: Pair<L>, b: Pair<L>) -> Pair<L> {
    let (sum, lost) = two_sum(a.0, b.0);
    settle(sum, lost + (a.1 + b.1))
}

/// a·b.
#[inline(always)]
pub(super) fn multiply<L: Lanes>(a: Pair<L>, b: Pair<L>) -> Pair<L> {
    let (product, lost) = two_product(a.0, b.0);
    settle(product, a.0.fma(b.1, a.1.fma(b.0, lost)))
}

/// a·b of a number in one part.
#[inline(always)]
pub(super) fn scale<L: Lanes>(a: Pair<L>, b: L) -> Pair<L> {
    let (product, lost) = two_product(a.0, b);
    settle(product, a.1.fma(b, lost))
}

/// a/b.
#[inline(always)]
pub(super) fn divide<L: Lanes>(a: Pair<L>, b: Pair<L>) -> Pair<L> {
    let quotient = a.0 / b.0;
    let rest = (-quotient).fma(b.0, a.0) + (-quotient).fma(b.1, a.1);
    settle(quotient, rest / b.0)
}

/// `yes` where value < bound, else `no`.
#[inline(always)]
pub(super) fn below<L: Lanes>(value: L, bound: L, yes: Pair<L>, no: Pair<L>) -> Pair<L> {
    (value.below(bound, yes.0, no.0), value.below(bound, yes.1, no.1))
}

/// eʸ for −700 ≤ y ≤ 700 (below that 2⁻¹⁰¹⁰), to a relative error of about 2e-20.
///
/// y = n·ln 2 + 8s; eˢ − 1 by its series, whose powers from the third on need one part only; then three times
/// e²ˢ − 1 = 2(eˢ − 1) + (eˢ − 1)².
#[inline(always)]
pub(super) fn exp<L: Lanes>(y: Pair<L>) -> Pair<L> {
    let high = y.0.below(L::splat(-700.0), L::splat(-700.0), y.0);
    let n = (high * L::splat(core::f64::consts::LOG2_E)).round();
    // The first difference is exact, for the high part of ln 2 ends in zeros.
    let rest = two_sum(n.fma(L::splat(-LN_2.0), high), n.fma(L::splat(-LN_2.1), y.1));
    let eighth = L::splat(0.125);
    let s = (rest.0 * eighth, rest.1 * eighth);
    let (square, square_low) = two_product(s.0, s.0);
    let square_low = (s.0 + s.0).fma(s.1, square_low);
    let tail = (square * s.0)
        * polynomial(
            s.0,
            [
                1.0 / 6.0,
                1.0 / 24.0,
                1.0 / 120.0,
                1.0 / 720.0,
                1.0 / 5040.0,
                1.0 / 40320.0,
                1.0 / 362_880.0,
                1.0 / 3_628_800.0,
            ],
        );
    let half = L::splat(0.5);
    let (sum, lost) = two_sum(s.0, half * square);
    let mut less_one = settle(sum, tail + (lost + half.fma(square_low, s.1)));
    for _ in 0..3 {
        let double = (less_one.0 + less_one.0, less_one.1 + less_one.1);
        let (square, low) = two_product(less_one.0, less_one.0);
        let (sum, lost) = two_sum(double.0, square);
        less_one = settle(sum, lost + (double.1 + double.0.fma(less_one.1, low)));
    }
    let (high, low) = add(exact(1.0), less_one);
    let power = n.power_of_two();
    (high * power, low * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first parts alone cannot show: (1 + 2⁻⁷⁰)·(1 − 2⁻⁷⁰) and e to thirty digits.
    #[test]
    fn two_parts_count() {
        let tiny = 2f64.powi(-70);
        assert_eq!(multiply((1.0, tiny), (1.0, -tiny)), (1.0, 0.0));
        assert_eq!(add((1.0, tiny), (-1.0, tiny)), (2.0 * tiny, 0.0));
        let third = divide(exact(1.0), exact(3.0));
        assert_eq!(third, (1.0 / 3.0, 1.850371707708594e-17));
        // The low part of e is 1.4456468917292502e-16.
        let (high, low) = exp::<f64>(exact(1.0));
        assert_eq!(high, core::f64::consts::E);
        assert!((low - 1.445_646_891_729_250_2e-16).abs() < 1e-19, "{low}");
        // e^y·e^(−y) = 1 and the two-part exponent shows.
        for y in [0.1, 0.9, 17.25, 300.0, 690.0] {
            let (high, low) = multiply(exp::<f64>((y, y * 3e-17)), exp::<f64>((-y, -y * 3e-17)));
            assert!(((high - 1.0) + low).abs() < 1e-19, "{y}: {high} {low}");
        }
        let (high, low) = exp::<f64>((2.0, 1e-17));
        let (plain, plain_low) = exp::<f64>(exact(2.0));
        assert!(((high - plain) + (low - plain_low) - plain * 1e-17).abs() < 1e-18);
    }
}
