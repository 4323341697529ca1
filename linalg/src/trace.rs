//! The trace of an operator that can only be applied: Hutchinson's estimate.
//!
//! ```text
//! tr(H_b) ≈ (1/K) Σₖ z_bᵀ (H z)_b,   z of ±1 with equal chance,   one product H·z a probe for all blocks b
//! ```
//!
//! Unbiased for every H. With one block its variance is 2·(‖H‖² − Σᵢ Hᵢᵢ²) / K for symmetric H: a diagonal H is exact
//! after one probe. With several blocks the entries between them add to it, but one product serves them all, which is
//! what a Hessian–vector product through a network gives.
//!
//! Source: M. F. Hutchinson, *A stochastic estimator of the trace of the influence matrix* (1989); as used by HAWQ-V2,
//! arXiv 1911.03852, section 3.2. Deviation: PyHessian stops when the running mean moves by less than a tolerance,
//! which happens by chance too; here it is the standard error that has to fall below it.

use alloc::vec;
use alloc::vec::Vec;

use rand_core::Rng;

use crate::{Error, Stream};

/// How long [`trace`] and [`trace_blocks`] go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceOptions {
    /// Probes at most, at least 2.
    pub max_probes: u32,
    /// Stop once each standard error is at most this fraction of its estimate's magnitude; 0 to never stop early.
    pub tolerance: f64,
    /// Seed of the probes.
    pub seed: u64,
}

impl Default for TraceOptions {
    /// 100 probes, as HAWQ-V2's code has at most, and a tolerance of 1 %.
    fn default() -> Self {
        Self { max_probes: 100, tolerance: 0.01, seed: 0 }
    }
}

/// An estimated trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceEstimate {
    /// The mean over the probes.
    pub trace: f64,
    /// Its standard error, √(sample variance / probes).
    pub standard_error: f64,
    /// Products that were taken.
    pub probes: u32,
    /// Whether the tolerance was met.
    pub converged: bool,
}

/// Trace of an n×n operator; [`trace_blocks`] with one block.
///
/// ```
/// use rankbit_linalg::{Error, trace::{TraceOptions, trace}};
/// let diagonal = [3.0, -1.0, 0.5];
/// let found = trace(3, &TraceOptions::default(), |z, out| {
///     for ((out, z), d) in out.iter_mut().zip(z).zip(diagonal) {
///         *out = d * z;
///     }
///     Ok::<(), Error>(())
/// })?;
/// assert_eq!((found.trace, found.standard_error, found.probes), (2.5, 0.0, 2));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`trace_blocks`].
pub fn trace<E: From<Error>>(
    n: usize,
    options: &TraceOptions,
    apply: impl FnMut(&[f64], &mut [f64]) -> Result<(), E>,
) -> Result<TraceEstimate, E> {
    let estimates = trace_blocks(&[n], options, apply)?;
    estimates.into_iter().next().ok_or_else(|| Error::NoConvergence { what: "trace" }.into())
}

/// Traces of an operator's diagonal blocks, whose lengths are `blocks`, from common probes.
///
/// `apply(z, out)` writes H·z to `out`, both of the blocks' total length; `out` arrives filled with zeros. For a loss
/// of a network's weights it is the caller's Hessian–vector product, one extra backward pass. Stops when every block
/// meets the tolerance, after two probes at the earliest.
///
/// # Errors
/// What `apply` returns; [`Error::InvalidOption`] for fewer than 2 probes or a tolerance that is negative or not
/// finite; [`Error::TooLarge`] when the lengths overflow in sum; [`Error::NonFinite`] (row: block, column: probe) when a
/// product is not finite.
pub fn trace_blocks<E: From<Error>>(
    blocks: &[usize],
    options: &TraceOptions,
    mut apply: impl FnMut(&[f64], &mut [f64]) -> Result<(), E>,
) -> Result<Vec<TraceEstimate>, E> {
    check(options)?;
    let n = blocks.iter().try_fold(0_usize, |sum, &len| sum.checked_add(len));
    let n = n.ok_or(Error::TooLarge { what: "length of the operator" })?;
    let mut stream = Stream::new(options.seed, "trace");
    let (mut probe, mut product) = (vec![0.0; n], vec![0.0; n]);
    let mut running = vec![Running::default(); blocks.len()];
    let mut probes = 0;
    while probes < options.max_probes {
        fill_signs(&mut stream, &mut probe);
        product.fill(0.0);
        apply(&probe, &mut product)?;
        probes += 1;
        let (mut z, mut hz) = (probe.as_slice(), product.as_slice());
        for (block, (&len, running)) in blocks.iter().zip(&mut running).enumerate() {
            let (here, there);
            // The lengths add up to that of both.
            (here, z) = z.split_at(len);
            (there, hz) = hz.split_at(len);
            let value: f64 = here.iter().zip(there).map(|(z, hz)| z * hz).sum();
            if !value.is_finite() {
                let col = usize::try_from(probes - 1).unwrap_or(usize::MAX);
                return Err(Error::NonFinite {
                    what: "product with a probe (block, probe)",
                    row: block,
                    col,
                }
                .into());
            }
            running.add(value, probes);
        }
        if probes >= 2 && running.iter().all(|running| running.meets(options.tolerance, probes)) {
            break;
        }
    }
    let estimate = |running: &Running| TraceEstimate {
        trace: running.mean,
        standard_error: running.standard_error(probes),
        probes,
        converged: running.meets(options.tolerance, probes),
    };
    Ok(running.iter().map(estimate).collect())
}

fn check(options: &TraceOptions) -> Result<(), Error> {
    if options.max_probes < 2 {
        let requirement = "at least 2";
        return Err(Error::InvalidOption {
            what: "max_probes",
            requirement,
            found: options.max_probes.into(),
        });
    }
    if !(options.tolerance.is_finite() && options.tolerance >= 0.0) {
        let requirement = "finite and not negative";
        return Err(Error::InvalidOption { what: "tolerance", requirement, found: options.tolerance });
    }
    Ok(())
}

/// Fills with ±1, a bit of the stream each.
fn fill_signs(stream: &mut Stream, out: &mut [f64]) {
    for chunk in out.chunks_mut(64) {
        let bits = stream.next_u64();
        for (i, value) in chunk.iter_mut().enumerate() {
            *value = if bits >> i & 1 == 0 { 1.0 } else { -1.0 };
        }
    }
}

/// Mean and sum of squared deviations, one value after another (Welford).
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    mean: f64,
    squares: f64,
}

impl Running {
    fn add(&mut self, value: f64, count: u32) {
        let delta = value - self.mean;
        self.mean += delta / f64::from(count);
        self.squares += delta * (value - self.mean);
    }

    fn standard_error(&self, count: u32) -> f64 {
        let count = f64::from(count);
        libm::sqrt(self.squares.max(0.0) / (count - 1.0).max(1.0) / count)
    }

    fn meets(&self, tolerance: f64, count: u32) -> bool {
        let error = self.standard_error(count);
        error <= tolerance * self.mean.abs() && (tolerance > 0.0 || error == 0.0)
    }
}
