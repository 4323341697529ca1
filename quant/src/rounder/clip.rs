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

use super::grid::{self, Grid, GroupOf, Levels, Store};
use super::{Context, Rounded, nearest, search};
use crate::{Error, Scheme};
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
    let start = nearest::quantize(weight, scheme)?;
    let (scheme, grouping) = (*start.quantized.scheme(), *start.quantized.grouping());
    if !search::searchable(&scheme) || grouping.scales == 0 {
        return Ok(start);
    }
    let levels = Levels::new(&scheme);
    let blocks = context.hessian.map(|hessian| blocks(hessian, grouping.size));
    let store = Store { scheme: &scheme, scales: start.quantized.scales() };
    let panels = grid::panels(weight.nrows(), grouping.rows, |rows| {
        let weight = weight.subrows(rows.start, rows.len());
        let first = grouping.index(rows.start, 0);
        let mut grids = grid::grids_of(&start.quantized, rows);
        grid::each_group(weight, &grouping, |group| {
            let block = blocks.as_ref().and_then(|blocks| blocks.get(group.columns.start / grouping.size));
            let columns = group.columns.len();
            let grid = &mut grids[group.place];
            *grid = cut(
                &group,
                (*grid, first + group.place),
                store,
                &levels,
                (block.map(Vec::as_slice), columns),
            );
        });
        Ok(grid::nearest_on(weight, &levels, grids, &grouping))
    })?;
    let quantized = grid::assemble(weight.shape(), &store, &panels)?;
    Ok(Rounded { quantized, ..start })
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

/// The best grid of one group, whose present one stands at `index` of the storage; `columns` of its entries are a row.
fn cut(
    group: &GroupOf<'_>,
    (given, index): (Grid, usize),
    store: Store<'_>,
    levels: &Levels,
    (block, columns): (Option<&[f64]>, usize),
) -> Grid {
    let mut delta = vec![0.0; group.values.len()];
    let mut error = |grid: Grid| {
        for (delta, &value) in delta.iter_mut().zip(group.values) {
            *delta = f64::from(value) - f64::from(levels.encode(f64::from(value), grid).1);
        }
        delta.chunks(columns.max(1)).map(|row| form(row, block)).sum::<f64>()
    };
    let fold = |(low, high): (f32, f32), &x: &f32| (low.min(x), high.max(x));
    let (low, high) = group.values.iter().fold((0.0, 0.0), fold);
    let (low, high) = (f64::from(low), f64::from(high));
    let (mut best, mut least) = (given, error(given));
    for cut in 1..CUTS {
        let top = high.max(-low) * (1.0 - f64::from(cut) / 20.0);
        let (grid, kept) = store.spanning(index, low.max(-top), high.min(top));
        if !kept || grid.scale <= 0.0 {
            continue;
        }
        let found = error(grid);
        if found < least {
            (best, least) = (grid, found);
        }
    }
    best
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
