//! Fourier transforms of eight complex columns at once, a column a lane: no step crosses lanes, and nothing is reordered.
//!
//! ```text
//! forward    blocks of B = r·step rows: x_{j + m·step}, m < r  →  ω_Bʲᵏ·Σₘ ω_rᵐᵏ x_{j + m·step} at row j of sub-block k
//! inverse    the same steps backwards with conjugate factors, without 1/N
//! ```
//! The spectrum is in the order in which the forward steps leave it, and the inverse takes it from there, so that a cyclic product
//! needs no permutation. Steps whose blocks fit the first-level cache run block by block, with the product in between.

use alloc::{vec, vec::Vec};

use super::Kernels;
use super::simd::{Kernel, Simd, Work};

/// Complex columns of a row.
pub(crate) const COLUMNS: usize = 8;

/// A row: real parts, imaginary parts.
pub(crate) type Cell = [[f64; COLUMNS]; 2];

/// A complex factor c + i·s as (c, s, -s).
pub(crate) type Factor = [f64; 3];

/// Rows of a block that stays in the first-level cache: 32 KiB.
const CACHED: usize = 256;

/// The steps of transforms of one length.
pub(crate) struct Plan {
    len: usize,
    steps: Vec<Step>,
    /// How many of them run over all rows.
    outer: usize,
}

struct Step {
    radix: usize,
    block: usize,
    /// ω_Bʲᵏ for j < B/r, 0 < k < r.
    factors: Vec<Factor>,
}

/// `exp(-2πi·numerator/denominator)`.
pub(crate) fn root(numerator: usize, denominator: usize) -> Factor {
    let angle = -core::f64::consts::TAU * numerator as f64 / denominator as f64;
    let (s, c) = num_traits::Float::sin_cos(angle);
    [c, s, -s]
}

impl Plan {
    /// Of the least length from `rows` on that is 2ᵃ·3ᵇ, b at most 2.
    pub(crate) fn new(rows: usize) -> Self {
        let length = |odd: usize| rows.div_ceil(odd).max(1).next_power_of_two() * odd;
        let len = [1, 3, 9].into_iter().map(length).min().unwrap_or(1);
        let mut steps = vec![];
        let mut block = len;
        while block > 1 {
            let radix = [3, 4, 2].into_iter().find(|&radix| block.is_multiple_of(radix)).unwrap_or(block);
            let factors = (0..block / radix).flat_map(|j| (1..radix).map(move |k| root(j * k, block)));
            steps.push(Step { radix, block, factors: factors.collect() });
            block /= radix;
        }
        let outer = steps.iter().take_while(|step| step.block > CACHED).count();
        Self { len, steps, outer }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Rows of the blocks that the inner steps stay in.
    fn cached(&self) -> usize {
        self.steps.get(self.outer).map_or(1, |step| step.block)
    }
}

/// The transforms, in place; the spectra's order is the plan's own.
pub(crate) fn forward(kernels: Kernels, plan: &Plan, data: &mut [Cell]) {
    f64::dispatch(kernels, Forward { plan, data });
}

/// Circulant plus skew-circulant product of the columns in `straight`; `twisted` is work space of as many rows.
///
/// `twist_j = exp(-iπj/N)`, and the two spectra are over N: `straight = F⁻¹(a∘F(x)) + conj(twist)∘F⁻¹(b∘F(twist∘x))`.
pub(crate) fn multiply(
    kernels: Kernels,
    plan: &Plan,
    twist: &[Factor],
    spectra: [&[Factor]; 2],
    straight: &mut [Cell],
    twisted: &mut [Cell],
) {
    f64::dispatch(kernels, Multiply { plan, twist, spectra, straight, twisted });
}

struct Forward<'a> {
    plan: &'a Plan,
    data: &'a mut [Cell],
}

impl Work<f64> for Forward<'_> {
    #[inline(always)]
    fn run<S: Simd<f64>>(self, simd: S) {
        for step in &self.plan.steps {
            apply::<S, false>(simd, step, self.data);
        }
    }
}

struct Multiply<'a> {
    plan: &'a Plan,
    twist: &'a [Factor],
    spectra: [&'a [Factor]; 2],
    straight: &'a mut [Cell],
    twisted: &'a mut [Cell],
}

