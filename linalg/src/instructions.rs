//! Instruction sets that kernels of several modules have copies for.

/// An instruction set; only [`Instructions::available`] makes others than `Portable`, where they were detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// What the crate was compiled for.
    Portable,
    /// AVX2 and FMA.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    Avx2,
    /// AVX-512F, AVX2 and FMA.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    Avx512,
}

impl Instructions {
    /// All that this machine has, the best last.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        {
            let avx2 = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
            let avx512 = avx2 && std::is_x86_feature_detected!("avx512f");
            [Some(Self::Portable), avx2.then_some(Self::Avx2), avx512.then_some(Self::Avx512)]
                .into_iter()
                .flatten()
        }
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        core::iter::once(Self::Portable)
    }

    /// The widest registers.
    pub(crate) fn best() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }

    /// For single values: fused multiply-add as an instruction, if there is one.
    #[inline]
    pub(crate) fn single() -> Self {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            return Self::Avx2;
        }
        Self::Portable
    }
}
