//! Relative positions by the fast Fourier transform: products with Toeplitz matrices, and linear attention with a bias of the
//! distance. Needs the feature `std`.
//!
//! ```text
//! c_t = exp(b_t)      O_i = φ(q_i)·Σⱼ c_{j-i} φ(k_j) v_jᵀ / (φ(q_i)·Σⱼ c_{j-i} φ(k_j))          causal: c_t = 0 for t > 0
//! ```
//! Both sums are products of the Toeplitz matrix `T_ij = c_{j-i}` with the columns `φ(k)_f·v_e` and `φ(k)_f`. T of n rows is the
//! sum of a circulant and a skew-circulant matrix of N ≥ n rows, so that each product takes transforms of length N, not 2N; two real
//! columns are one complex one, and everything is done in f64:
//!
//! ```text
//! g_t = c_{-t}   a_t = (g_t + g_{t-N})/2   b_t = (g_t - g_{t-N})/2   ω = exp(-iπ/N)
//! T·x = F⁻¹(F(a)∘F(x)) + ω⁻ʲ∘F⁻¹(F(ω∘b)∘F(ω∘x))
//! ```
//! The gradient takes the transposed matrix, whose spectra are conjugate, and the correlation of what stands on its two sides:
//! with `dN_i = dO_i/D_i`, `dD_i = -dO_i·O_i/D_i` of the quotient `O = N/D`, ṽ = (v, 1) and dÑ = (dN, dD),
//!
//! ```text
//! dφ(q)_if = Σₑ dÑ_ie·(T·(φ(k)_f∘ṽ_e))_i        dφ(k)_jf = Σₑ ṽ_je·(Tᵀ·(φ(q)_f∘dÑ_e))_j        dv_je = Σ_f φ(k)_jf·(Tᵀ·(φ(q)_f∘dN_e))_j
//! dc_t = Σ_{f,e} Σᵢ φ(q)_if·dÑ_ie·φ(k)_{i+t,f}·ṽ_{i+t,e}        db_t = c_t·dc_t
//! F(R_t + R_{t-N}) = Σ conj(F(a))∘F(x)        F(ω∘(R_t - R_{t-N})) = Σ conj(F(ω∘a))∘F(ω∘x)        of all pairs a, x of columns
//! ```
//! The source's normalized variant takes `q/|q|` and `k/|k|`, so that few random features do, and leaves the range to the bias.
//!
//! [`toeplitz`] transforms sixteen columns at once, two in each lane of vectors of eight.
//!
//! Cost: 2·N·log N complex steps a column: columns of [`toeplitz`]'s operand, and `m·(e + 1)` a head in [`relative`]. Memory beside
//! the results: 8 transforms ([`toeplitz`]: 16), and the features of a head for [`relative`]. The gradient takes 2.5 times the transforms and 3·n·m +
//! n·e numbers of f64, the last for each of 8 tasks a head that are on their way. Against it, [`exact`](crate::exact()) with a bias costs
//! `2·n²·(d + e)` flops and n·s numbers of bias.
//!
//! **Accuracy**: `|Δ(T·x)| ≤ 8·log₂(2N)·u·‖c‖·‖x‖`, u = 2⁻⁵³, an absolute bound: rows whose own terms are small against it would be
//! noise. So weights are refused when the largest that some row sees is below 10⁻⁵ of the largest of all times √n; with it rows
//! are right to 10⁻⁵ of their largest term for columns of comparable entries. The same bound makes a causal product see rounding
//! noise of later rows: a row of 10⁶ leaks some 10⁻⁹.
//!
//! Source: Luo, Li, Cai, He, Peng, Zheng, Ke, Wang, Liu, *Stable, fast and accurate: kernelized attention with relative positional
//! encoding*, NeurIPS 2021, arXiv 2106.12566, sections 3.1 (normalized) and 3.2.
//!
//! ```
//! use rankbit_attention::{FeatureMap, RelativeOptions, View, relative};
//! let data: Vec<f32> = (0..6 * 4_u8).map(|i| f32::from(i % 5) - 2.0).collect();
//! let x = View::contiguous(&data, [1, 1, 6, 4])?;
//! let bias: Vec<f32> = (0..11_i8).map(|t| -0.5 * f32::from((t - 5).abs())).collect(); // b_{-5} … b_5
//! let bias = View::contiguous(&bias, [1, 1, 1, 11])?;
//! let found = relative(x, x, x, bias, FeatureMap::Elu, &RelativeOptions::default())?;
//! assert_eq!(found.shape(), [1, 1, 6, 4]);
//! # Ok::<(), rankbit_attention::Error>(())
//! ```

