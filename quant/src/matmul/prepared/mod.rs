//! Products of a weight brought into the kernels' order once, with inputs of 8-bit whole numbers.
//!
//! ```text
//! y_to = Σ_g s_og·f·s_tg·(Σ_{k∈g} w_ok·q_tk)  [ + Σ_g b_og·s_tg·Σ_{k∈g} q_tk ]        w, q whole numbers
//! ```
//! [`Prepared`] is the weight, [`PreparedActivations`] are the inputs, both in a layout made for sequential reading.
//! [`Prepared::multiply`] works on a range of tiles of 16 outputs, so that threads share a product by tiles, and calls an
//! [`Epilogue`] for each tile while it is hot.
//!
//! # Kinds
//! | format | w | f | exact |
//! |---|---|---|---|
//! | `int2` … `int4`, `q4_0`, `ternary` | code − 8 (fewer bits are widened to 4) | 1 | yes |
//! | `uint2` … `uint4`, with any zero point, `q4_1`, `q2_k`, `q4_k` | code − 8, the rest in b | 1 | yes |
//! | `mxfp4`, `nvfp4`, `iq4_nl`, `binary` | by table: E2M1 doubled, the numbers of IQ4_NL | 1/2, 1 | yes |
//! | `nf2` … `nf4`, `af4`, `bnb-fp4` | by table, rounded: f·w is within 0.004 of the table (0.0053 for the smallest of `bnb-fp4`), whose largest is 1 | by least squares | no |
//! | `int5` … `int8`, `uint5` … `uint8`, `q3_k`, `q5_0`, `q5_1`, `q8_0`, `q5_k`, `q6_k`, `mxint8`, `mxfp6-e2m3` | a byte (`q3_k` 4 bits) | a power of two | yes |
//! | `fp8-*`, `mxfp8-*`, `mxfp6-e3m2`, `e8p` …, `trellis*` | a byte: the decoded weight rounded, 64 columns to a scale; within 0.4 % of the largest of them | 1 | no |
//!
//! Scales and zero points are stored as f16 where all are f16, else as bf16 where all are, else as f32: no rounding.
//!
//! # Accuracy
//! Sums of a group are exact. Their scaled values are added in f32, group after group, with one rounding for the product
//! of scales, one for each addition (fused): against the formula above elementwise `|Δ| ≤ γ·Σ|…|`, `γ = K·u/(1 − K·u)`,
//! `K` = groups + 4 (twice as many with b), `u = 2⁻²⁴`. The bits are the same on every path and for any number of tokens
//! and threads. Inputs differ from their numbers by at most half of their scale: about 0.6 % of a product for normal values.
//!
//! Inputs that are not finite are refused ([`Error::ActivationNonFinite`]); outputs that
//! leave f32 are infinite or NaN.
//!
//! # Floats
//! [`Prepared::multiply_floats`] takes inputs as they are ([`FloatActivations`]: f32, f16, bf16) and multiplies with
//! `Ŵ` as decoded, tables exactly; formats that were rounded are refused. Elementwise `|Δ| ≤ γ·|X|·|Ŵ|ᵀ`,
//! `γ = K·u/(1 − K·u)`, `K` = in + 5; where the format has a minimum m, with `|Ŵ| + 2·|m|` for `|Ŵ|`. The bits are the
//! same for any number of threads, and on AVX2 and AVX-512 for the same tokens.
//!
//! ```
//! use rankbit_quant::matmul::prepared::{Output, Plain, Prepared, PreparedActivations, ScaleOf};
//! use rankbit_quant::{nearest, scheme};
//!
//! let weight: Vec<f32> = (0..64 * 128).map(|i| ((i * 31) % 97) as f32 / 97.0 - 0.5).collect();
//! let stored = nearest::quantize_rows(&weight, (64, 128), &scheme::INT4)?.quantized;
//! let prepared = Prepared::new(&stored)?;
//!
//! let mut inputs = PreparedActivations::new();
//! inputs.reserve(&prepared, 2); // from here on nothing is allocated
//! inputs.quantize(&prepared, &[0.5; 2 * 128], 2, ScaleOf::Group)?;
//! let mut y = [0.0; 2 * 64];
//! let (mut low, mut high) = Output::new(&mut y, 2, 64)?.split_at(32);
//! // Two halves, as two threads would have them.
//! prepared.multiply(0..2, &inputs, &mut low, &Plain)?;
//! prepared.multiply(2..4, &inputs, &mut high, &Plain)?;
//! let expected: f32 = (0..128).map(|i| 0.5 * weight[i]).sum();
//! assert!((y[0] - expected).abs() < 0.7, "{} {expected}", y[0]);
//! # Ok::<(), rankbit_quant::Error>(())
//! ```

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod layout;
mod output;
mod pack;
mod portable;
#[cfg(all(test, feature = "std"))]
mod reference;
#[cfg(all(test, feature = "std"))]
mod tests;

