//! A split brought into the kernels' order once, for an inference engine.
//!
//! ```text
//! Y = f( act(X·T)·Q̃ᵀ + (X·Rᵀ)·Lᵀ + X·Sᵀ + b )            one pass over Y: every term meets a tile of 16 outputs while it is hot
//! ```
//! - **T** (smoothing, permutation, rotation) is applied to the inputs first; all that follows shares them.
//! - **Inputs** of `Q̃` are floats, or 8-bit numbers with a scale for each group or token: [`Inputs`].
//! - **The low-rank term** projects the inputs to `X·Rᵀ` before the pass and starts each tile's sums with `(X·Rᵀ)·Lᵀ`, by floats
//!   or, with [`Inputs::Int8Branch`], by 8-bit factors on the very numbers that `Q̃` takes: `R·T⁻ᵀ` is stored, so that
//!   `(X·T)·(R·T⁻ᵀ)ᵀ = X·Rᵀ`.
//! - **The sparse term**, **the bias** and **the function** f join in the same tile.
//!
//! An engine makes a [`PreparedLinear`] of each layer when it loads a model, one [`Scratch`] for each stream of work, and calls
//! [`PreparedLinear::apply_into`]. A `PreparedLinear` is immutable, `Send` and `Sync`.
//!
//! ```
//! use rankbit_linalg::faer::Mat;
//! use rankbit_lowrank::split::prepared::{Function, Inputs, PreparedLinear, Scratch};
//! use rankbit_lowrank::{Input, fit, preset};
//! use rankbit_quant::matmul::prepared::ScaleOf;
//! use rankbit_quant::{FloatFormat, scheme};
//!
//! let weight = Mat::from_fn(96, 128, |i, j| ((i * 37 + j * 101) % 29) as f32 / 29.0 - 0.5);
//! let recipe = preset::lorc(scheme::INT4, 4, FloatFormat::F16);
//! let split = fit(weight.as_ref(), &recipe, &Input { name: "layer", moments: None })?.split;
//!
//! // Loading the model.
//! let layer = PreparedLinear::new(&split, Inputs::Int8Branch(ScaleOf::Group))?.with_function(Function::Silu);
//! let mut scratch = Scratch::new();
//! scratch.reserve(&layer, 8); // and for every other layer; Scratch::bytes says how much it will be
//! // Every step: nothing is allocated.
//! let x = [0.25_f32; 2 * 128];
//! let mut y = [0.0; 2 * 96];
//! layer.apply_into(&x, 2, &mut y, &mut scratch)?;
//! # Ok::<(), rankbit_lowrank::Error>(())
//! ```
//!
//! **Accuracy.** With [`Inputs::Float`] elementwise `|Δ| ≤ γ·(|X|·|T|·|Q̃|ᵀ + |X|·(|L|·|R| + |S|)ᵀ)`, `γ = K·u/(1 − K·u)`,
//! `K = in + r + 10`, `u = 2⁻²⁴` (where the format has minima, and with a rotation, more: see
//! [`rankbit_quant::matmul::prepared`], [`super::matmul`]). With 8-bit inputs the quantized term is exact on its numbers, which differ
//! from the inputs by at most half of their scale; the factors of [`Inputs::Int8Branch`] and `X·Rᵀ` by half of theirs.
//! The bits are the same for any number of threads.
//!
//! **Not finite.** With float inputs a NaN or infinity makes the outputs of its own token NaN or infinite where it meets `Q̃`; 8-bit
//! inputs refuse it.

mod function;
mod scratch;
mod sparse;

use crate::{Error, Split};
use alloc::vec::Vec;
use core::ops::Range;
pub use function::Function;
use rankbit_quant::matmul::prepared::{
    Epilogue, FloatActivations, Input, Output, Plain, Prepared, PreparedActivations, PreparedDense, ScaleOf,
    TILE,
};
#[cfg(feature = "std")]
use rankbit_quant::simd::Level;
use rankbit_quant::transform::PreparedTransform;
use rankbit_quant::{Group, Quantized, nearest, scheme};
pub use scratch::Scratch;
use sparse::Tiles;

/// Multiplications from which on threads share a product.
#[cfg(feature = "std")]
const SHARED: usize = 1 << 18;

