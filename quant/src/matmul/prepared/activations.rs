//! Inputs as whole numbers of 8 bits, in the order that the kernels read them.
//!
//! ```text
//! token tile   r tokens (8, or 4 without AVX-512; the last tile has what is left)
//! lanes        [columns / 4][r]   four neighbouring inputs of a token, q ∈ −127 … 127: natural order for one token
//! scales       [groups][r]        s = max|x| / 127 over the group, or over the token
//! sums         [groups][r]        s·Σq of the group (Σq where s belongs to the token), for zero points and minima
//! corrections  [groups][r]        −offset·Σq: takes the codes' offset off again; once for the weight's offset, once for 128
//! pairs        [chains][r]        the same of the even and odd half lanes, modulo 2¹⁶, for sums of 16 bits
//! ```
//! −128 does not occur: it has no negative in 8 bits.

use super::Prepared;
use super::layout::{LANES, Plan, STEP};
use crate::simd::Kernels;
use crate::{Error, rows};
use alloc::vec::Vec;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Tokens of a tile at most.
pub(crate) const TOKENS: usize = 8;
/// A group whose largest magnitude is below counts as zeros.
const TINY: f32 = f32::from_bits((127 - 100) << 23);
/// Adding it leaves the nearest whole number in the low bits of a float.
const ROUNDING: f32 = 12_582_912.0;

/// Who shares an activation scale.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum ScaleOf {
    /// The inputs of one group of the weight: the more accurate choice.
    #[default]
    Group,
    /// All inputs of a token: saves one multiplication a group.
    Token,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A type that inputs come in: `f32`, `f16` or `bf16` of the crate `half`.
pub trait Input: sealed::Sealed + Copy {
    /// `x` as f32, in `room` (as long) where it is not already.
    #[doc(hidden)]
    fn floats<'a>(x: &'a [Self], room: &'a mut [f32]) -> &'a [f32];
}

impl Input for f32 {
    fn floats<'a>(x: &'a [Self], _: &'a mut [f32]) -> &'a [f32] {
        x
    }
}

impl Input for f16 {
    fn floats<'a>(x: &'a [Self], room: &'a mut [f32]) -> &'a [f32] {
        x.convert_to_f32_slice(room);
        room
    }
}

impl Input for bf16 {
    fn floats<'a>(x: &'a [Self], room: &'a mut [f32]) -> &'a [f32] {
        x.convert_to_f32_slice(room);
        room
    }
}

/// Inputs quantized for a [`Prepared`] weight, and the memory they lie in, which the next ones reuse.
///
/// ```text
/// q_tk = rne(x_tk · 127/m),  s = m/127,  m = max|x| over the group (or token);  |x − s·q| ≤ s/2
/// ```
/// A group with `m < 2⁻¹⁰⁰` counts as zeros.
#[derive(Clone, Debug, Default)]
pub struct PreparedActivations {
    tokens: usize,
    width: usize,
    key: Option<Key>,
    scale_of: ScaleOf,
    lanes: Vec<[i8; LANES]>,
    scales: Vec<f32>,
    sums: Vec<f32>,
    corrections: [Vec<i32>; 2],
    pairs: Vec<[i16; 2]>,
    row: Vec<f32>,
    natural: Vec<i8>,
}

/// What inputs and weight must agree in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key {
    columns: usize,
    group: usize,
    offset: i32,
    chain: usize,
}

impl Key {
    const fn new(plan: &Plan) -> Self {
        Self { columns: plan.shape.1, group: plan.group, offset: plan.offset, chain: plan.chain }
    }

    /// Whether inputs made for `self` also fit a weight of `other`: the same groups, and 8-bit codes or the same offset.
    const fn fits(&self, other: &Self) -> bool {
        let same = self.offset == other.offset && self.chain == other.chain;
        self.columns == other.columns && self.group == other.group && (same || other.offset == 128)
    }
}

