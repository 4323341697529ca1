//! Random numbers whose values depend on a seed and a name only.
//!
//! A [`Stream`] is ChaCha with 8 rounds under a key made of the seed and the name, so every tensor (or every
//! use) has its own independent stream, whatever order or thread computes it. All values are made by integer
//! arithmetic and the software functions of `libm`: the same bits on every platform, with and without `std`.
//!
//! ```text
//! key (32 bytes) = seed (u64, little endian) ‖ FNV-1a-64(name) ‖ len(name) ‖ "rankbit\0"
//! ```
//!
//! Sources: ChaCha: D. J. Bernstein, *ChaCha, a variant of Salsa20* (2008). FNV-1a: Fowler, Noll, Vo.
//! Normal numbers: G. Marsaglia, T. A. Bray, *A convenient method for generating normal variables* (1964).

use core::convert::Infallible;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng, TryRng};

use crate::Scalar;

/// A seeded, named stream of random numbers. Implements the traits of `rand_core` 0.10.
///
/// ```
/// use rankbit_linalg::Stream;
/// let mut one = Stream::new(7, "encoder.layer.0");
/// let mut same = Stream::new(7, "encoder.layer.0");
/// let mut other = Stream::new(7, "encoder.layer.1");
/// let value = one.next_uniform();
/// assert_eq!(value, same.next_uniform());
/// assert_ne!(value, other.next_uniform());
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    generator: ChaCha8Rng,
    /// The second value of the last pair that the polar method produced.
    spare: Option<f64>,
}

impl Stream {
    /// The stream of `name` under `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut key = [0u8; 32];
        let words = [seed, fnv1a(name.as_bytes()), name.len() as u64, u64::from_le_bytes(*b"rankbit\0")];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self { generator: ChaCha8Rng::from_seed(key), spare: None }
    }

    /// Seed for a part of a computation, so that options that carry only a `u64` can still depend on a name.
    pub fn derive_seed(seed: u64, name: &str) -> u64 {
        Self::new(seed, name).next_u64()
    }

    /// Uniform in [0, 1): a multiple of 2⁻⁵³.
    pub fn next_uniform(&mut self) -> f64 {
        uniform(&mut self.generator)
    }

    /// Uniform integer in `0..bound`, without bias (Lemire's rejection); 0 when `bound` is 0.
    pub fn next_below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.generator.next_u64()) * u128::from(bound);
            let low = wide & u128::from(u64::MAX);
            if low >= u128::from(threshold) {
                return u64::try_from(wide >> 64).unwrap_or(0);
            }
        }
    }

    /// Standard normal value, by the polar method in f64.
    pub fn next_normal(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        let (value, spare) = normal_pair(&mut self.generator);
        self.spare = Some(spare);
        value
    }

    /// Fills `out` with independent standard normal values, in order.
    pub fn fill_normal<T: Scalar>(&mut self, out: &mut [T]) {
        for value in out {
            *value = T::from_f64(self.next_normal());
        }
    }

    /// Fills `out` with independent values uniform in [0, 1), in order: multiples of 2⁻²⁴ in f32, of 2⁻⁵³ in f64.
    pub fn fill_uniform<T: Scalar>(&mut self, out: &mut [T]) {
        let unit = T::epsilon().to_f64() / 2.0;
        for value in out {
            *value = T::from_f64(libm::floor(self.next_uniform() / unit) * unit);
        }
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.generator.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.generator.next_u64())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.generator.fill_bytes(dst);
        Ok(())
    }
}

/// Uniform in [0, 1): a multiple of 2⁻⁵³.
pub(crate) fn uniform<R: Rng>(rng: &mut R) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// Two independent standard normal values, by the polar method in f64.
pub(crate) fn normal_pair<R: Rng>(rng: &mut R) -> (f64, f64) {
    loop {
        let x = 2.0 * uniform(rng) - 1.0;
        let y = 2.0 * uniform(rng) - 1.0;
        let square = x * x + y * y;
        if square < 1.0 && square > 0.0 {
            let factor = libm::sqrt(-2.0 * libm::log(square) / square);
            return (x * factor, y * factor);
        }
    }
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