mod batch;

use alloc::{sync::Arc, vec, vec::Vec};

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use crate::feature_map::{FeatureMap, Problem, all_features};
use crate::{Element, Error, Tensor, View, parallel};

mod gradient;

pub use gradient::{RelativeGradients, relative_gradient};

/// Options of [`relative`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RelativeOptions {
    /// Queries and keys are scaled to length 1 first (zeros stay).
    pub normalized: bool,
    /// Query i sees keys `j ≤ i` only.
    pub causal: bool,
}

/// `out_i = Σⱼ weight_{j-i}·x_j` for every column of every head, by FFT; see the [module](self).
///
/// `weight` `[batch, heads, 1, 2n - 1]` (strides of 0 repeat), entry t + n - 1 for distance t = j - i; `x` `[batch, heads, n, e]`.
///
/// # Errors
/// [`Error::ShapeMismatch`] for weights of another shape; [`Error::NonFinite`] for NaN and infinities; [`Error::InvalidOption`]
/// when some row's largest weight is too small against the largest of all (see the [module](self)).
pub fn toeplitz<T: Element>(weight: View<'_, T>, x: View<'_, T>) -> Result<Tensor<T>, Error> {
    let [batch, heads, n, columns] = x.shape();
    check_shape("weight", weight.shape(), [batch, heads, n])?;
    weight.check_finite("weight")?;
    x.check_finite("x")?;
    let mut output = Tensor::zeros(x.shape())?;
    if output.as_slice().is_empty() {
        return Ok(output);
    }
    let plan = batch::Plan::new(n);
    let mut failed = None;
    let task = |index: usize, out: &mut [T]| {
        let (b, h) = (index / heads, index % heads);
        let weights: Vec<f64> = (0..2 * n - 1).map(|t| weight.at([b, h, 0, t]).to_f64()).collect();
        check_range(&weights, n)?;
        let matrix = batch::Spectrum::new(&plan, &weights);
        let mut work = batch::Work::new(&plan);
        let mut line = vec![T::from_f64(0.0); columns];
        for first in (0..columns).step_by(batch::COLUMNS) {
            let count = batch::COLUMNS.min(columns - first);
            for i in 0..n {
                let row = match x.line(b, h, i) {
                    Some(row) => row,
                    None => {
                        x.copy_line(b, h, i, &mut line);
                        &line
                    }
                };
                work.put(i, &row[first..first + count]);
            }
            work.multiply(&plan, &matrix, n);
            for (i, out) in out.chunks_exact_mut(columns).enumerate() {
                for (out, &x) in out[first..first + count].iter_mut().zip(work.row(i)) {
                    *out = T::from_f64(x);
                }
            }
        }
        Ok(())
    };
    parallel::slices(output.as_mut_slice(), n * columns, task, |_, result: Result<(), Error>| {
        if let (None, Err(error)) = (&failed, result) {
            failed = Some(error);
        }
    });
    failed.map_or(Ok(output), Err)
}

