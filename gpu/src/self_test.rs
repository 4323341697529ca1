//! The kernels held to their CPU twins on a real device, over one table of cases.
//!
//! Used by the tests and by `rankbit gpu --self-test`, so that a user's device is checked exactly as ours was.

mod bessel;
mod cases;

use crate::pipeline::THREADS;
use crate::{Error, Gpu};
use cases::{Case, cases, normal};
use rankbit_linalg::Stream;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_lowrank::Split;
use rankbit_lowrank::split::matmul::reference;

/// Guard words behind every buffer that a kernel writes: more than a workgroup could overrun by.
const GUARD_WORDS: u64 = 4096;

/// One case's outcome.
#[derive(Clone, PartialEq, Debug)]
pub struct CaseResult {
    /// Shape, format, group, rank, tokens.
    pub name: String,
    /// Largest `|Δ| / bound` over the entries; at most 1 when correct, NaN when an entry was not a number.
    pub worst: f64,
    /// What else went wrong: a stray write.
    pub fault: Option<String>,
}

impl CaseResult {
    /// Whether every entry is within its bound and nothing else was written.
    pub fn passed(&self) -> bool {
        self.fault.is_none() && self.worst <= 1.0
    }
}

/// The outcome of [`self_test`].
#[derive(Clone, PartialEq, Debug)]
pub struct SelfTestReport {
    /// The adapter's name.
    pub adapter: String,
    /// Every case, in the table's order.
    pub cases: Vec<CaseResult>,
}

impl SelfTestReport {
    /// Whether every case passed (and there were any).
    pub fn passed(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(CaseResult::passed)
    }

    /// The cases that did not pass.
    pub fn failures(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| !case.passed())
    }

    /// Largest `|Δ| / bound` of all cases; NaN when any case has one.
    pub fn worst(&self) -> f64 {
        self.cases.iter().fold(0.0, |worst, case| {
            if case.worst.is_nan() || case.worst > worst { case.worst } else { worst }
        })
    }
}

/// Runs every case on `gpu`, with the workgroups of software drivers and of hardware, and compares each entry with the CPU reference; every kernel
/// there is for a case in its turn. Then the log-Bessel kernels, by their own bound (`operator/log_bessel.rs`).
///
/// ```text
/// |Δ| ≤ γ·(|X|·(|Q̃·Tᵀ| + |L|·|R| + |S|)ᵀ + |b|) + in·2⁻¹²⁶,   γ = K·u/(1 - K·u),  K = in + r + 10,  u = 2⁻²⁴
/// ```
/// with the magnitudes of outliers beside those of what they are added to. The last term covers devices that flush subnormal products to zero. Written buffers are filled with NaN
/// before the run and are longer than needed; a changed word past the logical end fails the case.
///
/// # Errors
/// Whatever the device reports; a wrong result is not an error but a failed case.
pub fn self_test(gpu: &Gpu) -> Result<SelfTestReport, Error> {
    let mut results = Vec::new();
    // Every kernel there is for the case in its turn; the rule's first.
    for (threads, stride) in [(THREADS[0], 0), (THREADS[1], 1), (THREADS[1], 5)] {
        let gpu = gpu.with_threads(threads);
        for (case, turn) in cases().iter().zip(0..) {
            results.push(run(&gpu, case, stride * (turn + stride))?);
        }
    }
    results.extend(bessel::run(gpu)?);
    Ok(SelfTestReport { adapter: gpu.adapter().name.clone(), cases: results })
}

/// Runs a case by the `turn`-th of its choices.
fn run(gpu: &Gpu, case: &Case, turn: usize) -> Result<CaseResult, Error> {
    let name = case.name();
    let mut random = Stream::new(0, &name);
    let split = case.split(&mut random)?;
    let values = normal(&mut random, case.tokens * case.shape.1);
    let x = MatRef::from_row_major_slice(&values, case.tokens, case.shape.1);
    let linear = gpu.upload(&split)?;
    let choices = linear.choices(case.tokens);
    let choice = choices.get(turn % choices.len().max(1)).copied();
    let choice = choice.unwrap_or_else(|| linear.default_choice(case.tokens));
    let name = format!("{name}, workgroups of {}, {choice}", gpu.threads());
    let workspace = linear.guarded_workspace(case.tokens, GUARD_WORDS, choice)?;
    let y = workspace.apply(x)?;
    let fault = workspace
        .overwritten_guard()?
        .map(|(what, word)| format!("{what}: word {word} past the end was overwritten"));
    let worst = worst_ratio(&split, x, &y)?;
    Ok(CaseResult { name, worst, fault })
}

