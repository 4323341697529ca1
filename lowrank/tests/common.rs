//! What the modules share.

use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{MomentKinds, Moments, Stream};
use rankbit_lowrank::{Fit, Input, Recipe, fit, preset};
use rankbit_quant::{FloatFormat, Group, Rounder, scheme};
use rankbit_sparse::{NmPattern, Pattern, Scope, ValueFormat};

/// A Gaussian matrix.
pub(crate) fn gaussian(rows: usize, cols: usize, seed: u64) -> Mat<f32> {
    let mut stream = Stream::new(seed, "test matrix");
    let mut values = vec![0.0; rows * cols];
    stream.fill_normal(&mut values);
    MatRef::from_row_major_slice(&values, rows, cols).to_owned()
}

/// A matrix like a trained weight: a decaying low-rank part, a few loud columns, noise.
pub(crate) fn weight(rows: usize, cols: usize, seed: u64) -> Mat<f32> {
    let (left, right) = (gaussian(rows, 8, seed), gaussian(8, cols, seed + 1));
    let noise = gaussian(rows, cols, seed + 2);
    Mat::from_fn(rows, cols, |i, j| {
        let low: f32 = (0..8_u8)
            .map(|k| left[(i, usize::from(k))] * right[(usize::from(k), j)] * 0.5_f32.powi(i32::from(k)))
            .sum();
        (low * 0.3 + noise[(i, j)] * 0.2) * if j % 29 == 3 { 4.0 } else { 1.0 }
    })
}

/// Calibration whose inputs have very different sizes and are correlated.
pub(crate) fn moments(features: usize, tokens: usize, seed: u64) -> Moments {
    let mut moments = Moments::new(features, MomentKinds { gram: true, sample: 0 });
    let (common, own) = (gaussian(tokens, 1, seed), gaussian(tokens, features, seed + 1));
    let x = Mat::from_fn(tokens, features, |t, j| {
        (own[(t, j)] + common[(t, 0)]) * if j % 17 == 5 { 20.0 } else { 1.0 }
    });
    moments.update(x.as_ref()).expect("finite activations");
    moments
}

/// Fits without calibration.
pub(crate) fn plain(weight: MatRef<'_, f32>, recipe: &Recipe) -> Fit {
    fit(weight, recipe, &Input { name: "test", moments: None }).expect("a recipe that runs")
}

/// Values as they are, to 16 bits.
pub(crate) const F16: ValueFormat = ValueFormat::Float(FloatFormat::F16);

/// 2:4.
pub(crate) const TWO_OF_FOUR: Pattern = Pattern::Nm(NmPattern::TWO_OF_FOUR);

/// Any entries, as many as that share.
pub(crate) const fn share(density: f64) -> Pattern {
    Pattern::Unstructured { density, scope: Scope::Matrix }
}

/// Recipes with a sparse term: every storage, values of every kind, alone and beside the other terms.
pub(crate) fn sparse_recipes() -> Vec<Recipe> {
    let half = share(0.5);
    let blocks = Pattern::Block { rows: 2, cols: 3, density: 0.4 };
    let few = |scheme| ValueFormat::Scheme(scheme, Rounder::Nearest);
    let one = Pattern::Nm(NmPattern::new(1, 8).expect("a pattern"));
    let both = Pattern::Transposable(NmPattern::TWO_OF_FOUR);
    let f16 = FloatFormat::F16;
    vec![
        preset::magnitude(TWO_OF_FOUR, F16),
        preset::magnitude(half, ValueFormat::Float(FloatFormat::F32)),
        preset::magnitude(blocks, F16),
        preset::magnitude(both, few(scheme::INT4)),
        preset::wanda(one, few(scheme::UINT4)),
        preset::ria(TWO_OF_FOUR, few(scheme::NF4.with_group(Group::Row))),
        preset::sparse_gpt(TWO_OF_FOUR, few(scheme::MXFP4.with_group(Group::Size(32)))),
        preset::alps(TWO_OF_FOUR, ValueFormat::Float(FloatFormat::Bf16)),
        preset::sparse_low_rank(preset::wanda(TWO_OF_FOUR, few(scheme::INT8)), 2, f16, 3),
        preset::with_outliers(preset::rtn(scheme::INT3), share(0.05), true),
        preset::with_outliers(preset::lq_lora(scheme::UINT4, 2, f16, 3), share(0.1), false),
    ]
}

/// Squared Frobenius norm in f64.
pub(crate) fn norm_squared(m: MatRef<'_, f32>) -> f64 {
    m.col_iter().flat_map(|c| c.iter()).map(|v| f64::from(*v) * f64::from(*v)).sum()
}

/// Singular values by nalgebra, descending.
pub(crate) fn singular_values(m: MatRef<'_, f32>) -> Vec<f64> {
    let dense = nalgebra::DMatrix::from_fn(m.nrows(), m.ncols(), |i, j| f64::from(m[(i, j)]));
    let mut values: Vec<f64> = dense.singular_values().iter().copied().collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

/// `√(Σ_{i>r} σ_i²)`.
pub(crate) fn tail(singular_values: &[f64], rank: usize) -> f64 {
    singular_values.iter().skip(rank).map(|s| s * s).sum::<f64>().sqrt()
}
