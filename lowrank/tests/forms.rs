//! Forms beside the split: decomposed convolutions, dense times sparse, WeLore's labels.

use crate::common::{gaussian, plain, weight};
use proptest::prelude::*;
use rankbit_linalg::Stream;
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::conv::{ConvHeader, ConvOptions, TuckerConv};
use rankbit_lowrank::plan::welore::{Label, Spectrum, labels};
use rankbit_lowrank::split::file::{self, PartView};
use rankbit_lowrank::{Atoms, Error, FactorFormat, Input, fit, preset};
use rankbit_quant::{FloatFormat, Floats};
use rankbit_sparse::{Pattern, Scope};

fn values(len: usize, seed: u64) -> Vec<f32> {
    gaussian(len, 1, seed).col(0).iter().copied().collect()
}

/// The convolution by its definition.
fn convolve(
    w: &[f32],
    [out, inputs, h, k]: [usize; 4],
    x: &[f32],
    (height, width): (usize, usize),
    options: ConvOptions,
) -> Vec<f64> {
    let ((sy, sx), (py, px)) = (options.stride, options.padding);
    let (rows, cols) = ((height + 2 * py - h) / sy + 1, (width + 2 * px - k) / sx + 1);
    let mut y = Vec::new();
    for o in 0..out {
        for at in 0..rows * cols {
            let mut sum = 0.0;
            for i in 0..inputs {
                for dy in 0..h {
                    for dx in 0..k {
                        let (row, col) = (at / cols * sy + dy, at % cols * sx + dx);
                        if row >= py && row - py < height && col >= px && col - px < width {
                            sum += f64::from(w[((o * inputs + i) * h + dy) * k + dx])
                                * f64::from(x[(i * height + row - py) * width + col - px]);
                        }
                    }
                }
            }
            y.push(sum);
        }
    }
    y
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The three small convolutions are the convolution by the reconstruction; full ranks are the original; the file
    /// brings all of it back.
    #[test]
    fn small_convolutions_are_the_large_one(out in 1..7_usize, inputs in 1..7_usize, h in 1..4_usize, w in 1..4_usize, stride in 1..3_usize, pad in 0..2_usize, kernel: bool, seed in 0..1000_u64) {
        let shape = [out, inputs, h, w];
        let weight = values(shape.iter().product(), seed);
        let ranks = [Some(1 + out / 2), Some(1 + inputs / 2), kernel.then_some(1 + h / 2), kernel.then_some(w)];
        let found = TuckerConv::fit(&weight, shape, ranks, FloatFormat::F32).expect("it decomposes");
        let conv = &found.conv;
        let options = ConvOptions { stride: (stride, 1), padding: (pad, 1) };
        let image = values(inputs * 30, seed + 1);
        let (y, sides) = conv.apply(&image, (5, 6), options).expect("a product");
        let expected = convolve(&conv.reconstruct().expect("values"), shape, &image, (5, 6), options);
        prop_assert_eq!(y.len(), out * sides.0 * sides.1);
        let scale: f64 = expected.iter().map(|v| v.abs()).fold(1.0, f64::max);
        prop_assert!(y.len() == expected.len() && y.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() <= 1e-4 * scale));
        let exact = TuckerConv::fit(&weight, shape, [Some(out), Some(inputs), None, None], FloatFormat::F32).expect("it decomposes");
        prop_assert!(exact.relative_error <= 1e-5 && found.relative_error <= 1.0 + 1e-6);
        let (header, parts) = conv.write().expect("one format");
        let text = serde_json::to_string(&header).expect("JSON");
        let header: ConvHeader = serde_json::from_str(&text).expect("a header");
        let find = |name: &str| parts.iter().find(|p| p.name == name).map(|p| PartView { element: p.element, shape: &p.shape, bytes: &p.bytes });
        prop_assert_eq!(&TuckerConv::read(&header, find).expect("the same"), conv);
        prop_assert_eq!(parts.iter().map(|p| p.bytes.len() as u64 * 8).sum::<u64>(), conv.stored_bits());
        prop_assert!(TuckerConv::read(&header, |_| None).is_err());
    }

    /// Every column has s entries; s = r is the truncated SVD or better; the stored bits are the file's; it comes back.
    #[test]
    fn dense_times_sparse(rows in 6..24_usize, cols in 6..30_usize, rank in 2..6_u32, seed in 0..1000_u64) {
        let w = weight(rows, cols, seed);
        let all = rank as usize;
        let whole = plain(w.as_ref(), &preset::dsformer(all, rank)).info.relative_error;
        let svd = plain(w.as_ref(), &preset::low_rank(all, FloatFormat::F16)).info.relative_error;
        prop_assert!(whole <= svd * 1.002 + 1e-3, "{whole} for {svd}");
        let one = plain(w.as_ref(), &preset::dsformer(all, 1));
        prop_assert!(one.info.relative_error <= 1.0 && one.info.relative_error >= whole * 0.999);
        let low_rank = one.split.low_rank().expect("factors");
        let dense = low_rank.right().to_f32();
        for j in 0..cols {
            prop_assert!((0..all).filter(|k| dense[k * cols + j] != 0.0).count() <= 1);
        }
        let bits = 16 * rows * all + cols * (16 + 8);
        prop_assert_eq!((one.split.stored_bits(), FactorFormat::Atoms(1).stored_bits((rows, cols), all).expect("counted")), (bits as u64, bits as u64));
        let (header, parts) = file::write(&one.split);
        let header = file::Header::from_json(&header.to_json().expect("JSON")).expect("a header");
        let find = |name: &str| parts.iter().find(|p| p.name == name).map(|p| PartView { element: p.element, shape: &p.shape, bytes: &p.bytes });
        prop_assert_eq!(&file::read(&header, find).expect("the same"), &one.split);
        prop_assert_eq!(parts.iter().map(|p| p.bytes.len() * 8).sum::<usize>(), bits);
        let without = file::read(&header, |name| if name == "right_rows" { None } else { find(name) });
        prop_assert!(without.is_err());
    }

    /// Rounds never hurt, nor does the low-rank term beside the same number of entries.
    #[test]
    fn robust_pca_separates(rows in 30..50_usize, cols in 30..50_usize, rank in 1..3_usize, seed in 0..1000_u64) {
        let low = &gaussian(rows, rank, seed) * gaussian(rank, cols, seed + 1);
        let mut at = Stream::new(seed, "places");
        let w = Mat::from_fn(rows, cols, |i, j| low[(i, j)] + if at.next_below(50) == 0 { 30.0 } else { 0.0 });
        let pattern = Pattern::Unstructured { density: 0.05, scope: Scope::Matrix };
        let run = |rounds| plain(w.as_ref(), &preset::rpca(rank, pattern, FloatFormat::F32, rounds, false));
        let (one, many) = (run(1).info.relative_error, run(20).info.relative_error);
        let values = rankbit_sparse::ValueFormat::Float(FloatFormat::F16);
        let entries = plain(w.as_ref(), &preset::magnitude(pattern, values)).info.relative_error;
        prop_assert!(many <= one && one <= entries, "{many}, {one}, {entries}");
    }

    /// Ranks never rise with the threshold and ignore scale; the least threshold that keeps enough is found.
    #[test]
    fn welore_thresholds(seed in 0..1000_u64, keep in 0.05..1.0_f64, scale in 0.001..1000.0_f64) {
        let spectrum = |sides: (usize, usize), fall: f64| Spectrum {
            shape: sides,
            singular_values: (0..sides.0.min(sides.1)).map(|i| scale * (-(i as f64) * fall).exp()).collect(),
        };
        let spectra = [spectrum((40, 60), 0.02), spectrum((50, 50), 0.2), spectrum((80, 30), 0.01 + seed as f64 * 1e-5)];
        for s in &spectra {
            let ranks: Vec<usize> = (0..=20).map(|k| s.rank(f64::from(k) / 20.0)).collect();
            prop_assert!(ranks.windows(2).all(|pair| pair[0] >= pair[1]) && ranks[20] == 1);
            let doubled = Spectrum { singular_values: s.singular_values.iter().map(|v| 2.0 * v).collect(), ..s.clone() };
            prop_assert_eq!(doubled.rank(0.3), s.rank(0.3));
        }
        let found = labels(&spectra, keep).expect("labels");
        prop_assert!(found.kept <= keep || found.threshold == 1.0, "{} for {keep}", found.kept);
        if found.threshold > 1e-9 && found.threshold < 1.0 {
            let less: f64 = spectra.iter().map(|s| s.label(found.threshold - 1e-9).parameters(s.shape)).sum();
            let all: f64 = spectra.iter().map(|s| Label::Dense.parameters(s.shape)).sum();
            prop_assert!(less / all > keep);
        }
    }
}