impl Work<f64> for Multiply<'_> {
    #[inline(always)]
    fn run<S: Simd<f64>>(self, simd: S) {
        let Self { plan, twist, spectra, straight, twisted } = self;
        for ((to, from), &factor) in twisted.iter_mut().zip(&*straight).zip(twist) {
            for part in 0..COLUMNS / S::LANES {
                save(simd, to, part, times(simd, load(simd, from, part), factor));
            }
        }
        let (outer, inner) = plan.steps.split_at(plan.outer);
        let cached = plan.cached();
        // One list of both, so that the steps are compiled once.
        for (data, spectrum) in [&mut *straight, &mut *twisted].into_iter().zip(spectra) {
            for step in outer {
                apply::<S, false>(simd, step, data);
            }
            for (data, spectrum) in data.chunks_exact_mut(cached).zip(spectrum.chunks_exact(cached)) {
                for step in inner {
                    apply::<S, false>(simd, step, data);
                }
                for (cell, &factor) in data.iter_mut().zip(spectrum) {
                    for part in 0..COLUMNS / S::LANES {
                        save(simd, cell, part, times(simd, load(simd, cell, part), factor));
                    }
                }
                for step in inner.iter().rev() {
                    apply::<S, true>(simd, step, data);
                }
            }
            for step in outer.iter().rev() {
                apply::<S, true>(simd, step, data);
            }
        }
        for ((to, from), &[c, s, minus]) in straight.iter_mut().zip(&*twisted).zip(twist) {
            for part in 0..COLUMNS / S::LANES {
                let sum =
                    plus(simd, load(simd, to, part), times(simd, load(simd, from, part), [c, minus, s]));
                save(simd, to, part, sum);
            }
        }
    }
}

/// A complex register: real parts, imaginary parts. No closures from here on: they would not have the instruction set.
type Pair<S> = [<S as Simd<f64>>::Vector; 2];

#[inline(always)]
fn load<S: Simd<f64>>(simd: S, cell: &Cell, part: usize) -> Pair<S> {
    [simd.load(&cell[0], part), simd.load(&cell[1], part)]
}

#[inline(always)]
fn save<S: Simd<f64>>(simd: S, cell: &mut Cell, part: usize, x: Pair<S>) {
    simd.store(x[0], &mut cell[0], part);
    simd.store(x[1], &mut cell[1], part);
}

#[inline(always)]
fn times<S: Simd<f64>>(simd: S, [re, im]: Pair<S>, [c, s, minus]: Factor) -> Pair<S> {
    let (c, s, minus) = (simd.splat(c), simd.splat(s), simd.splat(minus));
    [simd.mul_add(im, minus, simd.mul(re, c)), simd.mul_add(im, c, simd.mul(re, s))]
}

#[inline(always)]
fn plus<S: Simd<f64>>(simd: S, a: Pair<S>, b: Pair<S>) -> Pair<S> {
    [simd.add(a[0], b[0]), simd.add(a[1], b[1])]
}

#[inline(always)]
fn minus<S: Simd<f64>>(simd: S, a: Pair<S>, b: Pair<S>) -> Pair<S> {
    [simd.sub(a[0], b[0]), simd.sub(a[1], b[1])]
}

/// `a - i·b` and `a + i·b`; the inverse: the other way round.
#[inline(always)]
fn turned<S: Simd<f64>, const INVERSE: bool>(simd: S, a: Pair<S>, b: Pair<S>) -> [Pair<S>; 2] {
    let back = [simd.add(a[0], b[1]), simd.sub(a[1], b[0])];
    let ahead = [simd.sub(a[0], b[1]), simd.add(a[1], b[0])];
    if INVERSE { [ahead, back] } else { [back, ahead] }
}

/// One step over all blocks of the data.
#[inline(always)]
fn apply<S: Simd<f64>, const INVERSE: bool>(simd: S, step: &Step, data: &mut [Cell]) {
    match step.radix {
        4 => blocks::<S, 4, INVERSE>(simd, step, data),
        3 => blocks::<S, 3, INVERSE>(simd, step, data),
        _ => blocks::<S, 2, INVERSE>(simd, step, data),
    }
}

