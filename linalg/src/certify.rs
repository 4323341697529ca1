//! Certificates of robustness by dual randomized smoothing: two classifiers, each of which sees half of the input's
//! coordinates under Gaussian noise.
//!
//! ```text
//! g(x) = argmax_c p_c(left half of x) + p_c(right half of x)
//! R = (Φ⁻¹(p_left) + Φ⁻¹(p_right))·σ_left·σ_right/√(σ_left² + σ_right²)        (σ/√2·(…) for equal noise)
//! ```
//! g does not change within the Euclidean radius R of x, where p_left, p_right are lower bounds of the winner's
//! probabilities: it holds while Φ(a − s/σ_left) + Φ(b − t/σ_right) > 1 for the moves s, t of the halves, and R is the
//! shortest move that breaks it. In d dimensions the largest radius falls like 1/√m + 1/√(d−m) instead of 1/√d.
//!
//! 1. [`Partition`] the coordinates; count the classes that noisy halves are given, few times, to choose a class.
//! 2. Count again, many times; [`certify`] bounds the probabilities and gives the radius, or abstains.
//!
//! Source: Xia, Wang, Chen, Guo, Liu, *Mitigating the curse of dimensionality for certified robustness via dual randomized
//! smoothing*, arXiv 2404.09586, section 4. Combining the halves' own radii by √(r_left² + r_right²) is no certificate
//! of g unless they are equal.

use alloc::vec::Vec;

use crate::Error;
use crate::special::{clopper_pearson_lower, normal_quantile};

/// Which half each coordinate belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// True: left.
    left: Vec<bool>,
}

impl Partition {
    /// From one flag for each coordinate, true for the left half.
    pub fn new(left: Vec<bool>) -> Self {
        Self { left }
    }

    /// The pixels of `[channels, height, width]` like the fields of a chess board, the same in all channels.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the product of the sides overflows.
    pub fn checkered(channels: usize, height: usize, width: usize) -> Result<Self, Error> {
        let too_large = Error::TooLarge { what: "image" };
        let area = height.checked_mul(width).ok_or(too_large.clone())?;
        let len = area.checked_mul(channels).ok_or(too_large)?;
        Ok(Self { left: (0..len).map(|at| ((at % area) / width + at % width).is_multiple_of(2)).collect() })
    }

    /// Coordinates in all.
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// Whether there are no coordinates.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The flags, true for the left half.
    pub fn flags(&self) -> &[bool] {
        &self.left
    }

    /// The two halves of `x`, each in order.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another length.
    pub fn split<T: Copy>(&self, x: &[T]) -> Result<(Vec<T>, Vec<T>), Error> {
        if x.len() != self.len() {
            return Err(Error::ShapeMismatch { what: "x", expected: (self.len(), 1), found: (x.len(), 1) });
        }
        let half =
            |left: bool| x.iter().zip(&self.left).filter(|(_, is)| **is == left).map(|(x, _)| *x).collect();
        Ok((half(true), half(false)))
    }

    /// The vector whose halves these are.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for other lengths.
    pub fn merge<T: Copy>(&self, left: &[T], right: &[T]) -> Result<Vec<T>, Error> {
        let lefts = self.left.iter().filter(|left| **left).count();
        for (what, half, expected) in [("left", left, lefts), ("right", right, self.len() - lefts)] {
            if half.len() != expected {
                return Err(Error::ShapeMismatch { what, expected: (expected, 1), found: (half.len(), 1) });
            }
        }
        let (mut left, mut right) = (left.iter(), right.iter());
        // The lengths were just compared: no element is missing.
        Ok(self.left.iter().filter_map(|&is| if is { left.next() } else { right.next() }).copied().collect())
    }
}

