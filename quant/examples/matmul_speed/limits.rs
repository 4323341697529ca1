//! What the processor can do at most: reading memory, and multiplying whole numbers of 8 bits or floats.

use rankbit_quant::simd::Level;
use std::hint::black_box;

/// CPU seconds of this thread that `work` takes.
pub(crate) fn seconds(work: impl FnOnce()) -> f64 {
    let start = now();
    work();
    now() - start
}

/// Seconds that `work` takes on the clock.
pub(crate) fn wall(work: impl FnOnce()) -> f64 {
    let start = std::time::Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// CPU time of this thread.
#[cfg(unix)]
fn now() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists and the pointer is to a timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Time since the first call.
#[cfg(not(unix))]
fn now() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64()
}

/// Places that are read from at the same time: which is faster differs from machine to machine.
#[derive(Clone, Copy)]
pub(crate) enum Streams {
    One,
    Four,
}

/// Reads all of `memory` once, as one stream or as four.
pub(crate) fn read(memory: &[u64], streams: Streams) {
    #[cfg(target_arch = "x86_64")]
    if Level::Avx2.is_available() {
        // SAFETY: the processor has AVX2.
        black_box(unsafe {
            match streams {
                Streams::One => x86::read(memory),
                Streams::Four => x86::read_four(memory),
            }
        });
        return;
    }
    let _ = streams;
    black_box(memory.iter().fold(0_u64, |sum, x| sum ^ x));
}

/// Operations a second (two for each product) of the level's instructions on registers; NaN where there is no loop.
pub(crate) fn peak(level: Level) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        const STEPS: usize = 20_000;
        let vnni = std::is_x86_feature_detected!("avx512vnni");
        let mut products = 0;
        let time = seconds(|| {
            // SAFETY: the processor has the instructions.
            unsafe {
                products =
                    if level >= Level::Avx512 && vnni { x86::peak_512(STEPS) } else { x86::peak_256(STEPS) }
            }
        });
        2.0 * products as f64 / time
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        f64::NAN
    }
}

/// The same of fused products and sums of f32.
pub(crate) fn peak_floats(level: Level) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        const STEPS: usize = 20_000;
        let mut products = 0;
        let time = seconds(|| {
            // SAFETY: the processor has the instructions; those with AVX2 have FMA.
            unsafe {
                products =
                    if level >= Level::Avx512 { x86::floats_512(STEPS) } else { x86::floats_256(STEPS) }
            }
        });
        2.0 * products as f64 / time
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        f64::NAN
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx2")]
    pub(super) fn read(memory: &[u64]) -> i64 {
        let mut sums = [_mm256_setzero_si256(); 8];
        for chunk in memory.as_chunks::<32>().0 {
            for (sum, four) in sums.iter_mut().zip(chunk.as_chunks::<4>().0) {
                // SAFETY: 32 bytes.
                *sum = _mm256_xor_si256(*sum, unsafe { _mm256_loadu_si256(four.as_ptr().cast()) });
            }
        }
        let all = sums.into_iter().reduce(|a, b| _mm256_xor_si256(a, b)).unwrap_or(_mm256_setzero_si256());
        _mm256_extract_epi64::<0>(all) ^ _mm256_extract_epi64::<3>(all)
    }

    /// The same of four quarters side by side, 256 bytes of each in turn.
    #[target_feature(enable = "avx2")]
    pub(super) fn read_four(memory: &[u64]) -> i64 {
        let mut sums = [_mm256_setzero_si256(); 8];
        let mut quarters = memory.chunks_exact((memory.len() / 4).max(1));
        let quarters = [(); 4].map(|()| quarters.next().unwrap_or(&[]).as_chunks::<32>().0);
        for (((a, b), c), d) in quarters[0].iter().zip(quarters[1]).zip(quarters[2]).zip(quarters[3]) {
            for chunk in [a, b, c, d] {
                for (sum, four) in sums.iter_mut().zip(chunk.as_chunks::<4>().0) {
                    // SAFETY: 32 bytes.
                    *sum = _mm256_xor_si256(*sum, unsafe { _mm256_loadu_si256(four.as_ptr().cast()) });
                }
            }
        }
        let all = sums.into_iter().reduce(|a, b| _mm256_xor_si256(a, b)).unwrap_or(_mm256_setzero_si256());
        _mm256_extract_epi64::<0>(all) ^ _mm256_extract_epi64::<3>(all)
    }

    /// `vpdpbusd` on 16 sums; the number of products.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn peak_512(steps: usize) -> usize {
        let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
        let mut sums = [_mm512_setzero_si512(); 16];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
        steps * 16 * 64
    }

    /// `vfmadd` on 12 sums; the number of products.
    #[target_feature(enable = "avx512f")]
    pub(super) fn floats_512(steps: usize) -> usize {
        let (a, b) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(0.25)));
        let mut sums = [_mm512_setzero_ps(); 12];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
        steps * 12 * 16
    }

    /// The same in vectors of 8.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn floats_256(steps: usize) -> usize {
        let (a, b) = (black_box(_mm256_set1_ps(0.5)), black_box(_mm256_set1_ps(0.25)));
        let mut sums = [_mm256_setzero_ps(); 12];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
        steps * 12 * 8
    }

    /// `vpmaddubsw` and an addition on 8 sums; the number of products. The factor changes, or the product would be taken
    /// out of the loop.
    #[target_feature(enable = "avx2")]
    pub(super) fn peak_256(steps: usize) -> usize {
        let mut factors = [_mm256_set1_epi8(3); 2];
        let b: [__m256i; 4] = black_box([_mm256_set1_epi8(5); 4]);
        let mut sums = [_mm256_setzero_si256(); 8];
        for _ in 0..steps {
            factors = black_box_registers(factors);
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(factors[i / 4], b[i % 4]));
            }
        }
        black_box(sums);
        steps * 8 * 32
    }

    /// Hides where two vectors come from, without a trip through memory.
    #[target_feature(enable = "avx2")]
    fn black_box_registers([mut a, mut b]: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: no instruction at all.
        unsafe {
            core::arch::asm!("/* {0} {1} */", inout(ymm_reg) a, inout(ymm_reg) b, options(nomem, nostack, preserves_flags));
        }
        [a, b]
    }
}