/// What the inputs of the quantized term become.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Inputs {
    /// They stay floats: the product with the decoded weight. Formats whose codes are rounded to 8 bits
    /// ([`Prepared::is_rounded`]) have no such product here.
    Float,
    /// 8-bit numbers; the low-rank term takes floats, which lets it carry what few bits cannot.
    Int8(ScaleOf),
    /// 8-bit numbers for both, and factors of 8 bits: about half the time of the branch.
    Int8Branch(ScaleOf),
}

impl Inputs {
    const fn scale_of(self) -> ScaleOf {
        match self {
            Self::Float => ScaleOf::Group,
            Self::Int8(scale_of) | Self::Int8Branch(scale_of) => scale_of,
        }
    }
}

/// The quantized term, or as many rows without columns.
#[derive(Clone, Debug)]
enum Base {
    Codes(Prepared),
    Nothing(PreparedDense),
}

/// The low-rank term.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each layer, next to its matrices")]
enum Branch {
    Floats { right: PreparedDense, left: PreparedDense },
    Codes { right: Prepared, left: Prepared },
}

/// A linear layer ready for products; see the [module](self).
#[derive(Clone, Debug)]
pub struct PreparedLinear {
    shape: (usize, usize),
    inputs: Inputs,
    transform: Option<PreparedTransform>,
    base: Base,
    branch: Option<Branch>,
    sparse: Option<Tiles>,
    /// Filled up to whole tiles; empty without one.
    bias: Vec<f32>,
    function: Option<Function>,
}

impl PreparedLinear {
    /// Brings a split into the kernels' order. Cost O(out · in). What the split says of its inputs
    /// ([`Split::activation`]) is left to `inputs`.
    ///
    /// # Errors
    /// What [`Prepared::new`] refuses; [`rankbit_quant::Error::Unsupported`] for [`Inputs::Float`] with a format whose codes are
    /// rounded to 8 bits.
    pub fn new(split: &Split, inputs: Inputs) -> Result<Self, Error> {
        let (out, features) = split.shape();
        let base = match split.base() {
            Some(base) => Base::Codes(Prepared::new(base)?),
            None => Base::Nothing(PreparedDense::new(&[], (out, 0))?),
        };
        if let (Base::Codes(base), Inputs::Float) = (&base, inputs)
            && base.is_rounded()
        {
            let reason = "inputs that stay floats, for codes that are rounded to 8 bits";
            return Err(rankbit_quant::Error::Unsupported { format: "a prepared layer", reason }.into());
        }
        let mut linear = Self {
            shape: (out, features),
            inputs,
            transform: split.transform().filter(|t| !t.is_identity()).map(|t| t.prepare()),
            base,
            branch: None,
            sparse: split.sparse().map(Tiles::new).transpose()?,
            bias: split.bias().map(<[f32]>::to_vec).unwrap_or_default(),
            function: None,
        };
        linear.branch = linear.branch_of(split)?;
        if !linear.bias.is_empty() {
            linear.bias.resize(out.next_multiple_of(TILE), 0.0);
        }
        Ok(linear)
    }

    fn branch_of(&self, split: &Split) -> Result<Option<Branch>, Error> {
        let Some(term) = split.low_rank() else { return Ok(None) };
        let ((out, features), rank) = (split.shape(), term.rank());
        let (left, mut right) = (term.left().to_f32(), term.right().to_f32());
        if !matches!(self.inputs, Inputs::Int8Branch(_)) {
            let (right, left) =
                (PreparedDense::new(&right, (rank, features))?, PreparedDense::new(&left, (out, rank))?);
            return Ok(Some(Branch::Floats { right, left }));
        }
        if let Some(transform) = split.transform() {
            transform.inverse_transpose(&mut right)?;
        }
        let bytes = |values: &[f32], shape, group| -> Result<Quantized, Error> {
            Ok(nearest::quantize_rows(values, shape, &scheme::INT8.with_group(group))?.quantized)
        };
        let group = match &self.base {
            // Groups have at most 2¹⁵ columns.
            Base::Codes(base) => Group::Size(u32::try_from(base.group()).unwrap_or(u32::MAX)),
            Base::Nothing(_) => Group::Row,
        };
        let right = Prepared::new(&bytes(&right, (rank, features), group)?)?;
        let left = Prepared::new(&bytes(&left, (out, rank), Group::Row)?)?;
        Ok(Some(Branch::Codes { right, left }))
    }

