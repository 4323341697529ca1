//! A column less a combination of others, and its largest modulus, in the vector registers that `pulp` detects.

use pulp::bytemuck::{Pod, cast_slice};
use pulp::{Simd, WithSimd};

/// Vectors of rows that are held in registers together.
const HELD: usize = 4;

/// Vectors of an element type under an instruction set.
pub(crate) trait Lanes<S: Simd>: Pod + Default + PartialOrd {
    type Vector: Pod;
    fn vectors(entries: &[Self]) -> (&[Self::Vector], &[Self]);
    fn vectors_mut(entries: &mut [Self]) -> (&mut [Self::Vector], &mut [Self]);
    fn splat(simd: S, value: Self) -> Self::Vector;
    /// c − a·b.
    fn less_product(simd: S, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The larger of `most` and |x|.
    fn larger(simd: S, most: Self::Vector, x: Self::Vector) -> Self::Vector;
}

/// [`Lanes`] of one element type.
macro_rules! lanes {
    ($element:ty, $vector:ident, $get:ident, $get_mut:ident, $splat:ident, $product:ident, $abs:ident, $max:ident) => {
        impl<S: Simd> Lanes<S> for $element {
            type Vector = S::$vector;

            #[inline(always)]
            fn vectors(entries: &[Self]) -> (&[S::$vector], &[Self]) {
                S::$get(entries)
            }

            #[inline(always)]
            fn vectors_mut(entries: &mut [Self]) -> (&mut [S::$vector], &mut [Self]) {
                S::$get_mut(entries)
            }

            #[inline(always)]
            fn splat(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }

            #[inline(always)]
            fn less_product(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                simd.$product(a, b, c)
            }

            #[inline(always)]
            fn larger(simd: S, most: S::$vector, x: S::$vector) -> S::$vector {
                simd.$max(simd.$abs(x), most)
            }
        }
    };
}
lanes!(f32, f32s, as_simd_f32s, as_mut_simd_f32s, splat_f32s, negate_mul_add_e_f32s, abs_f32s, max_f32s);
lanes!(f64, f64s, as_simd_f64s, as_mut_simd_f64s, splat_f64s, negate_mul_add_e_f64s, abs_f64s, max_f64s);

/// `target − Σⱼ factorⱼ·columnⱼ` and the largest modulus of the result.
///
/// Columns are as long as the target. Every entry goes through the same operations in the order of the columns, so
/// that an entry has the same bits whether its row or its column is asked for.
pub(crate) struct Combine<'a, T> {
    pub(crate) target: &'a mut [T],
    pub(crate) columns: &'a [&'a [T]],
    pub(crate) factors: &'a [T],
}

impl WithSimd for Combine<'_, f32> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        self.run(simd)
    }
}

impl WithSimd for Combine<'_, f64> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        self.run(simd)
    }
}

impl<T> Combine<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> T
    where
        T: Lanes<S>,
    {
        let Self { target, columns, factors } = self;
        let mut most = [T::splat(simd, T::default()); HELD];
        let width = size_of::<T::Vector>() / size_of::<T>();
        let (vectors, rest) = T::vectors_mut(target);
        let whole = vectors.len();
        let mut groups = vectors.chunks_exact_mut(HELD);
        let mut at = 0;
        for group in &mut groups {
            let mut held = [T::splat(simd, T::default()); HELD];
            held.copy_from_slice(group);
            for (column, &factor) in columns.iter().zip(factors) {
                let factor = T::splat(simd, factor);
                if let Some(column) = T::vectors(column).0.get(at..at + HELD) {
                    for (value, &entry) in held.iter_mut().zip(column) {
                        *value = T::less_product(simd, factor, entry, *value);
                    }
                }
            }
            for (most, &value) in most.iter_mut().zip(&held) {
                *most = T::larger(simd, *most, value);
            }
            group.copy_from_slice(&held);
            at += HELD;
        }
        let [mut first, ..] = most;
        for other in most {
            first = T::larger(simd, first, other);
        }
        for vector in groups.into_remainder() {
            let mut value = *vector;
            for (column, &factor) in columns.iter().zip(factors) {
                if let Some(&entry) = T::vectors(column).0.get(at) {
                    value = T::less_product(simd, T::splat(simd, factor), entry, value);
                }
            }
            first = T::larger(simd, first, value);
            *vector = value;
            at += 1;
        }
        // Single entries as vectors of equal lanes: the same operations.
        for (at, entry) in rest.iter_mut().enumerate() {
            let mut value = T::splat(simd, *entry);
            for (column, &factor) in columns.iter().zip(factors) {
                if let Some(&other) = column.get(whole * width + at) {
                    value = T::less_product(simd, T::splat(simd, factor), T::splat(simd, other), value);
                }
            }
            first = T::larger(simd, first, value);
            if let Some(&value) = cast_slice::<T::Vector, T>(&[value]).first() {
                *entry = value;
            }
        }
        let mut largest = T::default();
        for &value in cast_slice::<T::Vector, T>(&[first]) {
            largest = if value > largest { value } else { largest };
        }
        largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scalar, Stream};
    use alloc::vec::Vec;

    /// Every instruction set, against the formula in f64; the largest modulus is that of what is stored.
    fn agrees<T: Scalar>(run: impl Fn(Combine<'_, T>) -> T) {
        let mut stream = Stream::new(3, "combine");
        for length in [0, 1, 3, 7, 8, 9, 31, 32, 33, 64, 100, 257] {
            for count in [0, 1, 2, 5, 16] {
                let mut draw = |count: usize| -> Vec<T> {
                    (0..count).map(|_| T::from_f64(stream.next_normal())).collect()
                };
                let (target, factors) = (draw(length), draw(count));
                let columns: Vec<Vec<T>> = (0..count).map(|_| draw(length)).collect();
                let columns: Vec<&[T]> = columns.iter().map(Vec::as_slice).collect();
                let mut found = target.clone();
                let most = run(Combine { target: &mut found, columns: &columns, factors: &factors });
                let mut largest = T::default();
                for (at, (&found, &target)) in found.iter().zip(&target).enumerate() {
                    let terms =
                        columns.iter().zip(&factors).map(|(c, f)| Scalar::to_f64(c[at]) * Scalar::to_f64(*f));
                    let expected = target.to_f64() - terms.clone().sum::<f64>();
                    let reach = target.to_f64().abs() + terms.map(f64::abs).sum::<f64>();
                    let bound = T::epsilon().to_f64() * 20.0 * reach;
                    assert!((found.to_f64() - expected).abs() <= bound, "{length} {count} {at}");
                    largest = if num_traits::Float::abs(found) > largest {
                        num_traits::Float::abs(found)
                    } else {
                        largest
                    };
                }
                assert_eq!(most, largest);
            }
        }
    }

    #[test]
    fn every_instruction_set_follows_the_formula() {
        agrees::<f32>(|op| op.with_simd(pulp::Scalar));
        agrees::<f64>(|op| op.with_simd(pulp::Scalar));
        agrees::<f32>(|op| pulp::Arch::new().dispatch(op));
        agrees::<f64>(|op| pulp::Arch::new().dispatch(op));
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            agrees::<f32>(|op| pulp::Arch::V3(simd).dispatch(op));
            agrees::<f64>(|op| pulp::Arch::V3(simd).dispatch(op));
        }
    }
}
