use super::{fraction, same_shape};
use crate::select::{best_of_group, largest, smallest};
use crate::{Error, Mask, NmPattern};
use alloc::{vec, vec::Vec};
use num_traits::{Float, ToPrimitive};
use rankbit_linalg::faer::{Mat, MatRef};

/// RigL: every so often the smallest active weights are dropped and as many inactive ones grown where the dense gradient
/// is largest.
///
/// ```text
/// f(t) = α/2·(1 + cos(π·t/T_end))                    of the active weights are dropped at step t
/// ```
/// updates at every `interval` steps while t < T_end. Of equal magnitudes and gradients the lower index counts as the
/// larger. A grown weight starts at 0 with fresh optimizer state; one that is dropped and grown again at once keeps both
/// (as in the reference).
///
/// Source: Evci et al., ICML 2020, arXiv 1911.11134, algorithm 1; α = 0.3, interval 100 there.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RigL {
    interval: u64,
    end: u64,
    fraction: f64,
}

/// What a [`RigL`] update changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    /// The new mask: as many entries as before.
    pub mask: Mask,
    /// Entries that were active and are no longer: to be set to 0.
    pub dropped: Mask,
    /// Entries that are newly active: to start at 0, with fresh optimizer state.
    pub grown: Mask,
}

impl RigL {
    /// Updates every `interval` steps before step `end`, α = `fraction`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an interval of 0 or a fraction that is not between 0 and 1.
    pub fn new(interval: u64, end: u64, fraction: f64) -> Result<Self, Error> {
        if interval == 0 {
            return Err(Error::InvalidOption { what: "interval", requirement: "at least 1", found: 0.0 });
        }
        Ok(Self { interval, end, fraction: super::fraction("fraction", fraction)? })
    }

    /// `f(t)`; 0 from the end on.
    pub fn fraction(&self, step: u64) -> f64 {
        if step >= self.end {
            return 0.0;
        }
        let turn = core::f64::consts::PI * step as f64 / self.end as f64;
        self.fraction / 2.0 * (1.0 + Float::cos(turn))
    }

    /// Whether a step updates the mask (and then takes no gradient step).
    pub fn is_update(&self, step: u64) -> bool {
        step > 0 && step < self.end && step.is_multiple_of(self.interval)
    }

    /// The update at `step`: ⌊f(t)·active⌋ entries of the whole matrix.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::NonFinite`].
    pub fn update(
        &self,
        weight: MatRef<'_, f32>,
        gradient: MatRef<'_, f32>,
        mask: &Mask,
        step: u64,
    ) -> Result<Update, Error> {
        let (weights, gradients) = checked(weight, gradient, mask)?;
        let (rows, cols) = mask.shape();
        let flat = |at: usize| (at / cols.max(1), at % cols.max(1));
        let (mut active, mut scores) = (Vec::new(), Vec::new());
        for row in 0..rows {
            for col in mask.row(row) {
                active.push(row * cols + col);
                scores.push(weights[(row, col)]);
            }
        }
        let count = (self.fraction(step) * active.len() as f64).to_usize().unwrap_or(0);
        let mut next = mask.clone();
        // The smallest; of equals the higher index goes first.
        for k in smallest(&scores.iter().rev().copied().collect::<Vec<_>>(), count) {
            let (row, col) = flat(active[active.len() - 1 - k]);
            next.remove(row, col);
        }
        let inactive: Vec<usize> =
            (0..rows * cols).filter(|&at| !next.contains(flat(at).0, flat(at).1)).collect();
        let scores: Vec<f64> = inactive.iter().map(|&at| gradients[flat(at)]).collect();
        for k in largest(&scores, count) {
            let (row, col) = flat(inactive[k]);
            next.insert(row, col);
        }
        Ok(Update::between(mask, next))
    }

    /// The update at `step` of an N:M mask: in each group ⌊f(t)·N⌋ entries, so that N stays.
    ///
    /// # Errors
    /// As [`RigL::update`]; [`Error::TooManyKept`] for a mask that does not follow the pattern.
    pub fn update_nm(
        &self,
        weight: MatRef<'_, f32>,
        gradient: MatRef<'_, f32>,
        (mask, pattern): (&Mask, NmPattern),
        step: u64,
    ) -> Result<Update, Error> {
        let (weights, gradients) = checked(weight, gradient, mask)?;
        mask.check(pattern)?;
        let mut next = mask.clone();
        let count = (self.fraction(step) * pattern.keep() as f64).to_usize().unwrap_or(0);
        for row in 0..mask.shape().0 {
            for start in (0..mask.shape().1).step_by(pattern.of()) {
                let group = start..start + pattern.group_len(start, mask.shape().1);
                let active: Vec<usize> = group.clone().filter(|&col| mask.contains(row, col)).collect();
                let scores: Vec<f64> = active.iter().map(|&col| weights[(row, col)]).collect();
                let stay: Vec<usize> = best_of_group(&scores, active.len().saturating_sub(count)).collect();
                let moved = active.len() - stay.len();
                for (k, &col) in active.iter().enumerate() {
                    if !stay.contains(&k) {
                        next.remove(row, col);
                    }
                }
                let free: Vec<usize> = group.filter(|&col| !next.contains(row, col)).collect();
                let scores: Vec<f64> = free.iter().map(|&col| gradients[(row, col)]).collect();
                for k in best_of_group(&scores, moved) {
                    next.insert(row, free[k]);
                }
            }
        }
        Ok(Update::between(mask, next))
    }
}

