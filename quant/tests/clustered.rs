//! Adapters of a few bits: the codebook's optimality, storage, and gradients against PyTorch's and finite differences.

use crate::common::bytes;
use proptest::prelude::*;
use rankbit_linalg::Stream;
use rankbit_quant::Error;
use rankbit_quant::clustered::{Clustered, Codebook, Gradients, backward, forward};
use serde_json::Value;
use std::sync::LazyLock;

static BOOKS: LazyLock<Vec<Codebook>> =
    LazyLock::new(|| [1, 2, 4, 8].map(|bits| Codebook::k_median(bits).unwrap()).to_vec());

fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; count];
    Stream::new(seed, "adapter").fill_normal(&mut values);
    values
}

fn doubles(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "kept as the shortest text of an f32")]
fn singles(value: &Value) -> Vec<f32> {
    doubles(value).into_iter().map(|v| v as f32).collect()
}

fn close(what: &str, found: &[f32], expected: &[f64], scale: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*a) - b).abs() <= 2e-6 * (b.abs() + scale), "{what}[{at}]: {a} for {b}");
    }
}

#[test]
fn equal_to_scipy_and_pytorch() {
    let kept: Value = serde_json::from_str(include_str!("../../tests/vectors/clustered.json")).unwrap();
    let size = |key: &str| usize::try_from(kept[key].as_u64().unwrap()).unwrap();
    let shape = (size("out"), size("in"));
    let (latent, x, upstream) = (singles(&kept["latent"]), singles(&kept["x"]), singles(&kept["upstream"]));
    let cases = kept["cases"].as_array().unwrap();
    assert_eq!(cases.len(), BOOKS.len());
    for (case, book) in cases.iter().zip(&*BOOKS) {
        assert_eq!(case["bits"].as_u64(), Some(u64::from(book.bits())));
        close("codebook", book.values(), &doubles(&case["codebook"]), 0.1);
        let stored = Clustered::encode(&latent, shape, book).unwrap();
        assert_eq!(stored.packed(), bytes(&case["packed"]));
        let (mean, deviation) = stored.moments();
        close(
            "moments",
            &[mean, deviation],
            &[case["mean"].as_f64().unwrap(), case["deviation"].as_f64().unwrap()],
            0.01,
        );
        close("output", &forward(&latent, shape, book, &x).unwrap(), &doubles(&case["y"]), 1.0);
        let Gradients { input, latent } = backward(&latent, shape, book, &x, &upstream).unwrap();
        close("input gradient", &input, &doubles(&case["input_gradient"]), 1.0);
        close("latent gradient", &latent, &doubles(&case["latent_gradient"]), 5.0);
    }
}

