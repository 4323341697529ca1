//! Proptest strategies for matrices that are unkind to quantizers and factorizations.

use std::fmt::{self, Debug};
use std::ops::RangeInclusive;

use proptest::collection::vec;
use proptest::prelude::*;

/// A row-major matrix of finite values.
#[derive(Clone, PartialEq)]
pub struct Matrix {
    /// How many rows it has.
    pub rows: usize,
    /// How many columns it has.
    pub cols: usize,
    /// `rows · cols` values, row after row.
    pub values: Vec<f32>,
}

impl Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{} {:?}", self.rows, self.cols, self.values)
    }
}

/// What one row of a [`matrix`] is made of.
#[derive(Clone, Copy, Debug)]
enum Row {
    Even,
    HeavyTailed,
    Zero,
    Constant,
    WideRange,
}

/// Matrices with side lengths in the given ranges. Rows are of several kinds, mixed: even (within ±1),
/// heavy-tailed (a few values up to a thousand times the rest), all zero, constant, and of wide dynamic range
/// (magnitudes from 2⁻⁴⁰ to 2⁴⁰, either sign, exact zeros between). All values are finite; their squares and
/// the sums of those over any row stay finite in `f32`.
pub fn matrix(rows: RangeInclusive<usize>, cols: RangeInclusive<usize>) -> impl Strategy<Value = Matrix> {
    (rows, cols).prop_flat_map(|(rows, cols)| {
        vec(row(cols), rows).prop_map(move |values| Matrix { rows, cols, values: values.concat() })
    })
}

/// Matrices whose every value lies in ±1: for tests whose bound is about rounding, not about range.
pub fn even_matrix(
    rows: RangeInclusive<usize>,
    cols: RangeInclusive<usize>,
) -> impl Strategy<Value = Matrix> {
    (rows, cols).prop_flat_map(|(rows, cols)| {
        vec(-1.0f32..=1.0, rows * cols).prop_map(move |values| Matrix { rows, cols, values })
    })
}

fn row(cols: usize) -> impl Strategy<Value = Vec<f32>> {
    let kind = prop_oneof![
        4 => Just(Row::Even),
        3 => Just(Row::HeavyTailed),
        1 => Just(Row::Zero),
        1 => Just(Row::Constant),
        2 => Just(Row::WideRange),
    ];
    (kind, vec((-1.0f32..=1.0, 0u8..40, -40i32..=40), cols)).prop_map(|(kind, draws)| {
        let constant = draws.first().map_or(0.0, |draw| draw.0);
        let value = |(even, chance, exponent): (f32, u8, i32)| match kind {
            Row::Even => even,
            Row::HeavyTailed if chance == 0 => even * 1000.0,
            Row::HeavyTailed => even,
            Row::Zero => 0.0,
            Row::Constant => constant,
            Row::WideRange if chance < 4 => 0.0,
            Row::WideRange => even * (exponent as f32).exp2(),
        };
        draws.into_iter().map(value).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    #[test]
    fn every_kind_of_row_turns_up() {
        let mut runner = TestRunner::deterministic();
        let (mut zero, mut constant, mut tail, mut wide) = (0, 0, 0, 0);
        for _ in 0..50 {
            let drawn = matrix(1..=8, 2..=70).new_tree(&mut runner).expect("no filter rejects").current();
            assert_eq!(drawn.values.len(), drawn.rows * drawn.cols);
            assert!(drawn.values.iter().all(|value| value.is_finite()));
            for row in drawn.values.chunks_exact(drawn.cols) {
                let largest = row.iter().fold(0f32, |most, value| most.max(value.abs()));
                zero += usize::from(largest == 0.0);
                constant += usize::from(largest > 0.0 && row.iter().all(|value| *value == row[0]));
                tail += usize::from((2.0..=1000.0).contains(&largest));
                wide += usize::from(largest > 1000.0);
            }
        }
        assert!(zero > 0 && constant > 0 && tail > 0 && wide > 0, "{zero} {constant} {tail} {wide}");
    }
}
