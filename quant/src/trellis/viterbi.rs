//! The path of least squared error through the trellis, exactly (Viterbi), free or closed to a ring.
//!
//! ```text
//! states s < 2^L; s follows s' iff s >> k = s' mod 2^(L−k) =: g   (the group that s' leads to)
//! M_0(g) = 0 where the path may start, else ∞
//! M_{t+1}(g) = min_j  M_t(s >> k) + w_t·(x_t − T[s])²,   s = g + j·2^(L−k),  j < 2^k;    a_t(g) = the first such j
//! ```
//! M(g) is the least cost of a path whose last state leads to group g, so only 2^(L−k) costs are kept and a state's
//! own cost is never stored. Backwards: `s_t = g + a_t(g)·2^(L−k)`, then `g = s_t >> k`.
//!
//! **Free**: all M_0 = 0; the end is the g of least M. **Ring** (tail-biting): the state before weight 0 is the last
//! weight's, so the path starts and ends in one group g: M_0 is 0 there only, and the end is that g. The best g is not
//! searched (2^(L−k) runs would be needed): it is where a free run over the last h and then the first h weights passes
//! from one to the other, h = min(96, m/2). So the ring's path is the best of its group, and its group a guess.
//!
//! Cost m·2^L steps of 5 flops (and up to 192·2^L for the guess), memory m·2^(L−k) bytes. Ties go to the first j:
//! together with unfused arithmetic, the same path on every instruction set.
//!
//! Source: Viterbi, IEEE Trans. Inf. Theory 13 (1967); the bit-shift trellis and the tail-biting guess as in QTIP,
//! arXiv 2406.11235, sections 3.1 and 3.2.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::table;
use crate::simd::Level;
use alloc::vec::Vec;
use core::mem;

/// Weights on either side of the seam over which the start of a ring is guessed.
const PRELUDE: usize = 96;
/// Costs beyond the last one that a vector load may touch.
const SPARE: usize = 16;

/// A trellis with its values: what encoders of one window and rate share.
#[derive(Clone, Debug)]
pub struct Encoder {
    rate: u32,
    groups: usize,
    /// By state.
    table: Vec<f32>,
    level: Level,
}

/// One weight: its value, and what a squared error there counts.
#[derive(Clone, Copy)]
struct Sample {
    value: f32,
    weight: f32,
}

/// Buffers of an encoder, kept from one column to the next.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    costs: Vec<f32>,
    next: Vec<f32>,
    /// a_t(g), t major.
    back: Vec<u8>,
    joined: Vec<(f32, f32)>,
}

impl Encoder {
    /// The trellis of `window` bits (L, 1 to 16) and `rate` bits a weight (k, 1 to min(8, L)), with the values of
    /// [`table`].
    ///
    /// # Panics
    /// For other numbers.
    pub fn new(window: u8, rate: u8, level: Level) -> Self {
        assert!((1..=16).contains(&window) && (1..=8.min(window)).contains(&rate), "L ≤ 16, k ≤ min(8, L)");
        Self {
            rate: rate.into(),
            groups: 1 << (window - rate),
            table: table::by_state(window, rate),
            level: level.or_current(),
        }
    }

    /// T by state.
    pub fn values(&self) -> &[f32] {
        &self.table
    }

