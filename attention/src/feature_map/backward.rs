//! Gradients of linear attention; its formulas are the [module](super)'s.

use alloc::{vec, vec::Vec};

use super::forward::{Head, inverse};
use super::rows::{LANES, Maker, Row, Shift, dot, read, transpose};
use super::state::{State, pairs};
use super::{FeatureMap, Problem};
use crate::kernel::{self, Init, Kernels, Strided};
use crate::{Element, Error, Gradients, Tensor, View, parallel};

/// Gradients of `Σ upstream·output` of [`linear`](super::linear()) by queries, keys and values.
///
/// # Errors
/// As [`linear`](super::linear()), and for an `upstream` of another shape than its output.
pub fn linear_gradient<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    map: FeatureMap<'_>,
    causal: bool,
    upstream: View<'_, T>,
) -> Result<Gradients<T>, Error> {
    backward(&Problem::new(query, key, value, Some(map), causal)?, upstream)
}

/// Gradients of one key head and its query heads, row-major.
struct Part<T> {
    query: Vec<T>,
    key: Vec<T>,
    value: Vec<T>,
}

/// Key heads below which the columns of the values are shared out to two tasks a head.
const HEADS: usize = 4;

/// Gradients of every head.
///
/// A task is a key head, or where there are few of them some columns of its values: the output is linear in them, so that the
/// gradients by queries and keys are the sums over the parts, in their order, and every part is a problem of its own.
pub(crate) fn backward<T: Element>(
    problem: &Problem<'_, T>,
    upstream: View<'_, T>,
) -> Result<Gradients<T>, Error> {
    let ([batch, heads, tokens, dim], kv_heads) = (problem.query.shape(), problem.key.shape()[1]);
    let (keys, value_dim) = (problem.key.shape()[2], problem.value.shape()[3]);
    let expected = [batch, heads, tokens, value_dim];
    if upstream.shape() != expected {
        return Err(Error::ShapeMismatch { what: "output gradient", expected, found: upstream.shape() });
    }
    upstream.check_finite("output gradient")?;
    let mut gradients = Gradients {
        query: Tensor::zeros(problem.query.shape())?,
        key: Tensor::zeros(problem.key.shape())?,
        value: Tensor::zeros(problem.value.shape())?,
    };
    if value_dim == 0 || tokens == 0 || keys == 0 {
        return Ok(gradients);
    }
    let kernels = Kernels::current();
    let group = problem.group();
    let parts = if batch * kv_heads < HEADS && value_dim > 1 { 2 } else { 1 };
    // Whole rows of lanes.
    let width = value_dim.div_ceil(parts).next_multiple_of(LANES).min(value_dim);
    let parts = value_dim.div_ceil(width);
    let columns = |part: usize| part * width..value_dim.min((part + 1) * width);
    let problems: Vec<Problem<'_, T>> =
        (0..parts).map(|part| Problem { value: problem.value.columns(columns(part)), ..*problem }).collect();
    let mut failed = None;
    let task = |index: usize| {
        let (head, part) = (index / parts, index % parts);
        let upstream = upstream.columns(columns(part));
        Walk::new(kernels, &problems[part], upstream, (head / kv_heads, head % kv_heads)).run()
    };
    parallel::few(batch * kv_heads * parts, task, |index, part: Part<T>| {
        let (head, columns) = (index / parts, columns(index % parts));
        let (b, kv_head) = (head / kv_heads, head % kv_heads);
        for (from, dim) in [(&part.query, dim), (&part.key, dim), (&part.value, columns.len())] {
            let bad = from.iter().position(|x| !num_traits::Float::is_finite(*x));
            if let (None, Some(at)) = (&failed, bad) {
                let token = at / dim % tokens.max(1);
                failed = Some(Error::Overflow { batch: b, head: kv_head * group, token });
            }
        }
        let planes =
            [(&mut gradients.query, &part.query, tokens * group), (&mut gradients.key, &part.key, keys)];
        for (to, from, lines) in planes {
            let to = &mut to.as_mut_slice()[head * lines * dim..(head + 1) * lines * dim];
            to.iter_mut().zip(from).for_each(|(to, &x)| *to += x);
        }
        for (i, line) in part.value.chunks_exact(columns.len()).enumerate() {
            gradients.value.line_mut(b, kv_head, i)[columns.clone()].copy_from_slice(line);
        }
    });
    failed.map_or(Ok(gradients), Err)
}

