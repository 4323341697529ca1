//! The loop of whole numbers, compiled for AVX2: sixteen products and eight sums an instruction (`vpmaddwd`).

use super::integer;
use crate::codec::avx2::Avx2;

impl Avx2 {
    /// [`integer::sum`].
    pub(super) fn integer_sum(self, a: &[i16], b: &[i16]) -> i32 {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe { integer_sum(a, b) }
    }
}

#[target_feature(enable = "avx2")]
fn integer_sum(a: &[i16], b: &[i16]) -> i32 {
    integer::sum(a, b)
}
