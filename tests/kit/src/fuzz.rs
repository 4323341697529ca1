//! Fuzzing with nothing but a stable compiler: a case is a function of a seed, run until time is up.
//!
//! | variable | meaning |
//! |---|---|
//! | `RANKBIT_FUZZ_SECONDS` | how long each fuzz test runs, on a fresh seed; without it a fixed number of cases of fixed seeds |
//! | `RANKBIT_FUZZ_SEED` | runs this one case only: what a failure prints |

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Runs `case` on many seeds. `cases` is their number when no time is given.
///
/// # Panics
/// When a case does, after printing the seed that brings it back; and when a variable is no number.
pub fn run(name: &str, cases: u64, case: impl Fn(&mut Source)) {
    let number = |variable: &str| {
        let text = std::env::var(variable).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
    };
    if let Some(seed) = number("RANKBIT_FUZZ_SEED") {
        return case(&mut Source::new(seed));
    }
    let seconds = number("RANKBIT_FUZZ_SECONDS");
    let first = match seconds {
        None => 0,
        Some(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |t| u64::from(t.subsec_nanos()) << 32 | t.as_secs()),
    };
    // Said beforehand: a case that aborts the process cannot say it.
    eprintln!("fuzz {name}: seeds from {first} on");
    let (start, mut count) = (Instant::now(), 0);
    while seconds.map_or(count < cases, |s| start.elapsed() < Duration::from_secs(s)) {
        let seed = first.wrapping_add(count);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(&mut Source::new(seed)))) {
            eprintln!("fuzz {name}: failed; to see it again: RANKBIT_FUZZ_SEED={seed} cargo test {name}");
            resume_unwind(panic);
        }
        count += 1;
    }
    eprintln!("fuzz {name}: {count} cases in {} s", start.elapsed().as_secs());
}

/// Decisions of one case, all from its seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Source(u64);

impl Source {
    /// The decisions that belong to `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// `true` once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A byte.
    pub const fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    /// `len` bytes, sometimes all the same.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        if self.one_in(8) {
            let byte = self.pick(&[0, 0x7F, 0x80, 0xFF]);
            return vec![byte; len];
        }
        (0..len).map(|_| self.byte()).collect()
    }

    /// A float: mostly ordinary, else an extreme, special or arbitrary one.
    pub fn float(&mut self) -> f32 {
        let ordinary = f32::from(u16::from_le_bytes([self.byte(), self.byte()])) / 32768.0 - 1.0;
        match self.below(24) {
            0 => self.pick(&[0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, 65504.0, 65520.0]),
            1 => f32::from_bits(u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])),
            _ => ordinary,
        }
    }

    /// A size that code may be tempted to trust: mostly small.
    pub fn size(&mut self) -> usize {
        match self.below(12) {
            0 => self.pick(&[0, usize::MAX, usize::MAX / 2, 1 << 32, 1 << 20]),
            1 => self.below(2000),
            _ => self.below(80),
        }
    }

    /// Changes `data` as damage or malice would: bits, bytes, lengths, repeated or lost pieces.
    pub fn damage(&mut self, data: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(data.len());
            match self.below(7) {
                0 if !data.is_empty() => data[at] ^= 1 << self.below(8),
                1 if !data.is_empty() => data[at] = self.byte(),
                2 => data.truncate(at),
                3 => {
                    let more = self.below(9);
                    let more = self.bytes(more);
                    data.splice(at..at, more);
                }
                4 if !data.is_empty() => {
                    let len = self.below(data.len() - at) + 1;
                    data.drain(at..at + len);
                }
                5 if !data.is_empty() => {
                    let piece = data[at..(at + 1 + self.below(40)).min(data.len())].to_vec();
                    let to = self.below(data.len());
                    data.splice(to..to, piece);
                }
                6 if !data.is_empty() => {
                    // In text: digits that are other digits, and brackets that do not match.
                    let end = (at + 20).min(data.len());
                    if let Some(found) = (at..end).find(|&i| !data[i].is_ascii_alphabetic()) {
                        data[found] = self.pick(b"0123456789-.,:{}[]\" ");
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Source, run};
    use std::cell::Cell;

    #[test]
    fn a_failing_case_fails_the_run() {
        let count = Cell::new(0);
        let failing = || {
            run("nothing", 10, |_| {
                count.set(count.get() + 1);
                assert!(count.get() < 3)
            })
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(failing)).is_err());
        assert_eq!(count.get(), 3);
    }

    #[test]
    fn damage_survives_everything() {
        let mut source = Source::new(1);
        for len in 0..200 {
            let mut data = source.bytes(len % 9);
            source.damage(&mut data);
        }
    }
}
