//! Every path against the formula, to the bit, and the formula against decoded weights.

use super::reference;
use super::{Epilogue, Output, Plain, Prepared, PreparedActivations, ScaleOf, TILE};
use crate::simd::Level;
use crate::{Error, Group, Quantized, Scheme, nearest, scheme};
use alloc::{vec, vec::Vec};
use half::{bf16, f16};

pub(super) const SHAPES: [(usize, usize); 12] = [
    (1, 1),
    (2, 7),
    (15, 8),
    (16, 9),
    (17, 31),
    (16, 63),
    (33, 64),
    (5, 65),
    (31, 128),
    (16, 257),
    (19, 520),
    (32, 1031),
];

/// Numbers without a pattern that groups could share.
pub(super) fn wave(len: usize, step: usize) -> Vec<f32> {
    (0..len).map(|k| ((k * step + k / 7 * 31 + 13) % 1009) as f32 / 504.0 - 1.0).collect()
}

pub(super) fn stored(shape: (usize, usize), scheme: &Scheme) -> Quantized {
    nearest::quantize_rows(&wave(shape.0 * shape.1, 7919), shape, scheme).unwrap().quantized
}

/// `Y` at a level, two ranges of tiles apart.
pub(super) fn product(prepared: &Prepared, x: &[f32], scale_of: ScaleOf, level: Level) -> Vec<f32> {
    let (out, features) = prepared.shape();
    let tokens = x.len() / features;
    let mut y = vec![f32::NAN; tokens * out];
    let run = level.run(|| {
        let mut inputs = PreparedActivations::new();
        inputs.quantize(prepared, x, tokens, scale_of).unwrap();
        let middle = prepared.tiles() / 2;
        let (mut low, mut high) = Output::new(&mut y, tokens, out).unwrap().split_at(middle * TILE);
        prepared.multiply(middle..prepared.tiles(), &inputs, &mut high, &Plain).unwrap();
        prepared.multiply(0..middle, &inputs, &mut low, &Plain).unwrap();
    });
    assert!(run.is_some());
    y
}

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

/// All levels against the formula.
fn check(weight: &Quantized, x: &[f32], what: &str) {
    let prepared = Prepared::new(weight).unwrap();
    for scale_of in [ScaleOf::Group, ScaleOf::Token] {
        let expected = bits(&reference::product(weight, &prepared, x, scale_of, 0.0));
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            let found = product(&prepared, x, scale_of, level);
            assert_eq!(bits(&found), expected, "{what} {:?} {scale_of:?} {level:?}", weight.shape());
        }
    }
}

/// Formats that are no whole multiples in 8 bits.
pub(super) const ROUNDED: [&str; 5] = ["fp8-e4m3", "fp8-e5m2", "mxfp6-e3m2", "mxfp8-e4m3", "mxfp8-e5m2"];

pub(super) fn supported() -> impl Iterator<Item = (&'static str, Scheme)> {
    scheme::NAMED.into_iter().filter(|(name, _)| !ROUNDED.contains(name))
}

#[test]
fn every_format_and_level_gives_the_bits_of_the_formula() {
    for (name, scheme) in supported() {
        let shapes: Vec<_> = match scheme.block_len() {
            Some(256) => vec![(17, 256), (3, 768)],
            Some(_) => vec![(1, 32), (17, 64), (16, 96), (5, 544)],
            None => SHAPES.to_vec(),
        };
        for (at, shape) in shapes.into_iter().enumerate() {
            let tokens = [1, 3, 8, 2, 5, 9, 4, 17][at % 8];
            let weight = stored(shape, &scheme);
            check(&weight, &wave(tokens * shape.1, 101), name);
        }
    }
}

#[test]
fn groups_of_every_kind_and_any_number_of_tokens() {
    for group in [Group::Size(1), Group::Size(5), Group::Size(16), Group::Size(32), Group::Size(100)]
        .into_iter()
        .chain([Group::Size(128), Group::Size(512), Group::Row, Group::Tensor])
        .chain([Group::Block { rows: 3, cols: 40 }])
    {
        for scheme in [scheme::INT4, scheme::UINT4, scheme::NF4, scheme::INT8, scheme::UINT8_F] {
            check(&stored((18, 523), &scheme.with_group(group)), &wave(5 * 523, 37), "groups");
        }
    }
    let weight = stored((20, 130), &scheme::UINT4_F);
    for tokens in (1..=18).chain([31, 32, 33]) {
        check(&weight, &wave(tokens * 130, 53), "tokens");
    }
}

