//! Products of floats against decoded weights in f64.

use super::super::layout::Shift;
use super::super::tests::{ROUNDED, SHAPES, stored, supported, wave};
use super::super::{Epilogue, Output, Plain, Prepared, TILE};
use super::{FloatActivations, PreparedDense};
use crate::simd::Level;
use crate::{Error, Group, Quantized, Scheme, scheme};
use alloc::{vec, vec::Vec};
use half::{bf16, f16};

fn product(prepared: &Prepared, x: &[f32], tokens: usize, level: Level) -> Vec<f32> {
    let (out, features) = prepared.shape();
    let mut y = vec![f32::NAN; tokens * out];
    let run = level.run(|| {
        let mut inputs = FloatActivations::new();
        inputs.set(x, (tokens, features)).unwrap();
        let middle = prepared.tiles() / 2;
        let (mut low, mut high) = Output::new(&mut y, tokens, out).unwrap().split_at(middle * TILE);
        prepared.multiply_floats(middle..prepared.tiles(), &inputs, &mut high, &Plain).unwrap();
        prepared.multiply_floats(0..middle, &inputs, &mut low, &Plain).unwrap();
    });
    assert!(run.is_some());
    y
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

/// The documented bound, on every path.
fn check(weight: &Quantized, tokens: usize, what: &str) {
    let (out, features) = weight.shape();
    let x = wave(tokens * features, 101);
    let mut decoded = vec![0.0; out * features];
    weight.dequantize_into(&mut decoded).unwrap();
    let prepared = Prepared::new(weight).unwrap();
    let plan = prepared.plan();
    let k = (features + 5) as f64 * 2.0_f64.powi(-24);
    let gamma = k / (1.0 - k);
    for level in levels() {
        let y = product(&prepared, &x, tokens, level);
        for (token, x) in x.chunks(features).enumerate() {
            for (row, w) in decoded.chunks(features).enumerate() {
                let minimum = |column: usize| match plan.shift {
                    Shift::Min => {
                        2.0 * plan.shift(prepared.tile(row / TILE), column / plan.group, row % TILE).abs()
                    }
                    _ => 0.0,
                };
                let (mut sum, mut size) = (0.0, 0.0);
                for (column, (x, w)) in x.iter().zip(w).enumerate() {
                    sum += f64::from(*x) * f64::from(*w);
                    size += f64::from(x.abs()) * f64::from(w.abs() + minimum(column));
                }
                let found = f64::from(y[token * out + row]);
                assert!(
                    (found - sum).abs() <= gamma * size,
                    "{what} {level:?} {:?} [{token}, {row}]: {found} {sum} {}",
                    (tokens, out, features),
                    gamma * size
                );
            }
        }
    }
}

#[test]
fn every_format_and_level_is_within_the_bound() {
    for (name, scheme) in supported() {
        let shapes: Vec<_> = match scheme.block_len() {
            Some(256) => vec![(17, 256), (3, 768)],
            Some(_) => vec![(1, 32), (17, 64), (16, 96), (5, 544)],
            None => SHAPES.to_vec(),
        };
        for (at, shape) in shapes.into_iter().enumerate() {
            check(&stored(shape, &scheme), [1, 3, 8, 2, 5, 9, 4, 17][at % 8], name);
        }
    }
}

#[test]
fn groups_of_every_kind_and_any_number_of_tokens() {
    for group in
        [Group::Size(1), Group::Size(5), Group::Size(100), Group::Size(300), Group::Row, Group::Tensor]
    {
        for scheme in [scheme::INT4, scheme::UINT4_F, scheme::NF4, scheme::INT8, scheme::UINT8] {
            check(&stored((18, 787), &scheme.with_group(group)), 5, "groups");
        }
    }
    let weight = stored((20, 130), &scheme::UINT4);
    for tokens in (1..=18).chain([31, 32, 33, 65]) {
        check(&weight, tokens, "tokens");
    }
}

#[test]
fn vectors_of_both_widths_give_the_same_bits() {
    let prepared = Prepared::new(&stored((40, 300), &scheme::NF4)).unwrap();
    for tokens in [1, 2, 8, 12] {
        let x = wave(tokens * 300, 7);
        let vectors = levels().filter(|&level| level != Level::Portable);
        let found: Vec<_> = vectors.map(|level| product(&prepared, &x, tokens, level)).collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

/// Factors of a low-rank term, in the hook of another product.
#[test]
fn dense_matrices_join_in() {
    struct Join<'a>(&'a PreparedDense, &'a FloatActivations);
    impl Epilogue for Join<'_> {
        fn start(&self, row: usize, token: usize, sums: &mut [[f32; TILE]]) {
            self.0.add_tile(row / TILE, self.1, token, sums).unwrap();
        }
    }
    let (out, features, rank) = (37, 90, 5);
    let prepared = Prepared::new(&stored((out, features), &scheme::INT4)).unwrap();
    let left = wave(out * rank, 13);
    let dense = PreparedDense::new(&left, (out, rank)).unwrap();
    for tokens in [1, 6, 40] {
        let (x, z) = (wave(tokens * features, 29), wave(tokens * rank, 31));
        for level in levels() {
            let plain = product(&prepared, &x, tokens, level);
            level.run(|| {
                let (mut inputs, mut projected) = (FloatActivations::new(), FloatActivations::new());
                inputs.set(&x, (tokens, features)).unwrap();
                projected.set(&z, (tokens, rank)).unwrap();
                let mut y = vec![0.0; tokens * out];
                let mut output = Output::new(&mut y, tokens, out).unwrap();
                let join = Join(&dense, &projected);
                prepared.multiply_floats(0..3, &inputs, &mut output, &join).unwrap();
                let mut alone = vec![0.0; tokens * out];
                let mut output = Output::new(&mut alone, tokens, out).unwrap();
                dense.multiply(0..3, &projected, &mut output, &Plain).unwrap();
                for (at, y) in y.iter().enumerate() {
                    let z = &z[at / out * rank..][..rank];
                    let own: f32 = left[at % out * rank..][..rank].iter().zip(z).map(|(l, z)| l * z).sum();
                    assert!((alone[at] - own).abs() < 1e-5);
                    assert!((y - plain[at] - own).abs() < 1e-4, "{level:?} {at}: {y} {} {own}", plain[at]);
                }
            });
        }
    }
}

#[test]
fn halves_are_inputs_too() {
    let prepared = Prepared::new(&stored((17, 100), &scheme::INT4)).unwrap();
    let x = wave(300, 11);
    let run = |inputs: &FloatActivations| {
        let mut y = vec![0.0; 3 * 17];
        let mut output = Output::new(&mut y, 3, 17).unwrap();
        prepared.multiply_floats(0..2, inputs, &mut output, &Plain).unwrap();
        y
    };
    let mut inputs = FloatActivations::new();
    let short: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
    inputs.set(&short, (3, 100)).unwrap();
    let widened: Vec<f32> = short.iter().map(|x| x.to_f32()).collect();
    assert_eq!(run(&inputs), product(&prepared, &widened, 3, Level::current()));
    let brain: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    inputs.set(&brain, (3, 100)).unwrap();
    let widened: Vec<f32> = brain.iter().map(|x| x.to_f32()).collect();
    assert_eq!(run(&inputs), product(&prepared, &widened, 3, Level::current()));
}

/// What is not finite stays with its token.
#[test]
fn what_is_not_finite_stays_so() {
    for scheme in [scheme::INT4, scheme::UINT4, scheme::NF4, scheme::INT8, scheme::Q4_K] {
        let prepared = Prepared::new(&stored((18, 256), &scheme)).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = wave(3 * 256, 3);
            let clean = x.clone();
            x[256 + 7] = bad;
            for level in levels() {
                let (y, clean) = (product(&prepared, &x, 3, level), product(&prepared, &clean, 3, level));
                assert!(y[18..36].iter().all(|y| !y.is_finite()), "{bad} {level:?} {:?}", &y[18..36]);
                assert_eq!((&y[..18], &y[36..]), (&clean[..18], &clean[36..]));
            }
        }
    }
}

#[test]
fn bad_input_is_refused() {
    let mut inputs = FloatActivations::new();
    for name in ROUNDED {
        let rounded = Prepared::new(&stored((4, 64), &Scheme::named(name).unwrap())).unwrap();
        inputs.set(&[1.0; 64], (1, 64)).unwrap();
        let mut y = [0.0; 4];
        let found = rounded.multiply_floats(0..1, &inputs, &mut Output::new(&mut y, 1, 4).unwrap(), &Plain);
        assert!(matches!(found, Err(Error::Unsupported { .. })), "{name}");
    }
    let prepared = Prepared::new(&stored((20, 64), &scheme::INT4)).unwrap();
    assert!(inputs.set(&[0.0; 127], (2, 64)).is_err());
    assert_eq!(inputs.shape(), (0, 0));
    let mut y = vec![0.0; 40];
    let mut output = Output::new(&mut y, 2, 20).unwrap();
    assert!(prepared.multiply_floats(0..2, &inputs, &mut output, &Plain).is_err());
    inputs.set(&[1.0; 126], (2, 63)).unwrap();
    assert!(prepared.multiply_floats(0..2, &inputs, &mut output, &Plain).is_err());
    inputs.set(&[1.0; 128], (2, 64)).unwrap();
    assert!(prepared.multiply_floats(0..3, &inputs, &mut output, &Plain).is_err());
    assert!(prepared.multiply_floats(0..2, &inputs, &mut output, &Plain).is_ok());
    assert!(prepared.add_tile_floats(0, &inputs, 1, &mut [[0.0; TILE]; 2]).is_err());
    assert!(prepared.add_tile_floats(2, &inputs, 0, &mut [[0.0; TILE]; 1]).is_err());
    assert!(prepared.add_tile_floats(0, &inputs, 0, &mut []).is_ok());
    assert!(PreparedDense::new(&[0.0; 5], (2, 3)).is_err());
    let dense = PreparedDense::new(&[0.0; 6], (2, 3)).unwrap();
    assert!(dense.add_tile(0, &inputs, 0, &mut [[0.0; TILE]; 1]).is_err());
    // No tokens, no rows, no columns.
    inputs.set::<f32>(&[], (0, 64)).unwrap();
    prepared.multiply_floats(0..2, &inputs, &mut Output::new(&mut [], 0, 20).unwrap(), &Plain).unwrap();
    for shape in [(0, 5), (5, 0)] {
        let empty = Prepared::new(&stored(shape, &scheme::UINT4)).unwrap();
        assert!(product(&empty, &vec![1.0; 3 * shape.1], 3, Level::current()).iter().all(|&y| y == 0.0));
    }
}
