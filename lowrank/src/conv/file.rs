//! A decomposed convolution as named parts.
//!
//! | part | type | shape |
//! |---|---|---|
//! | `core` | its format | `[r_o, r_i·r_h·r_w]` |
//! | `factor_out`, `factor_in`, `factor_height`, `factor_width` | theirs | `[side, r]` |

use super::TuckerConv;
use crate::split::file::{Part, PartType, PartView};
use crate::{Error, Factor};
use alloc::{format, vec, vec::Vec};
use rankbit_quant::{FloatFormat, Floats};

/// Names of the factors' parts.
const NAMES: [&str; 4] = ["factor_out", "factor_in", "factor_height", "factor_width"];

/// What the parts mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvHeader {
    /// `[out, in, h, w]`.
    pub shape: [usize; 4],
    /// The rank of each side; `null` where it keeps its side.
    pub ranks: [Option<usize>; 4],
    /// How core and factors are stored.
    pub format: FloatFormat,
}

impl TuckerConv {
    /// Header and parts.
    ///
    /// # Errors
    /// [`Error::InvalidHeader`] for parts of different formats, or of few bits, which [`TuckerConv::fit`] does not make
    /// but where one part's range asked for f32: encode that one anew as f32 throughout.
    pub fn write(&self) -> Result<(ConvHeader, Vec<Part>), Error> {
        let all = core::iter::once(("core", &self.core));
        let all = all.chain(NAMES.into_iter().zip(&self.factors).filter_map(|(n, f)| Some((n, f.as_ref()?))));
        let mut parts = Vec::new();
        let mut format = None;
        for (name, factor) in all {
            let Some(values) = factor.floats().filter(|v| format.is_none_or(|f| f == v.format())) else {
                return Err(Error::InvalidHeader { reason: format!("part '{name}' has another format") });
            };
            format = Some(values.format());
            let (rows, cols) = factor.shape();
            let element = PartType::Float(values.format());
            parts.push(Part { name, element, shape: vec![rows, cols], bytes: values.to_bytes() });
        }
        let mut ranks = [None; 4];
        for (rank, factor) in ranks.iter_mut().zip(&self.factors) {
            *rank = factor.as_ref().map(|factor| factor.shape().1);
        }
        Ok((ConvHeader { shape: self.shape, ranks, format: format.unwrap_or(FloatFormat::F32) }, parts))
    }

    /// The convolution that `header` describes, its parts handed over by `find`.
    ///
    /// # Errors
    /// [`Error::MissingPart`], [`Error::PartMismatch`], [`Error::ShapeMismatch`], sizes that overflow, and values that are
    /// not finite.
    pub fn read<'a>(header: &ConvHeader, find: impl Fn(&str) -> Option<PartView<'a>>) -> Result<Self, Error> {
        let read = |name: &'static str, shape: (usize, usize)| -> Result<Factor, Error> {
            let len = shape.0.checked_mul(shape.1).ok_or(rankbit_quant::Error::TooLarge { what: name })?;
            let view = find(name).ok_or(Error::MissingPart { part: name })?;
            if view.element != PartType::Float(header.format) || view.shape != [shape.0, shape.1] {
                let expected = format!("{:?} {shape:?}", header.format);
                return Err(Error::PartMismatch { part: name, expected });
            }
            Factor::new(shape, Floats::from_bytes(view.bytes, header.format, len, name)?)
        };
        let mut sides = header.shape;
        let mut factors = [None, None, None, None];
        let slots = factors.iter_mut().zip(sides.iter_mut()).zip(header.ranks).zip(NAMES);
        for (((slot, side), rank), name) in slots {
            if let Some(rank) = rank {
                *slot = Some(read(name, (*side, rank))?);
                *side = rank;
            }
        }
        let [o, i, h, w] = sides;
        let width = i.checked_mul(h).and_then(|n| n.checked_mul(w));
        let width = width.ok_or(rankbit_quant::Error::TooLarge { what: "core" })?;
        Self::from_parts(header.shape, read("core", (o, width))?, factors)
    }
}
