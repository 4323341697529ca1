//! Which instructions the crate uses, and how to choose less.
//!
//! Every routine that has a version for particular instructions also has a portable one, and both give the same bits.
//! The choice is made once per call, on the calling thread: the best level that the processor has, or what
//! [`Level::run`] asked for. Without the feature `std` the processor cannot be asked, and the choice is made when the
//! crate is compiled (`-C target-feature=+avx2,+f16c`).

#[cfg(target_arch = "x86_64")]
use crate::codec::avx2::Avx2;

/// A set of instructions, the larger the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[non_exhaustive]
pub enum Level {
    /// What the compiler makes of plain Rust for the target.
    Portable,
    /// AVX2 and F16C, of x86-64 processors since about 2013.
    Avx2,
    /// AVX-512 F beside those. The encoder of trellis codes has a version for it, and with BW and VNNI the products of
    /// E8P ([`lattice::dot`](crate::lattice::dot)); all else is that of [`Level::Avx2`].
    Avx512,
}

impl Level {
    /// Every level, the best last.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::detect().is_some(),
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            Self::Avx512 => Self::Avx2.is_available() && std::is_x86_feature_detected!("avx512f"),
            #[cfg(all(target_arch = "x86_64", not(feature = "std")))]
            Self::Avx512 => Self::Avx2.is_available() && cfg!(target_feature = "avx512f"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// What a call on this thread uses now.
    pub fn current() -> Self {
        let best = || Self::ALL.into_iter().rfind(|level| level.is_available()).unwrap_or(Self::Portable);
        forced().unwrap_or_else(best)
    }

    /// This one where it is available, else what a call on this thread uses now.
    pub(crate) fn or_current(self) -> Self {
        if self.is_available() { self } else { Self::current() }
    }

    /// Runs `work` with this level for all calls it makes on this thread, or `None` where the processor lacks it.
    /// For tests and measurements.
    #[cfg(feature = "std")]
    pub fn run<R>(self, work: impl FnOnce() -> R) -> Option<R> {
        /// Restores the choice before, also when `work` panics.
        struct Restore(Option<Level>);
        impl Drop for Restore {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        if !self.is_available() {
            return None;
        }
        let _restore = Restore(FORCED.replace(Some(self)));
        Some(work())
    }
}

#[cfg(feature = "std")]
std::thread_local! {
    static FORCED: core::cell::Cell<Option<Level>> = const { core::cell::Cell::new(None) };
}

#[cfg(feature = "std")]
fn forced() -> Option<Level> {
    FORCED.get()
}

#[cfg(not(feature = "std"))]
const fn forced() -> Option<Level> {
    None
}

/// Proof that the processor has a level's instructions, as far as kernels need one.
#[derive(Clone, Copy)]
pub(crate) enum Kernels {
    /// No particular instructions.
    Portable,
    /// The kernels of AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

impl Kernels {
    /// The kernels of [`Level::current`].
    pub(crate) fn current() -> Self {
        #[cfg(target_arch = "x86_64")]
        if forced() != Some(Level::Portable)
            && let Some(avx2) = Avx2::detect()
        {
            return Self::Avx2(avx2);
        }
        Self::Portable
    }
}
