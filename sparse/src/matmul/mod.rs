//! Products `Y = X·Sᵀ` that skip the zeros: [`Prepared`] for N:M, [`apply_block`] for blocks.
//!
//! [`mod@reference`] is the formula in f64. [`Prepared`] holds the matrix in the order in which the kernels read it and
//! multiplies on the best instruction set at hand, or on a given [`Path`]:
//!
//! | tokens | kernel | loop |
//! |---|---|---|
//! | 1 to 4 | vector | 16 rows side by side; a shuffle by the stored indices picks each row's input |
//! | more | panel | up to 64 tokens side by side; each kept value is broadcast, its index is an address |
//!
//! **Accuracy**: each output is one sum over the row's kept entries in column order, in f32:
//! elementwise `|Δ| ≤ γ·|X|·|S|ᵀ`, `γ = K·u/(1 − K·u)`, K the kept entries of a row, `u = 2⁻²⁴`. On AVX2 and AVX-512
//! each step is one fused multiply-add, so both give the same bits, for any number of tokens and threads; the portable
//! path rounds the product first, `K + 1` for `K`.
//!
//! Stored zeros are multiplied like any value: where X is infinite they give NaN, as the dense product does. The
//! entries that are not stored are not looked at.

pub mod reference;

mod block;
mod portable;
mod prepared;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use block::apply_block;
pub use prepared::Prepared;

/// An instruction set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Path {
    /// What every machine has.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F and DQ.
    Avx512,
}

impl Path {
    /// All, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// The fastest on this machine. Without `std`: of the instruction sets that the crate was compiled for.
    pub fn best() -> Self {
        let available = Self::ALL.into_iter().rev().find(|path| path.is_available());
        available.unwrap_or(Self::Portable)
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Self::Avx2 => std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma"),
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Self::Avx512 => {
                std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512dq")
            }
            #[cfg(not(all(target_arch = "x86_64", feature = "std")))]
            Self::Avx2 => cfg!(all(target_arch = "x86_64", target_feature = "avx2", target_feature = "fma")),
            #[cfg(not(all(target_arch = "x86_64", feature = "std")))]
            Self::Avx512 => {
                cfg!(all(target_arch = "x86_64", target_feature = "avx512f", target_feature = "avx512dq"))
            }
        }
    }

    /// The name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}