/// One key head on its way through the chunks, forward and back.
struct Walk<'a, 'p, T> {
    head: Head<'a, 'p, T>,
    upstream: View<'p, T>,
    /// Batch entry and key head.
    at: (usize, usize),
    part: Part<T>,
    /// dS and dz.
    adjoint: State<T>,
    /// Each chunk's shift of the keys.
    shifts: Vec<T>,
    /// For each query λ/D and dD·λ.
    scales: Vec<(T, T)>,
    /// Gradient by the keys' features from the support, one after another.
    scattered: Vec<Row<T>>,
    /// dN of the chunk, `[e / 32][token][..]`.
    slopes: Vec<Row<T>>,
    /// Values or dN of the chunk, `[e][token]`.
    turned: Vec<Row<T>>,
    /// Gradient by the chunk's features, `[feature][token]`.
    features: Vec<Row<T>>,
    /// dN·vᵀ + dD of the chunk's pairs.
    pairs: Vec<Row<T>>,
    /// Output gradients of one token, and room for vectors of the chunk.
    line: Vec<T>,
    lines: Vec<T>,
}

impl<'a, 'p, T: Element> Walk<'a, 'p, T> {
    fn new(kernels: Kernels, problem: &'a Problem<'p, T>, upstream: View<'p, T>, at: (usize, usize)) -> Self {
        let (zero, row) = (T::from_f64(0.0), [T::from_f64(0.0); LANES]);
        let ([_, _, tokens, dim], group) = (problem.query.shape(), problem.group());
        let [_, _, keys, value_dim] = problem.value.shape();
        let groups = problem.features.div_ceil(LANES);
        Self {
            head: Head::new(kernels, problem),
            upstream,
            at,
            part: Part {
                query: vec![zero; group * tokens * dim],
                key: vec![zero; keys * dim],
                value: vec![zero; keys * value_dim],
            },
            adjoint: State::new(kernels, problem.features, value_dim),
            shifts: vec![zero; keys.div_ceil(LANES)],
            scales: vec![(zero, zero); group * tokens],
            scattered: vec![row; if problem.support.is_some() { keys * groups } else { 0 }],
            slopes: vec![row; value_dim.div_ceil(LANES) * LANES],
            turned: vec![row; value_dim],
            features: vec![row; problem.features],
            pairs: vec![row; LANES],
            line: vec![zero; value_dim],
            lines: vec![zero; LANES * dim],
        }
    }

    fn run(mut self) -> Part<T> {
        let problem = self.head.problem;
        let (tokens, keys) = (problem.query.shape()[2], problem.key.shape()[2]);
        if !problem.causal {
            for first in (0..keys).step_by(LANES) {
                self.head.learn(self.at, first, LANES.min(keys - first));
                self.shifts[first / LANES] = self.head.shift;
            }
        }
        for first in (0..tokens).step_by(LANES) {
            let len = LANES.min(tokens - first);
            if problem.causal {
                self.head.read(self.at, first, len);
                self.shifts[first / LANES] = self.head.shift;
            }
            for member in 0..problem.group() {
                self.queries(member, first, len);
            }
            if problem.causal {
                self.head.state.absorb(&self.head.key.rows, &self.head.values, None, len);
            }
        }
        for first in (0..keys).step_by(LANES).rev() {
            self.keys(first, LANES.min(keys - first));
        }
        self.part
    }