use crate::simd::Level;
use crate::{Error, Quantized};
pub use activations::{Input, PreparedActivations, ScaleOf};
use activations::{TOKENS, Tokens};
use alloc::vec::Vec;
use core::ops::Range;
pub use float::{FloatActivations, PreparedDense};
use layout::{Line, Plan, ROWS, STREAMS};
pub use output::{Epilogue, Output, Plain};

/// Rows of a tile: what threads share a product by.
pub const TILE: usize = ROWS;

/// A weight in the order of the kernels, immutable. The layout is that of 64-byte lines of 16 rows × 8 columns (4 bits) or
/// × 4 columns (8 bits), with the scales of each two groups in the same stream before their codes.
#[derive(Clone, Debug)]
pub struct Prepared {
    plan: Plan,
    lines: Vec<Line>,
}

impl Prepared {
    /// Brings `weight` into the kernels' order. Cost O(out · in).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for groups of more than 32768 columns that are not the whole row; [`Error::TooLarge`] when a
    /// size overflows.
    pub fn new(weight: &Quantized) -> Result<Self, Error> {
        let (plan, lines) = pack::prepare(weight)?;
        Ok(Self { plan, lines })
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.plan.shape
    }

    /// Tiles of 16 rows.
    pub const fn tiles(&self) -> usize {
        self.plan.tiles()
    }

    /// Whether codes are the weight's own, or its decoded numbers [rounded to 8 bits](self#kinds).
    pub const fn is_rounded(&self) -> bool {
        self.plan.rounded
    }

    /// Columns under one scale; the last group may be short.
    pub const fn group(&self) -> usize {
        self.plan.group
    }

    /// Bytes that a product reads of the weight.
    pub const fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    pub(crate) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The lines of a tile; none for a tile that is not there.
    pub(crate) fn tile(&self, tile: usize) -> &[Line] {
        let size = self.plan.tile_lines();
        self.lines.get(tile * size..(tile + 1) * size).unwrap_or(&[])
    }

    /// `Y = X̂·Ŵᵀ` for the tiles `tiles`, into their columns of `y`. Cost 2·tokens·16·in whole-number operations a tile;
    /// nothing is allocated.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there are no such tiles, when the inputs were quantized for another weight (see
    /// [`PreparedActivations::quantize`]), or when `y` is not `[tokens, out]`. Columns of `tiles` that `y` does not have
    /// are left out.
    pub fn multiply(
        &self,
        tiles: Range<usize>,
        x: &PreparedActivations,
        y: &mut Output<'_>,
        epilogue: &impl Epilogue,
    ) -> Result<(), Error> {
        self.check(&tiles, x)?;
        let (expected, found) = ((x.tokens(), self.plan.shape.0), y.shape());
        if expected != found {
            return Err(Error::ShapeMismatch { what: "output", expected, found });
        }
        let isa = Isa::current();
        let rest = if x.tokens() == 1 { self.vector(isa, tiles, x, y, epilogue) } else { tiles };
        for tile in rest {
            let (lines, row) = (self.tile(tile), tile * ROWS);
            let mut token = 0;
            while token < x.tokens() {
                let (_, count) = x.tile(token);
                let mut sums = [[0.0; ROWS]; TOKENS];
                let sums = &mut sums[..count];
                epilogue.start(row, token, sums);
                self.add(isa, lines, x, token, sums);
                epilogue.finish(row, token, sums);
                y.store(row, token, sums);
                token += count;
            }
        }
        Ok(())
    }

    /// The product with a single token, in equal parts of `tiles` side by side; the tiles that are left.
    fn vector(
        &self,
        isa: Isa,
        tiles: Range<usize>,
        x: &PreparedActivations,
        y: &mut Output<'_>,
        epilogue: &impl Epilogue,
    ) -> Range<usize> {
        let each = tiles.len() / STREAMS;
        let x = x.tokens_from(&self.plan, 0);
        for first in tiles.start..tiles.start + each {
            let mut tile = [first; STREAMS];
            tile.iter_mut().enumerate().for_each(|(stream, tile)| *tile += stream * each);
            let mut sums = [[0.0; ROWS]; STREAMS];
            for (tile, sums) in tile.iter().zip(&mut sums) {
                epilogue.start(tile * ROWS, 0, core::slice::from_mut(sums));
            }
            isa.vector(&self.plan, tile.map(|tile| self.tile(tile)), &x, &mut sums);
            for (tile, sums) in tile.iter().zip(&mut sums) {
                epilogue.finish(tile * ROWS, 0, core::slice::from_mut(sums));
                y.store(tile * ROWS, 0, core::slice::from_ref(sums));
            }
        }
        tiles.start + STREAMS * each..tiles.end
    }

