//! A group's grid chosen from its entries as error feedback has left them: the scheme's own rule, run late.

use super::grid::{self, Grid, Levels, Store};
use super::joint;
use super::pairs::Pairs;
use super::search::{self, Search};
use crate::{Block, Grouping, Layout, ScaleRule};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use rankbit_linalg::faer::MatRef;

/// Chooses the grids of a panel, group after group.
pub(super) struct Choose<'a> {
    store: Store<'a>,
    rule: Rule<'a>,
    grouping: Grouping,
    /// The panel's rows.
    rows: Range<usize>,
    /// Whether every scale was kept by its format.
    kept: bool,
    /// The first block that f16 scales do not reach.
    overflow: Option<(usize, usize)>,
}

enum Rule<'a> {
    /// From the extremes, in f64.
    Spanning,
    /// From all entries.
    Entries,
    Search(Search<'a>),
    Pairs(Pairs<'a>),
    /// By a block's encoder, into rows of blocks.
    Block(Block, Vec<u8>),
}

impl<'a> Choose<'a> {
    /// For `rows` of a matrix with `cols` columns; `store` has what the scales share.
    pub(super) fn new(
        store: Store<'a>,
        levels: &'a Levels,
        grouping: &Grouping,
        (rows, cols): (Range<usize>, usize),
    ) -> Self {
        let scheme = store.scheme;
        let rule = match (scheme.layout, scheme.scale_rule) {
            (Layout::Block(block), _) => {
                let blocks = rows.len() * (cols / grouping.size);
                Rule::Block(block, vec![0; blocks * block.bytes()])
            }
            (_, ScaleRule::Power(_) | ScaleRule::LeastSquares) => Rule::Entries,
            (_, ScaleRule::Search) if joint::applies(scheme) => Rule::Pairs(Pairs::new(scheme, levels)),
            (_, ScaleRule::Search) if search::searchable(scheme) => Rule::Search(Search::new(levels, store)),
            _ => Rule::Spanning,
        };
        Self { store, rule, grouping: *grouping, rows, kept: true, overflow: None }
    }

    pub(super) fn kept(&self) -> bool {
        self.kept
    }

    pub(super) fn overflow(&self) -> Option<(usize, usize)> {
        self.overflow
    }

    /// The rows of blocks chosen; empty for planar layouts.
    pub(super) fn into_blocks(self) -> Vec<u8> {
        match self.rule {
            Rule::Block(_, blocks) => blocks,
            _ => Vec::new(),
        }
    }

    /// Chooses the grids of the groups that begin at column `first`, whose entries are `targets`; `per_row` grids stand side
    /// by side in `grids`.
    pub(super) fn segment(
        &mut self,
        first: usize,
        targets: MatRef<'_, f64>,
        (grids, per_row): (&mut [Grid], usize),
    ) {
        let (rows, height) = (targets.nrows(), self.grouping.rows);
        let group = first / self.grouping.size;
        let mut values = Vec::with_capacity(height * targets.ncols());
        for (band, start) in (0..rows).step_by(height).enumerate() {
            let band_rows = start..rows.min(start + height);
            values.clear();
            for row in band_rows.clone() {
                values.extend(targets.row(row).iter().map(|value| crate::float::narrow(*value)));
            }
            let index = self.grouping.index(self.rows.start + start, group);
            let place = band * per_row + group;
            match &mut self.rule {
                Rule::Spanning => {
                    let (mut low, mut high) = (0.0_f64, 0.0_f64);
                    for value in band_rows.flat_map(|row| targets.row(row).iter().copied()) {
                        (low, high) = (low.min(value), high.max(value));
                    }
                    let (grid, kept) = self.store.spanning(index, low, high);
                    (grids[place], self.kept) = (grid, self.kept && kept);
                }
                Rule::Entries => {
                    let (grid, kept) = self.store.by_rule(index, &values);
                    (grids[place], self.kept) = (grid, self.kept && kept);
                }
                Rule::Search(search) => {
                    let (_, kept) = self.store.by_rule(index, &values);
                    self.kept &= kept;
                    let weights = vec![1.0; values.len()];
                    grids[place] = search.best(&values, &weights, None, index);
                }
                Rule::Pairs(pairs) => {
                    let weights = vec![1.0; values.len()];
                    grids[place] = pairs.under(&mut values, &weights, self.store.scales.block_scale(index));
                }
                Rule::Block(block, bytes) => {
                    let at = (start * (per_row / block.runs()) + group) * block.bytes();
                    let bytes = &mut bytes[at..at + block.bytes()];
                    bytes.fill(0);
                    if !block.encode(&values, bytes) {
                        self.overflow = self.overflow.or(Some((self.rows.start + start, first)));
                        bytes.fill(0);
                    }
                    let first = start * per_row + group * block.runs();
                    for (grid, chosen) in grids[first..].iter_mut().zip(grid::block_grids(*block, bytes)) {
                        *grid = chosen;
                    }
                }
            }
        }
    }
}
