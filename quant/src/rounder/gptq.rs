//! GPTQ and LDLQ: nearest codes column by column, each column told the errors of those before it.
//!
//! ```text
//! minimize  tr((W − Ŵ)·H·(W − Ŵ)ᵀ):   v = W;  for each column j:  ŵ_j = nearest(v_j),  later columns take up the error
//! ```
//! The sweep itself is [`ErrorFeedback`] of the linear algebra; here is what it projects onto: the nearest code of
//! any scheme under the group's grid.
//!
//! - **GPTQ, stored order**: groups are reached in order, and a group's scale is chosen from its entries *as fed
//!   back so far* (dynamic groups), by the scheme's own rule: extremes, powers of two, least squares, search, or the encoder
//!   of a block layout, which finds the scales of a whole block of 32 or 256. What scales share beyond their group is that
//!   of the nearest rounder: the common factor of NVFP4, the scales of blocks of nested scales. A scale for the whole matrix
//!   stays, as do those in power-of-two ratios.
//! - **GPTQ, act-order**: columns by falling H_jj; groups stay the stored ones, so their scales are chosen beforehand
//!   from `W` (static groups) and the storage needs no permutation.
//! - **LDLQ**: static scales, stored order; then coordinate descent on the codes. Without the latter it is QuIP's
//!   LDLQ, which differs from GPTQ by nothing but the static scales.
//!
//! Sources: GPTQ, arXiv 2210.17323 and its released code (damping, act-order, static groups); QuIP, arXiv
//! 2307.13304. Deviation: inputs that never fire keep their nearest codes instead of zeros.

use super::choose::Choose;
use super::grid::{self, Coded, Grid, Levels, Store};
use super::{Context, Rounded, nearest};
use crate::{Error, FloatFormat, Floats, Group, Quantized, ScaleRule, Scales, Scheme};
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
    levels: &'a Levels,
    pub(super) grids: Vec<Grid>,
    pub(super) codes: Vec<u8>,
    /// Columns and rows that stand on one grid.
    run: (usize, usize),
    cols: usize,
    /// With dynamic groups: what chooses a group's grid anew.
    choose: Option<Choose<'a>>,
}

impl<'a> Panel<'a> {
    /// Of `rows` rows, which are the first of their groups, on the grids of `start`'s storage.
    pub(super) fn new(levels: &'a Levels, grids: Vec<Grid>, rows: usize, start: &Quantized) -> Self {
        let cols = start.shape().1;
        let run = (grid::run_len(start.scheme(), start.grouping()), start.grouping().rows);
        Self { levels, grids, codes: vec![0; rows * cols], run, cols, choose: None }
    }

    fn grids_of_a_row(&self) -> usize {
        self.cols.div_ceil(self.run.0)
    }

    pub(super) fn finish(self) -> Coded {
        let blocks = self.choose.map_or(Vec::new(), Choose::into_blocks);
        Coded { codes: self.codes, grids: self.grids, blocks }
    }
}

impl Projector for Panel<'_> {
    fn segment(&mut self, columns: &[usize], targets: MatRef<'_, f64>) {
        let per_row = self.grids_of_a_row();
        if let (Some(choose), Some(first)) = (&mut self.choose, columns.first()) {
            choose.segment(*first, targets, (&mut self.grids, per_row));
        }
    }

    fn column(&mut self, column: usize, target: &[f64], projected: &mut [f64]) {
        let ((width, height), per_row) = (self.run, self.grids_of_a_row());
        let codes = self.codes.iter_mut().skip(column).step_by(self.cols);
        let entries = codes.zip(target).zip(projected).enumerate();
        for (row, ((code, &target), value)) in entries {
            let grid = self.grids[row / height * per_row + column / width];
            let (found, decoded) = self.levels.encode(target, grid);
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
    let mut rounded = nearest::quantize(weight, scheme)?;
    let start = &rounded.quantized;
    let (scheme, grouping) = (*start.scheme(), *start.grouping());
    // Scales whose ratios are powers of two depend on the whole row.
    let bound = scheme.group == Group::Tensor || matches!(scheme.scale_rule, ScaleRule::Ratio(_));
    let dynamic = options.dynamic_groups && !options.act_order && !bound;
    let feedback = ErrorFeedback::new(
        hessian,
        &SweepOptions {
            damping: options.damping,
            order: if options.act_order { Order::ByDiagonal } else { Order::Natural },
            segment: if dynamic { grouping.size } else { usize::MAX },
            ..SweepOptions::default()
        },
    )?;
    (rounded.damping, rounded.dead_inputs) = (Some(feedback.added()), feedback.dead());
    let levels = Levels::new(&scheme);
    let run = |store: Store<'_>| {
        let panels = grid::panels(weight.nrows(), grouping.rows, |rows| {
            let mut panel = Panel::new(&levels, grid::grids_of(start, rows.clone()), rows.len(), start);
            if dynamic {
                panel.choose = Some(Choose::new(store, &levels, &grouping, (rows.clone(), weight.ncols())));
            }
            let weight = weight.subrows(rows.start, rows.len());
            let mut projected = feedback.sweep(weight, &mut panel)?.projected;
            if let Some((row, col)) = panel.choose.as_ref().and_then(Choose::overflow) {
                return Err(Error::BlockOverflow { row, col });
            }
            let kept = panel.choose.as_ref().is_none_or(Choose::kept);
            for _ in 0..options.sweeps {
                projected = feedback.refine(weight, projected.as_ref(), &mut panel)?.projected;
            }
            Ok((panel.finish(), kept))
        })?;
        let kept = panels.iter().all(|(_, kept)| *kept);
        Ok::<_, Error>((panels.into_iter().map(|(coded, _)| coded).collect::<Vec<_>>(), kept))
    };
    let store = Store { scheme: &scheme, scales: start.scales() };
    let (panels, kept) = run(store)?;
    if !dynamic || !scheme.layout.is_planar() {
        rounded.quantized = grid::recode(rounded.quantized, &panels)?;
    } else if kept {
        rounded.quantized = grid::assemble(weight.shape(), &store, &panels)?;
    } else {
        let wide = scheme.with_scale_format(FloatFormat::F32);
        let scales = Scales::from(Floats::with_capacity(FloatFormat::F32, 0));
        let store = Store { scheme: &wide, scales: &scales };
        let panels = run(store)?.0;
        rounded.widened_from = rounded.widened_from.or(Some(scheme.scale_format));
        rounded.quantized = grid::assemble(weight.shape(), &store, &panels)?;
    }
    Ok(rounded)
}
