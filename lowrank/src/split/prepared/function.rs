//! Functions that follow a linear layer.

use num_traits::Float;

/// An activation function, applied to every output while it is hot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Function {
    /// `max(x, 0)`; NaN stays NaN.
    Relu,
    /// `x·(1 + erf(x/√2))/2`.
    Gelu,
    /// `x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2`.
    GeluTanh,
    /// `x/(1 + exp(−x))`.
    Silu,
}

impl Function {
    /// Its value, within a few units in the last place of `|x|`.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Relu if x < 0.0 => 0.0,
            Self::Relu => x,
            Self::Gelu => 0.5 * x * (1.0 + libm::erff(x * core::f32::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                const ROOT: f32 = 0.797_884_6;
                0.5 * x * (1.0 + Float::tanh(ROOT * (x + 0.044_715 * x * x * x)))
            }
            Self::Silu if x == f32::NEG_INFINITY => 0.0,
            Self::Silu => x / (1.0 + Float::exp(-x)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Function;

    #[test]
    fn known_values() {
        for (function, x, y) in [
            (Function::Relu, -1.0, 0.0),
            (Function::Relu, 2.5, 2.5),
            (Function::Gelu, 1.0, 0.841_344_7),
            (Function::Gelu, -3.0, -0.004_049_7),
            (Function::GeluTanh, 1.0, 0.841_192),
            (Function::Silu, 1.0, 0.731_058_6),
            (Function::Silu, f32::NEG_INFINITY, 0.0),
        ] {
            assert!((function.apply(x) - y).abs() < 1e-6, "{function:?} {x}: {}", function.apply(x));
        }
        for function in [Function::Relu, Function::Gelu, Function::GeluTanh, Function::Silu] {
            assert!(function.apply(f32::NAN).is_nan(), "{function:?}");
        }
    }
}
