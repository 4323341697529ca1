//! The rigid motion between two weighted lists of points.

use rankbit_linalg::faer::Mat;
use rankbit_linalg::truncated;

use crate::Error;

/// `y = R·x + t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motion {
    /// R, its rows; determinant 1.
    pub rotation: [[f64; 3]; 3],
    /// t.
    pub translation: [f64; 3],
}

impl Motion {
    /// R·x + t.
    pub fn apply(&self, x: [f64; 3]) -> [f64; 3] {
        let line = |i: usize| {
            let [a, b, c] = self.rotation[i];
            a * x[0] + b * x[1] + c * x[2] + self.translation[i]
        };
        [line(0), line(1), line(2)]
    }

    /// The motion of least `Σ w_i·|R·x_i + t - y_i|²` (Kabsch): with the weighted covariance `Σ w·(x - x̄)(y - ȳ)ᵀ = U·Σ·Vᵀ`,
    /// `R = V·diag(1, 1, det V·Uᵀ)·Uᵀ` and `t = ȳ - R·x̄`. Without points, or weights, the identity.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for lists of other lengths and for weights that are negative or not finite; [`Error::NonFinite`] for
    /// points that are not; [`Error::Linalg`] when the decomposition does not converge.
    pub fn between(source: &[[f64; 3]], target: &[[f64; 3]], weights: &[f64]) -> Result<Self, Error> {
        for len in [target.len(), weights.len()] {
            if len != source.len() {
                let requirement = "of one length with the source";
                return Err(Error::InvalidOption {
                    what: "points and weights",
                    requirement,
                    found: len as f64,
                });
            }
        }
        if let Some(&found) = weights.iter().find(|x| !(x.is_finite() && **x >= 0.0)) {
            return Err(Error::InvalidOption { what: "weight", requirement: "finite, not negative", found });
        }
        for (what, points) in [("source", source), ("target", target)] {
            let flat = points.as_flattened();
            if let Some(at) = flat.iter().position(|x| !x.is_finite()) {
                return Err(Error::NonFinite { what, index: [0, 0, at / 3, at % 3] });
            }
        }
        let sum = weights.iter().sum::<f64>();
        let centre = |points: &[[f64; 3]]| {
            let at = |k: usize| points.iter().zip(weights).fold(0.0, |all, (x, w)| all + w / sum * x[k]);
            if sum > 0.0 { [at(0), at(1), at(2)] } else { [0.0; 3] }
        };
        let (from, to) = (centre(source), centre(target));
        let covariance = Mat::<f64>::from_fn(3, 3, |i, j| {
            let terms = source.iter().zip(target).zip(weights);
            terms.fold(0.0, |all, ((x, y), w)| all + w * (x[i] - from[i]) * (y[j] - to[j]))
        });
        let svd = truncated(covariance.as_ref(), 3)?;
        let (u, v) = (svd.u, svd.v);
        let sign = if u.determinant() * v.determinant() < 0.0 { -1.0 } else { 1.0 };
        let entry =
            |i: usize, j: usize| v[(i, 0)] * u[(j, 0)] + v[(i, 1)] * u[(j, 1)] + sign * v[(i, 2)] * u[(j, 2)];
        let rotation = [0, 1, 2].map(|i| [0, 1, 2].map(|j| entry(i, j)));
        let turned = Self { rotation, translation: [0.0; 3] }.apply(from);
        Ok(Self { rotation, translation: [0, 1, 2].map(|i| to[i] - turned[i]) })
    }
}
