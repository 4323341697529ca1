//! Training of bases, at ranks drawn anew each step.

use alloc::vec::Vec;

use rankbit_linalg::faer::Mat;
use rankbit_linalg::{Scalar, Stream};

use super::bases::part;
use super::cayley::{Rotation, times};
use super::{Bases, BasesGradient, Ranks};
use crate::{Element, Error, Tensor, View};

/// Options of [`train`].
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// Steps of Adam (β 0.9 and 0.999); 0 changes nothing.
    pub steps: usize,
    /// Its rate at the first step, positive: an entry of A moves by at most about so much. It falls linearly to 0, as the drawn ranks
    /// make the gradients noisy.
    pub rate: f64,
    /// What ranks are drawn from, independently for each basis and step: fractions of its size, above 0 and at most 1. Eighths in
    /// the source.
    pub fractions: Vec<f64>,
    /// Seed of the ranks.
    pub seed: u64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        let fractions = (1..=8_u8).map(|eighths| f64::from(eighths) / 8.0).collect();
        Self { steps: 200, rate: 1e-2, fractions, seed: 0 }
    }
}

/// What [`train`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The bases of each layer, orthogonal.
    pub layers: Vec<Bases>,
    /// The loss at the ranks of each step, before the step. As the ranks differ, so do these: compare the bases at fixed ranks.
    pub losses: Vec<f64>,
}

/// Trains the bases of all layers, `U = U₀·R(A)` with [Cayley's map](super::cayley()), from A = 0 by Adam, at ranks drawn anew for each
/// basis and step, so that the leading columns have to carry what matters.
///
/// `loss(step, layers, ranks)` tells the loss and its gradient by every basis: for a network, [`nested`](super::nested) in each of its
/// layers, [`distillation`] at its end, and [`nested_gradient`](super::nested_gradient) back through them. Cost of a step beside it:
/// O(d³ + e³) for each head.
///
/// Source: Lin et al., arXiv 2410.14731, sections 4.1 and 4.2.
///
/// # Errors
/// [`Error::InvalidOption`] for a rate that is not positive, or no fractions, or one out of range; [`Error::ShapeMismatch`] for gradients
/// of other shapes; [`Error::NonFinite`] for a loss or a gradient that is not finite; what `loss` returns.
pub fn train<E: From<Error>>(
    layers: &[Bases],
    options: &TrainOptions,
    mut loss: impl FnMut(usize, &[Bases], &[Ranks]) -> Result<(f64, Vec<BasesGradient>), E>,
) -> Result<Trained, E> {
    let option = |what, requirement, found| E::from(Error::InvalidOption { what, requirement, found });
    if !(options.rate > 0.0 && options.rate.is_finite()) {
        return Err(option("rate", "finite and positive", options.rate));
    }
    let count = u64::try_from(options.fractions.len()).unwrap_or(u64::MAX);
    if count == 0 {
        return Err(option("fractions", "at least one", 0.0));
    }
    if let Some(&bad) = options.fractions.iter().find(|&&x| !(x > 0.0 && x <= 1.0)) {
        return Err(option("fractions", "above 0 and at most 1", bad));
    }
    let mut stream = Stream::new(options.seed, "matryoshka");
    let mut parameters: Vec<Parameter> =
        layers.iter().flat_map(|layer| layer.key.iter().chain(&layer.value)).map(Parameter::new).collect();
    let mut found = Trained { layers: layers.to_vec(), losses: Vec::new() };
    for step in 0..options.steps {
        let mut draw = |basis: &Mat<f64>| {
            let at = usize::try_from(stream.next_below(count)).unwrap_or(0);
            part(basis.nrows(), options.fractions.get(at).copied().unwrap_or(1.0))
        };
        let ranks: Vec<Ranks> = found
            .layers
            .iter()
            .map(|layer| Ranks {
                key: layer.key.iter().map(&mut draw).collect(),
                value: layer.value.iter().map(&mut draw).collect(),
            })
            .collect();
        let (value, gradients) = loss(step, &found.layers, &ranks)?;
        if !value.is_finite() {
            return Err(Error::NonFinite { what: "loss", index: [step, 0, 0, 0] }.into());
        }
        found.losses.push(value);
        check(&found.layers, &gradients)?;
        let rate = options.rate * (options.steps - step) as f64 / options.steps as f64;
        let gradients = gradients.iter().flat_map(|layer| layer.key.iter().chain(&layer.value));
        let bases = found.layers.iter_mut().flat_map(|layer| layer.key.iter_mut().chain(&mut layer.value));
        for ((parameter, by_basis), basis) in parameters.iter_mut().zip(gradients).zip(bases) {
            *basis = parameter.moved(by_basis, rate, step)?;
        }
    }
    Ok(found)
}