/// Four tiles side by side, and one to three that are left.
#[test]
fn a_single_token_takes_several_tiles_at_a_time() {
    for (name, scheme) in supported() {
        let columns = match scheme.block_len() {
            Some(256) => 512,
            Some(_) => 64,
            None => 131,
        };
        check(&stored((147, columns), &scheme), &wave(columns, 101), name);
    }
    for rows in [64, 65, 128, 239, 256] {
        check(&stored((rows, 200), &scheme::UINT4), &wave(200, 53), "tiles");
    }
}

/// The largest sums there are: codes all at one end, inputs all at ±127.
#[test]
fn extremes_do_not_overflow() {
    let ends: [fn(usize) -> f32; 4] =
        [|_| 1.0, |_| -1.0, |k| if k % 2 == 0 { 1.0 } else { -1.0 }, |k| if k % 4 < 2 { 1.0 } else { -1.0 }];
    for scheme in
        [scheme::INT4, scheme::UINT4, scheme::MXFP4, scheme::NF4, scheme::INT8, scheme::UINT8, scheme::INT2]
    {
        let group = if scheme.owns_scales() { scheme.group } else { Group::Row };
        for w in ends {
            let (rows, cols) = (3, 1024);
            let values: Vec<f32> = (0..rows * cols).map(w).collect();
            let quantized = nearest::quantize_rows(&values, (rows, cols), &scheme.with_group(group)).unwrap();
            // Codes that rounding to nearest does not use: −8 and −128.
            let mut lowest = vec![quantized.quantized.clone()];
            if scheme.layout.is_planar() {
                for byte in [0, 0xFF] {
                    let q = &quantized.quantized;
                    let codes = vec![byte; q.codes().len()];
                    let parts = (q.scales().clone(), q.zeros().to_vec());
                    lowest.push(
                        Quantized::from_parts((rows, cols), *q.scheme(), codes, parts.0, parts.1).unwrap(),
                    );
                }
            }
            for quantized in lowest {
                for x in ends {
                    let x: Vec<f32> = (0..4 * cols).map(|k| 127.0 * x(k)).collect();
                    check(&quantized, &x, "extremes");
                }
            }
        }
    }
}

/// Inputs that are whole numbers: products are those of the decoded weight, but for the order of the sum and what tables
/// round.
#[test]
fn products_are_those_of_the_decoded_weight() {
    for (name, scheme) in supported() {
        let (rows, cols, tokens) = (21, 768, 3);
        let weight = stored((rows, cols), &scheme);
        let mut decoded = vec![0.0; rows * cols];
        weight.dequantize_into(&mut decoded).unwrap();
        let x: Vec<f32> =
            (0..tokens * cols).map(|k| if k % 16 == 0 { 127.0 } else { (k % 251) as f32 - 125.0 }).collect();
        let prepared = Prepared::new(&weight).unwrap();
        let y = product(&prepared, &x, ScaleOf::Group, Level::Portable);
        let rounded = matches!(name, "nf4" | "nf3" | "nf2" | "nf4-dq" | "nf4-lq" | "af4" | "bnb-fp4");
        for (token, x) in x.chunks(cols).enumerate() {
            for (row, w) in decoded.chunks(cols).enumerate() {
                let terms = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let scale = |column| f64::from(weight.scale(row, column / weight.grouping().size));
                let table: f64 = x
                    .iter()
                    .enumerate()
                    .map(|(k, x)| scale_or(rounded, || scale(k)) * f64::from(x.abs()))
                    .sum();
                // Minima and zero points: sums of both parts are larger than the whole.
                let allowed = 0.005_3 * table + 1e-5 * size + 1e-4 * f64::from(x[0]);
                let found = f64::from(y[token * rows + row]);
                assert!((found - sum).abs() <= allowed, "{name} {token} {row}: {found} {sum} {allowed}");
            }
        }
    }
}

fn scale_or(rounded: bool, scale: impl Fn() -> f64) -> f64 {
    if rounded { scale() } else { 0.0 }
}

/// Adds and takes note.
struct Hooks;

impl Epilogue for Hooks {
    fn start(&self, _: usize, _: usize, sums: &mut [[f32; TILE]]) {
        sums.as_flattened_mut().fill(0.75);
    }
    fn finish(&self, row: usize, token: usize, sums: &mut [[f32; TILE]]) {
        for (t, sums) in sums.iter_mut().enumerate() {
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = (*sum).max(0.0) + (1000 * (token + t) + row + r) as f32;
            }
        }
    }
}

