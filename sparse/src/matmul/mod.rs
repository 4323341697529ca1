//! Products `Y = X·Sᵀ` that skip the zeros: [`Prepared`] for N:M with f32 values, [`PreparedCodes`] for N:M with whole-number
//! codes and 8-bit inputs, [`apply_block`] for blocks.
//!
//! [`mod@reference`] is the formula in f64. The prepared forms hold the matrix in the order in which the kernels read it.
//! They multiply by the instructions of [`Level::current`](rankbit_quant::simd::Level::current), which a caller can lower with
//! `Level::run`. [`Prepared`] has these kernels:
//!
//! | tokens | kernel | loop |
//! |---|---|---|
//! | 1 to 4 | vector | 16 rows side by side; a shuffle by the stored indices picks each row's input |
//! | more | panel | up to 64 tokens side by side; each kept value is broadcast, its index is an address |
//!
//! **Accuracy**: each output is one sum over the row's kept entries in column order, in f32:
//! elementwise `|Δ| ≤ γ·|X|·|S|ᵀ`, `γ = K·u/(1 − K·u)`, K the kept entries of a row, `u = 2⁻²⁴`. On AVX2 and AVX-512
//! each step is one fused multiply-add, so both give the same bits, for any number of tokens and threads; the portable
//! path rounds the product first, `K + 1` for `K`.
//!
//! Stored zeros are multiplied like any value: where X is infinite they give NaN, as the dense product does. The
//! entries that are not stored are not looked at.

pub mod reference;

mod block;
mod codes;
mod instructions;
mod portable;
mod prepared;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use block::apply_block;
pub use codes::PreparedCodes;
pub use prepared::Prepared;

use crate::{Error, dense};
use alloc::vec::Vec;
use rankbit_linalg::faer::{MatMut, MatRef};

/// Rows of one task.
const TASK_ROWS: usize = 256;

/// Whether inputs and outputs fit a matrix `[out, in]`.
fn check_shapes(
    (out, features): (usize, usize),
    x: MatRef<'_, f32>,
    y: MatRef<'_, f32>,
) -> Result<(), Error> {
    let tokens = x.nrows();
    for (what, expected, found) in
        [("activations", (tokens, features), x.shape()), ("output", (tokens, out), y.shape())]
    {
        if expected != found {
            return Err(Error::ShapeMismatch { what, expected, found });
        }
    }
    Ok(())
}

/// `task(first row, its columns of y)` for every [`TASK_ROWS`] rows of the matrix, in parallel with `std`.
fn tasks(y: MatMut<'_, f32>, task: impl Fn(usize, MatMut<'_, f32>) + Sync + Send) {
    let mut parts = Vec::with_capacity(y.ncols().div_ceil(TASK_ROWS));
    let (mut rest, mut first) = (y, 0);
    while rest.ncols() > 0 {
        let len = TASK_ROWS.min(rest.ncols());
        let (part, after) = rest.split_at_col_mut(len);
        parts.push((first, part));
        (rest, first) = (after, first + len);
    }
    dense::each(parts, |(first, part)| task(first, part));
}

/// The sums of some tokens and a tile of outputs to `y` from (token, output) on; a tile may reach past the last output.
fn store<const ROWS: usize>(sums: &[[f32; ROWS]], y: MatMut<'_, f32>, (token, top): (usize, usize)) {
    let len = ROWS.min(y.ncols() - top);
    let mut tile = y.subcols_mut(top, len);
    for (t, sums) in sums.iter().enumerate() {
        let entries = tile.as_mut().row_mut(token + t);
        entries.iter_mut().zip(sums).for_each(|(to, from)| *to = *from);
    }
}
