//! `Y = (X·T)·Q̃ᵀ + (X·Rᵀ)·Lᵀ + X·Sᵀ + b` on the device. Twin: [`rankbit_lowrank::split::matmul::reference`].
//!
//! Dispatches of one pass, sums in f32:
//!
//! 1. *gather* `X·T` into the order of the packed lines; only with smoothing, or groups not a multiple of 8. Where the
//!    split quantizes its inputs, *quantize* in its place, which gathers too;
//! 2. *project* `Z = X·Rᵀ`; only with a low-rank term;
//! 3. *vector* (few tokens), *matrix* (many) or *tile* (very many): decodes `Q` on the fly and adds `Z·Lᵀ` and the bias
//!    before it stores, in floats or, for quantized inputs of a weight of whole numbers, in integers; *coded* for vector
//!    codes, whatever the number of tokens, which adds the outliers too. A weight larger than a binding takes one for
//!    each part;
//! 4. *raise* adds `Z·Lᵀ`; only where the tuner found that faster than within 3;
//! 5. *sparse* adds `X·Sᵀ`; only with a sparse term, N:M.
//!
//! **Accuracy**, elementwise: `|Δ| ≤ γ·(|X|·(|Q̃·Tᵀ| + |L|·|R| + |S|)ᵀ + |b|)` with `γ = K·u/(1 - K·u)`, `K = in + r + 10`,
//! `u = 2⁻²⁴`, for products that neither overflow nor fall below f32's normal range (devices may flush those to
//! zero). Codes minus their zero points, and table entries, are exact. Vector codes with outliers
//! have the magnitudes of both in place of `|Q̃|`.

pub(crate) mod choice;
pub(crate) mod coded;
mod pack;
mod part;
mod quantize;
mod sparse;
mod steps;
mod tune;
mod workspace;

pub use choice::{Choice, Shape};
pub use workspace::Workspace;

use crate::operator::nonlinearity::Nonlinearity;
use crate::pipeline::Format;
use crate::{Error, Gpu, Timing};
use coded::Coded;
use pack::{COLUMNS, PADDING, Packed, ROWS};
use part::Part;
use quantize::Quantizer;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_lowrank::Split;
use rankbit_quant::transform::{Smooth, Transform};
use sparse::Sparse;

/// A split on a device, ready to multiply; from [`Gpu::upload`].
#[derive(Clone, Debug)]
pub struct GpuLinear {
    gpu: Gpu,
    shape: (usize, usize),
    rank: usize,
    /// Columns of `left`: the rank's, and the bias, which meets a 1 in every token's projection.
    terms: usize,
    format: Format,
    tiles: usize,
    lines: usize,
    groups: usize,
    shift: u32,
    /// At least one; the left factor of vector codes is in the first.
    parts: Vec<Part>,
    right: wgpu::Buffer,
    gather: Option<Gather>,
    quantizer: Option<Quantizer>,
    nonlinearity: Nonlinearity,
    sparse: Option<Sparse>,
    /// Vector codes: then the parts hold the left factor alone.
    coded: Option<Coded>,
}

/// What the gather kernel reads: for each column of the lines, its input column and 1/λ.
#[derive(Clone, Debug)]
struct Gather {
    columns: wgpu::Buffer,
    inverse: wgpu::Buffer,
}

