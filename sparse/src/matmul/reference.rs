//! The formula, one entry at a time, in f64: what every faster path is held to.

use crate::{Error, NmMatrix};
use rankbit_linalg::faer::{Mat, MatRef};

/// `y[t, o] = Σ_s x[t, column of slot s]·value[o, s]`, summed in f64 and rounded once.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` does not have the matrix's `in` columns.
pub fn apply(matrix: &NmMatrix, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
    let (out, features) = matrix.shape();
    if x.ncols() != features {
        let (expected, found) = ((x.nrows(), features), x.shape());
        return Err(Error::ShapeMismatch { what: "activations", expected, found });
    }
    let kept = matrix.kept_per_row();
    let (mut values, mut offsets) = (alloc::vec![0.0; kept], alloc::vec![0; kept]);
    let (keep, of) = (matrix.pattern().keep(), matrix.pattern().of());
    let mut y = Mat::zeros(x.nrows(), out);
    for o in 0..out {
        matrix.values().row_into(o, &mut values);
        matrix.offsets_into(o, &mut offsets);
        for t in 0..x.nrows() {
            let column = |slot: usize| slot / keep * of + usize::from(offsets[slot]);
            let sum: f64 = (0..kept).map(|s| f64::from(x[(t, column(s))]) * f64::from(values[s])).sum();
            y[(t, o)] = crate::dense::narrow(sum);
        }
    }
    Ok(y)
}
