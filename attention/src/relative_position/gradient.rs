//! Gradients of linear attention with a bias of the distance; formulas and cost are the [module](super)'s.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use rustfft::num_complex::Complex;

use super::{COLUMNS, Plan, RelativeOptions, Spectrum, Work, check_bias, scaled, weights};
use crate::feature_map::{FeatureMap, Problem, all_features, pull_back_all};
use crate::{Element, Error, Tensor, View, parallel};

/// Gradients of a scalar function of the output of [`relative`](super::relative).
#[derive(Clone, Debug, PartialEq)]
pub struct RelativeGradients<T> {
    /// By the queries, in their shape.
    pub query: Tensor<T>,
    /// By the keys, in their shape.
    pub key: Tensor<T>,
    /// By the values, in their shape.
    pub value: Tensor<T>,
    /// By the bias, in its shape with every dimension of stride 0 once: what is repeated is summed. 0 for hidden distances.
    pub bias: Tensor<T>,
}

/// Parts that the features of a head are cut into: one task each.
const PARTS: usize = 8;

/// Gradients of `Σ upstream·output` of [`relative`](super::relative) by queries, keys, values and the bias; see the
/// [module](super).
///
/// # Errors
/// As [`relative`](super::relative), and for an `upstream` of another shape than its output.
pub fn relative_gradient<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    bias: View<'_, T>,
    map: FeatureMap<'_>,
    options: &RelativeOptions,
    upstream: View<'_, T>,
) -> Result<RelativeGradients<T>, Error> {
    // As many keys as queries: what causal asks for.
    Problem::new(query, key, value, Some(map), true)?;
    let [batch, heads, n, dim] = query.shape();
    let (kv_heads, value_dim) = (key.shape()[1], value.shape()[3]);
    let expected = [batch, heads, n, value_dim];
    if upstream.shape() != expected {
        return Err(Error::ShapeMismatch { what: "output gradient", expected, found: upstream.shape() });
    }
    check_bias(bias, [batch, heads, n])?;
    upstream.check_finite("output gradient")?;
    let mut found = RelativeGradients {
        query: Tensor::zeros(query.shape())?,
        key: Tensor::zeros(key.shape())?,
        value: Tensor::zeros(value.shape())?,
        bias: Tensor::zeros(bias.distinct())?,
    };
    if batch == 0 || heads == 0 || n == 0 || value_dim == 0 {
        return Ok(found);
    }
    let units = scaled([query, key], options)?;
    let [own_query, own_key] =
        units.as_ref().map_or([query, key], |units| units.each_ref().map(Tensor::view));
    let problem = Problem::new(own_query, own_key, value, Some(map), false)?;
    let plan = Plan::new(n);
    for (b, h, _) in crate::tensor::each(batch, heads, 1) {
        let kv = h * kv_heads / heads;
        let Some(weights) = weights(bias, (b, h), n, options.causal)? else { continue };
        let head = Head {
            plan: &plan,
            matrix: Spectrum::new(&plan, &weights),
            n,
            features: all_features(&problem, b, h, kv),
            value: f64s(value, (b, kv)),
            upstream: f64s(upstream, (b, h)),
            value_dim,
        };
        let by = head.gradients();
        let [by_query, by_key] =
            pull_back_all(&problem, [b, h, kv], by.features.each_ref().map(Vec::as_slice));
        let sides = [(query, h, by_query, &mut found.query), (key, kv, by_key, &mut found.key)];
        for (view, head, by, sum) in sides {
            let mut line = vec![T::from_f64(0.0); dim];
            for (i, by) in by.chunks_exact(dim).enumerate() {
                view.copy_line(b, head, i, &mut line);
                let sum = sum.line_mut(b, head, i);
                if options.normalized {
                    through_unit(&line, by, sum);
                } else {
                    sum.iter_mut().zip(by).for_each(|(sum, &by)| *sum += by);
                }
            }
        }
        for (i, by) in by.value.chunks_exact(value_dim).enumerate() {
            let sum = found.value.line_mut(b, kv, i);
            sum.iter_mut().zip(by).for_each(|(sum, &by)| *sum += T::from_f64(by));
        }
        let [batches, rows, ..] = found.bias.shape();
        let line = found.bias.line_mut(b.min(batches - 1), h.min(rows - 1), 0);
        // A bias that is one number for all distances changes nothing: its gradient is 0 up to rounding.
        let columns = line.len();
        for (t, (by, weight)) in by.weights.iter().zip(&weights).enumerate() {
            line[t.min(columns - 1)] += T::from_f64(by * weight);
        }
        let finite = |x: &Tensor<T>, head: usize, i: usize| {
            let view = x.view();
            (0..x.shape()[3]).all(|k| num_traits::Float::is_finite(view.at([b, head, i, k])))
        };
        let bad = (0..n).find(|&i| {
            !(finite(&found.query, h, i) && finite(&found.key, kv, i) && finite(&found.value, kv, i))
        });
        let bad =
            bad.or((!found.bias.as_slice().iter().all(|x| num_traits::Float::is_finite(*x))).then_some(0));
        if let Some(token) = bad {
            return Err(Error::Overflow { batch: b, head: h, token });
        }
    }
    Ok(found)
}

