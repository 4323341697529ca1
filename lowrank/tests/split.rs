//! Reading a split: rows, bits, bases.

use crate::common::{moments, norm_squared, plain, weight};
use rankbit_lowrank::{Adjustment, Input, fit, preset};
use rankbit_quant::{FloatFormat, scheme};

#[test]
fn rows_are_the_reconstructions_rows() {
    let w = weight(13, 70, 2);
    let split = plain(w.as_ref(), &preset::lorc(scheme::UINT4, 3, FloatFormat::Bf16)).split;
    let whole = split.reconstruct();
    let mut row = vec![f32::NAN; 70];
    for i in 0..13 {
        split.row_into(i, &mut row).unwrap();
        assert!(row.iter().zip(whole.row(i).iter()).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
    assert!(split.row_into(13, &mut row).is_err() && split.row_into(0, &mut row[1..]).is_err());
}

#[test]
fn reported_errors_are_those_of_the_reconstruction() {
    let (w, moments) = (weight(30, 64, 8), moments(64, 300, 8));
    let recipe = preset::svdquant(preset::SvdQuant {
        scheme: scheme::INT3,
        rounder: rankbit_quant::Rounder::Nearest,
        rank: 3,
        factors: FloatFormat::F16.into(),
        smooth: preset::Smoothing::Fixed(0.5),
        rounds: 4,
    });
    let found = fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&moments) }).unwrap();
    let residual = &w - found.split.reconstruct();
    let plain = (norm_squared(residual.as_ref()) / norm_squared(w.as_ref())).sqrt();
    assert!((found.info.relative_error - plain).abs() <= 1e-9 * plain);
    let gram = moments.gram().unwrap();
    let weighted = |m: &rankbit_linalg::faer::Mat<f32>| {
        let mut sum = 0.0;
        for i in 0..m.nrows() {
            for j in 0..64 {
                sum +=
                    (0..64).map(|k| f64::from(m[(i, j)]) * gram[(j, k)] * f64::from(m[(i, k)])).sum::<f64>();
            }
        }
        sum
    };
    let metric = (weighted(&residual) / weighted(&w)).sqrt();
    let reported = found.info.metric_error.unwrap();
    assert!((reported - metric).abs() <= 1e-5 * metric, "{reported} for {metric}");
}

#[test]
fn stored_bits_add_up() {
    let (w, moments) = (weight(64, 128, 6), moments(128, 300, 6));
    let recipe = preset::svdquant(preset::SvdQuant {
        scheme: scheme::UINT4,
        rounder: rankbit_quant::Rounder::Nearest,
        rank: 4,
        factors: FloatFormat::F16.into(),
        smooth: preset::Smoothing::Fixed(0.5),
        rounds: 1,
    });
    let split = fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&moments) }).unwrap().split;
    let groups = 64 * 128 / 64;
    let expected = 64 * 128 * 4 + groups * (16 + 4) + 4 * (64 + 128) * 16 + 128 * 16;
    assert_eq!(split.stored_bits(), expected);
    assert_eq!(split.bits_per_weight(), expected as f64 / (64.0 * 128.0));
}

/// Weights of any size: formats widen instead of losing everything, and the fit says so.
#[test]
fn extreme_sizes_are_widened_and_reported() {
    for size in [1e-30_f32, 1e-12, 1.0, 1e12, 1e30] {
        let scaled = weight(40, 64, 7);
        let scaled = rankbit_linalg::faer::Mat::from_fn(40, 64, |i, j| scaled[(i, j)] * size);
        let found = plain(scaled.as_ref(), &preset::lorc(scheme::INT4, 4, FloatFormat::F16));
        assert!(found.info.relative_error < 0.15, "size {size}: {}", found.info.relative_error);
        let widened = found.info.adjustments.contains(&Adjustment::ScalesWidened { asked: FloatFormat::F16 });
        assert_eq!(widened, size != 1.0, "size {size}: {:?}", found.info.adjustments);
    }
}

#[test]
fn a_zero_matrix_is_exact() {
    let zero = rankbit_linalg::faer::Mat::<f32>::zeros(20, 30);
    for recipe in [
        preset::rtn(scheme::UINT4),
        preset::lorc(scheme::NF4, 2, FloatFormat::F16),
        preset::lq_lora(scheme::INT4, 2, FloatFormat::F16, 5),
        preset::low_rank(2, FloatFormat::F16),
    ] {
        let found = plain(zero.as_ref(), &recipe);
        assert_eq!(found.info.relative_error, 0.0);
        assert_eq!(norm_squared(found.split.reconstruct().as_ref()), 0.0);
    }
}