/// A few tokens of one tile, as a kernel reads them: every slice begins at the first token, neighbours in time are
/// `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens<'a> {
    pub(crate) stride: usize,
    pub(crate) lanes: &'a [[i8; LANES]],
    pub(crate) scales: &'a [f32],
    pub(crate) sums: &'a [f32],
    pub(crate) corrections: &'a [i32],
    pub(crate) pairs: &'a [[i16; 2]],
    /// A scale belongs to its token.
    pub(crate) uniform: bool,
}

impl Tokens<'_> {
    /// Those from token `at` on.
    pub(crate) fn skip(&self, at: usize) -> Self {
        Self {
            stride: self.stride,
            lanes: self.lanes.get(at..).unwrap_or(&[]),
            scales: self.scales.get(at..).unwrap_or(&[]),
            sums: self.sums.get(at..).unwrap_or(&[]),
            corrections: self.corrections.get(at..).unwrap_or(&[]),
            pairs: self.pairs.get(at..).unwrap_or(&[]),
            uniform: self.uniform,
        }
    }

    /// Whether `tokens` of them are there for `plan`, and all that kernels read of them.
    pub(crate) fn hold(&self, plan: &Plan, tokens: usize) -> bool {
        let has = |len: usize, rows: usize| rows == 0 || (rows - 1) * self.stride + tokens <= len;
        tokens <= self.stride
            && has(self.lanes.len(), plan.lanes())
            && has(self.scales.len(), plan.groups)
            && has(self.sums.len(), plan.groups)
            && has(self.corrections.len(), plan.groups)
            && (plan.chain == 0 || has(self.pairs.len(), plan.all_chains()))
    }
}