/// Largest `|Δ| / bound`, NaN when any entry is.
fn worst_ratio(split: &Split, x: MatRef<'_, f32>, y: &Mat<f32>) -> Result<f64, Error> {
    let expected = reference::apply(split, x)?;
    let bound = bounds(split, x)?;
    let mut worst = 0.0_f64;
    for t in 0..y.nrows() {
        for o in 0..y.ncols() {
            let ratio = (f64::from(y[(t, o)]) - f64::from(expected[(t, o)])).abs() / bound[(t, o)];
            if ratio.is_nan() || ratio > worst {
                worst = ratio;
            }
            if worst.is_nan() {
                return Ok(worst);
            }
        }
    }
    Ok(worst)
}

/// The bound of [`self_test`] for every entry.
fn bounds(split: &Split, x: MatRef<'_, f32>) -> Result<Mat<f64>, Error> {
    let ((out, features), tokens) = (split.shape(), x.nrows());
    let k = (features + split.rank() + 10) as f64 * 2.0_f64.powi(-24);
    let gamma = k / (1.0 - k);
    let least = features.max(1) as f64 * f64::from(f32::MIN_POSITIVE);
    let mut transformed: Vec<f32> = x.row_iter().flat_map(|row| row.iter().copied()).collect();
    if let Some(transform) = split.transform() {
        transform.forward(&mut transformed)?;
    }
    let quantized = match split.base() {
        Some(_) => split.activation().quantize(&transformed, (tokens, features))?,
        None => None,
    };
    let mut inputs = vec![0.0; features];
    // What the quantized term contributes, when its inputs are not those of the other terms.
    let mut base = quantized.as_ref().map(|_| Mat::<f64>::zeros(tokens, out));
    let mut weight = Mat::<f64>::zeros(out, features);
    let mut row = vec![0.0; features];
    let factors = split.low_rank().map(|term| (term.left().to_f32(), term.right().to_f32()));
    for o in 0..out {
        row.fill(0.0);
        if let Some(base) = split.base() {
            base.row_into(o, &mut row)?;
            // An outlier and the value it is added to may cancel: each counts, and neither is above their sum and it.
            let positions = base.columns().map_or(&[][..], |columns| columns.outliers().positions());
            for (index, &at) in positions.iter().enumerate() {
                let (column, value) =
                    (at as usize / out, base.columns().map(|c| c.outliers().values().get(index)));
                if let Some(value) = value.filter(|_| at as usize % out == o) {
                    row[column] = row[column].abs() + 2.0 * value.abs();
                }
            }
        }
        if let Some((base, quantized)) = base.as_mut().zip(quantized.as_ref()) {
            // Quantized inputs meet the weight in the transform's basis.
            for t in 0..tokens {
                quantized.row_into(t, &mut inputs)?;
                let sum = inputs.iter().zip(&row).map(|(&x, &w)| f64::from(x).abs() * f64::from(w).abs());
                base[(t, o)] = sum.sum();
            }
            row.fill(0.0);
        } else if let Some(transform) = split.transform() {
            transform.transpose(&mut row)?;
        }
        let mut kept = vec![0.0; features];
        if let Some(sparse) = split.sparse() {
            sparse.row_into(o, &mut kept).map_err(rankbit_lowrank::Error::from)?;
        }
        for (j, &value) in row.iter().enumerate() {
            weight[(o, j)] = f64::from(value).abs() + f64::from(kept[j]).abs();
            if let Some((left, right)) = &factors {
                for i in 0..split.rank() {
                    let (l, r) = (left[o * split.rank() + i], right[i * features + j]);
                    weight[(o, j)] += (f64::from(l) * f64::from(r)).abs();
                }
            }
        }
    }
    Ok(Mat::from_fn(tokens, out, |t, o| {
        let size: f64 = (0..features).map(|j| f64::from(x[(t, j)]).abs() * weight[(o, j)]).sum();
        let size = size + base.as_ref().map_or(0.0, |base| base[(t, o)]);
        let bias = split.bias().and_then(|bias| bias.get(o)).map_or(0.0, |b| f64::from(b.abs()));
        gamma * (size + bias) + least
    }))
}
