//! A change of basis made of its three parts.

use super::{Permutation, Smooth};
use crate::Error;
use alloc::vec::Vec;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Hadamard, Scalar};

/// Smoothing, permutation and rotation of rows of `features` entries, each optional, in this order; see the
/// [module](super).
///
/// ```
/// use rankbit_quant::transform::{Hadamard, Transform};
/// let rotate = Transform::from(Hadamard::new(12).with_signs(1));
/// let (x, w) = ([1.0, 9.0, 0.5, 0.0, -2.0, 1.5, 0.0, 0.0, 3.0, 1.0, 1.0, -1.0_f32], [0.25_f32; 12]);
/// let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
/// let (mut tx, mut tw) = (x, w);
/// rotate.forward(&mut tx)?;
/// rotate.inverse_transpose(&mut tw)?;
/// assert!((dot(&tx, &tw) - dot(&x, &w)).abs() < 1e-5); // X·T·(W·T⁻ᵀ)ᵀ = X·Wᵀ
/// # Ok::<(), rankbit_quant::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Transform {
    features: usize,
    smooth: Option<Smooth>,
    permutation: Option<Permutation>,
    rotation: Option<Hadamard>,
}

impl From<Smooth> for Transform {
    fn from(smooth: Smooth) -> Self {
        Self { features: smooth.features(), smooth: Some(smooth), permutation: None, rotation: None }
    }
}

impl From<Permutation> for Transform {
    fn from(order: Permutation) -> Self {
        Self { features: order.features(), smooth: None, permutation: Some(order), rotation: None }
    }
}

impl From<Hadamard> for Transform {
    fn from(rotation: Hadamard) -> Self {
        Self { features: rotation.size(), smooth: None, permutation: None, rotation: Some(rotation) }
    }
}

impl Transform {
    /// The identity on rows of `features` entries.
    pub const fn identity(features: usize) -> Self {
        Self { features, smooth: None, permutation: None, rotation: None }
    }

    /// The transform of these parts.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a part of another width.
    pub fn new(
        features: usize,
        smooth: Option<Smooth>,
        permutation: Option<Permutation>,
        rotation: Option<Hadamard>,
    ) -> Result<Self, Error> {
        let widths = [
            ("smoothing factors", smooth.as_ref().map(Smooth::features)),
            ("permutation", permutation.as_ref().map(Permutation::features)),
            ("rotation", rotation.as_ref().map(Hadamard::size)),
        ];
        for (what, width) in widths {
            if let Some(found) = width.filter(|&width| width != features) {
                return Err(Error::ShapeMismatch { what, expected: (1, features), found: (1, found) });
            }
        }
        Ok(Self { features, smooth, permutation, rotation })
    }

    /// Entries of a row.
    pub const fn features(&self) -> usize {
        self.features
    }

    /// Whether it has no part.
    pub const fn is_identity(&self) -> bool {
        self.smooth.is_none() && self.permutation.is_none() && self.rotation.is_none()
    }

    /// The smoothing.
    pub const fn smooth(&self) -> Option<&Smooth> {
        self.smooth.as_ref()
    }

    /// The permutation.
    pub const fn permutation(&self) -> Option<&Permutation> {
        self.permutation.as_ref()
    }

    /// The rotation.
    pub const fn rotation(&self) -> Option<&Hadamard> {
        self.rotation.as_ref()
    }

    /// Every stored bit. A rotation is its order and its seed, which belong to the description, as a scheme does.
    pub fn stored_bits(&self) -> u64 {
        self.smooth.as_ref().map_or(0, Smooth::stored_bits)
            + self.permutation.as_ref().map_or(0, Permutation::stored_bits)
    }

    /// x ← x·T for each of the rows, which lie one after another: inputs into the quantizer's basis.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the length is no multiple of the width.
    pub fn forward<T: Scalar>(&self, rows: &mut [T]) -> Result<(), Error> {
        self.enter(rows, self.smooth.as_ref().map(Smooth::inverse))
    }

