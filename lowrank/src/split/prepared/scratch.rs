//! Memory that a product needs besides its operands.

use super::{Base, Branch, Inputs, PreparedLinear};
use alloc::vec::Vec;
use rankbit_quant::matmul::prepared::{FloatActivations, PreparedActivations};

/// Room for one product at a time, of any layer that it was [reserved](Scratch::reserve) for.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Inputs as f32, where they come in another type.
    pub(super) plain: Vec<f32>,
    /// X·T.
    pub(super) transformed: Vec<f32>,
    /// X·Rᵀ.
    pub(super) projected: Vec<f32>,
    pub(super) codes: PreparedActivations,
    pub(super) floats: FloatActivations,
    pub(super) inner_codes: PreparedActivations,
    pub(super) inner_floats: FloatActivations,
    pub(super) base_floats: FloatActivations,
}

/// What a layer needs of each part for some tokens.
pub(super) struct Needs {
    matrix: usize,
    transformed: usize,
    projected: usize,
    /// X as floats beside the codes or the transformed inputs.
    floats: usize,
    base_floats: usize,
}

impl Needs {
    pub(super) fn new(linear: &PreparedLinear, tokens: usize) -> Self {
        let features = linear.shape.1;
        let matrix = tokens.saturating_mul(features);
        let only = |needed: bool| if needed { matrix } else { 0 };
        let floats = matches!(linear.branch, Some(Branch::Floats { .. }));
        Self {
            matrix,
            transformed: only(linear.transform.is_some()),
            projected: tokens.saturating_mul(linear.rank()),
            floats: only(floats),
            base_floats: only(matches!(linear.base, Base::Codes(_)) && linear.inputs == Inputs::Float),
        }
    }
}

impl Scratch {
    /// No room yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for products of `linear` with up to `tokens` inputs; what was there before stays.
    pub fn reserve(&mut self, linear: &PreparedLinear, tokens: usize) {
        let (needs, features) = (Needs::new(linear, tokens), linear.shape.1);
        for (room, len) in [
            (&mut self.plain, needs.matrix),
            (&mut self.transformed, needs.transformed),
            (&mut self.projected, needs.projected),
        ] {
            if room.len() < len {
                room.resize(len, 0.0);
            }
        }
        if needs.floats > 0 {
            self.floats.reserve(features, tokens);
        }
        if needs.base_floats > 0 {
            self.base_floats.reserve(features, tokens);
        }
        if let Some(weight) = linear.quantizes_for() {
            self.codes.reserve(weight, tokens);
        }
        match &linear.branch {
            Some(Branch::Codes { left, .. }) => self.inner_codes.reserve(left, tokens),
            Some(Branch::Floats { left, .. }) => self.inner_floats.reserve(left.shape().1, tokens),
            None => {}
        }
    }

    /// Bytes that [`Scratch::reserve`] takes for `linear` and `tokens` inputs.
    pub fn bytes(linear: &PreparedLinear, tokens: usize) -> usize {
        let (needs, features) = (Needs::new(linear, tokens), linear.shape.1);
        let floats = |needed: usize| if needed > 0 { FloatActivations::bytes(features, tokens) } else { 0 };
        let codes = linear.quantizes_for().map_or(0, |weight| PreparedActivations::bytes(weight, tokens));
        let inner = match &linear.branch {
            Some(Branch::Codes { left, .. }) => PreparedActivations::bytes(left, tokens),
            Some(Branch::Floats { left, .. }) => FloatActivations::bytes(left.shape().1, tokens),
            None => 0,
        };
        [
            needs.matrix.saturating_mul(4),
            needs.transformed.saturating_mul(4),
            needs.projected.saturating_mul(4),
            floats(needs.floats),
            floats(needs.base_floats),
            codes,
            inner,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// Whether there is room for `tokens` inputs of `linear`.
    pub(super) fn holds(&self, linear: &PreparedLinear, tokens: usize) -> bool {
        let (needs, features) = (Needs::new(linear, tokens), linear.shape.1);
        let inner = match &linear.branch {
            Some(Branch::Codes { left, .. }) => self.inner_codes.holds(left, tokens),
            Some(Branch::Floats { left, .. }) => self.inner_floats.holds(left.shape().1, tokens),
            None => true,
        };
        inner
            && self.plain.len() >= needs.matrix
            && self.transformed.len() >= needs.transformed
            && self.projected.len() >= needs.projected
            && (needs.floats == 0 || self.floats.holds(features, tokens))
            && (needs.base_floats == 0 || self.base_floats.holds(features, tokens))
            && linear.quantizes_for().is_none_or(|weight| self.codes.holds(weight, tokens))
    }
}
