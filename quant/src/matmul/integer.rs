//! The inner loop of products of whole numbers.

/// Terms that 32 bits hold: `128 · 255 · 2¹⁵ < 2³¹`.
const TERMS: usize = 1 << 15;

/// `Σ a_k·b_k` over the shorter length, exactly, for `|a| ≤ 128` and `|b| ≤ 255` (32 bits hold a run of 2¹⁵ terms,
/// 64 bits any number of runs).
pub(super) fn integer_dot(a: &[i16], b: &[i16]) -> i64 {
    let runs = a.chunks(TERMS).zip(b.chunks(TERMS));
    runs.map(|(a, b)| {
        let sum: i32 = a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
        i64::from(sum)
    })
    .sum()
}

#[cfg(test)]
mod tests {
    use super::integer_dot;
    use alloc::vec;

    #[test]
    fn the_largest_sums_are_exact() {
        for len in [0, 1, 2, 32_767, 32_768, 32_769, 200_000] {
            let (a, b) = (vec![-128; len], vec![255; len]);
            assert_eq!(integer_dot(&a, &b), -128 * 255 * i64::try_from(len).unwrap());
        }
    }
}