/// `E|z - c(z)|` of N(0, 1) by Simpson's rule.
fn expected_error(values: &[f64]) -> f64 {
    let steps = 40_000;
    let at = |i: i32| f64::from(i) * 16.0 / f64::from(steps) - 8.0;
    let term = |z: f64| {
        let nearest = values.iter().map(|c| (z - c).abs()).fold(f64::INFINITY, f64::min);
        nearest * (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt()
    };
    (0..=steps)
        .map(|i| {
            term(at(i))
                * if i == 0 || i == steps {
                    1.0
                } else if i % 2 == 1 {
                    4.0
                } else {
                    2.0
                }
        })
        .sum::<f64>()
        * 16.0
        / f64::from(steps)
        / 3.0
}

/// No value of the codebook can be moved without raising the expected error, at the widths that converge.
#[test]
fn codebooks_are_local_minima() {
    for book in BOOKS.iter().take(3) {
        let values: Vec<f64> = book.values().iter().map(|v| f64::from(*v)).collect();
        assert!(values.windows(2).all(|w| w[0] < w[1]));
        assert!(values.iter().zip(values.iter().rev()).all(|(a, b)| *a == -b));
        let least = expected_error(&values);
        for at in 0..values.len() {
            for step in [-0.02, 0.02] {
                let mut moved = values.clone();
                moved[at] += step;
                assert!(expected_error(&moved) > least, "{} bits, value {at} by {step}", book.bits());
            }
        }
    }
    assert!((f64::from(BOOKS[0].values()[1]) - 0.674_489_750_196).abs() < 1e-7);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Codes depend on `(w - μ)/σ` only: a shift and a positive factor keep them, where no entry is near a threshold.
    #[test]
    fn affine_maps_keep_codes(seed in 0..10_000_u64, factor in 0.5_f32..100.0, shift in -10.0_f32..10.0) {
        let latent = normal(60, seed);
        let moved: Vec<f32> = latent.iter().map(|w| w * factor + shift).collect();
        for book in &BOOKS[..3] {
            let (a, b) = (Clustered::encode(&latent, (6, 10), book).unwrap(), Clustered::encode(&moved, (6, 10), book).unwrap());
            let (a, b) = (a.decode(book).unwrap(), b.decode(book).unwrap());
            let different = a.iter().zip(&b).filter(|(a, b)| (*a * factor + shift - *b).abs() > 1e-3 * factor).count();
            // ε and rounding may move an entry that lies on a threshold.
            prop_assert!(different <= 1, "{} bits: {different}", book.bits());
        }
    }

    /// What is stored comes back; each value is the nearest of the codebook.
    #[test]
    fn storage_round_trips(rows in 1..12_usize, cols in 1..20_usize, seed in 0..10_000_u64) {
        prop_assume!(rows * cols > 1);
        let latent = normal(rows * cols, seed);
        for book in &*BOOKS {
            let stored = Clustered::encode(&latent, (rows, cols), book).unwrap();
            let (mean, deviation) = stored.moments();
            let back = Clustered::from_parts((rows, cols), book.bits(), stored.packed().to_vec(), mean, deviation);
            prop_assert_eq!(back.as_ref(), Ok(&stored));
            let bits = u64::from(book.bits()) * u64::try_from(rows * cols).unwrap();
            prop_assert_eq!(stored.stored_bits(), bits.div_ceil(8) * 8 + 64);
            for (w, found) in latent.iter().zip(stored.decode(book).unwrap()) {
                let unit = (w - mean) / (deviation + 1e-5);
                let nearest = book.values().iter().map(|c| (unit - c).abs()).fold(f32::INFINITY, f32::min);
                prop_assert!(((unit - (found - mean) / deviation).abs() - nearest).abs() <= 1e-4, "{w} became {found}");
            }
        }
    }

    /// The gradient is that of the surrogate whose codebook passes changes as they are, by central differences.
    #[test]
    fn gradients_by_finite_differences(seed in 0..10_000_u64, at in 0..24_usize) {
        let shape = (4, 6);
        let (latent, x, upstream) = (normal(24, seed), normal(3 * 6, seed + 1), normal(3 * 4, seed + 2));
        for book in &BOOKS[..3] {
            let stored = Clustered::encode(&latent, shape, book).unwrap();
            let (mean, deviation) = (f64::from(stored.moments().0), f64::from(stored.moments().1));
            let codes: Vec<f64> = stored.decode(book).unwrap().iter().map(|w| (f64::from(*w) - mean) / deviation).collect();
            let unit = |w: &[f64]| -> (Vec<f64>, f64, f64) {
                let mean = w.iter().sum::<f64>() / 24.0;
                let deviation = (w.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / 23.0).sqrt();
                (w.iter().map(|w| (w - mean) / (deviation + 1e-5)).collect(), deviation, mean)
            };
            let start: Vec<f64> = latent.iter().map(|w| f64::from(*w)).collect();
            let (fixed, ..) = unit(&start);
            let loss = |w: &[f64]| -> f64 {
                let (unit, deviation, mean) = unit(w);
                let used = |i: usize| (codes[i] + unit[i] - fixed[i]) * deviation + mean;
                (0..3).flat_map(|t| (0..4).map(move |o| (t, o))).map(|(t, o)| {
                    let y: f64 = (0..6).map(|k| f64::from(x[t * 6 + k]) * used(o * 6 + k)).sum();
                    y * f64::from(upstream[t * 4 + o])
                }).sum()
            };
            let mut moved = start.clone();
            moved[at] += 1e-5;
            let up = loss(&moved);
            moved[at] -= 2e-5;
            let expected = (up - loss(&moved)) / 2e-5;
            let found = f64::from(backward(&latent, shape, book, &x, &upstream).unwrap().latent[at]);
            prop_assert!((found - expected).abs() <= 1e-4 * (1.0 + expected.abs()), "{found} for {expected}");
        }
    }
}

#[test]
fn bad_inputs() {
    for bits in [0, 3, 5, 16, 255] {
        assert!(matches!(Codebook::k_median(bits), Err(Error::InvalidOption { .. })), "{bits}");
        assert!(matches!(
            Clustered::from_parts((1, 8), bits, vec![0], 0.0, 1.0),
            Err(Error::InvalidOption { .. })
        ));
    }
    let book = &BOOKS[0];
    for (len, shape) in [(0, (0, 0)), (1, (1, 1)), (5, (2, 3)), (4, (usize::MAX, 2)), (0, (0, 4))] {
        let found = Clustered::encode(&vec![1.0; len], shape, book);
        assert!(matches!(found, Err(Error::ShapeMismatch { .. })), "{shape:?}");
    }
    let found = Clustered::encode(&[1.0, 2.0, f32::NAN, 0.0], (2, 2), book);
    assert_eq!(found, Err(Error::NonFinite { row: 1, col: 0 }));
    assert!(matches!(Clustered::from_parts((2, 8), 1, vec![0; 3], 0.0, 1.0), Err(Error::PartLength { .. })));
    assert!(matches!(
        Clustered::from_parts((usize::MAX, 9), 1, vec![], 0.0, 1.0),
        Err(Error::TooLarge { .. })
    ));
    for (mean, deviation) in [(f32::NAN, 1.0), (0.0, f32::INFINITY), (0.0, -1.0)] {
        assert!(Clustered::from_parts((1, 8), 1, vec![0], mean, deviation).is_err());
    }
    let stored = Clustered::encode(&[1.0, 2.0], (1, 2), book).unwrap();
    assert!(stored.decode(&BOOKS[1]).is_err());
    assert!(forward(&[1.0, 2.0], (1, 2), book, &[1.0; 3]).is_err());
    assert!(backward(&[1.0, 2.0], (1, 2), book, &[1.0; 4], &[1.0; 3]).is_err());
    // No spread: the mean comes back, and gradients stay finite.
    let flat = [0.25; 6];
    let found = forward(&flat, (2, 3), book, &[1.0, 0.0, 0.0]).unwrap();
    assert_eq!(found, [0.25, 0.25]);
    let gradients = backward(&flat, (2, 3), book, &[1.0, 2.0, 3.0], &[1.0, -1.0]).unwrap();
    assert!(gradients.latent.iter().chain(&gradients.input).all(|g| g.is_finite()));
}
