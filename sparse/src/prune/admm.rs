//! Masks by the alternating direction method of multipliers, then the best values of the mask found.

use super::refit::{RefitOptions, solve, transposed};
use super::{Pruned, finish};
use crate::{Error, Mask, Pattern, dense, select};
use alloc::vec::Vec;
use num_traits::Float;
use rankbit_linalg::faer::{Mat, MatRef, Scale};

/// Options of [`admm`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdmmOptions {
    /// Added to the diagonal of H, as a fraction of its mean; finite, not negative.
    pub damping: f64,
    /// ρ at the start, relative to the scaled form's unit diagonal; positive.
    pub penalty: f64,
    /// Alternations at most.
    pub iterations: u32,
    /// The final refit's iterations and tolerance (its damping is the one above).
    pub refit: RefitOptions,
}

impl Default for AdmmOptions {
    fn default() -> Self {
        Self { damping: 0.01, penalty: 0.1, iterations: 300, refit: RefitOptions::default() }
    }
}

/// Iterations after which a refit that lags behind is given up.
const EARLY: u32 = 10;
/// Largest penalty.
const MAX_PENALTY: f64 = 1e6;

/// Prunes `weight` (`[out, in]`) to `pattern` under the Gram matrix `gram` (`[in, in]`).
///
/// ```text
/// minimize  tr((W − B)·H·(W − B)ᵀ)  over B = D,  D follows the pattern
///
/// B ← (W·H − V + ρ·D)·(H + ρ·I)⁻¹
/// D ← P(B + V/ρ)                        P keeps the largest squares that the pattern allows
/// V ← V + ρ·(B − D)
/// ```
/// 1. **Scale** H to a unit diagonal, and W's columns accordingly; the start D = P(W) is then Wanda's mask.
/// 2. **Alternate.** Every 3 iterations ρ grows by a factor 1.3, 1.2 or 1.1 as more than 10 %, more than 0.5 %, or fewer
///    of the kept entries changed; no change ends it. If the very first look finds few changes ρ was too large: it is
///    divided by 5 (and the alternation starts anew). From iteration 30 on fewer changes than 0.03 % end it.
/// 3. **Refit** the values on the mask found ([`refit`](super::refit())), and on Wanda's: the better of the two is
///    returned. A refit of Wanda's mask that is still a quarter above the other after ten iterations is given up.
///
/// The alternation, which only chooses a mask, is in f32; the refit and all errors are in f64.
///
/// Source: ALPS, Meng et al., NeurIPS 2024, arXiv 2406.07831, algorithms 1 and 2 and the released code's constants.
/// Deviation: a Cholesky factor per ρ instead of one eigendecomposition.
///
/// Cost O(in³) per change of ρ (some ten), O(out·in²) per alternation (some thirty).
///
/// # Errors
/// [`Error::InvalidOption`]; [`Error::ShapeMismatch`] for a Gram matrix of another width; [`Error::NonFinite`]; from
/// [`Error::Linalg`] a Gram matrix that is none.
pub fn admm(
    weight: MatRef<'_, f32>,
    gram: MatRef<'_, f64>,
    pattern: &Pattern,
    options: &AdmmOptions,
) -> Result<Pruned, Error> {
    pattern.check()?;
    if !(options.penalty.is_finite() && options.penalty > 0.0) {
        let (requirement, found) = ("finite and positive", options.penalty);
        return Err(Error::InvalidOption { what: "penalty", requirement, found });
    }
    let form = super::damped(weight, gram, options.damping)?;
    let target = transposed(weight);
    // 1.
    let n = form.nrows();
    let scale: Vec<f64> =
        (0..n).map(|j| if form[(j, j)] > 0.0 { Float::sqrt(form[(j, j)]) } else { 1.0 }).collect();
    let scaled_form = Mat::from_fn(n, n, |i, j| dense::narrow(form[(i, j)] / (scale[i] * scale[j])));
    // A factor common to all weights changes no mask; this one keeps them in the middle of f32's range.
    let wide = Mat::from_fn(n, target.ncols(), |j, i| target[(j, i)] * scale[j]);
    let largest = wide.norm_max();
    let unit = if largest > 0.0 && largest.is_finite() { largest } else { 1.0 };
    let scaled = Mat::from_fn(n, target.ncols(), |j, i| dense::narrow(wide[(j, i)] / unit));
    // 2.
    let first = project(&wide, pattern)?;
    drop(wide);
    let (mask, values, iterations) = alternate(&scaled, scaled_form.as_ref(), pattern, &first, options)?;
    // 3.
    let unscaled = Mat::from_fn(n, target.ncols(), |j, i| f64::from(values[(j, i)]) * unit / scale[j]);
    let best = |start: &Mat<f64>, mask: &Mask, limit: u32| {
        let refit = RefitOptions { iterations: options.refit.iterations.min(limit), ..options.refit };
        let (values, _) = solve(&target, start, mask, form.as_ref(), &refit);
        let pruned = finish(weight, form.as_ref(), (values.as_ref(), mask.clone()), iterations)?;
        Ok::<_, Error>((pruned, values))
    };
    let (found, _) = best(&unscaled, &mask, u32::MAX)?;
    let (mut plain, start) = best(&target, &first, EARLY)?;
    if plain.error < 1.25 * found.error {
        plain = best(&start, &first, u32::MAX)?.0;
    }
    Ok(if found.error <= plain.error { found } else { plain })
}