#[test]
fn hooks_see_every_output_once() {
    for out in [37, 150] {
        let weight = stored((out, 96), &scheme::INT4);
        let prepared = Prepared::new(&weight).unwrap();
        for tokens in [1, 4, 11] {
            let x = wave(tokens * 96, 17);
            let expected = reference::product(&weight, &prepared, &x, ScaleOf::Token, 0.75);
            let mut inputs = PreparedActivations::new();
            inputs.quantize(&prepared, &x, tokens, ScaleOf::Token).unwrap();
            let mut y = vec![0.0; tokens * out];
            let mut output = Output::new(&mut y, tokens, out).unwrap();
            prepared.multiply(0..prepared.tiles(), &inputs, &mut output, &Hooks).unwrap();
            for (at, (y, product)) in y.iter().zip(expected).enumerate() {
                assert_eq!(*y, product.max(0.0) + (1000 * (at / out) + at % out) as f32);
            }
        }
    }
}

/// A second matrix in the hook, with the same inputs and with its own.
#[test]
fn a_second_matrix_joins_in() {
    struct Join<'a>(&'a Prepared, &'a PreparedActivations);
    impl Epilogue for Join<'_> {
        fn start(&self, row: usize, token: usize, sums: &mut [[f32; TILE]]) {
            self.0.add_tile(row / TILE, self.1, token, sums).unwrap();
        }
    }
    let (out, features, tokens) = (40, 128, 6);
    let a = Prepared::new(&stored((out, features), &scheme::INT4)).unwrap();
    let b = Prepared::new(&stored((out, features), &scheme::INT8)).unwrap();
    let x = wave(tokens * features, 29);
    let mut inputs = PreparedActivations::new();
    inputs.quantize(&a, &x, tokens, ScaleOf::Group).unwrap();
    let mut y = vec![0.0; tokens * out];
    let mut output = Output::new(&mut y, tokens, out).unwrap();
    a.multiply(0..3, &inputs, &mut output, &Join(&b, &inputs)).unwrap();
    let level = Level::current();
    let (ya, yb) = (product(&a, &x, ScaleOf::Group, level), product(&b, &x, ScaleOf::Group, level));
    for ((y, a), b) in y.iter().zip(ya).zip(yb) {
        assert_eq!(*y, b + a);
    }
}

#[test]
fn halves_are_inputs_too() {
    let weight = stored((17, 100), &scheme::INT4);
    let prepared = Prepared::new(&weight).unwrap();
    let x = wave(3 * 100, 11);
    let run = |inputs: &PreparedActivations| {
        let mut y = vec![0.0; 3 * 17];
        prepared.multiply(0..2, inputs, &mut Output::new(&mut y, 3, 17).unwrap(), &Plain).unwrap();
        y
    };
    let mut inputs = PreparedActivations::new();
    let short: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
    inputs.quantize(&prepared, &short, 3, ScaleOf::Group).unwrap();
    let widened: Vec<f32> = short.iter().map(|x| x.to_f32()).collect();
    assert_eq!(run(&inputs), product(&prepared, &widened, ScaleOf::Group, Level::current()));
    let brain: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    inputs.quantize(&prepared, &brain, 3, ScaleOf::Group).unwrap();
    let widened: Vec<f32> = brain.iter().map(|x| x.to_f32()).collect();
    assert_eq!(run(&inputs), product(&prepared, &widened, ScaleOf::Group, Level::current()));
}