    /// The same with a bias (`[out]`) in the place of the split's.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when it is not `out` long.
    pub fn with_bias(mut self, bias: &[f32]) -> Result<Self, Error> {
        if bias.len() != self.shape.0 {
            let (expected, found) = ((1, self.shape.0), (1, bias.len()));
            return Err(Error::ShapeMismatch { what: "bias", expected, found });
        }
        self.bias = bias.to_vec();
        self.bias.resize(self.shape.0.next_multiple_of(TILE), 0.0);
        Ok(self)
    }

    /// The same followed by a function.
    #[must_use]
    pub const fn with_function(mut self, function: Function) -> Self {
        self.function = Some(function);
        self
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Rank of the low-rank term; 0 without one.
    pub const fn rank(&self) -> usize {
        match &self.branch {
            Some(Branch::Floats { left, .. }) => left.shape().1,
            Some(Branch::Codes { left, .. }) => left.shape().1,
            None => 0,
        }
    }

    /// Bytes that a product reads of the layer.
    pub const fn bytes(&self) -> usize {
        let base = match &self.base {
            Base::Codes(base) => base.bytes(),
            Base::Nothing(_) => 0,
        };
        let branch = match &self.branch {
            Some(Branch::Floats { right, left }) => right.bytes() + left.bytes(),
            Some(Branch::Codes { right, left }) => right.bytes() + left.bytes(),
            None => 0,
        };
        let sparse = match &self.sparse {
            Some(sparse) => sparse.bytes(),
            None => 0,
        };
        base + branch + sparse + 4 * self.bias.len()
    }

    /// The matrix that inputs are quantized for, where they are.
    const fn quantizes_for(&self) -> Option<&Prepared> {
        match (&self.base, self.inputs, &self.branch) {
            (Base::Codes(base), Inputs::Int8(_) | Inputs::Int8Branch(_), _) => Some(base),
            (_, _, Some(Branch::Codes { right, .. })) => Some(right),
            _ => None,
        }
    }

    /// `Y` for the row-major `x`, `[tokens, in]`, of f32, f16 or bf16, into the row-major `y`, `[tokens, out]`. With `std` the
    /// threads of rayon's current pool share the outputs. Nothing is allocated on a single thread.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` or `y` does not fit, or when `scratch` was not reserved for this layer and so many
    /// tokens; with 8-bit inputs [`rankbit_quant::Error::ActivationNonFinite`].
    pub fn apply_into<X: Input>(
        &self,
        x: &[X],
        tokens: usize,
        y: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let (out, features) = self.shape;
        for (what, expected, found) in
            [("activations", (tokens, features), x.len()), ("output", (tokens, out), y.len())]
        {
            if expected.0.checked_mul(expected.1) != Some(found) {
                return Err(Error::ShapeMismatch { what, expected, found: (1, found) });
            }
        }
        if !scratch.holds(self, tokens) {
            let (expected, found) = ((1, Scratch::bytes(self, tokens)), (1, 4 * scratch.plain.len()));
            return Err(Error::ShapeMismatch { what: "scratch", expected, found });
        }
        let Scratch { plain, transformed, projected, codes, floats, inner_codes, inner_floats, base_floats } =
            scratch;
        // `x` has tokens·in entries, the scratch as many or more.
        let x = X::floats(x, &mut plain[..tokens * features]);
        let through = match &self.transform {
            Some(transform) => {
                let transformed = &mut transformed[..tokens * features];
                transform.forward_into(x, transformed)?;
                &*transformed
            }
            None => x,
        };
        if let Some(weight) = self.quantizes_for() {
            codes.quantize(weight, through, tokens, self.inputs.scale_of())?;
        }
        let projected = &mut projected[..tokens * self.rank()];
        match &self.branch {
            Some(Branch::Floats { right, .. }) => {
                floats.set(x, (tokens, features))?;
                let rank = right.shape().0;
                let mut z = Output::new(projected, tokens, rank)?;
                right.multiply(0..right.tiles(), floats, &mut z, &Plain)?;
                inner_floats.set(projected, (tokens, rank))?;
            }
            Some(Branch::Codes { right, left }) => {
                let mut z = Output::new(projected, tokens, right.shape().0)?;
                right.multiply(0..right.tiles(), codes, &mut z, &Plain)?;
                inner_codes.quantize(left, projected, tokens, ScaleOf::Token)?;
            }
            None => {}
        }
        let joint = Joint { linear: self, x, inner_codes, inner_floats };
        let tiles = 0..out.div_ceil(TILE);
        let y = Output::new(y, tokens, out)?;
        let work = tokens.saturating_mul(out).saturating_mul(features);
        match &self.base {
            Base::Codes(base) if self.inputs == Inputs::Float => {
                base_floats.set(through, (tokens, features))?;
                shared(tiles, y, work, &|tiles, y| Ok(base.multiply_floats(tiles, base_floats, y, &joint)?))
            }
            Base::Codes(base) => {
                shared(tiles, y, work, &|tiles, y| Ok(base.multiply(tiles, codes, y, &joint)?))
            }
            Base::Nothing(rows) => {
                base_floats.set::<f32>(&[], (tokens, 0))?;
                shared(tiles, y, work, &|tiles, y| Ok(rows.multiply(tiles, base_floats, y, &joint)?))
            }
        }
    }
}

/// What joins the quantized term in each tile.
struct Joint<'a> {
    linear: &'a PreparedLinear,
    x: &'a [f32],
    inner_codes: &'a PreparedActivations,
    inner_floats: &'a FloatActivations,
}

