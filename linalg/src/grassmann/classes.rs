//! Classes as subspaces: logits, their gradient, and Riemannian descent.
//!
//! ```text
//! logit_c(x) = γ·‖S_cᵀ·x/‖x‖‖      S_c: D×k, S_cᵀS_c = I
//! ∂logit_c/∂S_c = γ·x̂·(x̂ᵀS_c)/‖S_cᵀx̂‖
//! ```
//! A logit depends on the span of S_c only. k = 1 is the cosine classifier without its sign.
//!
//! Source: Wang, Li, Zhang, *Get the best of both worlds: improving accuracy and transferability by Grassmann class
//! representation*, arXiv 2308.01547, section 3 and algorithm 1.

use alloc::vec::Vec;

use faer::reborrow::{Reborrow, ReborrowMut};
use faer::{Mat, MatRef};

use super::{Geodesic, basis, orthonormalize, positive_qr, projected, retracted};
use crate::{Error, Scalar, Stream, dense};

/// How a step goes along the manifold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retraction {
    /// Along the geodesic, as the source does.
    Geodesic,
    /// By QR of the sum: cheaper.
    Qr,
}

/// Options of [`GrassmannClasses::step`]; defaults are the source's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdOptions {
    /// Learning rate.
    pub rate: f64,
    /// Share of the last direction that is kept, in 0 … 1.
    pub momentum: f64,
    /// How to move.
    pub retraction: Retraction,
    /// Steps after which bases are made orthonormal anew; 0: never.
    pub renew: u64,
}

impl Default for SgdOptions {
    fn default() -> Self {
        Self { rate: 0.1, momentum: 0.9, retraction: Retraction::Geodesic, renew: 5 }
    }
}

/// Gradients of a loss: of the features, `[batch, D]`, and of all bases, `[D, classes·k]` (Euclidean).
#[derive(Debug, Clone, PartialEq)]
pub struct ClassGradients<T> {
    /// `[batch, D]`.
    pub features: Mat<T>,
    /// `[D, classes·k]`.
    pub bases: Mat<T>,
}

/// A layer of classes, each a k-dimensional subspace of the D-dimensional features.
///
/// ```
/// use rankbit_linalg::{grassmann::{GrassmannClasses, SgdOptions}, faer::Mat};
/// # fn main() -> Result<(), rankbit_linalg::Error> {
/// let mut classes = GrassmannClasses::<f32>::new(3, 16, 2, 25.0, 0)?;
/// let x = Mat::from_fn(3, 16, |i, j| if j / 5 == i { 1.0 } else { 0.1 });
/// for _ in 0..50 {
///     let logits = classes.logits(x.as_ref())?;
///     // Softmax cross-entropy, example i being of class i.
///     let slopes = Mat::from_fn(3, 3, |i, c| {
///         let sum: f32 = (0..3).map(|d| (logits[(i, d)] - logits[(i, c)]).exp()).sum();
///         1.0 / sum - if i == c { 1.0 } else { 0.0 }
///     });
///     let gradients = classes.gradients(x.as_ref(), slopes.as_ref())?;
///     classes.step(gradients.bases.as_ref(), &SgdOptions { rate: 0.01, ..SgdOptions::default() })?;
/// }
/// let logits = classes.logits(x.as_ref())?;
/// assert!((0..3).all(|i| (0..3).all(|c| c == i || logits[(i, i)] > logits[(i, c)] + 1.0)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GrassmannClasses<T> {
    bases: Mat<T>,
    momentum: Mat<T>,
    dimension: usize,
    scale: f64,
    steps: u64,
}

/// What a forward pass keeps for the gradient.
struct Forward<T> {
    /// x/‖x‖, `[batch, D]`; zeros stay.
    unit: Mat<T>,
    lengths: Vec<f64>,
    /// x̂·S, `[batch, classes·k]`.
    coordinates: Mat<T>,
    /// ‖S_cᵀx̂‖, `[batch, classes]`.
    norms: Mat<T>,
}

impl<T: Scalar> GrassmannClasses<T> {
    /// `classes` uniformly random subspaces of `dimension` k in `features` D, with γ = `scale` (25 in the source).
    ///
    /// # Errors
    /// [`Error::RankOutOfRange`] for k above D; [`Error::InvalidOption`] for k = 0 or γ not positive and finite;
    /// [`Error::TooLarge`] when classes·k overflows.
    pub fn new(
        classes: usize,
        features: usize,
        dimension: usize,
        scale: f64,
        seed: u64,
    ) -> Result<Self, Error> {
        check(features, dimension, scale)?;
        let columns = classes.checked_mul(dimension).ok_or(Error::TooLarge { what: "classes" })?;
        let mut stream = Stream::new(seed, "grassmann");
        let mut bases = Mat::<T>::from_fn(features, columns, |_, _| T::from_f64(stream.next_normal()));
        for c in 0..classes {
            let mut part = bases.as_mut().subcols_mut(c * dimension, dimension);
            let q = orthonormalize(part.as_ref())?;
            part.rb_mut().copy_from(&q);
        }
        Self::from_bases(bases.as_ref(), dimension, scale)
    }

