//! Which kernels a call uses.

use rankbit_quant::simd::Level;

/// The kernels, each proof that the processor has what it needs when made by [`Kernels::current`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kernels {
    /// Plain loops.
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F and DQ beside those.
    #[cfg(target_arch = "x86_64")]
    Avx512 {
        /// BW and VNNI too.
        bytes: bool,
    },
}

impl Kernels {
    /// Those of [`Level::current`] on the calling thread.
    pub(super) fn current() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let level = Level::current();
            if level >= Level::Avx512 && detected::avx512() && detected::fma() {
                return Self::Avx512 { bytes: detected::bytes() };
            }
            if level >= Level::Avx2 && detected::fma() {
                return Self::Avx2;
            }
        }
        Self::Portable
    }
}

/// What a [`Level`] does not promise by itself.
#[cfg(all(target_arch = "x86_64", feature = "std"))]
mod detected {
    pub(super) fn fma() -> bool {
        std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
    }

    pub(super) fn avx512() -> bool {
        std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512dq")
    }

    pub(super) fn bytes() -> bool {
        std::is_x86_feature_detected!("avx512bw") && std::is_x86_feature_detected!("avx512vnni")
    }
}

/// The same of the processor that the crate is compiled for.
#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
mod detected {
    pub(super) const fn fma() -> bool {
        cfg!(all(target_feature = "avx2", target_feature = "fma"))
    }

    pub(super) const fn avx512() -> bool {
        cfg!(all(target_feature = "avx512f", target_feature = "avx512dq"))
    }

    pub(super) const fn bytes() -> bool {
        cfg!(all(target_feature = "avx512bw", target_feature = "avx512vnni"))
    }
}
