//! The inner loop of the portable product.

/// Partial sums kept side by side: two vectors of eight, so that the compiler can use vector registers.
const LANES: usize = 16;

/// `Σ a_k·b_k` over the shorter length, in a fixed order: 16 partial sums, then a fixed tree.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let (a, b) = (&a[..len], &b[..len]);
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0] + tail
}

#[cfg(test)]
mod tests {
    use super::dot;

    #[test]
    fn entries_past_the_shorter_length_do_not_count() {
        let long: [f32; 40] = core::array::from_fn(|i| if i < 17 { 1.0 } else { 1000.0 });
        assert_eq!(dot(&long, &[1.0; 17]), 17.0);
        assert_eq!(dot(&[1.0; 33], &long[..17]), 17.0);
        assert_eq!(dot(&long, &[]), 0.0);
    }
}