/// R of the [module](self): positive where the two bounds certify the class, else not a radius.
///
/// −∞ where a bound is 0, NaN where one is outside [0, 1]. Check of σ: [`certify`].
pub fn joint_radius(bounds: (f64, f64), sigmas: (f64, f64)) -> f64 {
    let largest = sigmas.0.max(sigmas.1);
    let (left, right) = (sigmas.0 / largest, sigmas.1 / largest);
    let sum = normal_quantile(bounds.0) + normal_quantile(bounds.1);
    sum * (left * right / libm::hypot(left, right) * largest)
}

/// Options of [`certify`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CertifyOptions {
    /// Probability that the certificate is wrong, for both halves together; each bound has half of it.
    pub alpha: f64,
    /// Standard deviation of the noise on the left half and on the right one.
    pub sigmas: (f64, f64),
}

/// How often each class was answered for the noisy halves.
#[derive(Debug, Clone, Copy)]
pub struct Counts<'a> {
    /// For the left half, one number for each class.
    pub left: &'a [u64],
    /// For the right half.
    pub right: &'a [u64],
}

/// Outcome of [`certify`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Certificate {
    /// g is this class everywhere within the radius.
    Certified {
        /// The class.
        class: usize,
        /// The Euclidean radius, in units of x.
        radius: f64,
        /// Lower bounds of the class's probability for the left half and the right one.
        bounds: (f64, f64),
    },
    /// The samples do not show a winner.
    Abstain {
        /// The class that `selection` chose.
        class: usize,
        /// Lower bounds of its probability.
        bounds: (f64, f64),
    },
}

impl Certificate {
    /// The radius; 0 for an abstention.
    pub fn radius(&self) -> f64 {
        match *self {
            Self::Certified { radius, .. } => radius,
            Self::Abstain { .. } => 0.0,
        }
    }
}

/// The class that most answers in `selection` name (the first of equals), and its certificate from *other*, independent
/// samples.
///
/// With probability 1 − α over the samples the answer is right: Clopper and Pearson's bounds at α/2 for each half. One
/// bound below ½ is no obstacle if the other makes up for it.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the four lists differ in length; [`Error::InvalidOption`] for no classes, no samples, α
/// outside (0, 1), a σ that is not positive and finite; [`Error::TooLarge`] when counts overflow or exceed 2³².
pub fn certify(
    selection: Counts<'_>,
    samples: Counts<'_>,
    options: &CertifyOptions,
) -> Result<Certificate, Error> {
    let classes = selection.left.len();
    for (what, counts) in [
        ("right selection", selection.right),
        ("left samples", samples.left),
        ("right samples", samples.right),
    ] {
        if counts.len() != classes {
            return Err(Error::ShapeMismatch { what, expected: (classes, 1), found: (counts.len(), 1) });
        }
    }
    for found in [options.sigmas.0, options.sigmas.1] {
        if !(found > 0.0 && found.is_finite()) {
            return Err(Error::InvalidOption { what: "sigma", requirement: "positive and finite", found });
        }
    }
    let votes = |(left, right): (&u64, &u64)| u128::from(*left) + u128::from(*right);
    let chosen =
        selection.left.iter().zip(selection.right).map(votes).enumerate().rev().max_by_key(|at| at.1);
    let Some((class, _)) = chosen else {
        return Err(Error::InvalidOption { what: "classes", requirement: "at least 1", found: 0.0 });
    };
    let bound = |counts: &[u64]| {
        let total = counts.iter().try_fold(0u64, |sum, &count| sum.checked_add(count));
        let total = total.ok_or(Error::TooLarge { what: "samples" })?;
        clopper_pearson_lower(counts.get(class).copied().unwrap_or(0), total, options.alpha / 2.0)
    };
    if !(options.alpha > 0.0 && options.alpha < 1.0) {
        let requirement = "in (0, 1)";
        return Err(Error::InvalidOption { what: "alpha", requirement, found: options.alpha });
    }
    let bounds = (bound(samples.left)?, bound(samples.right)?);
    let radius = joint_radius(bounds, options.sigmas);
    Ok(if radius > 0.0 {
        Certificate::Certified { class, radius, bounds }
    } else {
        Certificate::Abstain { class, bounds }
    })
}