/// Tokens of a call with 8-bit inner inputs: what every path has in one tile of them.
const FEW: usize = 4;

impl Epilogue for Joint<'_> {
    fn start(&self, row: usize, token: usize, sums: &mut [[f32; TILE]]) {
        let (tile, linear) = (row / TILE, self.linear);
        // Tiles and tokens are those of the product, whose inputs were made for these factors: no call fails.
        let joined = match &linear.branch {
            Some(Branch::Floats { left, .. }) => left.add_tile(tile, self.inner_floats, token, sums),
            // All of one tile of inner inputs, as the product's own are.
            Some(Branch::Codes { left, .. }) if matches!(linear.base, Base::Codes(_)) => {
                left.add_tile(tile, self.inner_codes, token, sums)
            }
            Some(Branch::Codes { left, .. }) => sums
                .chunks_mut(FEW)
                .enumerate()
                .try_for_each(|(at, sums)| left.add_tile(tile, self.inner_codes, token + FEW * at, sums)),
            None => Ok(()),
        };
        debug_assert!(joined.is_ok(), "{joined:?}");
        if let Some(sparse) = &linear.sparse {
            let features = linear.shape.1;
            sparse.add(tile, &self.x[token * features..], features, sums);
        }
    }

    fn finish(&self, row: usize, _: usize, sums: &mut [[f32; TILE]]) {
        if let Some(bias) = self.linear.bias.get(row..row + TILE) {
            for sums in &mut *sums {
                sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
            }
        }
        if let Some(function) = self.linear.function {
            for sum in sums.as_flattened_mut() {
                *sum = function.apply(*sum);
            }
        }
    }
}

/// What some tiles of a product are.
trait Work: Fn(Range<usize>, &mut Output<'_>) -> Result<(), Error> + Sync {}
impl<F: Fn(Range<usize>, &mut Output<'_>) -> Result<(), Error> + Sync> Work for F {}

/// Does `work` for contiguous parts of `tiles`, one for each thread of the pool.
#[cfg(feature = "std")]
fn shared(tiles: Range<usize>, mut y: Output<'_>, size: usize, work: &impl Work) -> Result<(), Error> {
    fn halves(
        tiles: Range<usize>,
        mut y: Output<'_>,
        parts: usize,
        level: Level,
        work: &impl Work,
    ) -> Result<(), Error> {
        if parts < 2 || tiles.len() < 2 {
            // A level that was forced belongs to the caller's thread.
            let done = level.run(|| work(tiles.clone(), &mut y));
            return done.unwrap_or_else(|| work(tiles, &mut y));
        }
        let few = parts / 2;
        let middle = tiles.start + tiles.len() * few / parts;
        let (low, high) = y.split_at(middle * TILE);
        let (low, high) = rayon::join(
            || halves(tiles.start..middle, low, few, level, work),
            || halves(middle..tiles.end, high, parts - few, level, work),
        );
        low.and(high)
    }
    let threads = rayon::current_num_threads();
    if threads < 2 || size < SHARED {
        return work(tiles, &mut y);
    }
    halves(tiles, y, threads, Level::current(), work)
}

/// Does all of `work`.
#[cfg(not(feature = "std"))]
fn shared(tiles: Range<usize>, mut y: Output<'_>, _: usize, work: &impl Work) -> Result<(), Error> {
    work(tiles, &mut y)
}
