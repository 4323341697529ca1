//! Vectors of one instruction set behind one trait, and the element types that have them.

use rankbit_linalg::Scalar;

use super::Kernels;

/// Vectors of `T` in one instruction set. A value is the proof that the processor has it.
pub(crate) trait Simd<T>: Copy {
    /// One register.
    type Vector: Copy;
    /// Elements of a register.
    const LANES: usize;
    /// Rows that the product keeps in registers for each lane group: 8, 6 or 4.
    const ROWS: usize;

    fn splat(self, x: T) -> Self::Vector;
    /// Lanes `part·LANES..` of a row; `(part + 1)·LANES ≤ W`.
    fn load<const W: usize>(self, row: &[T; W], part: usize) -> Self::Vector;
    fn store<const W: usize>(self, x: Self::Vector, row: &mut [T; W], part: usize);
    /// `a·b + c`, fused where the instruction set fuses.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// 2ˣ for x ≤ 1, relative error below 4 units in the last place; 0 below [`Element::LEAST_EXPONENT`]; NaN for NaN.
    fn exp2(self, x: Self::Vector) -> Self::Vector;
    /// Lanes whose bit is set; the others become -∞.
    fn keep(self, x: Self::Vector, bits: u32) -> Self::Vector;
}

/// Work that is generic over the instruction set. `run` has to be `#[inline(always)]`: it becomes the body of a function
/// that has the instruction set.
pub(crate) trait Work<T> {
    fn run<S: Simd<T>>(self, simd: S);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// An element type that the kernels know: `f32` or `f64` (sealed).
#[expect(private_bounds, reason = "sealed: the kernels are this crate's own")]
pub trait Element: Scalar + Kernel + sealed::Sealed {}
impl Element for f32 {}
impl Element for f64 {}

/// What the kernels need of an element type.
pub(crate) trait Kernel: Copy {
    /// 2ˣ is computed for x from here on; below it is 0.
    const LEAST_EXPONENT: Self;
    /// The least finite value.
    const LEAST: Self;

    /// Runs `work` in the given instruction set.
    fn dispatch<K: Work<Self>>(kernels: Kernels, work: K);

    /// 2ˣ by the steps of the vector versions.
    fn exp2(self) -> Self;
}

/// `2ᶠ` on [-½, ½], relative error 2.6e-9: interpolation in the Chebyshev nodes of the relative error.
#[expect(clippy::approx_constant, reason = "a fitted coefficient near ln 2")]
pub(super) const EXP2_SINGLE: [f32; 7] =
    [1.0, 0.693_147_2, 0.240_226_5, 0.055_503_27, 0.009_618_057, 0.001_340_042_8, 0.000_154_614_45];

/// `2ᶠ` on [-½, ½], relative error 6e-20.
#[expect(clippy::approx_constant, reason = "a fitted coefficient near ln 2")]
pub(super) const EXP2_DOUBLE: [f64; 13] = [
    1.0,
    0.693_147_180_559_945_3,
    0.240_226_506_959_100_7,
    0.055_504_108_664_821_7,
    0.009_618_129_107_628_483,
    0.001_333_355_814_639_035_3,
    0.000_154_035_303_933_627_55,
    0.000_015_252_733_856_293_467,
    1.321_548_681_599_997_7e-6,
    1.017_805_119_296_064_9e-7,
    7.054_894_386_348_348e-9,
    4.456_675_341_049_206e-10,
    2.573_356_830_875_689e-11,
];

/// 1.5·2²³: added to a number of moderate size, its low mantissa bits become the number's nearest integer.
pub(super) const MAGIC_SINGLE: f32 = 12_582_912.0;
/// 1.5·2⁵².
pub(super) const MAGIC_DOUBLE: f64 = 6_755_399_441_055_744.0;

macro_rules! element {
    ($type:ty, $polynomial:ident, $magic:ident, $shift:literal, $least:literal) => {
        impl Kernel for $type {
            const LEAST_EXPONENT: Self = $least;
            const LEAST: Self = Self::MIN;

            #[inline]
            fn dispatch<K: Work<Self>>(kernels: Kernels, work: K) {
                match kernels {
                    Kernels::Portable => work.run(Portable),
                    #[cfg(target_arch = "x86_64")]
                    Kernels::Avx2(token) => super::x86::avx2(token, work),
                    #[cfg(target_arch = "x86_64")]
                    Kernels::Avx512(token) => super::x86::avx512(token, work),
                }
            }

            #[inline(always)]
            fn exp2(self) -> Self {
                if self < Self::LEAST_EXPONENT {
                    return 0.0;
                }
                let shifted = self + $magic;
                let f = self - (shifted - $magic);
                let [first, rest @ ..] = $polynomial;
                let power = rest.iter().rev().fold(0.0, |sum, &c| (sum + c) * f) + first;
                // NaN passes: its polynomial is NaN, and the exponent added to a NaN's bits leaves it NaN only when
                // nothing is added.
                if power.is_nan() {
                    return power;
                }
                Self::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << $shift))
            }
        }
    };
}
element!(f32, EXP2_SINGLE, MAGIC_SINGLE, 23, -125.0);
element!(f64, EXP2_DOUBLE, MAGIC_DOUBLE, 52, -1020.0);

/// What the compiler makes of plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// Lanes of a portable vector.
const PORTABLE: usize = 8;

/// Applies `f` lane by lane.
#[inline(always)]
fn zip<T: Copy>(mut a: [T; PORTABLE], b: [T; PORTABLE], f: impl Fn(T, T) -> T) -> [T; PORTABLE] {
    for (a, b) in a.iter_mut().zip(b) {
        *a = f(*a, b);
    }
    a
}

impl<T: Element> Simd<T> for Portable {
    type Vector = [T; PORTABLE];
    const LANES: usize = PORTABLE;
    const ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: T) -> Self::Vector {
        [x; PORTABLE]
    }
    #[inline(always)]
    fn load<const W: usize>(self, row: &[T; W], part: usize) -> Self::Vector {
        let mut vector = [row[0]; PORTABLE];
        vector.copy_from_slice(&row[part * PORTABLE..(part + 1) * PORTABLE]);
        vector
    }
    #[inline(always)]
    fn store<const W: usize>(self, x: Self::Vector, row: &mut [T; W], part: usize) {
        row[part * PORTABLE..(part + 1) * PORTABLE].copy_from_slice(&x);
    }
    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn exp2(self, mut x: Self::Vector) -> Self::Vector {
        for x in &mut x {
            *x = Kernel::exp2(*x);
        }
        x
    }
    #[inline(always)]
    fn keep(self, mut x: Self::Vector, bits: u32) -> Self::Vector {
        for (lane, x) in x.iter_mut().enumerate() {
            if bits >> lane & 1 == 0 {
                *x = T::neg_infinity();
            }
        }
        x
    }
}
