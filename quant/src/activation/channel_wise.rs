//! Channel-wise quantization of a LayerNorm's output at the price of a tensor-wise one.
//!
//! ```text
//! per channel j of X: [tokens, n]   lo_j, hi_j = the clipped range,  s_j = (hi_j - lo_j)/(2^b - 1),  z_j = rne(-lo_j/s_j)
//! for the whole tensor              s̃ = mean s_j,  z̃ = rne(mean z_j),  r1 = s/s̃,  r2 = z - z̃
//! the norm       γ' = γ/r1,   β' = (β + s⊙r2)/r1           x' = (x + s⊙r2)/r1
//! the layer      W' = W·diag(r1),   b' = b - W·(s⊙r2)
//! ```
//! Two identities make it work, both exact in real arithmetic: `W'·x' + b' = W·x + b`, and `x'/s̃ + z̃ = x/s + z`, so
//! that quantizing `x'` with one scale gives the codes that quantizing `x` channel by channel would have given.
//! Computed in f64 and rounded to f32 once; cost O(out · n), for the ranges O(tokens · n · log tokens).
//!
//! The range is widened to hold 0. A channel without spread takes scale s̃ and zero point z̃, and is left as it is.
//!
//! Sources: RepQ-ViT, arXiv 2212.08254, equations 10 to 14 (the reparameterisation, there with the full range);
//! LRP-QViT, arXiv 2401.11243, section 3.3 (the clipped range). The latter does not state its percentile; neither does
//! this module: it is a parameter.

use crate::{Error, code::int, float};
use alloc::{vec, vec::Vec};
use num_traits::Float;

/// Scales and zero points of each channel: `code = clamp(rne(x/s) + z, 0, 2^b - 1)`.
#[derive(Clone, PartialEq, Debug)]
pub struct ChannelWise {
    bits: u8,
    scales: Vec<f64>,
    zeros: Vec<f64>,
}

/// A LayerNorm and the layer behind it after the exchange; all of them replace what they came from.
#[derive(Clone, PartialEq, Debug)]
pub struct Reparameterized {
    /// γ', the norm's gain.
    pub gain: Vec<f32>,
    /// β', the norm's shift.
    pub shift: Vec<f32>,
    /// W', row-major `[out, n]`.
    pub weight: Vec<f32>,
    /// b', the layer's bias.
    pub bias: Vec<f32>,
    /// s̃, the one scale of the norm's new output.
    pub scale: f32,
    /// z̃, its one zero point.
    pub zero_point: u8,
}

impl ChannelWise {
    /// The quantizers of a sample of the norm's output, row-major `[tokens, n]`, each range clipped to the part of the
    /// sample between the quantiles `1 - percentile` and `percentile` (nearest rank; 1 for the whole range).
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for widths other than 2 to 8 bits or a percentile outside (½, 1];
    /// [`Error::ShapeMismatch`] for an empty sample or one of another size; [`Error::ActivationNonFinite`].
    pub fn from_sample(
        sample: &[f32],
        (tokens, channels): (usize, usize),
        bits: u8,
        percentile: f64,
    ) -> Result<Self, Error> {
        if !(2..=8).contains(&bits) {
            let requirement = "2 to 8";
            return Err(Error::InvalidOption { what: "bits", requirement, found: f64::from(bits) });
        }
        if !(percentile > 0.5 && percentile <= 1.0) {
            let requirement = "above 1/2, at most 1";
            return Err(Error::InvalidOption { what: "percentile", requirement, found: percentile });
        }
        if sample.is_empty() || tokens.checked_mul(channels) != Some(sample.len()) {
            let (expected, found) = ((tokens.max(1), channels.max(1)), (1, sample.len()));
            return Err(Error::ShapeMismatch { what: "sample", expected, found });
        }
        if let Some(at) = sample.iter().position(|x| !x.is_finite()) {
            return Err(Error::ActivationNonFinite { token: at / channels, feature: at % channels });
        }
        let steps = f64::from(int::max(bits, false));
        let (mut scales, mut zeros) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
        for channel in 0..channels {
            let mut column: Vec<f32> = sample.iter().skip(channel).step_by(channels).copied().collect();
            column.sort_unstable_by(f32::total_cmp);
            // The sample is not empty, so there is a first and a last.
            let last = column.len() - 1;
            let cut = rank((1.0 - percentile) * last as f64, last);
            let (low, high) = (f64::from(column[cut]).min(0.0), f64::from(column[last - cut]).max(0.0));
            let scale = (high - low) / steps;
            scales.push(scale);
            zeros.push(if scale > 0.0 { round(-low / scale) } else { f64::NAN });
        }
        let spread = scales.iter().filter(|s| **s > 0.0).count();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / spread.max(1) as f64;
        let scale = if spread > 0 { mean(&mut scales.iter().copied()) } else { 1.0 };
        let zero = round(mean(&mut zeros.iter().copied().filter(|z| !z.is_nan())));
        for (s, z) in scales.iter_mut().zip(&mut zeros).filter(|(s, _)| **s == 0.0) {
            (*s, *z) = (scale, zero);
        }
        Ok(Self { bits, scales, zeros })
    }