/// All lines of a head.
fn f64s<T: Element>(view: View<'_, T>, (b, h): (usize, usize)) -> Vec<f64> {
    view.part(b..b + 1, h..h + 1).to_vec().into_iter().map(|x| x.to_f64()).collect()
}

/// Adds the gradient by x, given that by `x/|x|`; none at 0, where there is no derivative.
fn through_unit<T: Element>(x: &[T], by: &[T], sum: &mut [T]) {
    let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(&a, &b)| a.to_f64() * b.to_f64()).sum::<f64>();
    let square = dot(x, x);
    if square > 0.0 {
        let along = dot(x, by) / square;
        let norm = num_traits::Float::sqrt(square);
        for ((sum, &by), &x) in sum.iter_mut().zip(by).zip(x) {
            *sum += T::from_f64((by.to_f64() - along * x.to_f64()) / norm);
        }
    }
}

/// One query head.
struct Head<'a, T> {
    plan: &'a Plan,
    matrix: Spectrum,
    n: usize,
    /// φ(q) and φ(k), `[token][feature]`.
    features: [Vec<T>; 2],
    value: Vec<f64>,
    upstream: Vec<f64>,
    value_dim: usize,
}

/// Its gradients by the features, `[token][feature]`, the values and the weights of the distances.
struct HeadGradients {
    features: [Vec<f64>; 2],
    value: Vec<f64>,
    weights: Vec<f64>,
}

/// What some features give: their own gradients, `[feature][token]`, and their share of the others.
struct Part {
    features: Range<usize>,
    by_key: Vec<f64>,
    value: Vec<f64>,
    /// Of the circulant and the skew-circulant correlation.
    spectra: [Vec<Complex<f64>>; 2],
}

