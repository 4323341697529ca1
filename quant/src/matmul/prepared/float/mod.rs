//! Inputs that stay floats: the product with the decoded weight.
//!
//! ```text
//! y_to = Σ_k x_tk·ŵ_ok,    ŵ = s·(code − z), or s·code + m: two roundings, one
//! ```
//! 256 columns of a tile at a time are decoded into a panel in the first cache, and multiplied with up to 32 tokens.
//!
//! Four tokens or more are summed in column order; fewer in four, two or one sums that take columns in turn and are added
//! up after each panel, so that additions overlap.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dense;
mod inputs;

use super::layout::{Kind, Line, Plan, ROWS, STEP, Shift};
use super::{Epilogue, Isa, Output, Prepared, pack};
use crate::Error;
use core::ops::Range;
#[cfg(all(test, feature = "std"))]
mod tests;
pub use dense::PreparedDense;
pub use inputs::FloatActivations;

/// 16 rows of a column.
pub(crate) type Column = [f32; ROWS];
/// Tokens whose sums are kept while a tile is gone through.
pub(crate) const TOKENS: usize = 32;
/// Columns of a panel.
const PANEL: usize = 256;

/// Which of four sums takes column `column` of each four, for `tokens` tokens side by side.
const fn chain(tokens: usize, column: usize) -> usize {
    match tokens {
        1 => column,
        2 => column % 2,
        _ => 0,
    }
}

/// What scales are multiplied with before numbers are. 4-bit tables hold the weight's own numbers.
const fn unit(plan: &Plan) -> f32 {
    match plan.kind {
        Kind::Nibbles | Kind::Table => 1.0,
        Kind::Bytes => plan.factor,
    }
}

impl Prepared {
    /// `Y = X·Ŵᵀ` for the tiles `tiles`, into their columns of `y`, from floats. Cost 2·tokens·16·in operations a tile;
    /// nothing is allocated. Accuracy: [elementwise](super#floats) `|Δ| ≤ γ·|X|·|Ŵ|ᵀ`.
    ///
    /// A NaN or infinity in a token makes outputs of that token alone NaN or infinite.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a weight whose codes were [rounded to 8 bits](super#kinds); [`Error::ShapeMismatch`]
    /// when there are no such tiles, or when inputs or `y` do not fit. Columns of `tiles` that `y` does not have are left
    /// out.
    pub fn multiply_floats(
        &self,
        tiles: Range<usize>,
        x: &FloatActivations,
        y: &mut Output<'_>,
        epilogue: &impl Epilogue,
    ) -> Result<(), Error> {
        self.check_floats(&tiles, x)?;
        let isa = Isa::current();
        run(self.plan.shape.0, tiles, x, y, epilogue, |tile, token, sums| {
            self.add_floats(isa, tile, x, token, sums);
        })
    }

    /// Adds the products of tile `tile` with the tokens of `x` from `token` on, as many as `sums` (those of one call of an
    /// [`Epilogue`] of [`Prepared::multiply_floats`]), to `sums`.
    ///
    /// # Errors
    /// As [`Prepared::multiply_floats`]; [`Error::ShapeMismatch`] also when there are no such tokens.
    pub fn add_tile_floats(
        &self,
        tile: usize,
        x: &FloatActivations,
        token: usize,
        sums: &mut [[f32; ROWS]],
    ) -> Result<(), Error> {
        self.check_floats(&(tile..tile.saturating_add(1)), x)?;
        x.check_tokens(token, sums.len())?;
        self.add_floats(Isa::current(), tile, x, token, sums);
        Ok(())
    }

    fn check_floats(&self, tiles: &Range<usize>, x: &FloatActivations) -> Result<(), Error> {
        if self.plan.rounded {
            return Err(pack::unsupported("floats with codes that were rounded to 8 bits"));
        }
        check(self.plan.shape, tiles, x)
    }

    fn add_floats(&self, isa: Isa, tile: usize, x: &FloatActivations, token: usize, sums: &mut [Column]) {
        let (plan, tile) = (&self.plan, self.tile(tile));
        let table = numbers(plan);
        // Lines become eight or four columns, the last ones perhaps past the group's end.
        let mut panel = [[0.0; ROWS]; PANEL + STEP];
        let (mut len, mut first) = (0, 0);
        for group in 0..plan.groups {
            let columns = plan.group.min(plan.shape.1 - group * plan.group);
            let mut from = 0;
            while from < columns {
                let room = PANEL - len;
                let now = if columns - from <= room { columns - from } else { room / STEP * STEP };
                if now == 0 {
                    add(isa, &panel[..len], x, (token, first), sums);
                    (first, len) = (first + len, 0);
                    continue;
                }
                let lines = plan.lines_of(from)..plan.lines_of((from + now).next_multiple_of(STEP));
                fill(isa, plan, tile, (group, lines), &table, &mut panel[len..]);
                (from, len) = (from + now, len + now);
            }
        }
        add(isa, &panel[..len], x, (token, first), sums);
    }
}

/// The numbers of 4-bit codes: without the offset where a zero point or minimum counts from code 0.
fn numbers(plan: &Plan) -> [f32; 16] {
    let centre = if plan.shift == Shift::None { 0.0 } else { plan.centre() };
    plan.exact.map(|number| number + centre)
}