    /// From bases side by side, `[D, classes·k]`, each orthonormal to 1e-4.
    ///
    /// # Errors
    /// As [`GrassmannClasses::new`]; [`Error::ShapeMismatch`] when k does not divide the columns; [`Error::NonFinite`];
    /// [`Error::InvalidOption`] for a part that is not orthonormal.
    pub fn from_bases(bases: MatRef<'_, T>, dimension: usize, scale: f64) -> Result<Self, Error> {
        let (features, columns) = bases.shape();
        check(features, dimension, scale)?;
        if !columns.is_multiple_of(dimension) {
            let expected = (features, columns / dimension * dimension);
            return Err(Error::ShapeMismatch { what: "bases", expected, found: bases.shape() });
        }
        for c in 0..columns / dimension {
            basis(bases.subcols(c * dimension, dimension))?;
        }
        let momentum = Mat::zeros(features, columns);
        Ok(Self { bases: bases.to_owned(), momentum, dimension, scale, steps: 0 })
    }

    /// All bases side by side, `[D, classes·k]`.
    pub fn bases(&self) -> MatRef<'_, T> {
        self.bases.as_ref()
    }

    /// How many classes.
    pub fn classes(&self) -> usize {
        self.bases.ncols() / self.dimension
    }

    /// k.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Logits `[batch, classes]` of features `x: [batch, D]`, in 0 … γ; 0 for a feature of zeros. One product of
    /// batch·D·classes·k.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::NonFinite`] in x.
    pub fn logits(&self, x: MatRef<'_, T>) -> Result<Mat<T>, Error> {
        let mut logits = self.forward(x)?.norms;
        let scale = T::from_f64(self.scale);
        logits.col_iter_mut().flat_map(|column| column.iter_mut()).for_each(|logit| *logit *= scale);
        Ok(logits)
    }

    fn forward(&self, x: MatRef<'_, T>) -> Result<Forward<T>, Error> {
        let (features, columns) = self.bases.shape();
        if x.ncols() != features {
            let expected = (x.nrows(), features);
            return Err(Error::ShapeMismatch { what: "features", expected, found: x.shape() });
        }
        dense::largest_modulus(x, "features")?;
        let mut unit = x.to_owned();
        let mut lengths = Vec::with_capacity(x.nrows());
        for row in unit.row_iter_mut() {
            // The largest entry first: squares of neither huge nor tiny features leave the range.
            let largest = row.rb().iter().fold(0.0, |largest: f64, &x| largest.max(Scalar::to_f64(x).abs()));
            let square: f64 = row
                .rb()
                .iter()
                .map(|&x| if largest > 0.0 { Scalar::to_f64(x) / largest } else { 0.0 })
                .map(|x| x * x)
                .sum();
            let length = libm::sqrt(square);
            if length > 0.0 {
                row.iter_mut().for_each(|x| *x = T::from_f64(Scalar::to_f64(*x) / largest / length));
            }
            lengths.push(length * largest);
        }
        let coordinates = dense::product(unit.as_ref(), self.bases.as_ref());
        let k = self.dimension;
        let norms = Mat::from_fn(x.nrows(), columns / k, |b, c| {
            let square: f64 =
                (c * k..(c + 1) * k).map(|j| Scalar::to_f64(coordinates[(b, j)])).map(|z| z * z).sum();
            T::from_f64(libm::sqrt(square))
        });
        Ok(Forward { unit, lengths, coordinates, norms })
    }

    /// The gradients of a loss from its slopes by the logits, `[batch, classes]`. Where a feature is orthogonal to a class
    /// (or zero) the logit has no gradient, and 0 is taken.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::NonFinite`] in x or the slopes.
    pub fn gradients(&self, x: MatRef<'_, T>, slopes: MatRef<'_, T>) -> Result<ClassGradients<T>, Error> {
        let Forward { unit, lengths, mut coordinates, norms } = self.forward(x)?;
        if slopes.shape() != norms.shape() {
            let found = slopes.shape();
            return Err(Error::ShapeMismatch { what: "slopes", expected: norms.shape(), found });
        }
        dense::largest_modulus(slopes, "slopes")?;
        let (k, scale) = (self.dimension, self.scale);
        for (j, column) in coordinates.col_iter_mut().enumerate() {
            for (b, z) in column.iter_mut().enumerate() {
                let norm = Scalar::to_f64(norms[(b, j / k)]);
                let factor = if norm > 0.0 { scale * Scalar::to_f64(slopes[(b, j / k)]) / norm } else { 0.0 };
                *z = T::from_f64(Scalar::to_f64(*z) * factor);
            }
        }
        let bases = dense::product(unit.transpose(), coordinates.as_ref());
        let mut features = dense::product(coordinates.as_ref(), self.bases.transpose());
        for ((row, unit), &length) in features.row_iter_mut().zip(unit.row_iter()).zip(&lengths) {
            let along: f64 =
                row.rb().iter().zip(unit.iter()).map(|(a, b)| Scalar::to_f64(*a) * Scalar::to_f64(*b)).sum();
            for (g, &u) in row.iter_mut().zip(unit.iter()) {
                let across = Scalar::to_f64(*g) - along * Scalar::to_f64(u);
                *g = T::from_f64(if length > 0.0 { across / length } else { 0.0 });
            }
        }
        Ok(ClassGradients { features, bases })
    }

    /// One step of Riemannian descent with momentum.
    ///
    /// ```text
    /// M ← momentum·M + G        H = M − S·SᵀM        S ← exp_S(−rate·H)
    /// ```
    /// M stays in the ambient space and is not transported; every `renew` steps S is made orthonormal by QR. O(D·k²) for
    /// each class.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::NonFinite`] in the gradient; [`Error::InvalidOption`] for a rate that is not finite
    /// or a momentum outside [0, 1]; [`Error::NoConvergence`]. After an error nothing has changed.
    pub fn step(&mut self, gradient: MatRef<'_, T>, options: &SgdOptions) -> Result<(), Error> {
        if gradient.shape() != self.bases.shape() {
            let (expected, found) = (self.bases.shape(), gradient.shape());
            return Err(Error::ShapeMismatch { what: "gradient", expected, found });
        }
        dense::largest_modulus(gradient, "gradient")?;
        if !options.rate.is_finite() {
            let found = options.rate;
            return Err(Error::InvalidOption { what: "rate", requirement: "finite", found });
        }
        if !(0.0..=1.0).contains(&options.momentum) {
            let found = options.momentum;
            return Err(Error::InvalidOption { what: "momentum", requirement: "in [0, 1]", found });
        }
        let renew = options.renew > 0 && (self.steps + 1).is_multiple_of(options.renew);
        let mut momentum = self.momentum.clone();
        for (m, g) in momentum.col_iter_mut().zip(gradient.col_iter()) {
            for (m, &g) in m.iter_mut().zip(g.iter()) {
                *m = T::from_f64(options.momentum * Scalar::to_f64(*m) + Scalar::to_f64(g));
            }
        }
        dense::largest_modulus(momentum.as_ref(), "momentum")?;
        let mut bases = self.bases.clone();
        for c in 0..self.classes() {
            let at = c * self.dimension;
            let s: Mat<f64> = dense::convert(bases.as_ref().subcols(at, self.dimension), 1.0);
            let m: Mat<f64> = dense::convert(momentum.as_ref().subcols(at, self.dimension), 1.0);
            let mut new = match options.retraction {
                Retraction::Geodesic => Geodesic::new(s, &m)?.at(-options.rate),
                Retraction::Qr => {
                    let mut h = projected(&s, &m);
                    h.col_iter_mut().flat_map(|h| h.iter_mut()).for_each(|h| *h *= -options.rate);
                    retracted(&s, &h)
                }
            };
            if renew {
                new = positive_qr(new);
            }
            dense::largest_modulus(new.as_ref(), "bases")?;
            dense::convert_into(bases.as_mut().subcols_mut(at, self.dimension), new.as_ref(), 1.0);
        }
        self.bases = bases;
        self.momentum = momentum;
        self.steps += 1;
        Ok(())
    }
}

fn check(features: usize, dimension: usize, scale: f64) -> Result<(), Error> {
    if dimension == 0 {
        return Err(Error::InvalidOption { what: "dimension", requirement: "at least 1", found: 0.0 });
    }
    if dimension > features {
        return Err(Error::RankOutOfRange { rank: dimension, max: features });
    }
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(Error::InvalidOption { what: "scale", requirement: "positive and finite", found: scale });
    }
    Ok(())
}
