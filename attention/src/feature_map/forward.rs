//! Outputs of linear attention.

use alloc::{vec, vec::Vec};

use super::correction::Correction;
use super::rows::{LANES, Maker, Row, Shift, least, read, transpose};
use super::state::{State, pairs};
use super::{FeatureMap, Problem};
use crate::kernel::{self, Init, Kernels, Strided};
use crate::{Element, Error, Tensor, View, parallel};

/// Linear attention; see the [module](super).
///
/// # Errors
/// [`Error::ShapeMismatch`] for operands of other shapes (causal: also for other numbers of keys than queries);
/// [`Error::NonFinite`] for NaN and infinities in them; [`Error::InvalidOption`] for a `head_dim` of 0 or other than that of the
/// random features, key heads that do not divide the query heads, or a scale that is not positive; [`Error::TooLarge`] for too many
/// features; [`Error::Overflow`] when features or their sums leave the range of T.
pub fn linear<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    map: FeatureMap<'_>,
    causal: bool,
) -> Result<Tensor<T>, Error> {
    forward(&Problem::new(query, key, value, Some(map), causal)?)
}

/// Outputs of every head; a task is a key head.
pub(crate) fn forward<T: Element>(problem: &Problem<'_, T>) -> Result<Tensor<T>, Error> {
    let ([batch, heads, tokens, _], kv_heads) = (problem.query.shape(), problem.key.shape()[1]);
    let dim = problem.value.shape()[3];
    let mut output = Tensor::zeros([batch, heads, tokens, dim])?;
    if output.as_slice().is_empty() {
        return Ok(output);
    }
    let kernels = Kernels::current();
    let plane = problem.group() * tokens * dim;
    let mut failed = None;
    let task = |index: usize, out: &mut [T]| {
        let at = (index / kv_heads, index % kv_heads);
        Head::new(kernels, problem).run(at, out);
        out.chunks_exact(dim).position(|line| line.iter().any(|x| !num_traits::Float::is_finite(*x)))
    };
    parallel::slices(output.as_mut_slice(), plane, task, |index, bad: Option<usize>| {
        if let (None, Some(line)) = (&failed, bad) {
            let head = index % kv_heads * problem.group() + line / tokens;
            failed = Some(Error::Overflow { batch: index / kv_heads, head, token: line % tokens });
        }
    });
    failed.map_or(Ok(output), Err)
}

/// The memory of one head.
pub(super) struct Head<'a, 'p, T> {
    pub(super) kernels: Kernels,
    pub(super) problem: &'a Problem<'p, T>,
    pub(super) query: Maker<T>,
    pub(super) key: Maker<T>,
    pub(super) state: State<T>,
    /// What the keys' features are relative to.
    pub(super) shift: T,
    /// Values of the chunk, `[e / 32][token][e % 32]`.
    pub(super) values: Vec<Row<T>>,
    /// Outputs of the chunk's queries before they are divided, in the same order.
    pub(super) outputs: Vec<Row<T>>,
    /// What they are divided by.
    pub(super) sums: Row<T>,
    /// Causal: features of the keys, lanes are the chunk's tokens, and the weights of its pairs.
    pub(super) transposed: Vec<Row<T>>,
    pub(super) pairs: Vec<Row<T>>,
    /// Exact weights of the support's pairs.
    pub(super) correction: Option<Correction<T>>,
    line: Vec<T>,
}

impl<'a, 'p, T: Element> Head<'a, 'p, T> {
    pub(super) fn new(kernels: Kernels, problem: &'a Problem<'p, T>) -> Self {
        let zero = [T::from_f64(0.0); LANES];
        let (features, dim) = (problem.features, problem.value.shape()[3]);
        let groups = dim.div_ceil(LANES);
        Self {
            kernels,
            problem,
            query: Maker::new(kernels, problem),
            key: Maker::new(kernels, problem),
            state: State::new(kernels, features, dim),
            shift: least(),
            values: vec![zero; groups * LANES],
            outputs: vec![zero; groups * LANES],
            sums: zero,
            transposed: vec![zero; features],
            pairs: vec![zero; LANES],
            correction: problem.support.map(|_| Correction::new(problem)),
            line: vec![T::from_f64(0.0); dim],
        }
    }

