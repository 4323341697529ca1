//! The two element types, behind one bound.

mod sealed {
    /// Scales a row and runs its first butterflies; false when it did nothing.
    pub(super) type Butterflies<T> = fn(&mut [T], &[T]) -> bool;

    pub trait Sealed: Sized {
        /// For rows in blocks of `block`: the first Hadamard butterflies in vector registers, and the distance of the
        /// next.
        fn butterflies_in_registers(block: usize) -> Option<(usize, Butterflies<Self>)>;

        /// The butterflies at distance `half` and beyond of each `block` entries of `row`.
        fn butterflies(row: &mut [Self], block: usize, half: usize);

        /// `target ← target − Σⱼ factorⱼ·columnⱼ`; returns its largest modulus.
        fn combine(target: &mut [Self], columns: &[&[Self]], factors: &[Self]) -> Self;
    }

    impl Sealed for f32 {
        fn combine(target: &mut [Self], columns: &[&[Self]], factors: &[Self]) -> Self {
            pulp::Arch::new().dispatch(crate::ldu::Combine { target, columns, factors })
        }

        fn butterflies(row: &mut [Self], block: usize, half: usize) {
            crate::hadamard::single_butterflies(row, block, half);
        }

        #[cfg(target_arch = "x86_64")]
        fn butterflies_in_registers(block: usize) -> Option<(usize, Butterflies<Self>)> {
            (block >= 8).then_some((8, crate::hadamard::x86::single))
        }

        #[cfg(not(target_arch = "x86_64"))]
        fn butterflies_in_registers(_: usize) -> Option<(usize, Butterflies<Self>)> {
            None
        }
    }

    impl Sealed for f64 {
        fn combine(target: &mut [Self], columns: &[&[Self]], factors: &[Self]) -> Self {
            pulp::Arch::new().dispatch(crate::ldu::Combine { target, columns, factors })
        }

        fn butterflies(row: &mut [Self], block: usize, half: usize) {
            crate::hadamard::double_butterflies(row, block, half);
        }

        #[cfg(target_arch = "x86_64")]
        fn butterflies_in_registers(block: usize) -> Option<(usize, Butterflies<Self>)> {
            (block >= 4).then_some((4, crate::hadamard::x86::double))
        }

        #[cfg(not(target_arch = "x86_64"))]
        fn butterflies_in_registers(_: usize) -> Option<(usize, Butterflies<Self>)> {
            None
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
