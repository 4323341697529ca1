use super::low_rank;
use crate::{FactorFormat, Recipe};

/// DSFormer: a dense matrix times a semi-structured sparse one.
///
/// ```text
/// W ≈ L·R,   L: [out, r] dense,   R: [r, in] with exactly s non-zeros in every column
/// ```
/// Each column of W is a combination of s columns of L, chosen out of r: at the cost of rank r for `L` and s for `R` more
/// than rank s can express. Source: DSFormer, arXiv 2312.13211 (its factorization; the training through it is a trainer's).
///
/// Held by the tests: every column has s entries; with s = r it is no worse than the truncated SVD; the stored bits are
/// `16·out·r + in·s·(16 + 8)` up to rank 256.
pub fn dsformer(rank: usize, per_column: u32) -> Recipe {
    low_rank(rank, FactorFormat::Atoms(per_column))
}