    /// x ← x·T⁻¹: what [`Transform::forward`] did, undone.
    ///
    /// # Errors
    /// As [`Transform::forward`].
    pub fn inverse<T: Scalar>(&self, rows: &mut [T]) -> Result<(), Error> {
        self.leave(rows, self.smooth.as_ref().map(Smooth::forward))
    }

    /// w ← w·T⁻ᵀ: weights into the quantizer's basis.
    ///
    /// # Errors
    /// As [`Transform::forward`].
    pub fn inverse_transpose<T: Scalar>(&self, rows: &mut [T]) -> Result<(), Error> {
        self.enter(rows, self.smooth.as_ref().map(Smooth::forward))
    }

    /// q̃ ← q̃·Tᵀ: what [`Transform::inverse_transpose`] did, undone.
    ///
    /// # Errors
    /// As [`Transform::forward`].
    pub fn transpose<T: Scalar>(&self, rows: &mut [T]) -> Result<(), Error> {
        self.leave(rows, self.smooth.as_ref().map(Smooth::inverse))
    }

    /// `TᵀHT`: the form under which errors of `Q̃` count when those of `W` count under H. O(in² · log in), or
    /// O(in² · m) for a rotation with a core of order m. The result is exactly symmetric.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `gram` is not `[in, in]`.
    pub fn gram(&self, gram: MatRef<'_, f64>) -> Result<Mat<f64>, Error> {
        let n = self.features;
        if (gram.nrows(), gram.ncols()) != (n, n) {
            let found = (gram.nrows(), gram.ncols());
            return Err(Error::ShapeMismatch { what: "Gram matrix", expected: (n, n), found });
        }
        let mut half: Vec<f64> = (0..n).flat_map(|i| gram.row(i).iter().copied()).collect();
        self.forward(&mut half)?;
        // Rows of (H·T)ᵀ = Tᵀ·H, times T.
        let mut whole: Vec<f64> =
            (0..n).flat_map(|j| half.iter().skip(j).step_by(n.max(1)).copied()).collect();
        self.forward(&mut whole)?;
        let at = |i: usize, j: usize| whole[i * n + j];
        Ok(Mat::from_fn(n, n, |i, j| 0.5 * (at(i, j) + at(j, i))))
    }

    fn enter<T: Scalar>(&self, rows: &mut [T], factors: Option<Vec<f32>>) -> Result<(), Error> {
        self.check(rows.len())?;
        if let Some(factors) = factors {
            scale(rows, &factors);
        }
        if let Some(permutation) = &self.permutation {
            let mut scratch = Vec::new();
            for row in rows.chunks_exact_mut(self.features.max(1)) {
                permutation.gather(row, &mut scratch);
            }
        }
        if let Some(rotation) = &self.rotation {
            rotation.forward_slice(rows)?;
        }
        Ok(())
    }

    fn leave<T: Scalar>(&self, rows: &mut [T], factors: Option<Vec<f32>>) -> Result<(), Error> {
        self.check(rows.len())?;
        if let Some(rotation) = &self.rotation {
            rotation.inverse_slice(rows)?;
        }
        if let Some(permutation) = &self.permutation {
            let mut scratch = Vec::new();
            for row in rows.chunks_exact_mut(self.features.max(1)) {
                permutation.scatter(row, &mut scratch);
            }
        }
        if let Some(factors) = factors {
            scale(rows, &factors);
        }
        Ok(())
    }

    fn check(&self, len: usize) -> Result<(), Error> {
        if len.checked_rem(self.features).unwrap_or(len) == 0 {
            return Ok(());
        }
        Err(Error::ShapeMismatch { what: "rows to transform", expected: (1, self.features), found: (1, len) })
    }
}

/// Each row times its factors, the product rounded once.
fn scale<T: Scalar>(rows: &mut [T], factors: &[f32]) {
    let factors: Vec<T> = factors.iter().map(|&factor| T::from_f64(f64::from(factor))).collect();
    for row in rows.chunks_exact_mut(factors.len().max(1)) {
        for (value, &factor) in row.iter_mut().zip(&factors) {
            *value *= factor;
        }
    }
}