    /// Gradient by a chunk of queries; not causal, its part of dS.
    fn queries(&mut self, member: usize, first: usize, len: usize) {
        let (zero, problem, kernels) = (T::from_f64(0.0), self.head.problem, self.head.kernels);
        let ([_, _, tokens, dim], group) = (problem.query.shape(), problem.group());
        let at = (self.at.0, self.at.1 * group + member);
        self.head.answer(at, self.at.1, first, len);
        read(self.upstream, at, (first, len), &mut self.line, &mut self.slopes);
        self.lines.fill(zero);
        let mut scattered: Vec<Row<T>> = vec![];
        let mut weights = [zero; LANES];
        for i in 0..len {
            let inverse = inverse(self.head.sums[i], zero);
            let along = self.slopes.chunks_exact(LANES).zip(self.head.outputs.chunks_exact(LANES));
            let along = along.fold(zero, |sum, (slopes, outputs)| sum + dot(&slopes[i], &outputs[i]));
            let of_sum = -(along * inverse) * inverse;
            let mut lambda = T::from_f64(1.0);
            if self.head.correction.is_some() {
                lambda = self.support(at, first + i, i, (inverse, of_sum), &mut scattered);
            }
            let factor = inverse * lambda;
            self.slopes
                .chunks_exact_mut(LANES)
                .for_each(|rows| rows[i].iter_mut().for_each(|x| *x *= factor));
            weights[i] = of_sum * lambda;
            self.scales[member * tokens + first + i] = (factor, weights[i]);
        }
        transpose(&self.slopes, &mut self.turned);
        self.head.state.adjoint(&self.turned, &weights, &mut self.features);
        if problem.causal {
            transpose(&self.head.values, &mut self.turned);
            pairs(kernels, &self.slopes, &self.turned, Some(&weights), len, &mut self.pairs);
            let mut across = [[zero; LANES]; LANES];
            transpose(&self.pairs, &mut across);
            accumulate(kernels, &self.head.key.rows, &across[..len], &mut self.features);
        }
        let groups = self.head.query.rows.len() / LANES;
        for (i, rows) in scattered.chunks_exact(groups.max(1)).enumerate() {
            for (f, to) in self.features.iter_mut().enumerate() {
                to[i] += rows[f / LANES][f % LANES];
            }
        }
        let from = (member * tokens + first) * dim;
        let out = &mut self.part.query[from..from + len * dim];
        self.head.query.pull_back(&self.features, len, out);
        out.iter_mut().zip(&self.lines).for_each(|(to, &x)| *to += x);
        if !problem.causal {
            self.adjoint.absorb(&self.head.query.rows, &self.slopes, Some(&weights), len);
        }
    }

    /// Gradients through the support's weights of one query: into `lines`, the keys' and values' parts, `scattered`, and a row of
    /// feature gradients for the query. Hands back λ.
    fn support(
        &mut self,
        at: (usize, usize),
        token: usize,
        i: usize,
        (inverse, of_sum): (T, T),
        own: &mut Vec<Row<T>>,
    ) -> T {
        let (zero, problem) = (T::from_f64(0.0), self.head.problem);
        let (dim, value_dim) = (problem.query.shape()[3], problem.value.shape()[3]);
        let Some(correction) = &mut self.head.correction else { return T::from_f64(1.0) };
        correction.correct(problem, &self.head.query, self.head.shift, (at, self.at.1, token), i);
        let scale = T::from_f64(problem.scale);
        let groups = self.head.query.rows.len() / LANES;
        let begin = own.len();
        own.resize(begin + groups, [zero; LANES]);
        let (mut value, mut key, mut query) = (vec![zero; value_dim], vec![zero; dim], vec![zero; dim]);
        self.upstream.copy_line(at.0, at.1, token, &mut self.line);
        problem.query.copy_line(at.0, at.1, token, &mut query);
        for pair in &correction.pairs {
            problem.value.copy_line(at.0, self.at.1, pair.key, &mut value);
            problem.key.copy_line(at.0, self.at.1, pair.key, &mut key);
            let slope = inverse * dot(&self.line, &value) + of_sum;
            let of_logit = scale * slope * pair.exact;
            let to = &mut self.part.key[pair.key * dim..(pair.key + 1) * dim];
            to.iter_mut().zip(&query).for_each(|(to, &x)| *to += of_logit * x);
            let to = &mut self.lines[i * dim..(i + 1) * dim];
            to.iter_mut().zip(&key).for_each(|(to, &x)| *to += of_logit * x);
            let to = &mut self.part.value[pair.key * value_dim..(pair.key + 1) * value_dim];
            to.iter_mut().zip(&self.line).for_each(|(to, &x)| *to += pair.weight * inverse * x);
            let of_product = pair.factor * slope;
            let stored = correction.features(pair.key);
            let to = &mut self.scattered[pair.key * groups..(pair.key + 1) * groups];
            for (g, to) in to.iter_mut().enumerate() {
                for lane in 0..LANES {
                    own[begin + g][lane] -= of_product * stored[g][lane];
                    to[lane] -= of_product * correction.own[g][lane];
                }
            }
        }
        correction.lambda
    }