impl PreparedActivations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory for `tokens` inputs of `weight`, after which [`PreparedActivations::quantize`] allocates nothing for as many
    /// or fewer.
    pub fn reserve(&mut self, weight: &Prepared, tokens: usize) {
        let plan = weight.plan();
        let (lanes, groups, chains) = (plan.lanes(), plan.groups, plan.all_chains());
        grow(&mut self.lanes, [0; LANES], tokens.saturating_mul(lanes));
        grow(&mut self.scales, 0.0, tokens.saturating_mul(groups));
        grow(&mut self.sums, 0.0, tokens.saturating_mul(groups));
        for corrections in &mut self.corrections {
            grow(corrections, 0, tokens.saturating_mul(groups));
        }
        grow(&mut self.pairs, [0; 2], tokens.saturating_mul(chains));
        grow(&mut self.row, 0.0, plan.shape.1);
        grow(&mut self.natural, 0, lanes * LANES);
    }

    /// Whether there is memory for `tokens` inputs of `weight`.
    pub fn holds(&self, weight: &Prepared, tokens: usize) -> bool {
        let plan = weight.plan();
        let enough = |len: usize, each: usize| len >= tokens.saturating_mul(each);
        enough(self.lanes.len(), plan.lanes())
            && enough(self.scales.len().min(self.sums.len()), plan.groups)
            && self.corrections.iter().all(|corrections| enough(corrections.len(), plan.groups))
            && enough(self.pairs.len(), plan.all_chains())
            && self.row.len() >= plan.shape.1
            && self.natural.len() >= plan.lanes() * LANES
    }

    /// Bytes that [`PreparedActivations::reserve`] takes for `tokens` inputs of `weight`.
    pub fn bytes(weight: &Prepared, tokens: usize) -> usize {
        let plan = weight.plan();
        let token = 4 * (plan.lanes() + 4 * plan.groups + plan.all_chains());
        tokens.saturating_mul(token).saturating_add(4 * plan.shape.1 + LANES * plan.lanes())
    }

    /// Quantizes the row-major `x`, `[tokens, in]`, for `weight`, and for all weights of as many columns in the same
    /// groups and of the same [kind of codes](super#kinds), or of 8 bits. Cost O(tokens · in).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` does not have `tokens · in` entries; [`Error::ActivationNonFinite`] naming the
    /// first NaN or infinity. There are no inputs then.
    pub fn quantize<X: Input>(
        &mut self,
        weight: &Prepared,
        x: &[X],
        tokens: usize,
        scale_of: ScaleOf,
    ) -> Result<(), Error> {
        let plan = weight.plan();
        let features = plan.shape.1;
        self.key = None;
        self.tokens = 0;
        rows::check_len("activations", x.len(), (tokens, features))?;
        self.reserve(weight, tokens);
        self.scale_of = scale_of;
        self.width = super::Isa::current().width();
        let kernels = Kernels::current();
        for token in 0..tokens {
            let x = X::floats(&x[token * features..][..features], &mut self.row[..features]);
            let first = token / self.width * self.width;
            let stride = self.width.min(tokens - first);
            let mut place = Place {
                plan,
                scale_of,
                at: token - first,
                stride,
                natural: &mut self.natural,
                lanes: &mut self.lanes[first * plan.lanes()..],
                scales: &mut self.scales[first * plan.groups..],
                sums: &mut self.sums[first * plan.groups..],
                corrections: self.corrections.each_mut().map(|all| &mut all[first * plan.groups..]),
                pairs: &mut self.pairs[first * plan.all_chains()..],
            };
            let finite = match kernels {
                #[cfg(target_arch = "x86_64")]
                Kernels::Avx2(_) => {
                    // SAFETY: the kernels of AVX2 are chosen only where the processor has it.
                    unsafe { token_avx2(&mut place, x) }
                }
                Kernels::Portable => place.token(x),
            };
            if !finite {
                let feature = x.iter().position(|x| !x.is_finite()).unwrap_or(0);
                return Err(Error::ActivationNonFinite { token, feature });
            }
        }
        self.key = Some(Key::new(plan));
        self.tokens = tokens;
        Ok(())
    }

    /// Number of tokens.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens and features, `(0, 0)` before any were quantized.
    pub fn shape(&self) -> (usize, usize) {
        (self.tokens, self.key.map_or(0, |key| key.columns))
    }

    /// Whether a product with `weight` takes these inputs.
    pub(crate) fn fit(&self, plan: &Plan) -> bool {
        self.key.is_some_and(|key| key.fits(&Key::new(plan)))
    }

    /// The tile that holds token `token`: its first token and how many it has.
    pub(crate) fn tile(&self, token: usize) -> (usize, usize) {
        let first = token / self.width.max(1) * self.width;
        (first, self.width.min(self.tokens - first))
    }

    /// Tokens `token ..` of their tile, for a weight that these inputs [fit](Self::fit).
    pub(crate) fn tokens_from(&self, plan: &Plan, token: usize) -> Tokens<'_> {
        let (first, stride) = self.tile(token);
        let at = token - first;
        let (lanes, groups, chains) = (plan.lanes(), plan.groups, plan.all_chains());
        // 8-bit codes may come with inputs made for others, whose chains then are of no use.
        let chains = if plan.chain == 0 { 0 } else { chains };
        let part = |per: usize| (first * per + at).min((first + stride) * per)..(first + stride) * per;
        Tokens {
            stride,
            lanes: &self.lanes[part(lanes)],
            scales: &self.scales[part(groups)],
            sums: &self.sums[part(groups)],
            corrections: &self.corrections[usize::from(plan.offset == 128)][part(groups)],
            pairs: &self.pairs[part(chains)],
            uniform: self.scale_of == ScaleOf::Token,
        }
    }
}

fn grow<T: Clone>(vec: &mut Vec<T>, value: T, len: usize) {
    if vec.len() < len {
        vec.resize(len, value);
    }
}

