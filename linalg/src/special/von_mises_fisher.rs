//! The von Mises–Fisher distribution: the normal distribution's relative on a sphere, in any dimension.
//!
//! ```text
//! f(x) = C_p(κ)·exp(κ·μ·x)  on ‖x‖ = 1 in p dimensions,  ‖μ‖ = 1, κ ≥ 0
//! ln C_p(κ) = v·ln κ − (p/2)·ln 2π − ln I_v(κ),  v = p/2 − 1
//! A_p(κ) = E[μ·x] = I_{v+1}(κ)/I_v(κ)
//! ```
//!
//! Sources: Plesner, Sørensen, Hauberg, arXiv 2409.08729, section 5 (why on the log scale); Banerjee, Dhillon, Ghosh, Sra,
//! *Clustering on the unit hypersphere using von Mises–Fisher distributions* (2005); the bracket of κ: Amos (1974);
//! sampling: A. T. A. Wood, *Simulation of the von Mises–Fisher distribution* (1994).

use alloc::vec::Vec;
use core::f64::consts::{LN_2, PI};

use faer::MatRef;
use rand_core::Rng;

use super::{bessel_i_ratio, log_bessel_i};
use crate::random::{normal_pair, uniform};
use crate::{Error, Scalar, dense};

/// A von Mises–Fisher distribution.
///
/// ```
/// use rankbit_linalg::{Stream, special::VonMisesFisher, faer::Mat};
/// # fn main() -> Result<(), rankbit_linalg::Error> {
/// let distribution = VonMisesFisher::new(&[0.0, 0.0, 2.0], 50.0)?;
/// let mut stream = Stream::new(0, "directions");
/// let samples: Vec<Vec<f64>> = (0..2000).map(|_| distribution.sample(&mut stream)).collect();
/// let samples = Mat::from_fn(2000, 3, |i, j| samples[i][j]);
/// let fitted = VonMisesFisher::fit(samples.as_ref())?;
/// assert!((fitted.concentration() / 50.0 - 1.0).abs() < 0.1 && fitted.mean()[2] > 0.99);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct VonMisesFisher {
    mean: Vec<f64>,
    concentration: f64,
}

impl VonMisesFisher {
    /// With the direction of `mean` (any length but 0) and κ ≥ 0 up to 1e300.
    ///
    /// # Errors
    /// [`Error::NonFinite`] in `mean`; [`Error::InvalidOption`] for fewer than two dimensions, a mean without direction, κ
    /// outside its range.
    pub fn new(mean: &[f64], concentration: f64) -> Result<Self, Error> {
        check_dimension(mean.len())?;
        if !(0.0..=1e300).contains(&concentration) {
            let requirement = "in 0 … 1e300";
            return Err(Error::InvalidOption { what: "concentration", requirement, found: concentration });
        }
        let view = MatRef::from_column_major_slice(mean, mean.len(), 1);
        let largest = dense::largest_modulus(view, "mean")?;
        let Some(mean) = direction(mean.iter().map(|x| x / largest)) else {
            let requirement = "not zero";
            return Err(Error::InvalidOption { what: "length of the mean", requirement, found: largest });
        };
        Ok(Self { mean, concentration })
    }

    /// The most likely distribution of unit vectors, the rows of `samples: [n, p]`: μ the direction of their sum S, κ from
    /// A_p(κ) = ‖S‖/n by [`concentration_of`](Self::concentration_of). O(n·p).
    ///
    /// # Errors
    /// [`Error::NonFinite`]; [`Error::InvalidOption`] for no rows, fewer than two dimensions, a row whose length is not 1
    /// within 1e-3, or rows that all agree (no finite κ fits).
    pub fn fit<T: Scalar>(samples: MatRef<'_, T>) -> Result<Self, Error> {
        let (n, dimension) = samples.shape();
        check_dimension(dimension)?;
        dense::largest_modulus(samples, "samples")?;
        if n == 0 {
            return Err(Error::InvalidOption { what: "samples", requirement: "at least 1", found: 0.0 });
        }
        let mut sum = alloc::vec![0.0; dimension];
        for row in samples.row_iter() {
            let length = libm::sqrt(row.iter().map(|x| Scalar::to_f64(*x) * Scalar::to_f64(*x)).sum());
            if (length - 1.0).abs() > 1e-3 {
                let requirement = "1 within 1e-3";
                return Err(Error::InvalidOption { what: "length of a sample", requirement, found: length });
            }
            for (sum, x) in sum.iter_mut().zip(row.iter()) {
                *sum += Scalar::to_f64(*x) / length;
            }
        }
        let resultant = libm::sqrt(dense::line_norm_squared(&sum)) / n as f64;
        let concentration = Self::concentration_of(dimension, resultant)?;
        // A sum of nothing has no direction, and κ = 0 needs none.
        let mean = direction(sum.iter().copied())
            .unwrap_or_else(|| (0..dimension).map(|i| if i == 0 { 1.0 } else { 0.0 }).collect());
        Ok(Self { mean, concentration })
    }

