//! Special functions on the log scale: modified Bessel functions of any real order, and what stands on them.
//!
//! | item | what it is |
//! |---|---|
//! | [`log_bessel_i`], [`log_bessel_k`] | ln I_v(x), ln K_v(x): nothing overflows |
//! | [`log_bessel_i_batch`], [`log_bessel_k_batch`] | the same of many pairs, with the processor's widest registers |
//! | [`bessel_i_ratio`], [`bessel_k_ratio`] | I_{v+1}/I_v, K_{v+1}/K_v |
//! | [`log_bessel_i_derivative`], [`log_bessel_k_derivative`] | d/dx of the logarithms |
//! | [`VonMisesFisher`] | density, fit and sampling on spheres of any dimension |
//! | [`normal_quantile`], [`clopper_pearson_lower`] | Φ⁻¹; what counts say of a probability |
//!
//! One value and many give the same bits, on every instruction set: all steps are single roundings of IEEE 754. The
//! worst error measured (`tests/precision.md`) is 5.6 units in the last place wherever |ln| ≥ 1e-3, and 1.4e-16 absolute
//! where it is below 1, zeros included: near them both are computed in numbers of two parts.

mod batch;
mod elementary;
mod kernel;
mod lanes;
mod probability;
#[rustfmt::skip]
mod tables;
mod twice;
mod von_mises_fisher;
mod zeros;

use kernel::{FirstKind, Region, region};
use lanes::Lanes;

use crate::instructions::Instructions;

pub use batch::{log_bessel_i_batch, log_bessel_k_batch};
pub use probability::{clopper_pearson_lower, normal_quantile};
pub use von_mises_fisher::VonMisesFisher;

/// Largest order or argument the kernels take as it is.
const LARGEST: f64 = 1e300;

/// ln I_v(x), the modified Bessel function of the first kind.
///
/// ```text
/// I_v(x) = Σₖ (x/2)^{v+2k} / (k!·Γ(v+k+1))
/// ```
///
/// For order v ≥ 0 and x ≥ 0, both up to the largest f64. ln I₀(0) = 0, ln I_v(0) = −∞ for v > 0; a negative or NaN
/// operand gives NaN, x = ∞ gives ∞, v = ∞ gives −∞ (both: NaN). Errors are a few units in the last place of the
/// logarithm itself, also near its zeros (`tests/precision.md`). Constant time.
///
/// Source: Plesner, Sørensen, Hauberg, arXiv 2409.08729; DLMF 10.25–10.41.
///
/// ```
/// let value = rankbit_linalg::special::log_bessel_i(100.3, 50.0);
/// assert!((value + 36.2725264198554).abs() < 1e-12);
/// ```
pub fn log_bessel_i(order: f64, x: f64) -> f64 {
    match ordinary(true, order, x) {
        Ok(region) => log_bessel(true, region, order, x),
        Err(value) => value,
    }
}

/// ln K_v(x), the modified Bessel function of the second kind.
///
/// ```text
/// K_v(x) = ∫₀^∞ exp(−x·cosh t)·cosh(v·t) dt
/// ```
///
/// For any real order (K_{−v} = K_v) and x ≥ 0. ln K_v(0) = ∞; negative x or NaN gives NaN, x = ∞ gives −∞, v = ±∞ gives
/// ∞ (both: NaN). Errors and sources as for [`log_bessel_i`].
pub fn log_bessel_k(order: f64, x: f64) -> f64 {
    let order = num_traits::Float::abs(order);
    match ordinary(false, order, x) {
        Ok(region) => log_bessel(false, region, order, x),
        Err(value) => value,
    }
}

/// The region of an ordinary pair, or the value of one at the edge of the domain.
#[inline(always)]
fn ordinary(first: FirstKind, v: f64, x: f64) -> Result<Region, f64> {
    if x > 0.0 && x <= LARGEST && (0.0..=LARGEST).contains(&v) {
        Ok(region(first, v, x))
    } else {
        Err(edge(first, v, x))
    }
}

/// Values at and outside the edges.
#[cold]
fn edge(first: FirstKind, v: f64, x: f64) -> f64 {
    let sign = if first { 1.0 } else { -1.0 };
    if x.is_nan() || v.is_nan() || x < 0.0 || v < 0.0 || (x == f64::INFINITY && v == f64::INFINITY) {
        f64::NAN
    } else if x == f64::INFINITY {
        sign * f64::INFINITY
    } else if v == f64::INFINITY {
        -sign * f64::INFINITY
    } else if x == 0.0 {
        if first && v == 0.0 { 0.0 } else { -sign * f64::INFINITY }
    } else {
        // Beyond 1e300 the exponent η is all that shows, and it is homogeneous in (v, x).
        kernel::uniform::<f64, 6>(first, v / 1024.0, (x / 1024.0).max(f64::MIN_POSITIVE)) * 1024.0
    }
}

