//! AWQ's clipping: each group's range cut at the magnitude that loses least of the layer's output.
//!
//! ```text
//! per group g:   minimize over p   Δ·H_gg·Δᵀ,   Δ = w_g - ŵ_g(p),   p = 1, 19/20, …, 11/20
//! ŵ_g(p)   nearest on the grid that spans [max(lo, -p·a), min(hi, p·a)],   a = max|w_g|,  lo ≤ 0 ≤ hi its range
//! ```
//! `H_gg` is the group's own block of the Gram matrix, so the error is that of the group's share of the output; without
//! a Gram matrix it is the squared error. p = 1 is the nearest rounder's own grid: no group is ever worse than with it.
//! Formats whose scales are not free numbers keep those of the nearest rounder.
//!
//! Cost: ten encodings and forms a group, O(out · in · group). Source: AWQ, arXiv 2306.00978, released code (which
//! measures on sampled tokens what is measured here by the Gram matrix of all).

use super::grid::{self, Grid, Levels};
use super::{Context, Rounded, nearest, search};
use crate::{Error, Quantized, Scheme, rows};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::MatRef;

/// Cuts tried, each a twentieth of the largest magnitude.
const CUTS: u8 = 10;

pub(super) fn quantize(
    weight: MatRef<'_, f32>,
    scheme: &Scheme,
    context: &Context<'_>,
) -> Result<Rounded, Error> {
    if let Some(hessian) = context.hessian {
        grid::check_hessian(weight, hessian)?;
    }
    let Rounded { quantized: start, widened_from } = nearest::quantize(weight, scheme)?;
    if !search::searchable(start.scheme()) {
        return Ok(Rounded { quantized: start, widened_from });
    }
    let size = start.grouping().size;
    let levels = Levels::new(start.scheme().code);
    let blocks = context.hessian.map(|hessian| blocks(hessian, size));
    let panels = grid::panels(weight.nrows(), |rows| {
        let weight = weight.subrows(rows.start, rows.len());
        let grids = grids(weight, &start, rows.start, &levels, blocks.as_deref());
        Ok(search::nearest_on(weight, &levels, grids, size))
    })?;
    Ok(Rounded { quantized: grid::assemble(start.shape(), start.scheme(), &panels)?, widened_from })
}

/// The diagonal blocks of H, row-major, one for each group of `size` inputs.
fn blocks(hessian: MatRef<'_, f64>, size: usize) -> Vec<Vec<f64>> {
    let n = hessian.nrows();
    let block = |first: usize| {
        let last = n.min(first + size);
        (first..last).flat_map(|i| (first..last).map(move |j| hessian[(i, j)])).collect()
    };
    (0..n).step_by(size.max(1)).map(block).collect()
}

/// The best grids of a panel whose first row is `first` of the whole.
fn grids(
    weight: MatRef<'_, f32>,
    start: &Quantized,
    first: usize,
    levels: &Levels,
    blocks: Option<&[Vec<f64>]>,
) -> Vec<Grid> {
    let (size, groups) = (start.grouping().size, start.grouping().per_row);
    let mut grids = grid::grids_of(start, first..first + weight.nrows());
    let (mut delta, mut buffer) = (vec![0.0; size], Vec::new());
    for i in 0..weight.nrows() {
        let row = rows::row(weight, i, &mut buffer);
        for (g, (values, best)) in row.chunks(size).zip(&mut grids[i * groups..]).enumerate() {
            let block = blocks.and_then(|blocks| blocks.get(g)).map(Vec::as_slice);
            let mut error = |grid: Grid| {
                for (delta, &value) in delta.iter_mut().zip(values) {
                    *delta = f64::from(value) - f64::from(levels.encode(f64::from(value), grid).1);
                }
                form(&delta[..values.len()], block)
            };
            let fold = |(low, high): (f32, f32), &x: &f32| (low.min(x), high.max(x));
            let (low, high) = values.iter().fold((0.0, 0.0), fold);
            let (low, high) = (f64::from(low), f64::from(high));
            let mut least = error(*best);
            for cut in 1..CUTS {
                let top = high.max(-low) * (1.0 - f64::from(cut) / 20.0);
                let (grid, kept) = grid::spanning(low.max(-top), high.min(top), start.scheme());
                if !kept || grid.scale <= 0.0 {
                    continue;
                }
                let found = error(grid);
                if found < least {
                    (*best, least) = (grid, found);
                }
            }
        }
    }
    grids
}

/// Δ·H·Δᵀ; without H, Δ·Δᵀ.
fn form(delta: &[f64], block: Option<&[f64]>) -> f64 {
    let dot = |a: &[f64]| a.iter().zip(delta).map(|(a, b)| a * b).sum::<f64>();
    match block {
        None => dot(delta),
        Some(block) => {
            let rows = block.chunks_exact(delta.len().max(1));
            rows.zip(delta).map(|(row, d)| if *d == 0.0 { 0.0 } else { d * dot(row) }).sum()
        }
    }
}
