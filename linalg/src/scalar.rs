//! The two element types, behind one bound.

mod sealed {
    #![expect(private_interfaces, reason = "a sealed trait's methods are for this crate alone")]

    pub trait Sealed: Sized {
        /// Rotates rows by a Hadamard matrix.
        fn rotate(rows: crate::hadamard::Rows<'_, Self>);

        /// `target ← target − Σⱼ factorⱼ·columnⱼ`; returns its largest modulus.
        fn combine(target: &mut [Self], columns: &[&[Self]], factors: &[Self]) -> Self;
    }

    impl Sealed for f32 {
        fn combine(target: &mut [Self], columns: &[&[Self]], factors: &[Self]) -> Self {
            pulp::Arch::new().dispatch(crate::ldu::Combine { target, columns, factors })
        }

        fn rotate(rows: crate::hadamard::Rows<'_, Self>) {
            crate::hadamard::single(rows);
        }
    }

    impl Sealed for f64 {
        fn combine(target: &mut [Self], columns: &[&[Self]], factors: &[Self]) -> Self {
            pulp::Arch::new().dispatch(crate::ldu::Combine { target, columns, factors })
        }

        fn rotate(rows: crate::hadamard::Rows<'_, Self>) {
            crate::hadamard::double(rows);
        }
    }
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