    /// κ with A_p(κ) = `resultant`, in 0 … 1: safeguarded Newton's steps between bounds of A_p, about four of them.
    ///
    /// ```text
    /// A′ = 1 − A² − (p − 1)/κ·A        κ/(v+½+√(κ²+(v+3/2)²)) ≤ A ≤ κ/(v+√(κ²+(v+2)²))
    /// ```
    /// κ changes by the relative error of 1 − A: a few ε·κ/p where κ is large.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for fewer than two dimensions or a resultant outside [0, 1 − 1e-15).
    pub fn concentration_of(dimension: usize, resultant: f64) -> Result<f64, Error> {
        check_dimension(dimension)?;
        if !(0.0..1.0 - 1e-15).contains(&resultant) {
            let (what, requirement) = ("mean resultant length", "in [0, 1 − 1e-15)");
            return Err(Error::InvalidOption { what, requirement, found: resultant });
        }
        if resultant == 0.0 {
            return Ok(0.0);
        }
        let p = dimension as f64;
        let v = p / 2.0 - 1.0;
        let below_one = (1.0 - resultant) * (1.0 + resultant);
        // κ/(a + √(κ² + c²)) = R, solved for κ.
        let bound =
            |a: f64, c: f64| resultant * (a + libm::sqrt(a * a + below_one * (c - a) * (c + a))) / below_one;
        let (mut low, mut high) =
            (bound(v, v + 2.0) * (1.0 - 1e-12), bound(v + 0.5, v + 1.5) * (1.0 + 1e-12));
        let mut kappa = (resultant * (p - resultant * resultant) / below_one).clamp(low, high);
        for _ in 0..100 {
            let a = bessel_i_ratio(v, kappa);
            let excess = a - resultant;
            (low, high) = if excess > 0.0 { (low, kappa) } else { (kappa, high) };
            let slope = (1.0 - a) * (1.0 + a) - (p - 1.0) / kappa * a;
            let newton = kappa - excess / slope;
            if (newton - kappa).abs() <= 1e-15 * kappa {
                break;
            }
            // Halving where Newton's step leaves the bracket; rounding alone may put it on the border.
            kappa = if newton >= low && newton <= high { newton } else { 0.5 * (low + high) };
            if high - low <= 1e-15 * high {
                break;
            }
        }
        Ok(kappa)
    }

    /// μ.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// κ.
    pub fn concentration(&self) -> f64 {
        self.concentration
    }

    /// p.
    pub fn dimension(&self) -> usize {
        self.mean.len()
    }

    /// A_p(κ), the length of the mean of x.
    pub fn mean_resultant(&self) -> f64 {
        bessel_i_ratio(self.dimension() as f64 / 2.0 - 1.0, self.concentration)
    }

    /// ln C_p(κ); at κ = 0 minus the logarithm of the sphere's area.
    pub fn log_normalizer(&self) -> f64 {
        let p = self.dimension() as f64;
        let v = p / 2.0 - 1.0;
        let kappa = self.concentration;
        // v·ln κ − ln I_v(κ), which tends to v·ln 2 + ln Γ(v + 1).
        let rest = if kappa * kappa < 1e-8 * (v + 1.0) {
            v * LN_2 + libm::lgamma(v + 1.0) - kappa * kappa / (4.0 * (v + 1.0))
        } else {
            v * libm::log(kappa) - log_bessel_i(v, kappa)
        };
        rest - p / 2.0 * libm::log(2.0 * PI)
    }