impl Gpu {
    /// Repacks `split` into the kernels' layout and copies it to the device. Any shape, any group size, any scale
    /// format; integers of 2 to 8 bits (with whole zero points if unsigned), all tables, `mxfp4`, `nvfp4`, the blocks
    /// `q4_0`, `q8_0` and `iq4_nl`, and all vector codes (trellises of any window, also with a rate for each column, and
    /// lattices, with their outliers); a sparse term of any N:M with values of any kind; a bias; any term may be missing.
    ///
    /// Codes of fewer than 4 bits take 4 on the device, those of 5 to 7 take 8.
    ///
    /// Device memory is that of the packed codes, plus scales and factors as f32. A group size that is not a
    /// multiple of 8 pads each group to one; a group of an odd number of lines repeats its scales
    /// (`operator/split_matmul/pack.rs`). Kept values of few bits, and bf16, lie as f32 (`operator/split_matmul/sparse.rs`).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a number format without a kernel, [`Error::UnsupportedActivation`] for a split that
    /// quantizes its inputs otherwise than to integers of 4 to 8 bits with a scale for each token, or for each token and
    /// group of a multiple of 8 columns (beside groups of the weight that are such a multiple too), [`Error::UnsupportedRotation`] for one that rotates them, [`Error::UnsupportedSparse`] for one whose sparse term is not N:M, [`Error::LimitExceeded`] when 16 rows
    /// of the weight, or any other part, are larger than the device can bind, and whatever the device reports.
    pub fn upload(&self, split: &Split) -> Result<GpuLinear, Error> {
        if split.transform().is_some_and(|transform| transform.rotation().is_some()) {
            return Err(Error::UnsupportedRotation);
        }
        let (out, features) = split.shape();
        let coded = split.base().map(|base| Coded::upload(self, base)).transpose()?.flatten();
        let planar = split.base().filter(|_| coded.is_none());
        let packed = planar.map(Packed::new).transpose()?.unwrap_or_else(|| Packed {
            format: Format::Int4,
            lines: if coded.is_some() { features.div_ceil(COLUMNS) } else { 0 },
            groups: 0,
            shift: 31,
            words: 1,
            codes: Vec::new(),
            scales: Vec::new(),
            zeros: Vec::new(),
            columns: Vec::new(),
        });
        let weight = quantize::Weight {
            lines: packed.lines,
            natural: packed.columns.is_empty(),
            scalar: planar.map(|_| (packed.format, packed.shift)),
        };
        let quantizer = match split.base() {
            Some(_) => Quantizer::new(split.activation(), &weight)?,
            None => None,
        };
        let gather = if split.base().is_some() && (split.transform().is_some() || !packed.columns.is_empty())
        {
            Some(self.upload_gather(split, &packed)?)
        } else {
            None
        };
        let rank = split.rank();
        let factors = split.low_rank().map(|term| (term.left().to_f32(), term.right().to_f32()));
        let (mut left, right) = factors.unwrap_or_default();
        if let Some(bias) = split.bias() {
            left = pack::widened(&left, rank, bias);
        }
        let terms = rank + usize::from(split.bias().is_some());
        let tiles = out.div_ceil(ROWS);
        let left = pack::tiled(&left, out, terms);
        let parts = match coded {
            None => Part::upload(self, &packed, tiles, &left, terms)?,
            Some(_) => vec![Part::whole(self, tiles, &left)?],
        };
        let linear = GpuLinear {
            gpu: self.clone(),
            shape: (out, features),
            rank,
            terms,
            format: packed.format,
            tiles,
            lines: packed.lines,
            groups: packed.groups,
            shift: packed.shift,
            parts,
            right: self.storage(
                "right factor",
                &pack::padded(&right, features, features.div_ceil(COLUMNS) * COLUMNS),
            )?,
            gather,
            quantizer,
            nonlinearity: Nonlinearity::None,
            sparse: split.sparse().map(|sparse| Sparse::upload(self, sparse)).transpose()?,
            coded,
        };
        // Send the copies off, so that a device without memory says so here.
        self.scoped("uploading", |_, queue| queue.submit([]))?;
        self.wait("uploading")?;
        Ok(linear)
    }

    fn upload_gather(&self, split: &Split, packed: &Packed) -> Result<Gather, Error> {
        let features = split.shape().1;
        let mut columns = packed.columns.clone();
        if columns.is_empty() {
            for k in 0..packed.lines * COLUMNS {
                columns.push(if k < features { crate::buffer::narrow("columns", k)? } else { PADDING });
            }
        }
        let transform = split.transform();
        if let Some(permutation) = transform.and_then(Transform::permutation) {
            for column in &mut columns {
                // Padding is no position.
                let at = usize::try_from(*column).unwrap_or(usize::MAX);
                *column = permutation.order().get(at).copied().unwrap_or(*column);
            }
        }
        let factors = transform.and_then(Transform::smooth).map(Smooth::inverse);
        let inverse: Vec<f32> = columns
            .iter()
            .map(|&k| match &factors {
                None => 1.0,
                Some(factors) => usize::try_from(k).ok().and_then(|k| factors.get(k)).copied().unwrap_or(0.0),
            })
            .collect();
        Ok(Gather {
            columns: self.storage("columns", &columns)?,
            inverse: self.storage("smoothing factors", &inverse)?,
        })
    }
}