    /// The best free path for the values `x` under the weights `w` (not negative); returns its cost.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn free(&self, x: &[f32], w: &[f32], scratch: &mut Scratch, states: &mut [u16]) -> f32 {
        assert!(x.len() == w.len() && x.len() == states.len(), "one weight and one state a value");
        scratch.start(self.groups, None);
        self.run(x.iter().copied().zip(w.iter().copied()), x.len(), scratch);
        let (end, cost) = scratch.best(self.groups);
        self.trace(scratch, end, states.iter_mut());
        cost
    }

    /// The best path that starts and ends in `group`; returns its cost, ∞ where there is none (short rings).
    ///
    /// # Panics
    /// When the lengths differ or there is no such group.
    pub fn ring_through(
        &self,
        group: usize,
        x: &[f32],
        w: &[f32],
        scratch: &mut Scratch,
        states: &mut [u16],
    ) -> f32 {
        assert!(x.len() == w.len() && x.len() == states.len(), "one weight and one state a value");
        scratch.start(self.groups, Some(group));
        self.run(x.iter().copied().zip(w.iter().copied()), x.len(), scratch);
        self.trace(scratch, group, states.iter_mut());
        scratch.costs[group]
    }

    /// The path of a ring for the values `x` under the weights `w` (not negative); returns its cost.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn ring(&self, x: &[f32], w: &[f32], scratch: &mut Scratch, states: &mut [u16]) -> f32 {
        let group = self.seam(x, w, scratch);
        self.ring_through(group, x, w, scratch, states)
    }

    /// The group through which a ring is guessed to pass before its first weight.
    fn seam(&self, x: &[f32], w: &[f32], scratch: &mut Scratch) -> usize {
        let (m, half) = (x.len().min(w.len()), PRELUDE.min(x.len() / 2));
        let mut joined = mem::take(&mut scratch.joined);
        joined.clear();
        let samples = |from: usize, to: usize| x[from..to].iter().copied().zip(w[from..to].iter().copied());
        joined.extend(samples(m - half, m).chain(samples(0, half)));
        scratch.start(self.groups, None);
        self.run(joined.iter().copied(), joined.len(), scratch);
        let (mut group, _) = scratch.best(self.groups);
        for back in scratch.back[half * self.groups..2 * half * self.groups].chunks_exact(self.groups).rev() {
            group = (group + usize::from(back[group]) * self.groups) >> self.rate;
        }
        scratch.joined = joined;
        group
    }

    /// All steps.
    fn run(&self, samples: impl Iterator<Item = (f32, f32)>, len: usize, scratch: &mut Scratch) {
        let groups = self.groups;
        let Scratch { costs, next, back, .. } = scratch;
        if back.len() < len * groups {
            back.resize(len * groups, 0);
        }
        for ((value, weight), back) in samples.zip(back.chunks_exact_mut(groups)) {
            let sample = Sample { value, weight };
            match self.level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 if groups >= x86::LANES_512 => {
                    // SAFETY: `Encoder::new` let this choice stand only where the CPU has these instructions; both
                    // cost buffers have SPARE entries more than groups, the table 2^k groups.
                    unsafe { x86::step_512(&self.table, self.rate, sample, costs, next, back) };
                }
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 | Level::Avx2 if groups >= x86::LANES_256 => {
                    // SAFETY: as above.
                    unsafe { x86::step_256(&self.table, self.rate, sample, costs, next, back) };
                }
                _ => portable::step(&self.table, self.rate, sample, costs, next, back),
            }
            mem::swap(costs, next);
        }
    }

    /// The states of the path that leads to group `end`.
    fn trace<'a>(
        &self,
        scratch: &Scratch,
        end: usize,
        states: impl DoubleEndedIterator<Item = &'a mut u16> + ExactSizeIterator,
    ) {
        let mut group = end;
        let back = scratch.back[..states.len() * self.groups].chunks_exact(self.groups);
        for (state, back) in states.zip(back).rev() {
            let found = group + usize::from(back[group]) * self.groups;
            // At most 2^16 states.
            *state = u16::try_from(found).unwrap_or(0);
            group = found >> self.rate;
        }
    }
}

impl Scratch {
    /// M_0: zero at `group`, or everywhere.
    fn start(&mut self, groups: usize, group: Option<usize>) {
        let fill = if group.is_some() { f32::INFINITY } else { 0.0 };
        self.costs.clear();
        self.costs.resize(groups + SPARE, fill);
        self.next.clear();
        self.next.resize(groups + SPARE, fill);
        if let Some(group) = group {
            assert!(group < groups, "a group of the trellis");
            self.costs[group] = 0.0;
        }
    }

    /// The first group of least cost.
    fn best(&self, groups: usize) -> (usize, f32) {
        let costs = self.costs[..groups].iter().copied().enumerate();
        costs.fold((0, f32::INFINITY), |best, (g, cost)| if cost < best.1 { (g, cost) } else { best })
    }
}

/// `Σ w·(x − T[s])²`, in f64.
pub fn cost(values: &[f32], x: &[f32], w: &[f32], states: &[u16]) -> f64 {
    let terms = x.iter().zip(w).zip(states).map(|((x, w), state)| {
        let error = f64::from(*x) - f64::from(values.get(usize::from(*state)).copied().unwrap_or(f32::NAN));
        f64::from(*w) * error * error
    });
    terms.sum()
}

#[cfg(all(test, feature = "solve"))]
mod tests;
