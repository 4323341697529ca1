//! Quantiles: of the normal distribution, and Clopper and Pearson's bound of a binomial probability.
//!
//! The gamma and error functions are `libm`'s. For the incomplete beta function no crate without `std` was found whose
//! continued fraction still converges at the 10⁵ and more samples that certificates take.

use core::f64::consts::{FRAC_1_SQRT_2, PI};

use crate::Error;

/// Φ⁻¹(p), the quantile of the standard normal distribution.
///
/// ```text
/// Φ(z) = ½·erfc(−z/√2)
/// ```
///
/// −∞ at 0, ∞ at 1, NaN outside [0, 1]. Absolute error below 1e-15·max(1, |z|) for the p given (from p = 2.3e-308 on);
/// the inverse of erf is `normal_quantile((1 + y)/2)/√2`. Two of Halley's steps on `libm`'s erfc.
///
/// Source of the start: Abramowitz, Stegun, 26.2.23.
///
/// ```
/// let z = rankbit_linalg::special::normal_quantile(0.975);
/// assert!((z - 1.959963984540054).abs() < 1e-14);
/// ```
pub fn normal_quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    // Exact for p ≥ ½.
    let (tail, sign) = if p < 0.5 { (p, -1.0) } else { (1.0 - p, 1.0) };
    if tail == 0.0 {
        return sign * f64::INFINITY;
    }
    let t = libm::sqrt(-2.0 * libm::log(tail));
    let mut z = t
        - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
    for _ in 0..2 {
        let density = libm::exp(-0.5 * z * z) / libm::sqrt(2.0 * PI);
        let ratio = (0.5 * libm::erfc(z * FRAC_1_SQRT_2) - tail) / density;
        let next = z + ratio / (1.0 - 0.5 * z * ratio);
        if !next.is_finite() {
            break; // a density below the range of f64
        }
        z = next;
    }
    sign * z
}

/// Largest number of trials of [`clopper_pearson_lower`].
const MOST_TRIALS: u64 = 1 << 32;

/// The lower bound of a success probability that `successes` out of `trials` leave, with confidence 1 − `alpha`, on one
/// side: the p at which as many successes or more have probability α.
///
/// ```text
/// P(Bin(n, p) ≥ k) = I_p(k, n − k + 1) = α          0 for k = 0,  α^{1/n} for k = n
/// ```
///
/// Never above the exact bound: the result is 1e-12 of itself below what was computed. O(√n) time.
///
/// # Errors
/// [`Error::InvalidOption`] for no trials, more successes than trials, or α outside (0, 1); [`Error::TooLarge`] for more
/// than 2³² trials.
///
/// Source: C. J. Clopper, E. S. Pearson, *The use of confidence or fiducial limits illustrated in the case of the
/// binomial* (1934).
pub fn clopper_pearson_lower(successes: u64, trials: u64, alpha: f64) -> Result<f64, Error> {
    let invalid = |what, requirement, found| Err(Error::InvalidOption { what, requirement, found });
    if trials == 0 {
        return invalid("trials", "at least 1", 0.0);
    }
    if successes > trials {
        return invalid("successes", "at most the trials", successes as f64);
    }
    if !(alpha > 0.0 && alpha < 1.0) {
        return invalid("alpha", "in (0, 1)", alpha);
    }
    if trials > MOST_TRIALS {
        return Err(Error::TooLarge { what: "trials" });
    }
    let (k, n) = (successes as f64, trials as f64);
    let bound = if successes == 0 {
        0.0
    } else if successes == trials {
        libm::exp(libm::log(alpha) / n)
    } else {
        // Positive numbers are ordered as their bits are: bisection to neighbours, at any magnitude.
        let (mut low, mut high) = (0u64, 1.0f64.to_bits());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if incomplete_beta(k, n - k + 1.0, f64::from_bits(middle)) <= alpha {
                low = middle;
            } else {
                high = middle;
            }
        }
        f64::from_bits(low)
    };
    Ok(bound * (1.0 - 1e-12))
}

/// ln Γ(a) − ((a − ½)·ln a − a + ½·ln 2π).
fn stirling_rest(a: f64) -> f64 {
    if a < 16.0 {
        return libm::lgamma(a) - ((a - 0.5) * libm::log(a) - a + 0.5 * libm::log(2.0 * PI));
    }
    let s = 1.0 / (a * a);
    (1.0 / 12.0 - s * (1.0 / 360.0 - s * (1.0 / 1260.0 - s * (1.0 / 1680.0 - s / 1188.0)))) / a
}

/// I_x(a, b) for a, b ≥ 1 and x in (0, 1).
///
/// ```text
/// I_x = xᵃ(1−x)ᵇ/(a·B(a, b))·1/(1 + d₁/(1 + d₂/(1 + …)))
/// ```
/// Source: DLMF 8.17.22; the front factor as deviances and Stirling's rests, so that no large logarithms cancel.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    let n = a + b;
    // Distance from the mean: the two products of logarithms cancel to second order in it.
    let distance = x * n - a;
    let deviance = a * libm::log1p((distance / a).max(-1.0)) + b * libm::log1p((-distance / b).max(-1.0));
    let rests = stirling_rest(n) - stirling_rest(a) - stirling_rest(b);
    let front = libm::exp(deviance + rests) * libm::sqrt(a / n * b / (2.0 * PI));
    if x < (a + 1.0) / (n + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

/// The continued fraction, by Lentz's method.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-290;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut product = d;
    let mut m = 1.0;
    // O(√max(a, b)) steps; a bound that is never met for the trials allowed.
    while m < 1e8 {
        let even = m * (b - m) / (a + 2.0 * m) * x / (a + 2.0 * m - 1.0);
        let odd = -(a + m) / (a + 2.0 * m) * (a + b + m) * x / (a + 2.0 * m + 1.0);
        let mut step = 1.0;
        for numerator in [even, odd] {
            d = 1.0 / away(1.0 + numerator * d);
            c = away(1.0 + numerator / c);
            step = c * d;
            product *= step;
        }
        if (step - 1.0).abs() <= 1e-15 {
            break;
        }
        m += 1.0;
    }
    product
}