    /// Bits of a code.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// The scales s.
    pub fn scales(&self) -> &[f64] {
        &self.scales
    }

    /// The zero points z, whole numbers of 0 to `2^b - 1`.
    pub fn zero_points(&self) -> &[f64] {
        &self.zeros
    }

    /// `s̃ = mean s` and `z̃ = rne(mean z)`, both as they are used.
    pub fn tensor_wise(&self) -> (f32, u8) {
        let count = self.scales.len().max(1) as f64;
        let scale = float::narrow(self.scales.iter().sum::<f64>() / count).max(f32::MIN_POSITIVE);
        (scale, whole(round(self.zeros.iter().sum::<f64>() / count)))
    }

    /// The codes of one row of the norm's output, channel by channel.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` or `codes` does not have one entry per channel.
    pub fn quantize_row(&self, x: &[f32], codes: &mut [u8]) -> Result<(), Error> {
        let channels = self.scales.len();
        for found in [x.len(), codes.len()] {
            if found != channels {
                return Err(Error::ShapeMismatch { what: "row", expected: (1, channels), found: (1, found) });
            }
        }
        let top = f64::from(int::max(self.bits, false));
        for (((code, &x), s), z) in codes.iter_mut().zip(x).zip(&self.scales).zip(&self.zeros) {
            *code = whole((round(f64::from(x) / s) + z).clamp(0.0, top));
        }
        Ok(())
    }

    /// Moves the channels' differences out of a norm `γ, β` into the layer behind it, `weight: [out, n]` row-major
    /// and `bias: [out]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when an argument does not fit the channels or the bias; [`Error::StoredNonFinite`] for
    /// a NaN or infinity, given or past the end of f32's range.
    pub fn reparameterize(
        &self,
        gain: &[f32],
        shift: &[f32],
        weight: &[f32],
        bias: &[f32],
    ) -> Result<Reparameterized, Error> {
        let channels = self.scales.len();
        let check = |what, expected: (usize, usize), found: usize| match expected.0.checked_mul(expected.1) {
            Some(entries) if entries == found => Ok(()),
            _ => Err(Error::ShapeMismatch { what, expected, found: (1, found) }),
        };
        check("gain", (1, channels), gain.len())?;
        check("shift", (1, channels), shift.len())?;
        check("weight", (bias.len(), channels), weight.len())?;
        let (scale, zero_point) = self.tensor_wise();
        let ratio: Vec<f64> = self.scales.iter().map(|s| s / f64::from(scale)).collect();
        // s⊙r2: what the zero points' differences add to x.
        let offset: Vec<f64> =
            self.scales.iter().zip(&self.zeros).map(|(s, z)| s * (z - f64::from(zero_point))).collect();
        let mut new_weight = vec![0.0; weight.len()];
        let mut new_bias = Vec::with_capacity(bias.len());
        for ((row, new), &b) in
            weight.chunks_exact(channels).zip(new_weight.chunks_exact_mut(channels)).zip(bias)
        {
            let mut sum = f64::from(b);
            for (((new, &w), r), o) in new.iter_mut().zip(row).zip(&ratio).zip(&offset) {
                *new = float::narrow(f64::from(w) * r);
                sum -= f64::from(w) * o;
            }
            new_bias.push(float::narrow(sum));
        }
        let result = Reparameterized {
            gain: gain.iter().zip(&ratio).map(|(&g, r)| float::narrow(f64::from(g) / r)).collect(),
            shift: (shift.iter().zip(&offset).zip(&ratio))
                .map(|((&b, o), r)| float::narrow((f64::from(b) + o) / r))
                .collect(),
            weight: new_weight,
            bias: new_bias,
            scale,
            zero_point,
        };
        let parts = [
            ("gain", &result.gain),
            ("shift", &result.shift),
            ("weight", &result.weight),
            ("bias", &result.bias),
        ];
        for (what, values) in parts {
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(Error::StoredNonFinite { what, index });
            }
        }
        Ok(result)
    }
}

/// To the nearest whole number, ties to even.
fn round(x: f64) -> f64 {
    let floor = Float::floor(x);
    let (rest, even) = (x - floor, floor * 0.5 == Float::floor(floor * 0.5));
    if rest > 0.5 || (rest == 0.5 && !even) { floor + 1.0 } else { floor }
}

/// A whole number of 0 to 255 as a byte.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of the type"
)]
fn whole(x: f64) -> u8 {
    x.clamp(0.0, 255.0) as u8
}

/// `x` to the nearest rank, at most half of `last`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to half of a length")]
fn rank(x: f64, last: usize) -> usize {
    (round(x.max(0.0)) as usize).min(last / 2)
}