/// Whether tiles exist and inputs fit a matrix.
fn check(shape: (usize, usize), tiles: &Range<usize>, x: &FloatActivations) -> Result<(), Error> {
    let have = shape.0.div_ceil(ROWS);
    if tiles.end > have {
        return Err(Error::ShapeMismatch { what: "tiles", expected: (have, ROWS), found: (tiles.end, ROWS) });
    }
    let (expected, found) = ((x.tokens(), shape.1), x.shape());
    if expected != found {
        return Err(Error::ShapeMismatch { what: "activations", expected, found });
    }
    Ok(())
}

/// Goes through tiles and tokens: hooks around `add(tile, token, sums)`.
fn run(
    out: usize,
    tiles: Range<usize>,
    x: &FloatActivations,
    y: &mut Output<'_>,
    epilogue: &impl Epilogue,
    add: impl Fn(usize, usize, &mut [Column]),
) -> Result<(), Error> {
    let (expected, found) = ((x.tokens(), out), y.shape());
    if expected != found {
        return Err(Error::ShapeMismatch { what: "output", expected, found });
    }
    for tile in tiles {
        for token in (0..x.tokens()).step_by(TOKENS) {
            let mut sums = [[0.0; ROWS]; TOKENS];
            let sums = &mut sums[..TOKENS.min(x.tokens() - token)];
            epilogue.start(tile * ROWS, token, sums);
            add(tile, token, sums);
            epilogue.finish(tile * ROWS, token, sums);
            y.store(tile * ROWS, token, sums);
        }
    }
    Ok(())
}

/// Decodes lines `lines` of a group's codes into columns; what `panel` has no room for is left out.
fn fill(
    isa: Isa,
    plan: &Plan,
    tile: &[Line],
    (group, lines): (usize, Range<usize>),
    table: &[f32; 16],
    panel: &mut [Column],
) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the proof; `tile` has the plan's lines.
        Isa::Avx512(_) => unsafe { avx512::fill(plan, tile, (group, lines), table, panel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2(_) => unsafe { avx2::fill(plan, tile, (group, lines), table, panel) },
        Isa::Portable => {
            let width = plan.columns_of_line();
            let centre = if plan.shift == Shift::None { plan.centre() } else { 0.0 };
            for row in 0..ROWS {
                let scale = plan.scale(tile, group, row) * unit(plan);
                let shift = plan.shift(tile, group, row);
                let columns = lines.start * width..lines.end * width;
                for (column, panel) in columns.zip(&mut *panel) {
                    let code = plan.code(tile, group, row, column);
                    let number = match plan.kind {
                        Kind::Nibbles | Kind::Table => table[usize::from(code & 15)],
                        Kind::Bytes => f32::from(code) - centre,
                    };
                    panel[row] = match plan.shift {
                        Shift::None => number * scale,
                        Shift::Zero => (number - shift) * scale,
                        Shift::Min => num_traits::Float::mul_add(number, scale, shift),
                    };
                }
            }
        }
    }
}

/// Adds the products of a panel, whose first column is `column`, with the tokens from `token` on, as many as `sums`.
fn add(
    isa: Isa,
    panel: &[Column],
    x: &FloatActivations,
    (token, column): (usize, usize),
    sums: &mut [Column],
) {
    let mut at = 0;
    while at < sums.len() {
        let (inputs, stride, left) = x.from(token + at, column);
        let sums = &mut sums[at..];
        let count = left.min(sums.len());
        // What the kernels rest on.
        let needed = panel.len().saturating_sub(1) * stride + count;
        assert!(panel.is_empty() || inputs.len() >= needed, "inputs for each column of a panel");
        at += match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the proof, and the assertion above.
            Isa::Avx512(_) => unsafe {
                match count {
                    8.. => few::<8>(|sums| avx512::add::<8>(panel, inputs.as_ptr(), stride, sums), sums),
                    4.. => few::<4>(|sums| avx512::add::<4>(panel, inputs.as_ptr(), stride, sums), sums),
                    2.. => few::<2>(|sums| avx512::add::<2>(panel, inputs.as_ptr(), stride, sums), sums),
                    _ => few::<1>(|sums| avx512::add::<1>(panel, inputs.as_ptr(), stride, sums), sums),
                }
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the proof, and the assertion above.
            Isa::Avx2(_) => unsafe {
                match count {
                    4.. => few::<4>(|sums| avx2::add::<4>(panel, inputs.as_ptr(), stride, sums), sums),
                    2.. => few::<2>(|sums| avx2::add::<2>(panel, inputs.as_ptr(), stride, sums), sums),
                    _ => few::<1>(|sums| avx2::add::<1>(panel, inputs.as_ptr(), stride, sums), sums),
                }
            },
            Isa::Portable => {
                for (weights, inputs) in panel.iter().zip(inputs.chunks(stride)) {
                    for (sums, x) in sums.iter_mut().zip(&inputs[..count]) {
                        for (sum, w) in sums.iter_mut().zip(weights) {
                            *sum += w * x;
                        }
                    }
                }
                count
            }
        };
    }
}

/// Runs a kernel of `T` tokens.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn few<const T: usize>(kernel: impl FnOnce(&mut [Column]), sums: &mut [Column]) -> usize {
    kernel(&mut sums[..T]);
    T
}