/// The mask of the largest squares of `matrix`, which is transposed.
fn project<T: Copy + Into<f64>>(matrix: &Mat<T>, pattern: &Pattern) -> Result<Mask, Error> {
    let squares = Mat::from_fn(matrix.nrows(), matrix.ncols(), |j, i| {
        let value: f64 = matrix[(j, i)].into();
        value * value
    });
    select::select(squares.as_ref().transpose(), pattern)
}

/// `matrix` (transposed) where the mask keeps it.
fn masked(matrix: &Mat<f32>, mask: &Mask) -> Mat<f32> {
    let mut out = Mat::zeros(matrix.nrows(), matrix.ncols());
    for row in 0..matrix.ncols() {
        for col in mask.row(row) {
            out[(col, row)] = matrix[(col, row)];
        }
    }
    out
}

/// Step 2: the mask, the dense iterate at the end, and the iterations taken.
fn alternate(
    target: &Mat<f32>,
    form: MatRef<'_, f32>,
    pattern: &Pattern,
    first: &Mask,
    options: &AdmmOptions,
) -> Result<(Mask, Mat<f32>, u32), Error> {
    let start = masked(target, first);
    let image = {
        let mut image = target.clone();
        dense::for_panels(image.as_mut(), |_, mut panel| {
            let product = dense::product(form, panel.as_ref());
            panel.copy_from(&product);
        });
        image
    };
    let kept = first.count().max(1) as f64;
    let mut penalty = options.penalty;
    let mut lower = factor(form, penalty)?;
    let (mut projected, mut dual) = (start.clone(), Mat::<f32>::zeros(target.nrows(), target.ncols()));
    let (mut mask, mut looked_at, mut grown) = (first.clone(), first.clone(), false);
    let mut dense_iterate = target.clone();
    for iteration in 1..=options.iterations {
        let rho = dense::narrow(penalty);
        dense_iterate = &image - &dual + &projected * Scale(rho);
        dense::solve(lower.as_ref(), dense_iterate.as_mut());
        let shifted = &dense_iterate + &dual * Scale(1.0 / rho);
        mask = project(&shifted, pattern)?;
        projected = masked(&shifted, &mask);
        dual = &dual + (&dense_iterate - &projected) * Scale(rho);
        if iteration % 3 != 0 {
            continue;
        }
        let changes = mask.distance(&looked_at)? as f64;
        looked_at = mask.clone();
        let before = penalty;
        match () {
            () if changes > 0.1 * kept => penalty *= 1.3,
            () if changes > 0.005 * kept => penalty *= 1.2,
            () if changes == 0.0 && grown => return Ok((mask, dense_iterate, iteration)),
            () if grown => penalty *= 1.1,
            () => {
                penalty /= 5.0;
                if changes > 0.0 {
                    projected = start.clone();
                    dual = Mat::zeros(target.nrows(), target.ncols());
                    looked_at = first.clone();
                }
                // So small a penalty leaves the dense solution: nothing is to be gained by going on.
                if penalty < 1e-9 {
                    return Ok((mask, dense_iterate, iteration));
                }
            }
        }
        grown |= penalty > before;
        if iteration > 30 && changes < 0.0003 * kept {
            return Ok((mask, dense_iterate, iteration));
        }
        penalty = penalty.min(MAX_PENALTY);
        if penalty != before {
            lower = factor(form, penalty)?;
        }
    }
    Ok((mask, dense_iterate, options.iterations))
}

/// The Cholesky factor of `form + penalty·I`.
fn factor(form: MatRef<'_, f32>, penalty: f64) -> Result<Mat<f32>, Error> {
    let (mut shifted, penalty) = (form.to_owned(), dense::narrow(penalty));
    for j in 0..shifted.nrows() {
        shifted[(j, j)] += penalty;
    }
    dense::cholesky(shifted).map_err(|pivot| {
        Error::Linalg(rankbit_linalg::Error::NotPositiveDefinite {
            what: "the form of an alternation",
            pivot,
        })
    })
}
