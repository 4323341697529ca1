//! Adapters of a bit or a few per entry: one mean, one deviation, and codes of a fixed codebook.
//!
//! ```text
//! W: [out, in] latent, in floats    μ = mean W,  σ = deviation of W (n - 1),   w̃ = (w - μ)/(σ + ε),   ε = 10⁻⁵
//! ŵ = σ·c(w̃) + μ                    c(w̃) the codebook's value nearest to w̃
//! ```
//! The codebook of b bits is the L1-optimal quantizer of N(0, 1): thresholds halfway between neighbouring values,
//! values at the medians of the cells, found by alternation from zero ([`Codebook::k_median`]).
//!
//! **Training** goes through the latent floats: the codebook passes gradients as the identity (straight through), μ and
//! σ pass theirs as they are. With `g = ∂L/∂ŵ`, `a = σ/(σ + ε)`, N entries and `σ'_j = (w_j - μ)/((N - 1)·σ)`:
//!
//! ```text
//! ∂L/∂w_j = a·(g_j - mean g) + mean g + σ'_j·(Σ g_i·c_i - a/(σ + ε)·Σ g_i·(w_i - μ))
//! ```
//! **Storage**: the codes as one bit stream ([`pack`], the first entry lowest), then μ and σ: 64 bits beside b per
//! entry. Codes depend on `(w - μ)/σ` alone: adding a number to an adapter or scaling it by a positive one keeps them,
//! up to ε.
//!
//! Source: Jie, Wang and Deng, "Revisiting the Parameter Efficiency of Adapters from the Perspective of Precision
//! Redundancy", arXiv 2307.16867, section 3, and its released code, whose 500 alternations are kept (they converge for
//! 1, 2 and 4 bits; at 8 they are where they stop). At a fixed size one bit and a wider adapter won there.

use crate::{Error, code::normal_float, float, matmul::dot, pack};
use alloc::{vec, vec::Vec};
use num_traits::Float;

/// Added to the deviation before dividing by it.
const EPSILON: f64 = 1e-5;
/// Alternations of the codebook.
const ALTERNATIONS: usize = 500;

/// Values on the scale of N(0, 1), ascending and symmetric.
#[derive(Clone, PartialEq, Debug)]
pub struct Codebook {
    bits: u8,
    values: Vec<f32>,
    bounds: Vec<f32>,
}

impl Codebook {
    /// The k-median codebook of N(0, 1) with `2^bits` values.
    ///
    /// ```text
    /// t_i = (c_i + c_{i+1})/2,   c_i = Φ⁻¹((Φ(t_{i-1}) + Φ(t_i))/2),   500 times from c = 0
    /// ```
    /// At the fixed point no value can move without `E|z - c(z)|` growing. Cost 500·2^bits quantiles (at 8 bits some
    /// tenths of a second: make it once).
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for bits other than 1, 2, 4 and 8.
    pub fn k_median(bits: u8) -> Result<Self, Error> {
        if !matches!(bits, 1 | 2 | 4 | 8) {
            let requirement = "1, 2, 4 or 8";
            return Err(Error::InvalidOption { what: "bits", requirement, found: f64::from(bits) });
        }
        // Symmetric, so that the upper half says all; its lowest threshold is 0.
        let mut upper = vec![0.0_f64; 1 << (bits - 1)];
        for _ in 0..ALTERNATIONS {
            let mut below = 0.5;
            for at in 0..upper.len() {
                let above =
                    upper.get(at + 1).map_or(1.0, |next| normal_float::normal((upper[at] + next) / 2.0).0);
                // The threshold above is read before this value moves; the one below was, too.
                upper[at] = normal_float::normal_quantile((below + above) / 2.0, 0.0);
                below = above;
            }
        }
        let narrow = |value: &f64| float::narrow(*value);
        let mut values: Vec<f32> = upper.iter().rev().map(|value| -narrow(value)).collect();
        values.extend(upper.iter().map(narrow));
        let bounds =
            values.windows(2).map(|w| float::narrow((f64::from(w[0]) + f64::from(w[1])) / 2.0)).collect();
        Ok(Self { bits, values, bounds })
    }

    /// Bits of a code.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// The values, by code.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The code of the value nearest to `x`; halfway, the lower. NaN takes code 0.
    pub fn encode(&self, x: f32) -> u8 {
        let code = self.bounds.partition_point(|bound| *bound < x);
        u8::try_from(code).unwrap_or(u8::MAX)
    }

