//! Rows of mean 0 and variance 1, and rows of length 1.

use alloc::{vec, vec::Vec};

use num_traits::Float;

use super::super::tape::{Matrix, Pull, Tape, Var, dot};
use crate::{Element, Error};

/// Least length that a row is divided by.
const LEAST: f64 = 1e-12;

/// Rows over their lengths, and the reciprocal lengths; whether a row was so short that [`LEAST`] took its place.
struct Unit<T>(Var, Vec<(T, bool)>);

impl<T: Element> Pull<T> for Unit<T> {
    fn pull(&self, _: &Tape<T>, value: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let mut data = Vec::with_capacity(up.data.len());
        for ((unit, up), &(factor, short)) in value.lines().zip(up.lines()).zip(&self.1) {
            let along = if short { T::from_f64(0.0) } else { dot(unit, up) };
            data.extend(unit.iter().zip(up).map(|(&x, &up)| factor * (up - along * x)));
        }
        Ok(vec![(self.0, Matrix { data, ..*up })])
    }
}

impl<T: Element> Tape<T> {
    /// `x/max(|x|, 10⁻¹²)` of each row.
    pub(in super::super) fn unit(&mut self, a: Var) -> Var {
        let from = self.value(a);
        let least = T::from_f64(LEAST);
        let (mut data, mut factors) = (Vec::with_capacity(from.data.len()), vec![]);
        for line in from.lines() {
            let norm = Float::sqrt(dot(line, line));
            // Not `max`: a length that overflows has to show.
            let short = norm < least;
            let factor = Float::recip(if short { least } else { norm });
            data.extend(line.iter().map(|&x| x * factor));
            factors.push((factor, short));
        }
        let value = Matrix { data, ..*from };
        self.record(value, Unit(a, factors))
    }

    /// `scale ⊙ LN(x) + shift` of each row.
    pub(in super::super) fn affine(&mut self, a: Var, scale: Var, shift: Var, epsilon: f64) -> Var {
        let normal = self.normalize(a, epsilon);
        let scaled = self.times(normal, scale);
        self.sum(scaled, shift)
    }
}