    /// Gradients by a chunk of keys and values, later chunks first; causal, the chunk's queries join dS after it.
    fn keys(&mut self, first: usize, len: usize) {
        let (zero, problem, kernels) = (T::from_f64(0.0), self.head.problem, self.head.kernels);
        let ([_, _, tokens, dim], group) = (problem.query.shape(), problem.group());
        let value_dim = problem.value.shape()[3];
        let chunk = first / LANES;
        if let Some(&later) = self.shifts.get(chunk + 1).filter(|_| problem.shifted()) {
            self.adjoint.scale(num_traits::Float::exp2(self.shifts[chunk] - later));
        }
        let Head { key, query, values, outputs, sums, transposed, pairs: products, .. } = &mut self.head;
        key.make(problem.key, self.at, first, len, Shift::Fixed(self.shifts[chunk]));
        read(problem.value, self.at, (first, len), &mut self.line, values);
        transpose(values, &mut self.turned);
        transpose(&key.rows, transposed);
        self.adjoint.adjoint(&self.turned, &[T::from_f64(1.0); LANES], &mut self.features);
        outputs.fill([zero; LANES]);
        self.adjoint.apply(&key.rows, outputs, sums, len);
        for member in 0..if problem.causal { group } else { 0 } {
            let at = (self.at.0, self.at.1 * group + member);
            query.make(problem.query, at, first, len, Shift::Own);
            read(self.upstream, at, (first, len), &mut self.line, &mut self.slopes);
            let mut weights = [zero; LANES];
            for (i, weight) in weights[..len].iter_mut().enumerate() {
                let (factor, of_sum) = self.scales[member * tokens + first + i];
                let rows = self.slopes.chunks_exact_mut(LANES);
                rows.for_each(|rows| rows[i].iter_mut().for_each(|x| *x *= factor));
                *weight = of_sum;
            }
            pairs(kernels, &self.slopes, &self.turned, Some(&weights), len, &mut self.pairs);
            accumulate(kernels, &query.rows, &self.pairs[..len], &mut self.features);
            pairs(kernels, &query.rows, transposed, None, len, products);
            let a = Strided { data: products.as_flattened(), row: 1, column: LANES };
            for (slopes, out) in self.slopes.chunks_exact(LANES).zip(outputs.chunks_exact_mut(LANES)) {
                kernel::product(kernels, a, &slopes[..len], &mut out[..len], Init::Add);
            }
            self.adjoint.absorb(&query.rows, &self.slopes, Some(&weights), len);
        }
        finish(key, &mut self.features, &self.scattered, &mut self.lines, first, len);
        let to = &mut self.part.key[first * dim..(first + len) * dim];
        to.iter_mut().zip(&self.lines).for_each(|(to, &x)| *to += x);
        let lines = self.part.value[first * value_dim..(first + len) * value_dim].chunks_exact_mut(value_dim);
        for (i, line) in lines.enumerate() {
            for (part, out) in line.chunks_mut(LANES).zip(outputs.chunks_exact(LANES)) {
                part.iter_mut().zip(&out[i]).for_each(|(to, &x)| *to += x);
            }
        }
    }
}

/// Adds the support's part to the gradient by a chunk of keys' features, and pulls it back into `lines`.
fn finish<T: Element>(
    key: &Maker<T>,
    features: &mut [Row<T>],
    scattered: &[Row<T>],
    lines: &mut [T],
    first: usize,
    len: usize,
) {
    let groups = key.rows.len() / LANES;
    if groups > 0 && !scattered.is_empty() {
        for (i, rows) in scattered[first * groups..(first + len) * groups].chunks_exact(groups).enumerate() {
            for (f, to) in features.iter_mut().enumerate() {
                to[i] += rows[f / LANES][f % LANES];
            }
        }
    }
    key.pull_back(features, len, lines);
}

/// `out[feature][lane] += Σₜ rows[t][feature]·by[t][lane]`, rows `[feature / 32][t][feature % 32]`.
fn accumulate<T: Element>(kernels: Kernels, rows: &[Row<T>], by: &[Row<T>], out: &mut [Row<T>]) {
    for (rows, out) in rows.chunks_exact(LANES).zip(out.chunks_mut(LANES)) {
        let a = Strided { data: rows.as_flattened(), row: 1, column: LANES };
        kernel::product(kernels, a, by, out, Init::Add);
    }
}