/// Linear attention with a bias of the distance; see the [module](self).
///
/// Operands as in [`linear`](crate::linear()) with as many keys as queries; `bias` `[batch, heads, 1, 2n - 1]` (strides of 0 repeat),
/// entry t + n - 1 for distance t = j - i, -∞ hides a distance.
///
/// # Errors
/// As [`linear`](crate::linear()); [`Error::ShapeMismatch`] for other numbers of keys than queries or a bias of another shape;
/// [`Error::NonFinite`] for NaN and +∞ in it; [`Error::InvalidOption`] when some row's largest weight is too small against the
/// largest of all (see the [module](self)).
pub fn relative<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    bias: View<'_, T>,
    map: FeatureMap<'_>,
    options: &RelativeOptions,
) -> Result<Tensor<T>, Error> {
    // As many keys as queries: what causal asks for.
    Problem::new(query, key, value, Some(map), true)?;
    let [batch, heads, n, _] = query.shape();
    let (kv_heads, dim) = (key.shape()[1], value.shape()[3]);
    check_bias(bias, [batch, heads, n])?;
    let mut output = Tensor::zeros([batch, heads, n, dim])?;
    if output.as_slice().is_empty() {
        return Ok(output);
    }
    let units = scaled([query, key], options)?;
    let [query, key] = units.as_ref().map_or([query, key], |units| units.each_ref().map(Tensor::view));
    let problem = Problem::new(query, key, value, Some(map), false)?;
    let plan = Plan::new(n);
    let task = |index: usize, out: &mut [T]| {
        let (b, h) = (index / heads, index % heads);
        let kv = h * kv_heads / heads;
        let Some(weights) = weights(bias, (b, h), n, options.causal)? else { return Ok(()) };
        let matrix = Spectrum::new(&plan, &weights);
        let [queries, keys] = all_features(&problem, b, h, kv);
        let features = keys.len() / n;
        let mut work = Work::new(&plan);
        let (mut numerator, mut denominator) = (vec![0.0; n * dim], vec![0.0; n]);
        let mut line = vec![T::from_f64(0.0); dim];
        for f in 0..features {
            // The columns φ_f·v_e, and φ_f itself as the last.
            for first in (0..=dim).step_by(COLUMNS) {
                let count = COLUMNS.min(dim + 1 - first);
                for j in 0..n {
                    value.copy_line(b, kv, j, &mut line);
                    let phi = keys[j * features + f].to_f64();
                    let column = |e: usize| line.get(e).map_or(phi, |&v| phi * v.to_f64());
                    work.put(j, (first..first + count).map(column));
                }
                work.multiply(&plan, &matrix, n, count);
                for i in 0..n {
                    let phi = queries[i * features + f].to_f64();
                    for k in 0..count {
                        match numerator[i * dim..(i + 1) * dim].get_mut(first + k) {
                            Some(sum) => *sum += phi * work.get(i, k),
                            None => denominator[i] += phi * work.get(i, k),
                        }
                    }
                }
            }
        }
        for (i, line) in out.chunks_exact_mut(dim).enumerate() {
            for (to, x) in line.iter_mut().zip(&numerator[i * dim..]) {
                *to = T::from_f64(if denominator[i] == 0.0 { 0.0 } else { x / denominator[i] });
            }
            if line.iter().any(|x| !num_traits::Float::is_finite(*x)) {
                return Err(Error::Overflow { batch: b, head: h, token: i });
            }
        }
        Ok(())
    };
    let mut failed = None;
    parallel::slices(output.as_mut_slice(), n * dim, task, |_, result: Result<(), Error>| {
        if let (None, Err(error)) = (&failed, result) {
            failed = Some(error);
        }
    });
    failed.map_or(Ok(output), Err)
}

fn check_shape(what: &'static str, found: [usize; 4], [batch, heads, n]: [usize; 3]) -> Result<(), Error> {
    let width = n.checked_mul(2).ok_or(Error::TooLarge { what: "the number of distances" })?;
    let expected = [batch, heads, 1, width.saturating_sub(1)];
    match n == 0 || found == expected {
        true => Ok(()),
        false => Err(Error::ShapeMismatch { what, expected, found }),
    }
}