    fn value(&self, code: u8) -> f32 {
        // Codes have at most `bits` bits and there are 2^bits values.
        self.values[usize::from(code) % self.values.len()]
    }
}

/// A stored adapter.
#[derive(Clone, PartialEq, Debug)]
pub struct Clustered {
    shape: (usize, usize),
    bits: u8,
    packed: Vec<u8>,
    mean: f32,
    deviation: f32,
}

impl Clustered {
    /// The adapter of the latent `weight`, row-major `[out, in]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a weight of another size or of fewer than two entries (which have no deviation);
    /// [`Error::NonFinite`].
    pub fn encode(weight: &[f32], shape: (usize, usize), codebook: &Codebook) -> Result<Self, Error> {
        let latent = Latent::new(weight, shape)?;
        let codes: Vec<u8> = weight.iter().map(|w| codebook.encode(latent.normalized(*w))).collect();
        let bits = usize::from(codebook.bits);
        let len = pack::packed_len(codes.len(), bits).ok_or(Error::TooLarge { what: "codes" })?;
        let mut packed = vec![0; len];
        pack::pack(&codes, bits, &mut packed);
        let (mean, deviation) = (float::narrow(latent.mean), float::narrow(latent.deviation));
        Self::from_parts(shape, codebook.bits, packed, mean, deviation)
    }