/// One value, in the region given.
#[inline]
fn log_bessel(first: FirstKind, region: Region, v: f64, x: f64) -> f64 {
    let mut out = [0.0];
    batch::run(Instructions::single(), first, region, &[v], &[x], &mut out);
    let [value] = out;
    value
}

/// I_{v+1}(x)/I_v(x) in [0, 1), without the functions themselves: the mean resultant length of a von Mises–Fisher
/// distribution of concentration x in 2v + 2 dimensions.
///
/// For v ≥ 0, x ≥ 0; 0 at x = 0, 1 at x = ∞; NaN outside. Relative error a few ε. Constant time.
///
/// Source: DLMF 10.29, 10.41.
pub fn bessel_i_ratio(order: f64, x: f64) -> f64 {
    match ordinary(true, order, x) {
        Ok(Region::Far | Region::Uniform) => kernel::uniform_ratio(true, order, x),
        Ok(Region::Middle) => kernel::descending_ratio::<f64, false>(order, x),
        // The continued fraction, of which a few levels do: its powers would overflow below.
        Ok(Region::Near | Region::Origin) if x < 0.01 => {
            let square = x * x;
            (1..=4)
                .rev()
                .fold(2.0 * (order + 5.0), |below, j| 2.0 * (order + f64::from(j)) + square / below)
                .recip()
                * x
        }
        Ok(Region::Near | Region::Origin) => kernel::descending_ratio::<f64, true>(order, x),
        Err(_) if x == 0.0 && order >= 0.0 => 0.0,
        Err(_) if x == f64::INFINITY && (0.0..f64::INFINITY).contains(&order) => 1.0,
        Err(_) if order == f64::INFINITY && (0.0..f64::INFINITY).contains(&x) => 0.0,
        Err(value) if value.is_nan() => value,
        // Beyond 1e300: x/(v + hypot(v, x)), scaled.
        Err(_) => kernel::uniform_ratio(true, order / 1024.0, x / 1024.0),
    }
}

/// K_{v+1}(x)/K_v(x) ≥ 1 for v ≥ −½; ∞ at x = 0 and where it exceeds the range of f64.
///
/// For v ≥ 0 and x ≥ 0; 1 at x = ∞; NaN outside. Relative error a few ε. Constant time.
///
/// Source: DLMF 10.29, 10.41.
pub fn bessel_k_ratio(order: f64, x: f64) -> f64 {
    let steps = steps(order);
    match ordinary(false, order, x) {
        Ok(Region::Far | Region::Uniform) => kernel::uniform_ratio(false, order, x),
        Ok(Region::Middle) => {
            let (low, high) = kernel::scaled_k::<f64, false>(order, x, steps);
            high / low
        }
        Ok(Region::Near) => {
            let (low, high) = kernel::scaled_k::<f64, true>(order, x, steps);
            high / low
        }
        Ok(Region::Origin) => {
            let (low, high, _, _) = kernel::temme(order, x, steps);
            high / low * 2.0 / x
        }
        Err(_) if x == 0.0 && order >= 0.0 => f64::INFINITY,
        Err(_) if x == f64::INFINITY && (0.0..f64::INFINITY).contains(&order) => 1.0,
        Err(_) if order == f64::INFINITY && (0.0..f64::INFINITY).contains(&x) => f64::INFINITY,
        Err(value) if value.is_nan() => value,
        Err(_) => kernel::uniform_ratio(false, order / 1024.0, x / 1024.0),
    }
}

/// d/dx ln I_v(x) = v/x + I_{v+1}(x)/I_v(x); domain as for [`bessel_i_ratio`].
pub fn log_bessel_i_derivative(order: f64, x: f64) -> f64 {
    if order == 0.0 { bessel_i_ratio(order, x) } else { order / x + bessel_i_ratio(order, x) }
}

/// d/dx ln K_v(x) = v/x − K_{v+1}(x)/K_v(x) = −v/x − K_{v−1}(x)/K_v(x); any real order, domain of x as for
/// [`bessel_k_ratio`].
///
/// Computed by the second form for |v| ≥ 1, whose terms have one sign.
pub fn log_bessel_k_derivative(order: f64, x: f64) -> f64 {
    let order = num_traits::Float::abs(order);
    if order >= 1.0 {
        -order / x - 1.0 / bessel_k_ratio(order - 1.0, x)
    } else {
        order / x - bessel_k_ratio(order, x)
    }
}

/// How many steps of a recurrence the order needs in the regions that have one.
#[inline(always)]
fn steps(order: f64) -> usize {
    // At most 32 there, and never taken elsewhere.
    let nearest = Lanes::round(order.min(40.0));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an integer in 0..=40, or 0 for NaN"
    )]
    let steps = nearest.max(0.0) as usize;
    steps
}