/// That a bias fits n tokens and holds no NaN and no +∞.
fn check_bias<T: Element>(bias: View<'_, T>, [batch, heads, n]: [usize; 3]) -> Result<(), Error> {
    check_shape("bias", bias.shape(), [batch, heads, n])?;
    for (b, h, t) in crate::tensor::each(batch, heads, (2 * n).saturating_sub(1)) {
        let x = bias.at([b, h, 0, t]).to_f64();
        if x.is_nan() || x == f64::INFINITY {
            return Err(Error::NonFinite { what: "bias", index: [b, h, 0, t] });
        }
    }
    Ok(())
}

/// `exp(b_t - max b)` of a head's distances, 0 for hidden ones; `None` when all are hidden.
fn weights<T: Element>(
    bias: View<'_, T>,
    (b, h): (usize, usize),
    n: usize,
    causal: bool,
) -> Result<Option<Vec<f64>>, Error> {
    let hidden = |t: usize| causal && t >= n;
    let biases: Vec<f64> = (0..2 * n - 1)
        .map(|t| if hidden(t) { f64::NEG_INFINITY } else { bias.at([b, h, 0, t]).to_f64() })
        .collect();
    let most = biases.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return Ok(None);
    }
    let weights: Vec<f64> = biases.iter().map(|b| num_traits::Float::exp(b - most)).collect();
    check_range(&weights, n)?;
    Ok(Some(weights))
}