#[test]
fn bad_input_is_refused() {
    let prepared = Prepared::new(&stored((20, 64), &scheme::INT4)).unwrap();
    let mut inputs = PreparedActivations::new();
    let mut y = vec![0.0; 40];
    // Nothing quantized yet.
    assert!(prepared.multiply(0..2, &inputs, &mut Output::new(&mut y, 2, 20).unwrap(), &Plain).is_err());
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = vec![1.0; 128];
        x[64 + 9] = bad;
        for scale_of in [ScaleOf::Group, ScaleOf::Token] {
            let found = inputs.quantize(&prepared, &x, 2, scale_of);
            assert_eq!(found, Err(Error::ActivationNonFinite { token: 1, feature: 9 }));
            let output = &mut Output::new(&mut y, 2, 20).unwrap();
            assert!(prepared.multiply(0..2, &inputs, output, &Plain).is_err());
        }
    }
    assert!(inputs.quantize(&prepared, &[0.0; 127], 2, ScaleOf::Group).is_err());
    inputs.quantize(&prepared, &[1.0; 128], 2, ScaleOf::Group).unwrap();
    let mut output = Output::new(&mut y, 2, 20).unwrap();
    assert!(prepared.multiply(0..3, &inputs, &mut output, &Plain).is_err());
    assert!(prepared.multiply(2..2, &inputs, &mut output, &Plain).is_ok());
    for other in [scheme::INT4.with_group(Group::Size(32)), scheme::MXFP4] {
        let other = Prepared::new(&stored((20, 64), &other)).unwrap();
        assert!(other.multiply(0..2, &inputs, &mut output, &Plain).is_err());
    }
    assert!(prepared.add_tile(0, &inputs, 1, &mut [[0.0; TILE]; 2]).is_err());
    assert!(prepared.add_tile(2, &inputs, 0, &mut [[0.0; TILE]; 1]).is_err());
    assert!(prepared.add_tile(0, &inputs, 9, &mut []).is_ok());
    let mut short = vec![0.0; 20];
    assert!(prepared.multiply(0..2, &inputs, &mut Output::new(&mut short, 1, 20).unwrap(), &Plain).is_err());
    // No tokens, no rows, no columns.
    inputs.quantize::<f32>(&prepared, &[], 0, ScaleOf::Group).unwrap();
    prepared.multiply(0..2, &inputs, &mut Output::new(&mut [], 0, 20).unwrap(), &Plain).unwrap();
    for shape in [(0, 5), (5, 0)] {
        let empty = Prepared::new(&stored(shape, &scheme::UINT4)).unwrap();
        let mut inputs = PreparedActivations::new();
        inputs.quantize(&empty, &vec![1.0; 3 * shape.1], 3, ScaleOf::Token).unwrap();
        let mut y = vec![7.0; 3 * shape.0];
        empty
            .multiply(0..empty.tiles(), &inputs, &mut Output::new(&mut y, 3, shape.0).unwrap(), &Plain)
            .unwrap();
        assert!(y.iter().all(|&y| y == 0.0));
    }
}

#[test]
fn tiny_and_huge_inputs_are_never_garbage() {
    let weight = stored((3, 64), &scheme::INT4);
    let prepared = Prepared::new(&weight).unwrap();
    for size in [f32::from_bits(1), 1e-38, 1e-30, 1e30, 1e38] {
        let x: Vec<f32> = wave(64, 3).iter().map(|x| x * size).collect();
        let y = product(&prepared, &x, ScaleOf::Group, Level::current());
        let unit = product(&prepared, &wave(64, 3), ScaleOf::Group, Level::current());
        for (y, unit) in y.iter().zip(unit) {
            let near = (y / size - unit).abs() < 0.3;
            assert!(if size < 1e-30 { *y == 0.0 } else { near }, "{size} {y} {unit}");
        }
    }
}

/// Everything that an output may differ by from the product of the decoded weight: half a scale of either side.
#[test]
fn rounded_formats_are_near_the_decoded_weight_and_the_same_on_every_path() {
    let schemes = ROUNDED.into_iter().map(|name| (name, Scheme::named(name).unwrap()));
    let vectors = [("e8p", scheme::E8P), ("e8p3", scheme::E8P3), ("e8p4", scheme::E8P4)];
    let trellis = [("trellis2", scheme::TRELLIS2), ("trellis4", scheme::TRELLIS4)];
    for (name, scheme) in schemes.chain(vectors).chain(trellis) {
        let (rows, cols, tokens) = (37, 160, 5);
        let weight = stored((rows, cols), &scheme);
        let mut decoded = vec![0.0; rows * cols];
        weight.dequantize_into(&mut decoded).unwrap();
        let x = wave(tokens * cols, 101);
        let prepared = Prepared::new(&weight).unwrap();
        assert!(prepared.is_rounded());
        for scale_of in [ScaleOf::Group, ScaleOf::Token] {
            let y = product(&prepared, &x, scale_of, Level::Portable);
            for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
                assert_eq!(bits(&product(&prepared, &x, scale_of, level)), bits(&y), "{name} {level:?}");
            }
            for (token, x) in x.chunks(cols).enumerate() {
                for (row, w) in decoded.chunks(cols).enumerate() {
                    let top = |v: &[f32]| v.iter().fold(0.0_f64, |top, v| top.max(f64::from(v.abs())));
                    let (mut sum, mut allowed) = (0.0, 1e-6);
                    for (part, w) in x.chunks(64).zip(w.chunks(64)) {
                        let sx = if scale_of == ScaleOf::Token { top(x) } else { top(part) } / 253.0;
                        let sw = top(w) / 253.0;
                        for (x, w) in part.iter().zip(w) {
                            sum += f64::from(*x) * f64::from(*w);
                            allowed += f64::from(x.abs()) * sw + (f64::from(w.abs()) + sw) * sx;
                        }
                    }
                    let found = f64::from(y[token * rows + row]);
                    assert!((found - sum).abs() <= allowed, "{name} {token} {row}: {found} {sum} {allowed}");
                }
            }
        }
    }
}