    /// ln f(x) of a unit vector (with respect to the sphere's area). Absolute error a few ε·max(κ, |ln C|, p).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another length. The length of x is not checked.
    pub fn log_density(&self, x: &[f64]) -> Result<f64, Error> {
        if x.len() != self.dimension() {
            let (expected, found) = ((self.dimension(), 1), (x.len(), 1));
            return Err(Error::ShapeMismatch { what: "x", expected, found });
        }
        let along: f64 = self.mean.iter().zip(x).map(|(a, b)| a * b).sum();
        Ok(self.log_normalizer() + self.concentration * along)
    }

    /// One unit vector: Wood's rejection of the component along μ (two tries on average at most), a uniform direction
    /// across it. O(p).
    pub fn sample<R: Rng>(&self, rng: &mut R) -> Vec<f64> {
        let (along, across) = self.sample_component(rng);
        loop {
            // A normal vector without its part along μ.
            let mut x = normals(rng, self.dimension());
            let part: f64 = x.iter().zip(&self.mean).map(|(x, m)| x * m).sum();
            for (x, m) in x.iter_mut().zip(&self.mean) {
                *x -= part * m;
            }
            if let Some(tangent) = direction(x.into_iter()) {
                let x = tangent.iter().zip(&self.mean).map(|(t, m)| across * t + along * m);
                if let Some(x) = direction(x) {
                    return x;
                }
            }
        }
    }

    /// μ·x and √(1 − (μ·x)²) of a sample.
    ///
    /// ```text
    /// b = (p−1)/(2κ + √(4κ² + (p−1)²)),  w = (1 − (1+b)z)/(1 − (1−b)z),  z ~ Beta((p−1)/2, (p−1)/2),  x₀ = (1−b)/(1+b)
    /// accepted with probability exp(κ(w − x₀))·((1 − x₀w)/(1 − x₀²))^{p−1}
    /// ```
    fn sample_component<R: Rng>(&self, rng: &mut R) -> (f64, f64) {
        let free = self.dimension() as f64 - 1.0;
        let kappa = self.concentration;
        let b = free / (2.0 * kappa + libm::hypot(2.0 * kappa, free));
        let center = (1.0 - b) / (1.0 + b);
        loop {
            let (one, two) = (chi_square(rng, free), chi_square(rng, free));
            let z = one / (one + two);
            let bottom = 1.0 - (1.0 - b) * z;
            // 1 − w and its square root's partner without cancellation.
            let from_pole = 2.0 * b * z / bottom;
            let across = 2.0 * libm::sqrt(b * z * (1.0 - z)) / bottom;
            let from_center = 2.0 * b / (1.0 + b);
            let ratio = (from_center + center * from_pole) * (1.0 + b) * (1.0 + b) / (4.0 * b);
            let log_accept = kappa * (from_center - from_pole) + free * libm::log(ratio);
            // Not NaN: a sum of chi-squares that vanished.
            if across.is_finite() && log_accept >= libm::log(uniform(rng)) {
                return (1.0 - from_pole, across);
            }
        }
    }
}

fn check_dimension(dimension: usize) -> Result<(), Error> {
    if dimension < 2 {
        let found = dimension as f64;
        return Err(Error::InvalidOption { what: "dimension", requirement: "at least 2", found });
    }
    Ok(())
}

/// x/‖x‖; `None` where that is no unit vector.
fn direction(x: impl Iterator<Item = f64>) -> Option<Vec<f64>> {
    let mut x: Vec<f64> = x.collect();
    let length = libm::sqrt(dense::line_norm_squared(&x));
    if !(length > 1e-150 && length.is_finite()) {
        return None;
    }
    for x in &mut x {
        *x /= length;
    }
    Some(x)
}

fn normals<R: Rng>(rng: &mut R, count: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(count + 1);
    while out.len() < count {
        let (a, b) = normal_pair(rng);
        out.extend([a, b]);
    }
    out.truncate(count);
    out
}

/// χ² of `freedom` ≥ 1 degrees, halved for more than one: the same factor for every draw of one `freedom`.
///
/// Source: G. Marsaglia, W. W. Tsang, *A simple method for generating gamma variables* (2000).
fn chi_square<R: Rng>(rng: &mut R, freedom: f64) -> f64 {
    if freedom < 2.0 {
        let (x, _) = normal_pair(rng);
        return x * x;
    }
    let d = freedom / 2.0 - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        let (x, _) = normal_pair(rng);
        let v = 1.0 + c * x;
        if v > 0.0 {
            let v = v * v * v;
            if libm::log(uniform(rng)) < 0.5 * x * x + d * (1.0 - v + libm::log(v)) {
                return d * v;
            }
        }
    }
}
