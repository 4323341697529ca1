//! Means that keep what rounding takes from them.
//!
//! A mean is held as an unevaluated sum high + low, and a part of `rows` among `after` tokens, with mean t, moves it by
//!
//! ```text
//! high + low ← high + low + (rows/after)·(t − high − low)        the addition exactly (Knuth's two-sum)
//! ```
//! so that its error no longer grows with the number of parts, only with that inside one part of at most 4096 tokens.
//!
//! Source: N. J. Higham, *Accuracy and Stability of Numerical Algorithms* (2nd edition, 2002), sections 4.2 and 4.3.

use alloc::vec;
use alloc::vec::Vec;

use faer::{Mat, MatRef};

use super::{MomentKinds, MomentParts, Moments};
use crate::Error;

/// Tokens summed plainly.
const PART: usize = 4096;

/// Low parts of the means.
#[derive(Debug, Clone)]
pub(super) struct Low {
    gram: Option<Mat<f64>>,
    vectors: [Vec<f64>; 3],
    fourth: f64,
}

impl Low {
    /// Nothing lost yet of these.
    pub(super) fn new(parts: &MomentParts) -> Self {
        let zeros = |values: &Option<Vec<f64>>| vec![0.0; values.as_ref().map_or(0, Vec::len)];
        Self {
            gram: parts.gram.as_ref().map(|gram| Mat::zeros(gram.nrows(), gram.ncols())),
            vectors: [zeros(&parts.second_moment), zeros(&parts.mean_abs), zeros(&parts.mean)],
            fourth: 0.0,
        }
    }
}

impl Moments {
    /// The same collection, which from now on keeps what rounding takes from each mean: the result is then that of exact
    /// means to about one rounding, however many calls it takes. Doubles the memory of the Gram matrix (and once more
    /// during a call), and costs O(in²) for every 4096 tokens.
    pub fn compensated(mut self) -> Self {
        self.low = Some(Low::new(&self.parts));
        self
    }

    /// Adds finite rows in parts.
    pub(super) fn update_compensated(&mut self, x: MatRef<'_, f32>, before: u64) -> Result<(), Error> {
        let kinds = MomentKinds { gram: self.parts.gram.is_some(), sample: 0 };
        let mut part = Self::new(self.in_features, kinds);
        for start in (0..x.nrows()).step_by(PART) {
            let rows = PART.min(x.nrows() - start);
            part.reset();
            part.update(x.subrows(start, rows))?;
            let after = before.saturating_add((start + rows) as u64);
            self.average(&part, rows as f64 / after as f64);
        }
        Ok(())
    }

    /// Moves every mean kept here towards that of `other` by a share, and the maxima to those of both.
    pub(super) fn average(&mut self, other: &Self, share: f64) {
        let (ours, theirs) = (&mut self.parts, &other.parts);
        let (mut low, their_low) = (self.low.as_mut(), other.low.as_ref());
        if let (Some(gram), Some(theirs)) = (&mut ours.gram, &theirs.gram) {
            let mut low = low.as_mut().and_then(|low| low.gram.as_mut());
            let their_low = their_low.and_then(|low| low.gram.as_ref());
            for j in 0..gram.ncols() {
                let low = low.as_mut().map(|low| low.col_as_slice_mut(j));
                let their_low = their_low.map(|low| low.col_as_slice(j));
                average(gram.col_as_slice_mut(j), low, theirs.col_as_slice(j), their_low, share);
            }
        }
        let vectors = [
            (&mut ours.second_moment, &theirs.second_moment),
            (&mut ours.mean_abs, &theirs.mean_abs),
            (&mut ours.mean, &theirs.mean),
        ];
        for (at, (values, theirs)) in vectors.into_iter().enumerate() {
            if let (Some(values), Some(theirs)) = (values, theirs) {
                let low = low.as_mut().and_then(|low| low.vectors.get_mut(at)).map(Vec::as_mut_slice);
                let their_low = their_low.and_then(|low| low.vectors.get(at)).map(Vec::as_slice);
                average(values, low, theirs, their_low, share);
            }
        }
        self.fourth = match (self.fourth, other.fourth) {
            (Some(mut value), Some(theirs)) => {
                let low = low.map(|low| core::slice::from_mut(&mut low.fourth));
                let their_low = their_low.map(|low| core::slice::from_ref(&low.fourth));
                average(core::slice::from_mut(&mut value), low, &[theirs], their_low, share);
                Some(value)
            }
            _ => None,
        };
        if let (Some(values), Some(theirs)) = (&mut ours.absmax, &theirs.absmax) {
            for (value, theirs) in values.iter_mut().zip(theirs) {
                *value = value.max(*theirs);
            }
        }
    }
}

/// `high + low += share·(theirs − high − low)`; without low parts plainly.
fn average(high: &mut [f64], low: Option<&mut [f64]>, theirs: &[f64], their_low: Option<&[f64]>, share: f64) {
    let Some(low) = low else {
        for (high, theirs) in high.iter_mut().zip(theirs) {
            *high = *high * (1.0 - share) + theirs * share;
        }
        return;
    };
    for (at, ((high, low), theirs)) in high.iter_mut().zip(low).zip(theirs).enumerate() {
        let their_low = their_low.and_then(|low| low.get(at)).copied().unwrap_or(0.0);
        if share == 1.0 {
            (*high, *low) = (*theirs, their_low);
            continue;
        }
        let step = share * ((theirs - *high) + (their_low - *low));
        let sum = *high + step;
        let taken = sum - *high;
        let lost = (*high - (sum - taken)) + (step - taken);
        let rest = *low + lost;
        *high = sum + rest;
        *low = rest - (*high - sum);
    }
}
