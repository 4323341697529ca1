//! The formula, one entry at a time, in f64: what every faster path is held to.

use crate::{Error, Quantized};
use alloc::vec;
use rankbit_linalg::faer::{Mat, MatRef};

/// `y[t, o] = Σ_k x[t, k] · s · (value(code[o, k]) - z)`, summed in f64 and rounded once.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` does not have the weight's `in` columns.
pub fn apply(weight: &Quantized, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
    let (out, features) = weight.shape();
    if x.ncols() != features {
        return Err(Error::ShapeMismatch {
            what: "activations",
            expected: (x.nrows(), features),
            found: (x.nrows(), x.ncols()),
        });
    }
    let mut row = vec![0.0; features];
    let mut y = Mat::zeros(x.nrows(), out);
    for o in 0..out {
        weight.row_into(o, &mut row)?;
        for t in 0..x.nrows() {
            let sum: f64 = (0..features).map(|k| f64::from(x[(t, k)]) * f64::from(row[k])).sum();
            y[(t, o)] = crate::float::narrow(sum);
        }
    }
    Ok(y)
}