/// Shapes and finiteness of gradients.
fn check(layers: &[Bases], gradients: &[BasesGradient]) -> Result<(), Error> {
    let counts = |len, found| ([1, len, 0, 0], [1, found, 0, 0]);
    let what = "bases gradient";
    if layers.len() != gradients.len() {
        let (expected, found) = counts(layers.len(), gradients.len());
        return Err(Error::ShapeMismatch { what, expected, found });
    }
    for (layer, (bases, by)) in layers.iter().zip(gradients).enumerate() {
        for (bases, by) in [(&bases.key, &by.key), (&bases.value, &by.value)] {
            if bases.len() != by.len() {
                let (expected, found) = counts(bases.len(), by.len());
                return Err(Error::ShapeMismatch { what, expected, found });
            }
            for (head, (basis, by)) in bases.iter().zip(by).enumerate() {
                if basis.shape() != by.shape() {
                    let size = basis.nrows();
                    let (expected, found) = ([1, 1, size, size], [1, 1, by.nrows(), by.ncols()]);
                    return Err(Error::ShapeMismatch { what, expected, found });
                }
                for i in 0..by.nrows() {
                    if let Some(j) = (0..by.ncols()).find(|&j| !by[(i, j)].is_finite()) {
                        return Err(Error::NonFinite { what, index: [layer, head, i, j] });
                    }
                }
            }
        }
    }
    Ok(())
}

/// A of one basis, and Adam's moments.
struct Parameter {
    start: Mat<f64>,
    a: Mat<f64>,
    rotation: Option<Rotation>,
    first: Mat<f64>,
    second: Mat<f64>,
}

impl Parameter {
    fn new(start: &Mat<f64>) -> Self {
        let zeros = || Mat::zeros(start.nrows(), start.ncols());
        Self { start: start.clone(), a: zeros(), rotation: None, first: zeros(), second: zeros() }
    }

    /// One step against the gradient by `U₀·R`; the new `U₀·R`.
    fn moved(&mut self, by_basis: &Mat<f64>, rate: f64, step: usize) -> Result<Mat<f64>, Error> {
        const FIRST: f64 = 0.9;
        const SECOND: f64 = 0.999;
        let by_rotation = times(self.start.transpose(), by_basis.as_ref());
        let rotation = match self.rotation.take() {
            Some(rotation) => rotation,
            None => Rotation::new(self.a.as_ref())?,
        };
        let by = rotation.pulled(by_rotation.as_ref());
        let power = i32::try_from(step).unwrap_or(i32::MAX).saturating_add(1);
        let unbias = |decay: f64| 1.0 - num_traits::Float::powi(decay, power);
        for j in 0..by.ncols() {
            for i in 0..by.nrows() {
                let g = by[(i, j)];
                let first = FIRST * self.first[(i, j)] + (1.0 - FIRST) * g;
                let second = SECOND * self.second[(i, j)] + (1.0 - SECOND) * g * g;
                (self.first[(i, j)], self.second[(i, j)]) = (first, second);
                let deviation = num_traits::Float::sqrt(second / unbias(SECOND)) + 1e-12;
                self.a[(i, j)] -= rate * (first / unbias(FIRST)) / deviation;
            }
        }
        let rotation = Rotation::new(self.a.as_ref())?;
        let basis = times(self.start.as_ref(), rotation.matrix.as_ref());
        self.rotation = Some(rotation);
        Ok(basis)
    }
}

/// The mean divergence of the student's softmax from the teacher's over all lines of logits, and its gradient by the student's logits.
///
/// ```text
/// L = (1/lines)·Σ Σᵢ pᵢ·(ln pᵢ - ln qᵢ)     p = softmax(teacher)     q = softmax(student)     ∂L = (q - p)/lines
/// ```
/// Logits are 4-D, the last dimension the classes. L ≥ 0, and 0 only where p = q (to rounding).
///
/// # Errors
/// [`Error::ShapeMismatch`] for logits of different shapes; [`Error::NonFinite`] for NaN and infinities.
pub fn distillation<T: Element>(
    teacher: View<'_, T>,
    student: View<'_, T>,
) -> Result<(f64, Tensor<T>), Error> {
    let (expected, found) = (teacher.shape(), student.shape());
    if expected != found {
        return Err(Error::ShapeMismatch { what: "student logits", expected, found });
    }
    teacher.check_finite("teacher logits")?;
    student.check_finite("student logits")?;
    let mut gradient = Tensor::zeros(found)?;
    let classes = found[3];
    if gradient.as_slice().is_empty() {
        return Ok((0.0, gradient));
    }
    let lines = (gradient.as_slice().len() / classes) as f64;
    let mut loss = 0.0;
    let (teacher, student) = (teacher.to_vec(), student.to_vec());
    let pairs = teacher.chunks_exact(classes).zip(student.chunks_exact(classes));
    for (to, (teacher, student)) in gradient.as_mut_slice().chunks_exact_mut(classes).zip(pairs) {
        let (p, q) = (log_softmax(teacher), log_softmax(student));
        for ((to, p), q) in to.iter_mut().zip(p).zip(q) {
            let (from, into) = (num_traits::Float::exp(p), num_traits::Float::exp(q));
            // Where p is 0 the term is.
            if from > 0.0 {
                loss += from * (p - q);
            }
            *to = T::from_f64((into - from) / lines);
        }
    }
    Ok((loss.max(0.0) / lines, gradient))
}

fn log_softmax<T: Element>(logits: &[T]) -> Vec<f64> {
    let most = logits.iter().map(|x| Scalar::to_f64(*x)).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|x| num_traits::Float::exp(Scalar::to_f64(*x) - most)).sum();
    let shift = most + num_traits::Float::ln(sum);
    logits.iter().map(|x| Scalar::to_f64(*x) - shift).collect()
}
