//! HAWQ-V3's program against every choice of bits.

use proptest::prelude::*;
use rankbit_linalg::Error as LinalgError;
use rankbit_lowrank::Error;
use rankbit_lowrank::plan::hawq::{Bits, Layer, LayerBits, Limits, allocate, bit_operations, limit_between};
use rankbit_quant::dyadic::cost::{Speed, Work};

fn layer(weights: u64, macs: u64, loss: f64, tied: Option<u32>) -> Layer {
    let option = |bits: u8, loss| LayerBits { bits, loss, latency: weights * u64::from(bits) / 3 + 7 };
    Layer {
        name: "layer".to_owned(),
        weights,
        macs,
        options: vec![option(4, loss), option(8, loss / 256.0)],
        tied,
    }
}

/// What a choice comes to, by the formulas.
fn total(layers: &[Layer], bits: &[u8]) -> Bits {
    let mut found = Bits { bits: bits.to_vec(), loss: 0.0, size: 0, bit_operations: 0, latency: 0 };
    for (layer, &bits) in layers.iter().zip(bits) {
        let option = layer.options.iter().find(|option| option.bits == bits).expect("an option");
        found.loss += option.loss;
        found.size += layer.weights * u64::from(bits);
        found.bit_operations += layer.macs * u64::from(bits) * u64::from(bits);
        found.latency += option.latency;
    }
    found
}

fn every(layers: &[Layer]) -> Vec<Bits> {
    let choices = 1_u32 << layers.len();
    (0..choices)
        .map(|mask| (0..layers.len()).map(|i| if mask >> i & 1 == 0 { 4 } else { 8 }).collect::<Vec<u8>>())
        .filter(|bits| {
            let tied = |i: usize, j: usize| layers[i].tied.is_some() && layers[i].tied == layers[j].tied;
            (0..bits.len()).all(|i| (0..i).all(|j| !tied(i, j) || bits[i] == bits[j]))
        })
        .map(|bits| total(layers, &bits))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn equals_brute_force(
        rows in prop::collection::vec((100_u64..5000, 1_u64..100, 1_u32..4000, prop::option::of(0_u32..3)), 1..8),
        fractions in (0.0..1.0, 0.0..1.0, 0.0..1.0),
    ) {
        let layers: Vec<Layer> = rows.iter().map(|&(weights, reuse, loss, tied)| {
            layer(weights, weights * reuse, f64::from(loss), tied)
        }).collect();
        let (low, high) = (total(&layers, &vec![4; layers.len()]), total(&layers, &vec![8; layers.len()]));
        let limits = Limits {
            size: Some(limit_between(low.size, high.size, fractions.0)),
            bit_operations: Some(limit_between(low.bit_operations, high.bit_operations, fractions.1)),
            latency: Some(limit_between(low.latency, high.latency, fractions.2)),
        };
        let found = allocate(&layers, &limits).expect("bits");
        prop_assert_eq!((found.size, found.bit_operations, found.latency), {
            let again = total(&layers, &found.bits);
            (again.size, again.bit_operations, again.latency)
        });
        let fits = |b: &Bits| {
            Some(b.size) <= limits.size && Some(b.bit_operations) <= limits.bit_operations && Some(b.latency) <= limits.latency
        };
        prop_assert!(fits(&found));
        let least = every(&layers).into_iter().filter(fits).map(|b| b.loss).fold(f64::INFINITY, f64::min);
        prop_assert!((found.loss - least).abs() <= 1e-5 * (1.0 + least), "{} for {least}", found.loss);
        // One limit alone, and none.
        let only = allocate(&layers, &Limits { size: limits.size, ..Limits::default() }).expect("bits");
        prop_assert!(only.loss <= found.loss + 1e-9 && only.size <= limits.size.unwrap_or(0));
        prop_assert_eq!(allocate(&layers, &Limits::default()).expect("bits").bits, vec![8; layers.len()]);
    }
}

#[test]
fn limits_and_operations() {
    assert_eq!(bit_operations(8, 1000), Some(64_000));
    assert_eq!(bit_operations(8, u64::MAX / 2), None);
    assert_eq!(limit_between(100, 200, 0.25), 125);
    assert_eq!((limit_between(100, 200, -1.0), limit_between(100, 200, 7.0)), (100, 200));
    assert_eq!(limit_between(200, 100, 0.5), 200);
}

