//! A function applied to a product's result in the dispatch that makes it.

/// What is applied to each entry of a result. Twin of `shader/shared/nonlinearity.wgsl`.
///
/// ```text
/// SiLU(x) = x / (1 + e⁻ˣ)        GELU(x) ≈ x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))
/// ```
/// **Accuracy** on a device, beside that of `x`: ReLU is exact; SiLU is off by at most `(2·|x| + 8)·2⁻²³` of its value, GELU
/// by `2⁻¹⁶·|x|` (WGSL promises no more of its exponential and tangent). Sources: arXiv 1606.08415 (GELU, section 2),
/// 1702.03118 (SiLU).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Nonlinearity {
    /// The result as it is.
    #[default]
    None,
    /// `max(x, 0)`; NaN stays.
    Relu,
    /// `x / (1 + e⁻ˣ)`.
    Silu,
    /// GELU by its usual tanh.
    GeluTanh,
}

impl Nonlinearity {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Relu, Self::Silu, Self::GeluTanh];

    /// Its value at `x`.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + u.tanh())
            }
        }
    }

    /// Its number in the kernels.
    pub(crate) const fn number(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Relu => 1.0,
            Self::Silu => 2.0,
            Self::GeluTanh => 3.0,
        }
    }
}