    /// An adapter from its stored parts.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for bits other than 1, 2, 4 and 8; [`Error::TooLarge`]; [`Error::PartLength`] for codes
    /// of another length; [`Error::StoredNonFinite`] for a mean that is not finite, or a deviation that is not or is
    /// negative.
    pub fn from_parts(
        shape: (usize, usize),
        bits: u8,
        packed: Vec<u8>,
        mean: f32,
        deviation: f32,
    ) -> Result<Self, Error> {
        if !matches!(bits, 1 | 2 | 4 | 8) {
            let requirement = "1, 2, 4 or 8";
            return Err(Error::InvalidOption { what: "bits", requirement, found: f64::from(bits) });
        }
        let entries = shape.0.checked_mul(shape.1);
        let expected = entries.and_then(|entries| pack::packed_len(entries, usize::from(bits)));
        let expected = expected.ok_or(Error::TooLarge { what: "codes" })?;
        if packed.len() != expected {
            return Err(Error::PartLength { part: "codes", expected, found: packed.len() });
        }
        if !mean.is_finite() {
            return Err(Error::StoredNonFinite { what: "mean", index: 0 });
        }
        if !(deviation.is_finite() && deviation >= 0.0) {
            return Err(Error::StoredNonFinite { what: "deviation", index: 0 });
        }
        Ok(Self { shape, bits, packed, mean, deviation })
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// The packed codes, one bit stream.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// μ and σ.
    pub const fn moments(&self) -> (f32, f32) {
        (self.mean, self.deviation)
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        (self.packed.len() as u64 + 8) * 8
    }

    /// `Ŵ`, row-major: `σ·c + μ`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a codebook of other bits.
    pub fn decode(&self, codebook: &Codebook) -> Result<Vec<f32>, Error> {
        if codebook.bits != self.bits {
            let found = f64::from(codebook.bits);
            return Err(Error::InvalidOption {
                what: "codebook bits",
                requirement: "those of the codes",
                found,
            });
        }
        // The packed codes hold this many entries, so it does not overflow.
        let mut codes = vec![0; self.shape.0 * self.shape.1];
        pack::unpack(&self.packed, usize::from(self.bits), &mut codes);
        Ok(codes.into_iter().map(|code| codebook.value(code) * self.deviation + self.mean).collect())
    }
}

/// `Y = X·Ŵᵀ` for the latent `weight: [out, in]` and `x: [tokens, in]`, all row-major.
///
/// # Errors
/// As [`Clustered::encode`]; [`Error::ShapeMismatch`] when `x` does not consist of rows of `in` entries.
pub fn forward(
    weight: &[f32],
    shape: (usize, usize),
    codebook: &Codebook,
    x: &[f32],
) -> Result<Vec<f32>, Error> {
    let decoded = Clustered::encode(weight, shape, codebook)?.decode(codebook)?;
    // Two entries at least: there are columns.
    check_rows("activations", x, shape.1)?;
    let rows = x.chunks_exact(shape.1);
    Ok(rows.flat_map(|x| decoded.chunks_exact(shape.1).map(move |w| dot(x, w))).collect())
}

/// What [`backward`] returns, both row-major.
#[derive(Clone, PartialEq, Debug)]
pub struct Gradients {
    /// `∂L/∂X = E·Ŵ`, `[tokens, in]`.
    pub input: Vec<f32>,
    /// `∂L/∂W` of the latent weight, `[out, in]`.
    pub latent: Vec<f32>,
}

/// The gradients of [`forward`] for `upstream = ∂L/∂Y: [tokens, out]`; see the [module](self). A weight without any
/// spread has no gradient through σ.
///
/// # Errors
/// As [`forward`], and [`Error::ShapeMismatch`] when `upstream` is not of `tokens · out` entries.
pub fn backward(
    weight: &[f32],
    shape: (usize, usize),
    codebook: &Codebook,
    x: &[f32],
    upstream: &[f32],
) -> Result<Gradients, Error> {
    let latent = Latent::new(weight, shape)?;
    let decoded = Clustered::encode(weight, shape, codebook)?.decode(codebook)?;
    let (out, features) = shape;
    let tokens = check_rows("activations", x, features)?;
    if check_rows("upstream gradient", upstream, out)? != tokens {
        let found = (upstream.len() / out, out);
        return Err(Error::ShapeMismatch { what: "upstream gradient", expected: (tokens, out), found });
    }
    let mut input = vec![0.0; x.len()];
    // g = Eᵀ·X, in f64: its sums over all entries follow.
    let mut g = vec![0.0_f64; weight.len()];
    let rows = x.chunks_exact(features).zip(input.chunks_exact_mut(features)).zip(upstream.chunks_exact(out));
    for ((x, input), upstream) in rows {
        let of_weight = decoded.chunks_exact(features).zip(g.chunks_exact_mut(features));
        for ((w, g), &e) in of_weight.zip(upstream) {
            for (((input, g), &w), &x) in input.iter_mut().zip(g).zip(w).zip(x) {
                *input += e * w;
                *g += f64::from(e) * f64::from(x);
            }
        }
    }
    let count = weight.len() as f64;
    let divisor = latent.deviation + EPSILON;
    let through = latent.deviation / divisor;
    let (mut total, mut along, mut coded) = (0.0, 0.0, 0.0);
    for (&g, &w) in g.iter().zip(weight) {
        total += g;
        along += g * (f64::from(w) - latent.mean);
        coded += g * f64::from(codebook.value(codebook.encode(latent.normalized(w))));
    }
    let mean = total / count;
    let through_deviation = coded - through / divisor * along;
    let latent = g
        .iter()
        .zip(weight)
        .map(|(&g, &w)| {
            let centred = f64::from(w) - latent.mean;
            let deviation =
                if latent.deviation > 0.0 { centred / ((count - 1.0) * latent.deviation) } else { 0.0 };
            float::narrow(through * (g - mean) + mean + deviation * through_deviation)
        })
        .collect();
    Ok(Gradients { input, latent })
}

/// Mean and deviation of a latent weight.
struct Latent {
    mean: f64,
    deviation: f64,
}

impl Latent {
    fn new(weight: &[f32], shape: (usize, usize)) -> Result<Self, Error> {
        if shape.0.checked_mul(shape.1) != Some(weight.len()) || weight.len() < 2 {
            let what = "adapter of at least two entries";
            return Err(Error::ShapeMismatch { what, expected: shape, found: (1, weight.len()) });
        }
        if let Some(at) = weight.iter().position(|w| !w.is_finite()) {
            return Err(Error::NonFinite { row: at / shape.1, col: at % shape.1 });
        }
        let count = weight.len() as f64;
        let mean = weight.iter().map(|w| f64::from(*w)).sum::<f64>() / count;
        let squares = weight.iter().map(|w| (f64::from(*w) - mean) * (f64::from(*w) - mean)).sum::<f64>();
        Ok(Self { mean, deviation: Float::sqrt(squares / (count - 1.0)) })
    }

    /// `w̃`.
    fn normalized(&self, w: f32) -> f32 {
        float::narrow((f64::from(w) - self.mean) / (self.deviation + EPSILON))
    }
}

/// The number of rows of `width > 0` entries in `values`.
fn check_rows(what: &'static str, values: &[f32], width: usize) -> Result<usize, Error> {
    let rows = values.len() / width;
    if rows * width == values.len() {
        Ok(rows)
    } else {
        Err(Error::ShapeMismatch { what, expected: (rows, width), found: (1, values.len()) })
    }
}
