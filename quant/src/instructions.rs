//! Which vector instructions a routine runs with. Every choice gives the same bits wherever a routine says so.

/// An instruction set that a vectorized routine has a path for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Instructions {
    /// What the compiler makes of plain Rust for the target.
    Portable,
    /// AVX2, FMA and POPCNT.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VBMI beside those of [`Instructions::Avx2`].
    Avx512,
}

impl Instructions {
    /// All of them, the plainest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this CPU has it (without `std`: whether the program was compiled for it).
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            Self::Avx2 => {
                std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                    && std::arch::is_x86_feature_detected!("popcnt")
            }
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                    && std::arch::is_x86_feature_detected!("avx512vbmi")
            }
            #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
            Self::Avx2 => {
                cfg!(all(target_feature = "avx2", target_feature = "fma", target_feature = "popcnt"))
            }
            #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && cfg!(all(
                        target_feature = "avx512f",
                        target_feature = "avx512bw",
                        target_feature = "avx512dq",
                        target_feature = "avx512vl",
                        target_feature = "avx512vbmi"
                    ))
            }
        }
    }

    /// The widest that is available.
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|set| set.is_available()).unwrap_or(Self::Portable)
    }

    /// This one where it is available, else the widest that is.
    pub fn or_best(self) -> Self {
        if self.is_available() { self } else { Self::best() }
    }
}
