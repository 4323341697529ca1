//! The order in which the kernels read an N:M matrix, and the loops around them.

use super::instructions::Kernels;
#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{check_shapes, portable, store, tasks};
use crate::{Error, NmMatrix, NmPattern};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatMut, MatRef};

/// Rows of a tile.
pub(super) const ROWS: usize = 16;
/// Tokens that the vector kernel takes at most.
pub(super) const FEW: usize = 4;
/// Floats after the end of an activation that a kernel may read (and not use).
pub(super) const SLACK: usize = 32;
/// Columns of which all tokens of a panel should stay in the second-level cache, as bytes.
const OUTER_BYTES: usize = 256 << 10;
/// The same for the first-level cache.
const INNER_BYTES: usize = 16 << 10;
/// Rows that share a panel in the first-level cache.
const GROUP_ROWS: usize = 32;

/// 16 numbers of 32 bits, a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; ROWS]);

/// An N:M matrix ready for products; made once from an [`NmMatrix`]. Values are f32.
///
/// ```text
/// tile  = 16 rows: chunks one after another, in whole 64-byte lines
/// chunk = 1 line of indices, then one line of values per slot, P slots (fewer in a row's last chunk)
///         line of indices: 32 bits per row, slot p of the chunk at bits p·b … p·b + b − 1,  b = ⌈log₂ M⌉
///         line of values:  16 f32, one per row
/// P = ⌊32/b⌋, rounded down to a multiple of N where that is possible
/// ```
/// One sequential stream. 2:4: P = 16, 1088 bytes per 16 rows × 32 columns. Rows past the end are zeros and are not
/// written out.
#[derive(Clone, Debug)]
pub struct Prepared {
    shape: (usize, usize),
    pattern: NmPattern,
    plan: Plan,
    lines: Vec<Line>,
}

/// What the kernels know about the layout.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Kept values of a row.
    pub(super) slots: usize,
    /// Slots of a chunk.
    pub(super) chunk: usize,
    /// Bits of an index.
    pub(super) bits: u32,
    /// Entries of a group.
    pub(super) of: usize,
    /// First column of each slot's group.
    pub(super) bases: Vec<u32>,
}

impl Plan {
    fn new(pattern: NmPattern, cols: usize) -> Result<Self, Error> {
        let slots = pattern.kept_per_row(cols);
        let bits = pattern.index_bits();
        let most = 32 / bits;
        let chunk = if most >= pattern.keep() { most / pattern.keep() * pattern.keep() } else { most };
        let base = |slot: usize| u32::try_from(slot / pattern.keep() * pattern.of());
        let bases = (0..slots).map(base).collect::<Result<_, _>>();
        let bases = bases.map_err(|_| Error::TooLarge { what: "column" })?;
        // At most 5.
        let bits = u32::try_from(bits).unwrap_or(5);
        Ok(Self { slots, chunk, bits, of: pattern.of(), bases })
    }

    /// Chunks of a row.
    pub(super) fn chunks(&self) -> usize {
        self.slots.div_ceil(self.chunk)
    }

    /// Lines of a tile.
    pub(super) fn tile(&self) -> usize {
        self.slots + self.chunks()
    }

    /// Columns that `chunks` chunks span, at most.
    fn columns(&self, chunks: usize, keep: usize) -> usize {
        (chunks * self.chunk).div_ceil(keep) * self.of
    }

    /// The mask of one index.
    pub(super) fn mask(&self) -> u32 {
        (1 << self.bits) - 1
    }
}

/// The sums of one panel of tokens for the rows of a task.
pub(super) struct Sums<'a> {
    /// Activations, `[columns][tokens]`.
    pub(super) panel: &'a [f32],
    /// `[rows][tokens]`.
    pub(super) sums: &'a mut [f32],
}

