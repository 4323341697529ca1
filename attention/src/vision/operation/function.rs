//! Functions of single entries.

use alloc::{vec, vec::Vec};

use num_traits::Float;

use super::super::tape::{Matrix, Pull, Tape, Var};
use crate::{Element, Error};

/// A function and its derivative.
#[derive(Clone, Copy)]
pub(in super::super) enum Function {
    /// `x·Φ(x)`, Φ the normal distribution.
    Gelu,
    /// x where positive, else `slope·x`.
    Rectified(f64),
    /// x where negative, else 0.
    Negative,
    Tanh,
    /// `ln(1 + exp x)`.
    Softplus,
}

impl Function {
    /// Value and derivative, in f64.
    fn at(self, x: f64) -> (f64, f64) {
        match self {
            Self::Gelu => {
                let below = 0.5 * libm::erfc(-x * core::f64::consts::FRAC_1_SQRT_2);
                let density = Float::exp(-0.5 * x * x) * 0.398_942_280_401_432_7;
                // 0·∞ where x² overflows.
                let slope = if density > 0.0 { x * density } else { 0.0 };
                (x * below, below + slope)
            }
            Self::Rectified(slope) if x <= 0.0 => (slope * x, slope),
            Self::Rectified(_) => (x, 1.0),
            Self::Negative if x < 0.0 => (x, 1.0),
            Self::Negative => (0.0, 0.0),
            Self::Tanh => {
                let y = Float::tanh(x);
                (y, 1.0 - y * y)
            }
            Self::Softplus => {
                let small = Float::exp(-Float::abs(x));
                let slope = if x > 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
                (x.max(0.0) + Float::ln_1p(small), slope)
            }
        }
    }
}

struct Apply(Var, Function);

impl<T: Element> Pull<T> for Apply {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let from = tape.value(self.0);
        let data = from.data.iter().zip(&up.data).map(|(&x, &up)| up * T::from_f64(self.1.at(x.to_f64()).1));
        Ok(vec![(self.0, Matrix { data: data.collect(), ..*from })])
    }
}

impl<T: Element> Tape<T> {
    /// The function of each entry.
    pub(in super::super) fn apply(&mut self, a: Var, function: Function) -> Var {
        let from = self.value(a);
        let data = from.data.iter().map(|&x| T::from_f64(function.at(x.to_f64()).0)).collect();
        let value = Matrix { data, ..*from };
        self.record(value, Apply(a, function))
    }

    /// x where positive, else `slope ⊙ x`; `slope` is 1×1 or one row.
    pub(in super::super) fn prelu(&mut self, a: Var, slope: Var) -> Var {
        let positive = self.apply(a, Function::Rectified(0.0));
        let negative = self.apply(a, Function::Negative);
        let scaled = self.times(negative, slope);
        self.sum(positive, scaled)
    }
}