impl GpuLinear {
    /// Rows and columns of the matrix, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// The same matrix, `f(X·Ŵᵀ + b)` in place of `X·Ŵᵀ + b`: applied before results are stored, without another dispatch.
    #[must_use]
    pub fn with_nonlinearity(mut self, nonlinearity: Nonlinearity) -> Self {
        self.nonlinearity = nonlinearity;
        self
    }

    /// The device that holds it.
    pub const fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Bytes that one product reads of this matrix: codes, scales, zero points, factors and kept values as
    /// they lie on the device.
    pub fn device_bytes(&self) -> u64 {
        let gather = self.gather.as_ref().map_or(0, |g| g.columns.size() + g.inverse.size());
        let sparse = self.sparse.as_ref().map_or(0, |s| s.indices.size() + s.values.size());
        let coded = self.coded.as_ref().map_or(0, Coded::device_bytes);
        let parts = self.parts.iter().map(Part::device_bytes).sum::<u64>();
        parts + self.right.size() + gather + coded + sparse
    }

    /// `Y = X·Ŵᵀ` for `x: [tokens, in]`, waiting for the result. Allocates the buffers it needs; for repeated
    /// products of one size keep a [`Workspace`].
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` does not have `in` columns, [`Error::LimitExceeded`] when activations
    /// or result are larger than the device can bind, and whatever the device reports.
    pub fn apply(&self, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
        self.check(x)?;
        self.workspace(x.nrows())?.apply(x)
    }

    /// [`GpuLinear::apply`], and the time of the product alone: `runs` repetitions on resident buffers, each from
    /// submission to idle.
    ///
    /// # Errors
    /// As [`GpuLinear::apply`].
    pub fn apply_timed(&self, x: MatRef<'_, f32>, runs: usize) -> Result<(Mat<f32>, Timing), Error> {
        self.check(x)?;
        let workspace = self.workspace(x.nrows())?;
        let y = workspace.apply(x)?;
        let timing = Timing::of(runs, || workspace.run())?;
        Ok((y, timing))
    }

    /// Buffers for products with `tokens` rows of activations.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] when they are larger than the device can bind, and whatever the device reports.
    pub fn workspace(&self, tokens: usize) -> Result<Workspace<'_>, Error> {
        Workspace::new(self, tokens, 0, None, self.choice(tokens))
    }

    /// [`GpuLinear::workspace`] on the caller's own buffers, of the same device: `x` in the layout of
    /// [`Workspace::input`], `y` in that of [`Workspace::output`]; both with the usage `STORAGE`, and `COPY_DST` and
    /// `COPY_SRC` for [`Workspace::write`] and [`Workspace::read`]. The two must not overlap.
    ///
    /// # Errors
    /// [`Error::Buffer`] for a buffer that is too small or not for kernels, and as [`GpuLinear::workspace`].
    pub fn workspace_on(
        &self,
        tokens: usize,
        x: &wgpu::Buffer,
        y: &wgpu::Buffer,
    ) -> Result<Workspace<'_>, Error> {
        Workspace::new(self, tokens, 0, Some([x, y]), self.choice(tokens))
    }

    /// [`GpuLinear::workspace`] with kernels of the caller's choice, one of [`GpuLinear::choices`].
    ///
    /// # Errors
    /// [`Error::InvalidChoice`] for another, and as [`GpuLinear::workspace`].
    pub fn workspace_with(&self, tokens: usize, choice: Choice) -> Result<Workspace<'_>, Error> {
        if !self.allows(choice.shape) {
            return Err(Error::InvalidChoice { choice });
        }
        Workspace::new(self, tokens, 0, None, choice)
    }

    /// [`GpuLinear::workspace`] by `choice` whose written buffers are `guard` words longer than they need to be;
    /// everything in them is [`GUARD`](crate::buffer::GUARD).
    pub(crate) fn guarded_workspace(
        &self,
        tokens: usize,
        guard: u64,
        choice: Choice,
    ) -> Result<Workspace<'_>, Error> {
        Workspace::new(self, tokens, guard, None, choice)
    }

    fn check(&self, x: MatRef<'_, f32>) -> Result<(), Error> {
        let expected = (x.nrows(), self.shape.1);
        let found = (x.nrows(), x.ncols());
        if expected == found {
            Ok(())
        } else {
            Err(Error::ShapeMismatch { what: "activations", expected, found })
        }
    }
}
