//! GPTQ and LDLQ: nearest codes column by column, each column told the errors of those before it.
//!
//! ```text
//! minimize  tr((W − Ŵ)·H·(W − Ŵ)ᵀ):   v = W;  for each column j:  ŵ_j = nearest(v_j),  later columns take up the error
//! ```
//! The sweep itself is [`ErrorFeedback`] of the linear algebra; here is what it projects onto: the nearest code of
//! any scheme under the group's grid.
//!
//! - **GPTQ, stored order**: groups are reached in order, and a group's scale is chosen from its entries *as fed
//!   back so far* (dynamic groups). Formats whose scales are not free numbers keep those of the nearest rounder.
//! - **GPTQ, act-order**: columns by falling H_jj; groups stay the stored ones, so their scales are chosen beforehand
//!   from `W` (static groups) and the storage needs no permutation.
//! - **LDLQ**: static scales, stored order; then coordinate descent on the codes. Without the latter it is QuIP's
//!   LDLQ, which differs from GPTQ by nothing but the static scales.
//!
//! Sources: GPTQ, arXiv 2210.17323 and its released code (damping, act-order, static groups); QuIP, arXiv
//! 2307.13304. Deviation: inputs that never fire keep their nearest codes instead of zeros.

use super::grid::{self, Coded, Grid, Levels};
use super::{Context, Rounded, nearest};
use crate::{Error, Quantized, Scheme, group::Group};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::MatRef;
use rankbit_linalg::{ErrorFeedback, Order, Projector, SweepOptions};

/// What distinguishes the members of the family.
#[derive(Clone, Copy)]
pub(super) struct Options {
    pub(super) act_order: bool,
    pub(super) damping: f64,
    pub(super) dynamic_groups: bool,
    pub(super) sweeps: u32,
}

/// Nearest codes of a panel's columns; remembers them.
pub(super) struct Panel<'a> {
    pub(super) levels: &'a Levels,
    pub(super) grids: Vec<Grid>,
    pub(super) codes: Vec<u8>,
    pub(super) group_size: usize,
    pub(super) cols: usize,
    /// With dynamic groups: the scheme by which a group's grid is chosen anew.
    pub(super) dynamic: Option<&'a Scheme>,
    /// Whether every scale was kept by its format.
    pub(super) kept: bool,
}

impl<'a> Panel<'a> {
    pub(super) fn new(
        levels: &'a Levels,
        grids: Vec<Grid>,
        (rows, cols): (usize, usize),
        group_size: usize,
    ) -> Self {
        Self { levels, grids, codes: vec![0; rows * cols], group_size, cols, dynamic: None, kept: true }
    }

    fn groups(&self) -> usize {
        self.cols.div_ceil(self.group_size)
    }
}

impl Projector for Panel<'_> {
    fn segment(&mut self, columns: &[usize], targets: MatRef<'_, f64>) {
        let (Some(scheme), Some(first)) = (self.dynamic, columns.first()) else { return };
        let mut extremes = vec![(0.0_f64, 0.0_f64); targets.nrows()];
        for column in targets.col_iter() {
            for ((low, high), &value) in extremes.iter_mut().zip(column.iter()) {
                *low = low.min(value);
                *high = high.max(value);
            }
        }
        let (group, groups) = (first / self.group_size, self.groups());
        for (row, (low, high)) in extremes.into_iter().enumerate() {
            let (grid, kept) = grid::spanning(low, high, scheme);
            self.grids[row * groups + group] = grid;
            self.kept &= kept;
        }
    }

    fn column(&mut self, column: usize, target: &[f64], projected: &mut [f64]) {
        let (group, groups) = (column / self.group_size, self.groups());
        let codes = self.codes.iter_mut().skip(column).step_by(self.cols);
        let grids = self.grids.iter().skip(group).step_by(groups);
        for (((code, grid), &target), value) in codes.zip(grids).zip(target).zip(projected) {
            let (found, decoded) = self.levels.encode(target, *grid);
            *code = found;
            *value = f64::from(decoded);
        }
    }
}

pub(super) fn quantize(
    weight: MatRef<'_, f32>,
    scheme: &Scheme,
    context: &Context<'_>,
    options: Options,
) -> Result<Rounded, Error> {
    let Some(hessian) = context.hessian else { return Err(Error::MissingHessian { rounder: "gptq" }) };
    let Rounded { quantized: start, mut widened_from } = nearest::quantize(weight, scheme)?;
    let scheme = *start.scheme();
    let size = start.grouping().size;
    let dynamic = options.dynamic_groups
        && !options.act_order
        && grid::free_scales(&scheme)
        && scheme.group != Group::Tensor;
    let feedback = ErrorFeedback::new(
        hessian,
        &SweepOptions {
            damping: options.damping,
            order: if options.act_order { Order::ByDiagonal } else { Order::Natural },
            segment: if dynamic { size } else { usize::MAX },
            ..SweepOptions::default()
        },
    )?;
    let levels = Levels::new(scheme.code);
    let run = |scheme: &Scheme, start: &Quantized| {
        let panels = grid::panels(weight.nrows(), |rows| {
            let shape = (rows.len(), weight.ncols());
            let mut panel = Panel::new(&levels, grid::grids_of(start, rows.clone()), shape, size);
            panel.dynamic = dynamic.then_some(scheme);
            let weight = weight.subrows(rows.start, rows.len());
            let mut projected = feedback.sweep(weight, &mut panel)?.projected;
            panel.dynamic = None;
            for _ in 0..options.sweeps {
                projected = feedback.refine(weight, projected.as_ref(), &mut panel)?.projected;
            }
            Ok((Coded { codes: panel.codes, grids: panel.grids }, panel.kept))
        })?;
        let kept = panels.iter().all(|(_, kept)| *kept);
        Ok::<_, Error>((panels.into_iter().map(|(coded, _)| coded).collect::<Vec<_>>(), kept))
    };
    let (mut panels, kept) = run(&scheme, &start)?;
    let mut stored = scheme;
    if dynamic && !kept {
        stored = scheme.with_scale_format(crate::FloatFormat::F32);
        widened_from = widened_from.or(Some(scheme.scale_format));
        panels = run(&stored, &start)?.0;
    }
    let quantized = if dynamic {
        grid::assemble(start.shape(), &stored, &panels)?
    } else {
        grid::recode(start, &panels)?
    };
    Ok(Rounded { quantized, widened_from })
}