#[test]
fn what_is_refused() {
    assert!(TuckerConv::fit(&[0.0; 3], [1, 1, 2, 2], [None; 4], FloatFormat::F16).is_err());
    assert!(TuckerConv::fit(&[], [0, 1, 2, 2], [None; 4], FloatFormat::F16).is_err());
    assert!(TuckerConv::fit(&[0.0; 4], [1, 1, 2, 2], [Some(2), None, None, None], FloatFormat::F16).is_err());
    assert!(TuckerConv::fit(&[f32::NAN; 4], [1, 1, 2, 2], [None; 4], FloatFormat::F16).is_err());
    let conv = TuckerConv::fit(&[1.0; 4], [1, 1, 2, 2], [Some(1), Some(1), None, None], FloatFormat::F16)
        .unwrap()
        .conv;
    let none = ConvOptions { stride: (0, 1), padding: (0, 0) };
    assert!(
        conv.apply(&[0.0; 4], (2, 2), none).is_err()
            && conv.apply(&[0.0; 3], (2, 2), ConvOptions::default()).is_err()
    );
    assert!(conv.apply(&[0.0; 1], (1, 1), ConvOptions::default()).is_err());
    let huge = ConvHeader { shape: [usize::MAX; 4], ranks: [None; 4], format: FloatFormat::F16 };
    assert!(TuckerConv::read(&huge, |_| None).is_err());
    let w = weight(8, 9, 1);
    for (rank, count) in [(0, 1), (9, 1), (3, 0), (3, 4)] {
        let input = Input { name: "w", moments: None };
        assert!(fit(w.as_ref(), &preset::dsformer(rank, count), &input).is_err(), "{rank} {count}");
    }
    let zero = plain(Mat::zeros(4, 4).as_ref(), &preset::dsformer(2, 1));
    assert_eq!(zero.info.relative_error, 0.0);
    let new = |rows: Vec<u32>, per_column| {
        Atoms::new(2, per_column, rows, Floats::encode(&[1.0; 2], FloatFormat::F16))
    };
    assert!(new(vec![0, 1], 1).is_ok() && new(vec![0, 1], 2).is_ok());
    assert!(
        new(vec![0, 2], 1).is_err()
            && new(vec![0], 1).is_err()
            && new(vec![1, 0], 2).is_err()
            && new(vec![0, 1], 0).is_err()
    );
    assert!(matches!(labels(&[], 0.5), Err(Error::InvalidRecipe { .. })));
    let flat = Spectrum { shape: (4, 4), singular_values: vec![1.0; 4] };
    assert_eq!((flat.rank(0.9), flat.label(0.9)), (4, Label::Dense));
    for keep in [0.0, 1.5, f64::NAN] {
        assert!(labels(std::slice::from_ref(&flat), keep).is_err());
    }
    let broken = Spectrum { shape: (2, 2), singular_values: vec![f64::NAN, 1.0] };
    assert!(labels(&[broken], 0.5).is_err());
}