impl Prepared {
    /// Brings `matrix` into the kernels' order; quantized and half-precision values become f32.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more than 2³² columns or when a size overflows.
    pub fn new(matrix: &NmMatrix) -> Result<Self, Error> {
        let ((rows, cols), pattern) = (matrix.shape(), matrix.pattern());
        let plan = Plan::new(pattern, cols)?;
        let tiles = rows.div_ceil(ROWS);
        let total = tiles.checked_mul(plan.tile()).ok_or(Error::TooLarge { what: "prepared matrix" })?;
        let mut lines = vec![Line::default(); total];
        let (mut values, mut offsets) = (vec![0.0; plan.slots], vec![0; plan.slots]);
        for row in 0..rows {
            matrix.values().row_into(row, &mut values);
            matrix.offsets_into(row, &mut offsets);
            let tile = &mut lines[row / ROWS * plan.tile()..][..plan.tile()];
            let lane = row % ROWS;
            for (slot, (value, offset)) in values.iter().zip(&offsets).enumerate() {
                let (chunk, p) = (slot / plan.chunk, slot % plan.chunk);
                let first = chunk * (plan.chunk + 1);
                tile[first].0[lane] |= u32::from(*offset) << (u32::try_from(p).unwrap_or(0) * plan.bits);
                tile[first + 1 + p].0[lane] = value.to_bits();
            }
        }
        Ok(Self { shape: (rows, cols), pattern, plan, lines })
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Bytes that a product reads of the matrix.
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    /// `Y = X·Sᵀ` as a new matrix `[tokens, out]`.
    ///
    /// # Errors
    /// As [`Prepared::apply_into`].
    pub fn apply(&self, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
        let mut y = Mat::zeros(x.nrows(), self.shape.0);
        self.apply_into(x, y.as_mut())?;
        Ok(y)
    }

    /// `Y = X·Sᵀ` for `x: [tokens, in]` into `y: [tokens, out]`; see the [module](super).
    ///
    /// Cost 2·tokens·out·K flops for K kept entries per row.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` or `y` does not fit.
    pub fn apply_into(&self, x: MatRef<'_, f32>, mut y: MatMut<'_, f32>) -> Result<(), Error> {
        check_shapes(self.shape, x, y.as_ref())?;
        let (kernels, tokens) = (Kernels::current(), x.nrows());
        let mut first = 0;
        while first < tokens {
            let rest = tokens - first;
            let width = if rest <= FEW { rest } else { self.width(kernels, rest) };
            let len = width.min(rest);
            let (x, y) = (x.subrows(first, len), y.as_mut().subrows_mut(first, len));
            if len <= FEW {
                self.few(kernels, x, y);
            } else {
                self.many(kernels, width, x, y);
            }
            first += len;
        }
        Ok(())
    }

    /// Tokens of a panel: 1, 2 or 4 vectors, so that a chunk's columns fit the first-level cache.
    fn width(&self, kernels: Kernels, tokens: usize) -> usize {
        let lanes = match kernels {
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx2 => 8,
            _ => 16,
        };
        let chunk = self.plan.columns(1, self.pattern.keep()) * size_of::<f32>();
        let fits = |vectors: usize| 2 * chunk * lanes * vectors <= 3 * INNER_BYTES;
        let enough = |vectors: usize| lanes * vectors >= tokens;
        [1, 2, 4].into_iter().find(|&v| enough(v) || v == 4 || !fits(2 * v)).unwrap_or(1) * lanes
    }

    /// At most [`FEW`] tokens.
    fn few(&self, kernels: Kernels, x: MatRef<'_, f32>, y: MatMut<'_, f32>) {
        let (tokens, features) = x.shape();
        let stride = features + SLACK;
        let mut rows = vec![0.0; tokens * stride];
        for (t, row) in rows.chunks_exact_mut(stride).enumerate() {
            row.iter_mut().zip(x.row(t).iter()).for_each(|(to, from)| *to = *from);
        }
        tasks(y, |first, mut y| {
            let mut sums = [[0.0; ROWS]; FEW];
            for top in (0..y.ncols()).step_by(ROWS) {
                let tile = &self.lines[(first + top) / ROWS * self.plan.tile()..][..self.plan.tile()];
                let sums = &mut sums[..tokens];
                match kernels {
                    #[cfg(target_arch = "x86_64")]
                    Kernels::Avx512 { .. } => x86::few_512(&self.plan, tile, &rows, stride, sums),
                    #[cfg(target_arch = "x86_64")]
                    Kernels::Avx2 => x86::few_256(&self.plan, tile, &rows, stride, sums),
                    _ => portable::few(&self.plan, tile, &rows, stride, sums),
                }
                store(sums, y.as_mut(), (0, top));
            }
        });
    }

    /// A panel of up to `width` tokens.
    fn many(&self, kernels: Kernels, width: usize, x: MatRef<'_, f32>, y: MatMut<'_, f32>) {
        let mut room = Vec::new();
        let panel = transposed(x, width, &mut room);
        let (plan, keep) = (&self.plan, self.pattern.keep());
        let token_bytes = width * size_of::<f32>();
        let chunks_in = |bytes: usize| (bytes / (plan.columns(1, keep) * token_bytes)).max(1);
        let (outer, inner) = (chunks_in(OUTER_BYTES), chunks_in(INNER_BYTES));
        tasks(y, |first, mut y| {
            let rows = y.ncols().next_multiple_of(ROWS);
            let mut room = Vec::new();
            let sums = aligned(&mut room, rows * width);
            for far in (0..plan.chunks()).step_by(outer) {
                let far_end = (far + outer).min(plan.chunks());
                for group in (0..rows).step_by(GROUP_ROWS) {
                    for near in (far..far_end).step_by(inner) {
                        let chunks = near..(near + inner).min(far_end);
                        for top in (group..(group + GROUP_ROWS).min(rows)).step_by(ROWS) {
                            let tile = &self.lines[(first + top) / ROWS * plan.tile()..][..plan.tile()];
                            let sums = &mut sums[top * width..(top + ROWS) * width];
                            let work = Sums { panel, sums };
                            match kernels {
                                #[cfg(target_arch = "x86_64")]
                                Kernels::Avx512 { .. } => {
                                    x86::panel_512(plan, tile, chunks.clone(), width, work)
                                }
                                #[cfg(target_arch = "x86_64")]
                                Kernels::Avx2 => x86::panel_256(plan, tile, chunks.clone(), width, work),
                                _ => portable::panel(plan, tile, chunks.clone(), width, work),
                            }
                        }
                    }
                }
            }
            for t in 0..y.nrows() {
                let entries = y.as_mut().row_mut(t);
                for (entry, sums) in entries.iter_mut().zip(sums.chunks_exact(width)) {
                    *entry = sums[t];
                }
            }
        });
    }
}

/// `[columns][width]`: the tokens of each column side by side, zeros past the last token.
fn transposed<'a>(x: MatRef<'_, f32>, width: usize, room: &'a mut Vec<f32>) -> &'a [f32] {
    let (tokens, features) = x.shape();
    let panel = aligned(room, features * width);
    let mut buffer = Vec::new();
    for t in 0..tokens {
        let row = rankbit_quant::rows::row(x, t, &mut buffer);
        for (to, from) in panel.chunks_exact_mut(width).zip(row) {
            to[t] = *from;
        }
    }
    panel
}

/// `len` zeros that start a cache line: a vector that straddles two costs two loads.
fn aligned(room: &mut Vec<f32>, len: usize) -> &mut [f32] {
    const LINE: usize = size_of::<Line>() / size_of::<f32>();
    *room = vec![0.0; len + LINE];
    let start = room.as_ptr().align_offset(align_of::<Line>()).min(LINE);
    &mut room[start..start + len]
}