    /// Outputs of all query heads of a key head, one after another.
    fn run(mut self, (batch, kv_head): (usize, usize), out: &mut [T]) {
        let problem = self.problem;
        let (tokens, keys) = (problem.query.shape()[2], problem.key.shape()[2]);
        let (group, dim) = (problem.group(), problem.value.shape()[3]);
        if !problem.causal {
            for first in (0..keys).step_by(LANES) {
                self.learn((batch, kv_head), first, LANES.min(keys - first));
            }
        }
        // Causal heads of a group advance together, and share the state.
        for first in (0..tokens).step_by(LANES) {
            let len = LANES.min(tokens - first);
            if problem.causal {
                self.read((batch, kv_head), first, len);
            }
            for member in 0..group {
                self.answer((batch, kv_head * group + member), kv_head, first, len);
                let from = (member * tokens + first) * dim;
                self.divide(&mut out[from..from + len * dim]);
            }
            if problem.causal {
                self.state.absorb(&self.key.rows, &self.values, None, len);
            }
        }
    }

    /// Reads a chunk of keys and adds it to the state.
    pub(super) fn learn(&mut self, at: (usize, usize), first: usize, len: usize) {
        self.read(at, first, len);
        self.state.absorb(&self.key.rows, &self.values, None, len);
    }

    /// Keys' features and values of a chunk; the state follows when their shift rises.
    pub(super) fn read(&mut self, at: (usize, usize), first: usize, len: usize) {
        let shift = self.key.make(self.problem.key, at, first, len, Shift::AtLeast(self.shift));
        if self.problem.shifted() && shift > self.shift {
            self.state.scale(num_traits::Float::exp2(self.shift - shift));
            self.shift = shift;
        }
        read(self.problem.value, at, (first, len), &mut self.line, &mut self.values);
        if self.problem.causal {
            transpose(&self.key.rows, &mut self.transposed);
        }
        if let Some(correction) = &mut self.correction {
            correction.remember(&self.key.rows, self.shift, first, len);
        }
    }

    /// `outputs` and `sums` of the chunk's queries: from the state, causal from the chunk's own pairs, and from the support.
    pub(super) fn answer(&mut self, at: (usize, usize), kv_head: usize, first: usize, len: usize) {
        let zero = T::from_f64(0.0);
        self.query.make(self.problem.query, at, first, len, Shift::Own);
        self.outputs.fill([zero; LANES]);
        self.sums = [zero; LANES];
        self.state.apply(&self.query.rows, &mut self.outputs, &mut self.sums, len);
        if self.problem.causal {
            pairs(self.kernels, &self.query.rows, &self.transposed, None, len, &mut self.pairs);
            for (row, sum) in self.pairs[..len].iter().zip(&mut self.sums) {
                *sum = row.iter().fold(*sum, |sum, &x| sum + x);
            }
            let a = Strided { data: self.pairs.as_flattened(), row: LANES, column: 1 };
            for (values, outputs) in self.values.chunks_exact(LANES).zip(self.outputs.chunks_exact_mut(LANES))
            {
                kernel::product(self.kernels, a, &values[..len], &mut outputs[..len], Init::Add);
            }
        }
        if let Some(correction) = &mut self.correction {
            for i in 0..len {
                let place = (at, kv_head, first + i);
                correction.correct(self.problem, &self.query, self.shift, place, i);
                correction.add(self.problem, place, i, &mut self.outputs, &mut self.sums);
            }
        }
    }

    /// Writes `outputs / sums`.
    fn divide(&self, out: &mut [T]) {
        let zero = T::from_f64(0.0);
        let dim = self.problem.value.shape()[3];
        for (i, line) in out.chunks_exact_mut(dim).enumerate() {
            let factor = inverse(self.sums[i], zero);
            for (part, outputs) in line.chunks_mut(LANES).zip(self.outputs.chunks_exact(LANES)) {
                for (to, &x) in part.iter_mut().zip(&outputs[i]) {
                    *to = x * factor;
                }
            }
        }
    }
}

/// `1/sum`, and 0 where no weight is left: below the normal numbers.
pub(super) fn inverse<T: Element>(sum: T, zero: T) -> T {
    let gone = num_traits::Float::abs(sum) < <T as num_traits::Float>::min_positive_value();
    if gone { zero } else { num_traits::Float::recip(sum) }
}
