//! Many pairs at a time: sorted into regions block by block, each region on the widest registers there are.

use super::kernel::{self, FirstKind, Region};
use super::lanes::Lanes;
use super::zeros;
use super::{ordinary, steps};
use crate::Error;
use crate::instructions::Instructions;

/// Pairs sorted at a time.
const BLOCK: usize = 256;

/// ln I_v(x) of each pair: the bits of [`log_bessel_i`](super::log_bessel_i), several at a time.
///
/// `orders`, `xs` and `out` have one length; an order slice of one entry serves all.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the lengths differ.
pub fn log_bessel_i_batch(orders: &[f64], xs: &[f64], out: &mut [f64]) -> Result<(), Error> {
    batch(Instructions::best(), true, orders, xs, out)
}

/// ln K_v(x) of each pair, as [`log_bessel_i_batch`]; orders of any sign.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the lengths differ.
pub fn log_bessel_k_batch(orders: &[f64], xs: &[f64], out: &mut [f64]) -> Result<(), Error> {
    batch(Instructions::best(), false, orders, xs, out)
}

/// Pairs of one region.
struct Bucket {
    region: Region,
    count: usize,
    index: [u16; BLOCK],
}

fn batch(
    instructions: Instructions,
    first: FirstKind,
    orders: &[f64],
    xs: &[f64],
    out: &mut [f64],
) -> Result<(), Error> {
    let shared = orders.len() == 1;
    let mismatch =
        |what, found| Err(Error::ShapeMismatch { what, expected: (xs.len(), 1), found: (found, 1) });
    if !shared && orders.len() != xs.len() {
        return mismatch("orders", orders.len());
    }
    if out.len() != xs.len() {
        return mismatch("out", out.len());
    }
    let order = |at: usize| {
        let v = if shared { orders.first() } else { orders.get(at) }.copied().unwrap_or(f64::NAN);
        if first { v } else { num_traits::Float::abs(v) }
    };
    let regions = [Region::Far, Region::Uniform, Region::Middle, Region::Near, Region::Origin];
    let mut buckets = regions.map(|region| Bucket { region, count: 0, index: [0; BLOCK] });
    let (mut v, mut x, mut value) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
    for (block, (xs, out)) in xs.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).enumerate() {
        for bucket in &mut buckets {
            bucket.count = 0;
        }
        for (at, (&x, out)) in xs.iter().zip(out.iter_mut()).enumerate() {
            match ordinary(first, order(block * BLOCK + at), x) {
                Ok(region) => {
                    if let Some(bucket) = buckets.get_mut(region as usize)
                        && let Some(slot) = bucket.index.get_mut(bucket.count)
                        && let Ok(at) = u16::try_from(at)
                    {
                        *slot = at;
                        bucket.count += 1;
                    }
                }
                Err(edge) => *out = edge,
            }
        }
        for bucket in &buckets {
            let Some(index) = bucket.index.get(..bucket.count) else { continue };
            if index.is_empty() {
                continue;
            }
            for ((&at, v), x) in index.iter().zip(&mut v).zip(&mut x) {
                let at = usize::from(at);
                *v = order(block * BLOCK + at);
                *x = xs.get(at).copied().unwrap_or(f64::NAN);
            }
            if let (Some(v), Some(x), Some(value)) =
                (v.get(..bucket.count), x.get(..bucket.count), value.get_mut(..bucket.count))
            {
                run(instructions, first, bucket.region, v, x, value);
                for (&at, &value) in index.iter().zip(value.iter()) {
                    if let Some(out) = out.get_mut(usize::from(at)) {
                        *out = value;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Pairs of one region by the instructions given, at most [`BLOCK`] of them; those near a zero a second time, in two parts.
pub(super) fn run(
    instructions: Instructions,
    first: FirstKind,
    region: Region,
    v: &[f64],
    x: &[f64],
    out: &mut [f64],
) {
    pass(instructions, first, region, false, v, x, out);
    if matches!(region, Region::Far | Region::Uniform) {
        return;
    }
    let (mut index, mut count) = ([0u16; BLOCK], 0);
    for (at, ((&v, &x), &out)) in (0..).zip(v.iter().zip(x).zip(out.iter())) {
        if kernel::near_zero(first, v, x, out)
            && let Some(slot) = index.get_mut(count)
        {
            *slot = at;
            count += 1;
        }
    }
    // Eight at a time, the widest register's load.
    for index in index.get(..count).unwrap_or(&[]).chunks(8) {
        let (mut near_v, mut near_x, mut value) = ([1.0; 8], [1.0; 8], [0.0; 8]);
        for ((&at, near_v), near_x) in index.iter().zip(&mut near_v).zip(&mut near_x) {
            let at = usize::from(at);
            *near_v = v.get(at).copied().unwrap_or(1.0);
            *near_x = x.get(at).copied().unwrap_or(1.0);
        }
        let count = index.len();
        if let (Some(v), Some(x), Some(value)) =
            (near_v.get(..count), near_x.get(..count), value.get_mut(..count))
        {
            pass(instructions, first, region, true, v, x, value);
        }
        for (&at, &value) in index.iter().zip(&value) {
            if let Some(out) = out.get_mut(usize::from(at)) {
                *out = value;
            }
        }
    }
}

/// Pairs of one region by the instructions given, in one part or in two.
fn pass(
    instructions: Instructions,
    first: FirstKind,
    region: Region,
    two_parts: bool,
    v: &[f64],
    x: &[f64],
    out: &mut [f64],
) {
    match instructions {
        Instructions::Portable => lanes::<f64>(first, region, two_parts, v, x, out),
        // SAFETY: these values are only made where the instructions were detected.
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        Instructions::Avx2 if v.len() == 1 => unsafe { x86::single(first, region, two_parts, v, x, out) },
        // SAFETY: these values are only made where the instructions were detected.
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        Instructions::Avx2 => unsafe { x86::avx2(first, region, two_parts, v, x, out) },
        // SAFETY: these values are only made where the instructions were detected.
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        Instructions::Avx512 => unsafe { x86::avx512(first, region, two_parts, v, x, out) },
    }
}

#[inline(always)]
fn lanes<L: Lanes>(first: FirstKind, region: Region, two_parts: bool, v: &[f64], x: &[f64], out: &mut [f64]) {
    if first {
        of_kind::<L, true>(region, two_parts, v, x, out);
    } else {
        of_kind::<L, false>(region, two_parts, v, x, out);
    }
}

#[inline(always)]
fn of_kind<L: Lanes, const FIRST: FirstKind>(
    region: Region,
    two_parts: bool,
    v: &[f64],
    x: &[f64],
    out: &mut [f64],
) {
    // A macro, because a closure would be a function of its own, without the caller's instruction set.
    macro_rules! each {
        (|$v:ident, $x:ident, $steps:ident| $value:expr) => {
            for ((v, x), out) in v.chunks(L::WIDTH).zip(x.chunks(L::WIDTH)).zip(out.chunks_mut(L::WIDTH)) {
                let mut most = 0.0f64;
                for &v in v {
                    most = if v > most { v } else { most };
                }
                let ($v, $x, $steps) = (L::load(v), L::load(x), steps(most));
                $value.store(out);
            }
        };
    }
    match region {
        Region::Middle | Region::Near if two_parts && FIRST => {
            each!(|v, x, steps| zeros::series::<L, false>(v, x, steps));
        }
        Region::Origin if two_parts && FIRST => each!(|v, x, steps| zeros::series::<L, true>(v, x, steps)),
        Region::Middle if two_parts => each!(|v, x, _steps| zeros::quadrature::<L, false>(v, x)),
        Region::Near if two_parts => each!(|v, x, _steps| zeros::quadrature::<L, true>(v, x)),
        Region::Origin if two_parts => each!(|v, x, steps| zeros::temme(v, x, steps)),
        Region::Far => each!(|v, x, _steps| kernel::uniform::<L, 6>(FIRST, v, x)),
        Region::Uniform => each!(|v, x, _steps| kernel::uniform::<L, 13>(FIRST, v, x)),
        Region::Middle => each!(|v, x, steps| kernel::quadrature::<L, false>(FIRST, v, x, steps)),
        Region::Near => each!(|v, x, steps| kernel::quadrature::<L, true>(FIRST, v, x, steps)),
        Region::Origin if FIRST => each!(|v, x, steps| kernel::series(v, x, steps)),
        Region::Origin => each!(|v, x, steps| kernel::origin_k(v, x, steps)),
    }
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod x86 {
    use super::super::lanes::x86::{X4, X8};
    use super::{FirstKind, Region, lanes};

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn single(
        first: FirstKind,
        region: Region,
        two_parts: bool,
        v: &[f64],
        x: &[f64],
        out: &mut [f64],
    ) {
        lanes::<f64>(first, region, two_parts, v, x, out);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(
        first: FirstKind,
        region: Region,
        two_parts: bool,
        v: &[f64],
        x: &[f64],
        out: &mut [f64],
    ) {
        lanes::<X4>(first, region, two_parts, v, x, out);
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) fn avx512(
        first: FirstKind,
        region: Region,
        two_parts: bool,
        v: &[f64],
        x: &[f64],
        out: &mut [f64],
    ) {
        lanes::<X8>(first, region, two_parts, v, x, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stream;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Every instruction set gives the bits of the portable kernels, whatever the length.
    #[test]
    fn instruction_sets_agree() {
        let mut stream = Stream::new(5, "special");
        let mut draw = |low: f64, high: f64| {
            libm::exp(libm::log(low) + stream.next_uniform() * (libm::log(high) - libm::log(low)))
        };
        let mut pairs: Vec<(f64, f64)> = (0..3000).map(|_| (draw(1e-3, 1e5), draw(1e-3, 1e5))).collect();
        pairs.extend((0..500).map(|_| (draw(1e-300, 1e300), draw(1e-300, 1e300))));
        pairs.extend([
            (0.0, 0.0),
            (0.0, 1.0),
            (f64::INFINITY, 1.0),
            (1.0, f64::NAN),
            (-1.0, 2.0),
            (0.5, 5e-324),
        ]);
        for length in [0, 1, 3, 7, 8, 9, 255, 256, 257, pairs.len()] {
            let v: Vec<f64> = pairs.iter().rev().take(length).map(|p| p.0).collect();
            let x: Vec<f64> = pairs.iter().rev().take(length).map(|p| p.1).collect();
            for first in [true, false] {
                let mut expected = vec![0.0; length];
                batch(Instructions::Portable, first, &v, &x, &mut expected).unwrap();
                let single = if first { super::super::log_bessel_i } else { super::super::log_bessel_k };
                for ((&v, &x), &value) in v.iter().zip(&x).zip(&expected) {
                    assert_eq!(single(v, x).to_bits(), value.to_bits(), "{v} {x}");
                }
                for instructions in Instructions::available() {
                    let mut found = vec![0.0; length];
                    batch(instructions, first, &v, &x, &mut found).unwrap();
                    for ((v, x), (a, b)) in v.iter().zip(&x).zip(found.iter().zip(&expected)) {
                        assert_eq!(a.to_bits(), b.to_bits(), "{instructions:?} {first} {v} {x}: {a} {b}");
                    }
                }
            }
        }
    }
}