/// Queries and keys of length 1, when asked for.
fn scaled<T: Element>(
    [query, key]: [View<'_, T>; 2],
    options: &RelativeOptions,
) -> Result<Option<[Tensor<T>; 2]>, Error> {
    options.normalized.then(|| Ok([unit(query)?, unit(key)?])).transpose()
}

/// That every row sees a weight that rounding leaves right.
fn check_range(weights: &[f64], n: usize) -> Result<(), Error> {
    // Row i sees distances -i … n - 1 - i: all of them 0, and two running maxima from there.
    let reach = |side: &mut dyn Iterator<Item = &f64>| -> Vec<f64> {
        side.scan(0.0_f64, |most, c| {
            *most = most.max(c.abs());
            Some(*most)
        })
        .collect()
    };
    let back = reach(&mut weights[..n].iter().rev());
    let ahead = reach(&mut weights[n - 1..].iter());
    let least = (0..n).map(|i| back[i].max(ahead[n - 1 - i])).fold(f64::INFINITY, f64::min);
    let most = back[n - 1].max(ahead[n - 1]);
    let found = least / most;
    let log = num_traits::Float::log2(2.0 * n as f64) * 8.0 * f64::EPSILON / 2.0;
    if most > 0.0 && found * 1e-5 < log * n as f64 {
        let requirement =
            "such that each row's largest weight is not lost in rounding against the largest of all";
        return Err(Error::InvalidOption { what: "bias", requirement, found });
    }
    Ok(())
}

/// Vectors scaled to length 1.
fn unit<T: Element>(view: View<'_, T>) -> Result<Tensor<T>, Error> {
    let [batch, heads, tokens, _] = view.shape();
    let mut out = Tensor::zeros(view.shape())?;
    for (b, h, t) in crate::tensor::each(batch, heads, tokens) {
        let line = out.line_mut(b, h, t);
        view.copy_line(b, h, t, line);
        let norm = num_traits::Float::sqrt(line.iter().fold(0.0, |sum, &x| sum + x.to_f64() * x.to_f64()));
        if norm > 0.0 {
            line.iter_mut().for_each(|x| *x = T::from_f64(x.to_f64() / norm));
        }
    }
    Ok(out)
}

/// Columns that are transformed together: half a cache line of f32.
const COLUMNS: usize = 8;

/// The transforms of one number of rows.
struct Plan {
    len: usize,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
    /// ωʲ.
    twist: Vec<Complex<f64>>,
}

impl Plan {
    fn new(rows: usize) -> Self {
        let len = fast_length(rows);
        let mut planner = FftPlanner::new();
        let angle = |j: usize| -core::f64::consts::PI * j as f64 / len as f64;
        Self {
            len,
            forward: planner.plan_fft_forward(len),
            inverse: planner.plan_fft_inverse(len),
            twist: (0..len).map(|j| Complex::from_polar(1.0, angle(j))).collect(),
        }
    }
}

/// The least 2ᵃ·3ᵇ from `rows` on, b at most 2 (some power of two in the worst case).
fn fast_length(rows: usize) -> usize {
    [1, 3, 9].into_iter().map(|odd| rows.div_ceil(odd).next_power_of_two() * odd).min().unwrap_or(rows)
}

/// The spectra of the circulant and the skew-circulant part, over N.
struct Spectrum {
    circulant: Vec<Complex<f64>>,
    skew: Vec<Complex<f64>>,
}

impl Spectrum {
    /// Of weights for distances `-(n - 1) … n - 1`.
    fn new(plan: &Plan, weights: &[f64]) -> Self {
        let (len, n) = (plan.len, weights.len().div_ceil(2));
        // g_t = c_{-t} lies at n - 1 - t.
        let below = |t: usize| if t < n { weights[n - 1 - t] } else { 0.0 };
        let above = |t: usize| if (1..n).contains(&t) { weights[n - 1 + t] } else { 0.0 };
        let factor = 0.5 / len as f64;
        let pair = |t: usize| (below(t) * factor, above(len - t) * factor);
        let mut found = Self {
            circulant: (0..len).map(|t| Complex::new(pair(t).0 + pair(t).1, 0.0)).collect(),
            skew: (0..len).map(|t| plan.twist[t] * (pair(t).0 - pair(t).1)).collect(),
        };
        plan.forward.process(&mut found.circulant);
        plan.forward.process(&mut found.skew);
        found
    }
}

/// Columns on their way through the transforms, two in one.
struct Work {
    len: usize,
    straight: Vec<Complex<f64>>,
    twisted: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
}

impl Work {
    fn new(plan: &Plan) -> Self {
        let zero = Complex::new(0.0, 0.0);
        let scratch = plan.forward.get_inplace_scratch_len().max(plan.inverse.get_inplace_scratch_len());
        Self {
            len: plan.len,
            straight: vec![zero; plan.len * COLUMNS / 2],
            twisted: vec![zero; plan.len * COLUMNS / 2],
            scratch: vec![zero; scratch],
        }
    }

    /// Row i of the columns.
    fn put(&mut self, i: usize, mut row: impl Iterator<Item = f64>) {
        for column in self.straight.chunks_exact_mut(self.len) {
            column[i] = Complex::new(row.next().unwrap_or(0.0), row.next().unwrap_or(0.0));
        }
    }

    /// Column k of row i.
    fn get(&self, i: usize, k: usize) -> f64 {
        let pair = self.straight[k / 2 * self.len + i];
        if k.is_multiple_of(2) { pair.re } else { pair.im }
    }

    /// The product, in place, of columns whose first `rows` rows were put.
    fn multiply(&mut self, plan: &Plan, matrix: &Spectrum, rows: usize, count: usize) {
        let used = count.div_ceil(2) * self.len;
        let (straight, twisted) = (&mut self.straight[..used], &mut self.twisted[..used]);
        for (straight, twisted) in straight.chunks_exact_mut(self.len).zip(twisted.chunks_exact_mut(self.len))
        {
            straight[rows..].fill(Complex::new(0.0, 0.0));
            for ((to, &x), twist) in twisted.iter_mut().zip(&*straight).zip(&plan.twist) {
                *to = x * twist;
            }
            for (column, spectrum) in [(&mut *straight, &matrix.circulant), (&mut *twisted, &matrix.skew)] {
                plan.forward.process_with_scratch(column, &mut self.scratch);
                column.iter_mut().zip(spectrum).for_each(|(x, factor)| *x *= factor);
                plan.inverse.process_with_scratch(column, &mut self.scratch);
            }
            for ((to, x), twist) in straight.iter_mut().zip(&*twisted).zip(&plan.twist) {
                *to += x * twist.conj();
            }
        }
    }
}