#[inline(always)]
fn blocks<S: Simd<f64>, const R: usize, const INVERSE: bool>(simd: S, step: &Step, data: &mut [Cell]) {
    let count = step.block / R;
    for block in data.chunks_exact_mut(step.block) {
        let mut parts = block.chunks_exact_mut(count);
        let mut rows: [&mut [Cell]; R] = core::array::from_fn(|_| parts.next().unwrap_or_default());
        for (j, factors) in step.factors.chunks_exact(R - 1).enumerate() {
            for part in 0..COLUMNS / S::LANES {
                let mut x = [[simd.splat(0.0); 2]; R];
                for (x, rows) in x.iter_mut().zip(&rows) {
                    *x = load(simd, &rows[j], part);
                }
                if INVERSE && count > 1 {
                    for (x, &[c, s, minus]) in x[1..].iter_mut().zip(factors) {
                        *x = times(simd, *x, [c, minus, s]);
                    }
                }
                x = butterfly::<S, R, INVERSE>(simd, x);
                if !INVERSE && count > 1 {
                    for (x, &factor) in x[1..].iter_mut().zip(factors) {
                        *x = times(simd, *x, factor);
                    }
                }
                for (rows, x) in rows.iter_mut().zip(x) {
                    save(simd, &mut rows[j], part, x);
                }
            }
        }
    }
}

/// The transform of R values, R = 2, 3 or 4.
#[inline(always)]
fn butterfly<S: Simd<f64>, const R: usize, const INVERSE: bool>(simd: S, x: [Pair<S>; R]) -> [Pair<S>; R] {
    let mut y = x;
    match R {
        2 => {
            y[0] = plus(simd, x[0], x[1]);
            y[1] = minus(simd, x[0], x[1]);
        }
        3 => {
            let (half, sine) = (simd.splat(-0.5), simd.splat(0.866_025_403_784_438_6));
            let (sum, gap) = (plus(simd, x[1], x[2]), minus(simd, x[1], x[2]));
            let middle = [simd.mul_add(sum[0], half, x[0][0]), simd.mul_add(sum[1], half, x[0][1])];
            let side = [simd.mul(gap[0], sine), simd.mul(gap[1], sine)];
            y[0] = plus(simd, x[0], sum);
            [y[1], y[2]] = turned::<S, INVERSE>(simd, middle, side);
        }
        _ => {
            let (even, odd) = (plus(simd, x[0], x[2]), plus(simd, x[1], x[3]));
            let (even_gap, odd_gap) = (minus(simd, x[0], x[2]), minus(simd, x[1], x[3]));
            y[0] = plus(simd, even, odd);
            y[2] = minus(simd, even, odd);
            [y[1], y[3]] = turned::<S, INVERSE>(simd, even_gap, odd_gap);
        }
    }
    y
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    /// The spectrum of a plan's order, against the sum of the definition: of one entry that is not 0 every value is a root of 1,
    /// and values over all rows are those of the definition in some order.
    #[test]
    fn every_length_has_the_spectrum_of_the_definition() {
        for rows in [1, 2, 3, 4, 6, 8, 9, 12, 17, 36, 48, 64, 100, 300, 512, 700] {
            let plan = Plan::new(rows);
            let n = plan.len();
            let x: Vec<f64> = (0..n).map(|i| ((i * 37 + 11) % 101) as f64 / 50.0 - 1.0).collect();
            let mut data = vec![[[0.0; COLUMNS]; 2]; n];
            for (cell, &x) in data.iter_mut().zip(&x) {
                cell[0][5] = x;
                cell[1][2] = x;
            }
            forward(Kernels::current(), &plan, &mut data);
            let mut expected: Vec<[f64; 2]> = (0..n)
                .map(|k| {
                    x.iter().enumerate().fold([0.0; 2], |[re, im], (j, x)| {
                        let [c, s, _] = root(j * k % n, n);
                        [re + c * x, im + s * x]
                    })
                })
                .collect();
            for cell in &data {
                let found = [cell[0][5], cell[1][5]];
                let near = |e: &[f64; 2]| (e[0] - found[0]).abs() + (e[1] - found[1]).abs() <= 1e-10;
                let place = expected.iter().position(near);
                expected
                    .swap_remove(place.unwrap_or_else(|| panic!("{n}: {found:?} is not in the spectrum")));
                assert!((cell[1][2] - found[0]).abs() + (cell[0][2] + found[1]).abs() <= 1e-10);
            }
        }
    }
}