impl<T: Element> Head<'_, T> {
    fn count(&self) -> usize {
        self.features[0].len() / self.n
    }

    fn part(&self, index: usize) -> Range<usize> {
        let count = self.count();
        count * index / PARTS..count * (index + 1) / PARTS
    }

    /// φ(q)_f or φ(k)_f of a token.
    fn feature(&self, side: usize, i: usize, f: usize) -> f64 {
        self.features[side][i * self.count() + f].to_f64()
    }

    /// Column e of (v, 1).
    fn held(&self, j: usize, e: usize) -> f64 {
        self.value[j * self.value_dim..(j + 1) * self.value_dim].get(e).copied().unwrap_or(1.0)
    }

    fn gradients(&self) -> HeadGradients {
        let (n, m, dim) = (self.n, self.count(), self.value_dim);
        // 1. Σₑ dO_e·(T·φ(k)_f·v_e) and T·φ(k)_f.
        let (mut along, mut plain) = (vec![0.0; n * m], vec![0.0; n * m]);
        parallel::few(
            PARTS,
            |index| self.ahead(self.part(index)),
            |index, lines: [Vec<f64>; 2]| {
                for (to, lines) in [&mut along, &mut plain].into_iter().zip(&lines) {
                    for (f, line) in self.part(index).zip(lines.chunks_exact(n)) {
                        line.iter().enumerate().for_each(|(i, &x)| to[i * m + f] = x);
                    }
                }
            },
        );
        // 2. Through the quotient: (dN, dD) of each query, and from them its features.
        let mut slopes = vec![0.0; n * (dim + 1)];
        for (i, slopes) in slopes.chunks_exact_mut(dim + 1).enumerate() {
            let line = i * m..(i + 1) * m;
            let dot = |x: &[f64]| (0..m).map(|f| self.feature(0, i, f) * x[f]).sum::<f64>();
            let (sum, product) = (dot(&plain[line.clone()]), dot(&along[line.clone()]));
            let inverse = if sum == 0.0 { 0.0 } else { 1.0 / sum };
            let of_sum = -product * inverse * inverse;
            for (to, up) in slopes.iter_mut().zip(&self.upstream[i * dim..(i + 1) * dim]) {
                *to = up * inverse;
            }
            slopes[dim] = of_sum;
            for (x, plain) in along[line.clone()].iter_mut().zip(&plain[line]) {
                *x = *x * inverse + of_sum * plain;
            }
        }
        // 3. Back through the transposed matrix to keys and values, and by correlation to the weights.
        let mut by_key = plain;
        let mut value = vec![0.0; n * dim];
        let zero = || vec![Complex::new(0.0, 0.0); self.plan.len];
        let mut spectra = [zero(), zero()];
        parallel::few(
            PARTS,
            |index| self.back(self.part(index), &slopes),
            |_, part: Part| {
                for (f, line) in part.features.zip(part.by_key.chunks_exact(n)) {
                    line.iter().enumerate().for_each(|(i, &x)| by_key[i * m + f] = x);
                }
                value.iter_mut().zip(&part.value).for_each(|(sum, x)| *sum += x);
                for (sum, part) in spectra.iter_mut().zip(&part.spectra) {
                    sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
                }
            },
        );
        HeadGradients { features: [along, by_key], value, weights: self.correlation(spectra) }
    }

    /// For each of some features `Σₑ dO_e·(T·φ(k)_f·v_e)` and `T·φ(k)_f`, one token after another.
    fn ahead(&self, features: Range<usize>) -> [Vec<f64>; 2] {
        let (n, dim) = (self.n, self.value_dim);
        let mut work = Work::new(self.plan);
        let mut found = [0, 1].map(|_| vec![0.0; features.len() * n]);
        for (place, f) in features.enumerate() {
            let lines = place * n..(place + 1) * n;
            for first in (0..=dim).step_by(COLUMNS) {
                let count = COLUMNS.min(dim + 1 - first);
                for j in 0..n {
                    let phi = self.feature(1, j, f);
                    work.put(j, (first..first + count).map(|e| phi * self.held(j, e)));
                }
                work.multiply(self.plan, &self.matrix, n, count);
                let [along, plain] = found.each_mut().map(|found| &mut found[lines.clone()]);
                for i in 0..n {
                    for k in 0..count {
                        match self.upstream[i * dim..(i + 1) * dim].get(first + k) {
                            Some(up) => along[i] += up * work.get(i, k),
                            None => plain[i] = work.get(i, k),
                        }
                    }
                }
            }
        }
        found
    }

    /// What some features give to keys, values and weights; `slopes` are (dN, dD).
    fn back(&self, features: Range<usize>, slopes: &[f64]) -> Part {
        let (n, dim, len) = (self.n, self.value_dim, self.plan.len);
        let zero = || vec![Complex::new(0.0, 0.0); len];
        let mut part = Part {
            features: features.clone(),
            by_key: vec![0.0; features.len() * n],
            value: vec![0.0; n * dim],
            spectra: [zero(), zero()],
        };
        let mut scratch = vec![Complex::new(0.0, 0.0); Work::new(self.plan).scratch.len()];
        let (mut held, mut own) = ([zero(), zero()], [zero(), zero()]);
        for (place, f) in features.enumerate() {
            // Two columns at a time: one is the real, one the imaginary part.
            for first in (0..=dim).step_by(2) {
                let inside = |e: usize, x: f64| if e > dim { 0.0 } else { x };
                for i in 0..n {
                    let [own_feature, phi] = [0, 1].map(|side| self.feature(side, i, f));
                    let column = |e: usize| inside(e, phi * self.held(i, e));
                    held[0][i] = Complex::new(column(first), column(first + 1));
                    let column = |e: usize| {
                        if e > dim { 0.0 } else { own_feature * slopes[i * (dim + 1) + e] }
                    };
                    own[0][i] = Complex::new(column(first), column(first + 1));
                }
                for pair in [&mut held, &mut own] {
                    let [straight, twisted] = pair;
                    straight[n..].fill(Complex::new(0.0, 0.0));
                    for ((to, x), twist) in twisted.iter_mut().zip(&*straight).zip(&self.plan.twist) {
                        *to = x * twist;
                    }
                    self.plan.forward.process_with_scratch(straight, &mut scratch);
                    self.plan.forward.process_with_scratch(twisted, &mut scratch);
                }
                for ((sum, own), held) in part.spectra.iter_mut().zip(&own).zip(&held) {
                    for ((sum, own), held) in sum.iter_mut().zip(own).zip(held) {
                        *sum += own.conj() * held;
                    }
                }
                // The transposed matrix has the conjugate spectra.
                for (own, spectrum) in own.iter_mut().zip([&self.matrix.circulant, &self.matrix.skew]) {
                    own.iter_mut().zip(spectrum).for_each(|(x, factor)| *x *= factor.conj());
                    self.plan.inverse.process_with_scratch(own, &mut scratch);
                }
                let by_key = &mut part.by_key[place * n..(place + 1) * n];
                for (j, by_key) in by_key.iter_mut().enumerate() {
                    let pair = own[0][j] + own[1][j] * self.plan.twist[j].conj();
                    for (e, x) in
                        [(first, pair.re), (first + 1, pair.im)].into_iter().filter(|(e, _)| *e <= dim)
                    {
                        *by_key += self.held(j, e) * x;
                        if e < dim {
                            part.value[j * dim + e] += self.feature(1, j, f) * x;
                        }
                    }
                }
            }
        }
        part
    }

    /// `Σᵢ a_i·x_{i+t}` for every distance, from the products of the spectra of both: `R_t + R_{t-N}` is the circulant one,
    /// `R_t - R_{t-N}` the skew one.
    fn correlation(&self, [mut circulant, mut skew]: [Vec<Complex<f64>>; 2]) -> Vec<f64> {
        let (n, len) = (self.n, self.plan.len);
        self.plan.inverse.process(&mut circulant);
        self.plan.inverse.process(&mut skew);
        let factor = 0.5 / len as f64;
        let both = |t: usize| (circulant[t].re, (skew[t] * self.plan.twist[t].conj()).re);
        let entry = |t: usize| {
            // Distance t - (n - 1).
            if t + 1 >= n {
                let (sum, difference) = both(t + 1 - n);
                (sum + difference) * factor
            } else {
                let (sum, difference) = both(len + t + 1 - n);
                (sum - difference) * factor
            }
        };
        (0..2 * n - 1).map(entry).collect()
    }
}
