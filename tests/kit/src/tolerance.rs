//! Comparisons of slices of floats. Every one fails when a value is NaN.

/// Panics unless both slices have one length and `|actualᵢ − expectedᵢ| ≤ bound` for every `i`.
///
/// A NaN anywhere fails (also a NaN on both sides), and so do two infinities: their difference is NaN.
#[track_caller]
pub fn assert_close<T: Copy + Into<f64>>(actual: &[T], expected: &[T], bound: f64) {
    assert_eq!(actual.len(), expected.len(), "the slices differ in length");
    for (index, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let (a, e): (f64, f64) = (a.into(), e.into());
        let difference = (a - e).abs();
        assert!(
            difference <= bound,
            "index {index}: {a:e} is {difference:e} from {e:e}, more than {bound:e}"
        );
    }
}

/// Relative difference of two vectors in the Euclidean norm, with 0/0 = 0.
///
/// ```text
/// ‖actual − expected‖ / ‖expected‖
/// ```
///
/// NaN in either slice gives NaN, which no `<=` accepts.
///
/// # Panics
/// When the slices differ in length.
#[track_caller]
pub fn relative_difference<T: Copy + Into<f64>>(actual: &[T], expected: &[T]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "the slices differ in length");
    let (mut difference, mut size) = (0.0f64, 0.0f64);
    for (&a, &e) in actual.iter().zip(expected) {
        let (a, e): (f64, f64) = (a.into(), e.into());
        difference += (a - e) * (a - e);
        size += e * e;
    }
    if difference == 0.0 { 0.0 } else { (difference / size).sqrt() }
}

/// Panics unless [`relative_difference`] is at most `bound`.
#[track_caller]
pub fn assert_relative<T: Copy + Into<f64>>(actual: &[T], expected: &[T], bound: f64) {
    let difference = relative_difference(actual, expected);
    assert!(difference <= bound, "the relative difference is {difference:e}, more than {bound:e}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_up_to_the_bound() {
        assert_close(&[1.0f64, 2.0], &[1.5, 2.0], 0.5);
        assert_close::<f32>(&[], &[], 0.0);
        // ‖(3, 4) − (3, 3)‖ / ‖(3, 3)‖ = 1 / √18
        assert!((relative_difference(&[3.0f64, 4.0], &[3.0, 3.0]) - 1.0 / 18f64.sqrt()).abs() < 1e-15);
        assert_eq!(relative_difference(&[0.0f32], &[0.0]), 0.0);
        assert_eq!(relative_difference(&[1.0f32], &[0.0]), f64::INFINITY);
    }

    #[test]
    #[should_panic(expected = "index 1")]
    fn rejects_beyond_the_bound() {
        assert_close(&[1.0f32, 2.0], &[1.0, 2.5], 0.4);
    }

    #[test]
    #[should_panic(expected = "index 0")]
    fn rejects_nan_on_both_sides() {
        assert_close(&[f32::NAN], &[f32::NAN], f64::INFINITY);
    }

    #[test]
    #[should_panic(expected = "relative difference is NaN")]
    fn rejects_a_relative_nan() {
        assert_relative(&[f32::NAN], &[1.0], 1.0);
    }

    #[test]
    #[should_panic(expected = "differ in length")]
    fn rejects_other_lengths() {
        assert_close(&[1.0f32], &[], 1.0);
    }
}