    /// Adds the products of tile `tile` with the tokens of `x` from `token` on, as many as `sums` (those of one call of an
    /// [`Epilogue`]), to `sums`: how a second, smaller matrix takes part in a product.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is no such tile, when the inputs were quantized for another weight, or when the
    /// tokens are not within one call's.
    pub fn add_tile(
        &self,
        tile: usize,
        x: &PreparedActivations,
        token: usize,
        sums: &mut [[f32; ROWS]],
    ) -> Result<(), Error> {
        self.check(&(tile..tile.saturating_add(1)), x)?;
        if sums.is_empty() {
            return Ok(());
        }
        let end = token.saturating_add(sums.len());
        if end > x.tokens() || x.tile(token) != x.tile(end - 1) {
            let (expected, found) = ((x.tokens(), 1), (end, 1));
            return Err(Error::ShapeMismatch { what: "tokens", expected, found });
        }
        self.add(Isa::current(), self.tile(tile), x, token, sums);
        Ok(())
    }

    fn check(&self, tiles: &Range<usize>, x: &PreparedActivations) -> Result<(), Error> {
        if tiles.end > self.tiles() {
            let (expected, found) = ((self.tiles(), ROWS), (tiles.end, ROWS));
            return Err(Error::ShapeMismatch { what: "tiles", expected, found });
        }
        if !x.fit(&self.plan) {
            let (expected, found) = ((x.tokens(), self.plan.shape.1), x.shape());
            return Err(Error::ShapeMismatch { what: "prepared activations", expected, found });
        }
        Ok(())
    }

    /// Adds a tile's products with tokens `token ..`, all of one token tile.
    fn add(&self, isa: Isa, tile: &[Line], x: &PreparedActivations, token: usize, sums: &mut [[f32; ROWS]]) {
        isa.tile(&self.plan, tile, &x.tokens_from(&self.plan, token), sums);
    }
}

/// Which kernels run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
}

impl Isa {
    /// The best at the thread's level. AVX-512 without VNNI is AVX2, AVX2 without FMA portable.
    pub(crate) fn current() -> Self {
        let level = Level::current();
        #[cfg(target_arch = "x86_64")]
        {
            if level >= Level::Avx512
                && let Some(proof) = avx512::Avx512::detect()
            {
                return Self::Avx512(proof);
            }
            if level >= Level::Avx2
                && let Some(proof) = avx2::Avx2::detect()
            {
                return Self::Avx2(proof);
            }
        }
        let _ = level;
        Self::Portable
    }

    /// Tokens of a tile.
    const fn width(self) -> usize {
        match self {
            Self::Portable => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => TOKENS,
        }
    }

    /// Adds a tile's products with the first tokens of `x`, as many as `sums`.
    fn tile(self, plan: &Plan, tile: &[Line], x: &Tokens<'_>, sums: &mut [[f32; ROWS]]) {
        // What the kernels rest on.
        assert!(tile.len() == plan.tile_lines() && x.hold(plan, sums.len()), "a tile and its inputs");
        match self {
            Self::Portable => portable::tile(plan, tile, x, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(proof) => proof.tile(plan, tile, x, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(proof) => proof.tile(plan, tile, x, sums),
        }
    }

    /// [`Isa::tile`] of several tiles with the first token of `x`.
    fn vector(
        self,
        plan: &Plan,
        tiles: [&[Line]; STREAMS],
        x: &Tokens<'_>,
        sums: &mut [[f32; ROWS]; STREAMS],
    ) {
        // What the kernels rest on.
        let whole = tiles.iter().all(|tile| tile.len() == plan.tile_lines());
        assert!(whole && x.hold(plan, 1), "tiles and their inputs");
        match self {
            Self::Portable => {
                for (tile, sums) in tiles.into_iter().zip(sums) {
                    portable::tile(plan, tile, x, core::slice::from_mut(sums));
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(proof) => proof.vector(plan, tiles, x, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(proof) => proof.vector(plan, tiles, x, sums),
        }
    }
}
