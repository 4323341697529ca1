//! Stochastic rounding: up or down at random, right on average.
//!
//! ```text
//! a ≤ x ≤ b neighbouring values:   P(b) = (x − a)/(b − a),   so E[ŵ] = w for every w inside the range
//! ```
//! Scales are those of the nearest rounder. One uniform number an entry, in row order, from a stream of the seed.
//! The variance is at most (b − a)²/4 · s², up to four times the squared error of nearest. O(out · in).
//!
//! Source: the unbiased rounding of Gupta et al., arXiv 1502.02551, on any set of values.

use super::grid::{self, Coded, Grid, Levels};
use super::{Rounded, nearest};
use crate::{Error, Scheme, rows};
use alloc::vec::Vec;
use rankbit_linalg::Stream;
use rankbit_linalg::faer::MatRef;

pub(super) fn quantize(weight: MatRef<'_, f32>, scheme: &Scheme, seed: u64) -> Result<Rounded, Error> {
    let start = nearest::quantize(weight, scheme)?;
    let levels = Levels::new(start.quantized.scheme());
    let size = grid::run_len(start.quantized.scheme(), start.quantized.grouping());
    let mut stream = Stream::new(seed, "stochastic rounding");
    let (mut codes, mut buffer) = (Vec::with_capacity(weight.nrows() * weight.ncols()), Vec::new());
    for i in 0..weight.nrows() {
        let grids = grid::grids_of(&start.quantized, i..i + 1);
        for (values, &Grid { scale, zero, minimum }) in
            rows::row(weight, i, &mut buffer).chunks(size).zip(&grids)
        {
            for &value in values {
                let x = if scale == 0.0 { zero } else { (value - minimum) / scale + zero };
                let (below, above) = levels.around(x);
                let (a, b) = (f64::from(levels.value(below)), f64::from(levels.value(above)));
                let up = stream.next_uniform() * (b - a) < f64::from(x) - a;
                codes.push(levels.code(if up { above } else { below }));
            }
        }
    }
    let quantized = grid::recode(start.quantized, &[Coded { codes, grids: Vec::new(), blocks: Vec::new() }])?;
    Ok(Rounded { quantized, widened_from: start.widened_from, damping: None, dead_inputs: 0 })
}
