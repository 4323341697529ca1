//! The two element types, behind one bound.

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A real element type: `f32` or `f64` (sealed).
///
/// It joins what faer's routines need with the float functions of `num-traits`, which exist without `std`.
pub trait Scalar:
    faer::traits::RealField
    + num_traits::Float
    + core::fmt::Debug
    + core::fmt::Display
    + Default
    + Copy
    + Send
    + Sync
    + sealed::Sealed
    + 'static
{
    /// Largest power `e` such that a matrix whose largest modulus lies in `2⁻ᵉ … 2ᵉ` is decomposed as it is;
    /// outside it is first scaled by a power of two.
    #[doc(hidden)]
    const SAFE_EXPONENT: i32;

    /// Nearest value of this type (ties to even); beyond its range infinite.
    fn from_f64(value: f64) -> Self;

    /// The same value, exactly.
    fn to_f64(self) -> f64;
}

impl Scalar for f32 {
    const SAFE_EXPONENT: i32 = 40;

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is this function's purpose")]
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Scalar for f64 {
    const SAFE_EXPONENT: i32 = 240;

    #[inline]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline]
    fn to_f64(self) -> f64 {
        self
    }
}