#[test]
fn bad_input() {
    let one = layer(100, 100, 1.0, Some(1));
    let mut other = one.clone();
    other.options.remove(0);
    let found = allocate(&[one.clone(), other], &Limits::default());
    assert!(matches!(found, Err(Error::InvalidRecipe { .. })), "{found:?}");
    let small = allocate(std::slice::from_ref(&one), &Limits { size: Some(399), ..Limits::default() });
    assert_eq!(small, Err(LinalgError::BudgetTooSmall { budget: 399, smallest: 400 }.into()));
    let huge = Layer { macs: u64::MAX, ..one.clone() };
    assert!(matches!(
        allocate(&[huge], &Limits::default()),
        Err(Error::Linalg(LinalgError::TooLarge { .. }))
    ));
    let none = Layer { options: Vec::new(), ..one };
    assert_eq!(allocate(&[none], &Limits::default()), Err(LinalgError::NoChoice { item: 0 }.into()));
    assert_eq!(allocate(&[], &Limits::default()).map(|bits| bits.bits), Ok(Vec::new()));
}

/// The costs are those of the integer arithmetic that would run: `dyadic::cost` counts a small network's layers, the
/// program keeps each of its three limits, and no other choice within them loses less.
#[test]
fn a_network_within_each_limit_of_the_integer_arithmetic() {
    // 32 × 32 images: three convolutions, the second with a shortcut's tie to the third, and a classifier at 8 bits.
    let works = [
        Work::conv2d([16, 3, 3, 3], (32, 32)).unwrap(),
        Work::conv2d([32, 16, 3, 3], (16, 16)).unwrap(),
        Work::conv2d([32, 32, 3, 3], (16, 16)).unwrap(),
        Work::conv2d([64, 32, 1, 1], (8, 8)).unwrap(),
        Work::linear((10, 64), 1).unwrap(),
    ];
    let losses = [9.0, 4.0, 3.0, 0.5, 7.0];
    // Twice as fast at half the bits, and a start that does not shrink.
    let speed = |bits: u8| Speed { rate: 8e11 / f64::from(bits), overhead: 2e-6 };
    let layers: Vec<Layer> = works
        .iter()
        .zip(losses)
        .enumerate()
        .map(|(i, (work, loss))| {
            let option = |bits: u8| LayerBits {
                bits,
                loss: loss / 4.0_f64.powi(i32::from(bits) - 4),
                latency: speed(bits).nanoseconds(work).unwrap(),
            };
            let options = if i == 4 { vec![option(8)] } else { vec![option(4), option(8)] };
            let tied = (i == 1 || i == 2).then_some(0);
            Layer { name: format!("layer {i}"), weights: work.weights, macs: work.macs, options, tied }
        })
        .collect();
    let costs = |bits: &[u8]| {
        let of = |count: &dyn Fn(&Work, u8) -> u64| -> u64 {
            works.iter().zip(bits).map(|(work, &bits)| count(work, bits)).sum()
        };
        (
            of(&|work, bits| work.size(bits).unwrap()),
            of(&|work, bits| work.bit_operations(bits, bits).unwrap()),
            of(&|work, bits| speed(bits).nanoseconds(work).unwrap()),
        )
    };
    let choices: Vec<Bits> = (0..8_u32)
        .map(|mask| {
            let at = |bit: u32| if mask >> bit & 1 == 1 { 8 } else { 4 };
            total(&layers, &[at(0), at(1), at(1), at(2), 8])
        })
        .collect();
    let (low, high) = (costs(&[4, 4, 4, 4, 8]), costs(&[8; 5]));
    let mut seen = std::collections::BTreeSet::new();
    for fraction in [0.0, 0.2, 0.5, 0.8, 1.0] {
        let size = Some(limit_between(low.0, high.0, fraction));
        let bit_operations = Some(limit_between(low.1, high.1, fraction));
        let latency = Some(limit_between(low.2, high.2, fraction));
        let none = Limits::default();
        for limits in [
            Limits { size, ..none },
            Limits { bit_operations, ..none },
            Limits { latency, ..none },
            Limits { size, bit_operations, latency },
        ] {
            let found = allocate(&layers, &limits).expect("the least bits are within every limit");
            let (cost_size, cost_operations, cost_latency) = costs(&found.bits);
            assert_eq!(
                (found.size, found.bit_operations, found.latency),
                (cost_size, cost_operations, cost_latency)
            );
            let within = |bits: &Bits| {
                limits.size.is_none_or(|most| bits.size <= most)
                    && limits.bit_operations.is_none_or(|most| bits.bit_operations <= most)
                    && limits.latency.is_none_or(|most| bits.latency <= most)
            };
            assert!(within(&found), "{limits:?}: {found:?}");
            let best = choices.iter().filter(|bits| within(bits)).map(|bits| bits.loss);
            let best = best.fold(f64::INFINITY, f64::min);
            assert!((found.loss - best).abs() <= 1e-6 * best, "{limits:?}: {} {best}", found.loss);
            seen.insert(found.bits);
        }
    }
    // All at 4 bits, all at 8, and something between.
    assert!(seen.len() >= 3, "{seen:?}");
}