/// Where a token's numbers go: everything from its tile's first entry on.
struct Place<'a> {
    plan: &'a Plan,
    scale_of: ScaleOf,
    /// The token in its tile.
    at: usize,
    stride: usize,
    natural: &'a mut [i8],
    lanes: &'a mut [[i8; LANES]],
    scales: &'a mut [f32],
    sums: &'a mut [f32],
    corrections: [&'a mut [i32]; 2],
    pairs: &'a mut [[i16; 2]],
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn token_avx2(place: &mut Place<'_>, x: &[f32]) -> bool {
    place.token(x)
}

impl Place<'_> {
    /// Quantizes a token; `false` when something in it is not finite.
    #[inline(always)]
    fn token(&mut self, x: &[f32]) -> bool {
        let (plan, stride, at) = (self.plan, self.stride, self.at);
        let token = match self.scale_of {
            ScaleOf::Token => {
                let Some(scale) = scale(x) else { return false };
                Some(scale)
            }
            ScaleOf::Group => None,
        };
        for (group, x) in x.chunks(plan.group).enumerate() {
            let Some((scale, inverse)) = token.or_else(|| scale(x)) else { return false };
            let (first, columns) = (plan.first_lane(group), plan.columns(group));
            let natural = &mut self.natural[first * LANES..][..columns];
            for (q, &x) in natural.iter_mut().zip(x) {
                *q = round(x * inverse);
            }
            natural[x.len()..].fill(0);
            let mut whole = 0;
            let chain = if plan.chain == 0 { columns } else { plan.chain };
            for (chain, natural) in natural.chunks(chain).enumerate() {
                let [even, odd] = halves(natural);
                whole += even + odd;
                if plan.chain != 0 {
                    let pair = [even, odd].map(|sum| low(-plan.offset * sum));
                    self.pairs[(plan.first_chain(group) + chain) * stride + at] = pair;
                }
            }
            let place = group * stride + at;
            self.scales[place] = scale;
            self.sums[place] = if token.is_some() { whole as f32 } else { scale * whole as f32 };
            self.corrections[0][place] = -plan.offset * whole;
            self.corrections[1][place] = -128 * whole;
        }
        let natural = self.natural[..plan.lanes() * LANES].as_chunks::<LANES>().0;
        if stride == 1 {
            self.lanes[..natural.len()].copy_from_slice(natural);
        } else {
            // Without columns there is not even one lane for each token.
            let first = at.min(self.lanes.len());
            for (lane, q) in self.lanes[first..].iter_mut().step_by(stride).zip(natural) {
                *lane = *q;
            }
        }
        true
    }
}

/// Scale and what to multiply with; `None` when something is not finite.
#[inline(always)]
fn scale(x: &[f32]) -> Option<(f32, f32)> {
    let mut top = 0_u32;
    for x in x {
        // Magnitudes are ordered as their bits are.
        top = top.max(x.to_bits() & 0x7FFF_FFFF);
    }
    let top = f32::from_bits(top);
    if !top.is_finite() {
        return None;
    }
    Some(if top < TINY { (0.0, 0.0) } else { (top / 127.0, 127.0 / top) })
}

/// The nearest whole number of `x`, which is at most 127.5 either way; ties to even.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low byte is the number, in two's complement")]
const fn round(x: f32) -> i8 {
    (x + ROUNDING).to_bits() as i8
}

/// Sums over lanes 0, 1 and over lanes 2, 3 of each four.
#[inline(always)]
fn halves(natural: &[i8]) -> [i32; 2] {
    let mut sums = [0_i32; STEP];
    for eight in natural.as_chunks::<STEP>().0 {
        for (sum, &q) in sums.iter_mut().zip(eight) {
            *sum += i32::from(q);
        }
    }
    [sums[0] + sums[1] + sums[4] + sums[5], sums[2] + sums[3] + sums[6] + sums[7]]
}

/// Modulo 2¹⁶.
#[expect(clippy::cast_possible_truncation, reason = "sums of 16 bits wrap on purpose")]
const fn low(x: i32) -> i16 {
    x as i16
}
