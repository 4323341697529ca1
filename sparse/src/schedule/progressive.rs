use super::{not_negative, same_shape};
use crate::{Error, Mask, NmPattern};
use alloc::vec::Vec;
use num_traits::Float;
use rankbit_linalg::faer::{Mat, MatRef};

/// How the masked weights fade.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Decay {
    /// `D_t = max(0, 1 − rate·t)`.
    Linear {
        /// Per step.
        rate: f64,
    },
    /// `D_t = exp(−rate·t)`.
    Exponential {
        /// Per step.
        rate: f64,
    },
}

/// What of the gradient reaches the masked weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GradientFlow {
    /// All of it, as the released code has it.
    Straight,
    /// The chain rule's part, `E + (1 − E)·D_t`: the restricted flow of the paper's title.
    Restricted,
}

/// Mask decay (MdGf): dense steps, then steps in which pruned weights count less and less, then fine-tuning with the
/// mask alone.
///
/// ```text
/// W̃ = W∘(E + (1 − E)·D_t)      D_t = 1 before the decay, by t = steps since its start within it, 0 in the fine-tuning
/// ```
/// The rate must be scaled so that D is near 0 when the fine-tuning begins; 2·10⁻⁴ is the reference's.
///
/// Source: Bambhaniya et al. 2024, arXiv 2402.04744, section 4.1. (The released exponential decay has a broken
/// indentation; the formula is the paper's.)
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MaskDecay {
    start: u64,
    end: u64,
    decay: Decay,
    flow: GradientFlow,
}

impl MaskDecay {
    /// Decay from step `start`, fine-tuning from step `end` on.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an end before the start or a rate that is negative or not finite.
    pub fn new(start: u64, end: u64, decay: Decay, flow: GradientFlow) -> Result<Self, Error> {
        if end < start {
            let requirement = "not before the start";
            return Err(Error::InvalidOption { what: "end of the decay", requirement, found: end as f64 });
        }
        let (Decay::Linear { rate } | Decay::Exponential { rate }) = decay;
        not_negative("rate", rate)?;
        Ok(Self { start, end, decay, flow })
    }

    /// `D_t` at a step of the whole training.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.start {
            return 1.0;
        }
        if step >= self.end {
            return 0.0;
        }
        let t = (step - self.start) as f64;
        match self.decay {
            Decay::Linear { rate } => (1.0 - rate * t).max(0.0),
            Decay::Exponential { rate } => Float::exp(-rate * t),
        }
    }

    /// The weight of the forward pass.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`].
    pub fn forward(&self, weight: MatRef<'_, f32>, mask: &Mask, step: u64) -> Result<Mat<f32>, Error> {
        self.faded(weight, mask, self.factor(step))
    }

    /// The gradient of the weight from that of the forward pass's weight.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`].
    pub fn gradient(&self, gradient: MatRef<'_, f32>, mask: &Mask, step: u64) -> Result<Mat<f32>, Error> {
        match self.flow {
            GradientFlow::Straight => self.faded(gradient, mask, 1.0),
            GradientFlow::Restricted => self.faded(gradient, mask, self.factor(step)),
        }
    }

    fn faded(&self, matrix: MatRef<'_, f32>, mask: &Mask, factor: f64) -> Result<Mat<f32>, Error> {
        same_shape("masked matrix", mask.shape(), matrix.shape())?;
        let mut out = Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
            crate::dense::narrow(f64::from(matrix[(i, j)]) * factor)
        });
        for i in 0..matrix.nrows() {
            for j in mask.row(i) {
                out[(i, j)] = matrix[(i, j)];
            }
        }
        Ok(out)
    }
}

/// Which patterns lead to the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Frames {
    /// (M−1):M, then M/2:M, M/4:M, … to N:M: for 1:8 these are 7:8, 4:8, 2:8, 1:8.
    Stepwise,
    /// The same density in shrinking groups, N·2^k : M·2^k for k = 3 … 0: for 1:8 these are 8:64, 4:32, 2:16, 1:8. Frames
    /// whose groups are longer than 32 are left out.
    Geometric,
}

/// Structure decay (SdGf): frames of equal length, each with a pattern of its own, before the fine-tuning.
///
/// ```text
/// frame i starts at step start + ⌊i·(end − start)/K⌋,  i = 0 … K − 1;  dense before the first, the target from `end` on
/// ```
/// Source: Bambhaniya et al. 2024, arXiv 2402.04744, section 4.2. Deviation: frames in steps, not epochs.
#[derive(Clone, PartialEq, Debug)]
pub struct StructureDecay {
    start: u64,
    end: u64,
    frames: Vec<NmPattern>,
}

impl StructureDecay {
    /// Frames from step `start`, the target alone from step `end` on.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an end before the start, and for a stepwise target whose M/N is not a power of two
    /// above 1.
    pub fn new(start: u64, end: u64, target: NmPattern, frames: Frames) -> Result<Self, Error> {
        if end < start {
            let requirement = "not before the start";
            return Err(Error::InvalidOption { what: "end of the decay", requirement, found: end as f64 });
        }
        let (keep, of) = target.numbers();
        let frames: Vec<NmPattern> = match frames {
            Frames::Stepwise => {
                let ratio = of / keep;
                if !of.is_multiple_of(keep) || !ratio.is_power_of_two() || ratio < 2 {
                    let requirement = "a power of two above 1";
                    let found = f64::from(of) / f64::from(keep);
                    return Err(Error::InvalidOption {
                        what: "M/N of a stepwise target",
                        requirement,
                        found,
                    });
                }
                // For M = 2N the first frame, M−1, may already be the second.
                let halves = (1..=ratio.trailing_zeros()).map(|i| of >> i);
                let all = core::iter::once(of - 1).chain(halves);
                let mut kept: Vec<u32> = all.collect();
                kept.dedup();
                kept.into_iter().map(|keep| NmPattern::new(keep, of)).collect::<Result<_, _>>()?
            }
            Frames::Geometric => (0..=3_u32)
                .rev()
                .filter(|k| of << k <= NmPattern::MAX_OF)
                .map(|k| NmPattern::new(keep << k, of << k))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { start, end, frames })
    }

    /// The patterns, in order; the last is the target.
    pub fn frames(&self) -> &[NmPattern] {
        &self.frames
    }

    /// The pattern at a step; `None` while training is dense.
    pub fn pattern(&self, step: u64) -> Option<NmPattern> {
        if step < self.start {
            return None;
        }
        let count = self.frames.len() as u128;
        let length = u128::from(self.end - self.start);
        let at = |i: u128| u128::from(self.start) + i * length / count;
        let frame = (0..count).rev().find(|&i| at(i) <= u128::from(step)).unwrap_or(0);
        let frame = if step >= self.end { count - 1 } else { frame };
        usize::try_from(frame).ok().and_then(|i| self.frames.get(i)).copied()
    }
}