impl Update {
    fn between(before: &Mask, after: Mask) -> Self {
        let only = |a: &Mask, b: &Mask| {
            let mut out = Mask::empty(a.shape());
            for row in 0..a.shape().0 {
                a.row(row).filter(|&col| !b.contains(row, col)).for_each(|col| out.insert(row, col));
            }
            out
        };
        Self { dropped: only(before, &after), grown: only(&after, before), mask: after }
    }
}

/// Magnitudes of weights and gradients, finite and of the mask's shape.
fn checked(
    weight: MatRef<'_, f32>,
    gradient: MatRef<'_, f32>,
    mask: &Mask,
) -> Result<(Mat<f64>, Mat<f64>), Error> {
    same_shape("weight", mask.shape(), weight.shape())?;
    same_shape("gradient", mask.shape(), gradient.shape())?;
    crate::criterion::check_finite(gradient, "gradient")?;
    Ok((crate::criterion::magnitude(weight)?, crate::criterion::magnitude(gradient)?))
}

/// The shape of a layer for [`erk_densities`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct LayerShape {
    /// Outputs.
    pub out: usize,
    /// Inputs.
    pub inputs: usize,
    /// Height and width of a convolution's kernel; (1, 1) for linear layers.
    pub kernel: (usize, usize),
}

/// What [`erk_densities`] returns.
#[derive(Clone, PartialEq, Debug)]
pub struct Densities {
    /// Density of each layer.
    pub layers: Vec<f64>,
    /// Their common factor ε.
    pub factor: f64,
}

/// Erdős–Rényi-kernel densities: small layers stay denser.
///
/// ```text
/// density = ε·(n_in + n_out + k_h + k_w)/(n_in·n_out·k_h·k_w)        linear: ε·(n_in + n_out)/(n_in·n_out)
/// ```
/// ε so that the parameters add up to `density` of all; layers that would exceed 1 are dense and ε is found anew among
/// the rest.
///
/// Source: Evci et al., ICML 2020, arXiv 1911.11134, appendix I.
///
/// # Errors
/// [`Error::InvalidOption`] for a density that is not between 0 and 1, or a layer without parameters.
pub fn erk_densities(layers: &[LayerShape], density: f64) -> Result<Densities, Error> {
    fraction("density", density)?;
    let mut raw = Vec::with_capacity(layers.len());
    for layer in layers {
        let (out, inputs) = (layer.out as f64, layer.inputs as f64);
        let (height, width) = (layer.kernel.0 as f64, layer.kernel.1 as f64);
        let size = out * inputs * height * width;
        if size == 0.0 {
            return Err(Error::InvalidOption { what: "layer side", requirement: "at least 1", found: 0.0 });
        }
        let kernel = if layer.kernel == (1, 1) { 0.0 } else { height + width };
        raw.push((size, (out + inputs + kernel) / size));
    }
    let total = raw.iter().map(|(size, _)| size).sum::<f64>() * density;
    let mut is_dense = vec![false; raw.len()];
    loop {
        let of = |wanted: bool| raw.iter().zip(&is_dense).filter(move |(_, d)| **d == wanted).map(|(r, _)| r);
        let left = total - of(true).map(|(size, _)| size).sum::<f64>();
        let weighted: f64 = of(false).map(|(size, probability)| size * probability).sum();
        let factor = if weighted > 0.0 { (left / weighted).max(0.0) } else { 0.0 };
        let over = (0..raw.len()).filter(|&k| !is_dense[k] && raw[k].1 * factor > 1.0);
        // One at a time, the largest first, as the reference does.
        let Some(worst) = over.max_by(|&a, &b| raw[a].1.total_cmp(&raw[b].1)) else {
            let density = |(k, (_, probability)): (usize, &(f64, f64))| {
                if is_dense[k] { 1.0 } else { probability * factor }
            };
            return Ok(Densities { layers: raw.iter().enumerate().map(density).collect(), factor });
        };
        is_dense[worst] = true;
    }
}

/// Gradual pruning: the sparsity at a step.
///
/// ```text
/// s_t = s_f + (s_i − s_f)·(1 − (t − t₀)/(t₁ − t₀))³       s_i before t₀, s_f from t₁ on
/// ```
/// The schedule of gradual magnitude pruning (Zhu & Gupta, arXiv 1710.01878) and of LoRAPrune.
///
/// # Errors
/// [`Error::InvalidOption`] for a sparsity that is not between 0 and 1 or an end before the start.
pub fn cubic(step: u64, (start, end): (u64, u64), (initial, last): (f64, f64)) -> Result<f64, Error> {
    fraction("initial sparsity", initial)?;
    fraction("final sparsity", last)?;
    if end < start {
        return Err(Error::InvalidOption {
            what: "end",
            requirement: "not before the start",
            found: end as f64,
        });
    }
    if step >= end {
        return Ok(last);
    }
    if step <= start {
        return Ok(initial);
    }
    let passed = (step - start) as f64 / (end - start) as f64;
    let left = 1.0 - passed;
    Ok(last + (initial - last) * left * left * left)
}
