//! The formula, one entry at a time, in f64: what every faster path and every GPU kernel is held to.

use crate::{Error, Split};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::FloatFormat;

/// `y[t, o] = Σ_k (x·T)[t, k]·q̃[o, k] + Σ_i (Σ_k x[t, k]·R[i, k])·L[o, i] + Σ_k x[t, k]·s[o, k] (+ b[o])`, each sum in
/// f64, rounded once.
///
/// Where the split quantizes its inputs, `x·T` of the first sum is what the policy makes of it in f32.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` does not have the split's `in` columns; what the policy for inputs refuses.
pub fn apply(split: &Split, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
    let ((out, features), tokens) = (split.shape(), x.nrows());
    if x.ncols() != features {
        return Err(Error::ShapeMismatch {
            what: "activations",
            expected: (tokens, features),
            found: (tokens, x.ncols()),
        });
    }
    let mut sums = Mat::<f64>::zeros(tokens, out);
    if let Some(base) = split.base() {
        let mut inputs = Vec::with_capacity(tokens * features);
        let mut transformed = Vec::with_capacity(tokens * features);
        for t in 0..tokens {
            inputs.extend(x.row(t).iter().map(|&x| f64::from(x)));
            transformed.extend(x.row(t).iter().copied());
        }
        if let Some(transform) = split.transform() {
            transform.forward(&mut inputs)?;
            transform.forward(&mut transformed)?;
        }
        let mut row = vec![0.0; features];
        if let Some(quantized) = split.activation().quantize(&transformed, (tokens, features))? {
            for t in 0..tokens {
                quantized.row_into(t, &mut row)?;
                for (k, &value) in row.iter().enumerate() {
                    inputs[t * features + k] = f64::from(value);
                }
            }
        }
        for o in 0..out {
            base.row_into(o, &mut row)?;
            for t in 0..tokens {
                for k in 0..features {
                    sums[(t, o)] += inputs[t * features + k] * f64::from(row[k]);
                }
            }
        }
    }
    if let Some(low_rank) = split.low_rank() {
        let (left, right, rank) = (low_rank.left().to_f32(), low_rank.right().to_f32(), low_rank.rank());
        for t in 0..tokens {
            for i in 0..rank {
                let z: f64 =
                    (0..features).map(|k| f64::from(x[(t, k)]) * f64::from(right[i * features + k])).sum();
                for o in 0..out {
                    sums[(t, o)] += z * f64::from(left[o * rank + i]);
                }
            }
        }
    }
    if let Some(sparse) = split.sparse() {
        let mut row = vec![0.0; features];
        for o in 0..out {
            sparse.row_into(o, &mut row)?;
            for t in 0..tokens {
                let kept = (0..features).filter(|&k| row[k] != 0.0);
                sums[(t, o)] += kept.map(|k| f64::from(x[(t, k)]) * f64::from(row[k])).sum::<f64>();
            }
        }
    }
    for (column, &b) in sums.col_iter_mut().zip(split.bias().unwrap_or_default()) {
        column.iter_mut().for_each(|value| *value += f64::from(b));
    }
    Ok(Mat::from_fn(tokens, out, |t, o| FloatFormat::F32.round(sums[(t, o)])))
}
