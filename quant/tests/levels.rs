//! Every level of instructions gives the same bits.

use crate::common::{blocks, nearest, row, schemes, view};
use proptest::prelude::*;
use rankbit_kit::strategy::matrix;
use rankbit_linalg::faer::MatRef;
use rankbit_quant::simd::Level;
use rankbit_quant::{
    Error, FloatFormat, Group, PowerRule, Quantized, Rounder, ScaleRule, Scheme, quantize, scheme,
};

/// Those beyond the portable one. On a processor without any there is nothing to compare.
fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| *level != Level::Portable && level.is_available())
}

fn decoded(quantized: &Quantized) -> Vec<u32> {
    let mut all = vec![f32::NAN; quantized.shape().0 * quantized.shape().1];
    quantized.dequantize_into(&mut all).unwrap();
    let rows: Vec<f32> = (0..quantized.shape().0).flat_map(|i| row(quantized, i)).collect();
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&all), bits(&rows));
    bits(&all)
}

/// Stored parts, decoded values and errors, with the portable code and with every level.
fn check(weight: MatRef<'_, f32>, scheme: &Scheme) {
    let run = || quantize(weight, scheme, Rounder::Nearest);
    let expected = Level::Portable.run(run).expect("the portable level is everywhere");
    for level in levels() {
        let found = level.run(run).expect("an available level");
        assert_eq!(found, expected, "{level:?} {scheme:?}");
        let Ok(rounded) = &found else { continue };
        let decode = || decoded(&rounded.quantized);
        assert_eq!(level.run(decode), Level::Portable.run(decode), "{level:?} {scheme:?}");
    }
}

/// Schemes that the command has no name for but that work.
fn unnamed() -> impl Strategy<Value = Scheme> {
    let rule = prop::sample::select(vec![PowerRule::Floor, PowerRule::Even, PowerRule::Ceil]);
    let base = prop::sample::select(
        scheme::NAMED
            .into_iter()
            .map(|(_, scheme)| scheme)
            .filter(|s| {
                s.scale_rule == ScaleRule::Absmax && s.scale_format != FloatFormat::E4m3
                    || matches!(s.scale_rule, ScaleRule::Power(_))
            })
            .collect::<Vec<_>>(),
    );
    (base, rule, prop::sample::select(vec![8_u32, 16, 32, 40])).prop_map(|(scheme, rule, len)| Scheme {
        scale_rule: ScaleRule::Power(rule),
        scale_format: FloatFormat::E8m0,
        group: Group::Size(len),
        ..scheme
    })
}

/// Values that are hard in one way or another.
fn hard_value() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -1.0_f32..1.0,
        2 => Just(0.0),
        1 => Just(-0.0),
        1 => (-8_i16..=8).prop_map(|i| f32::from(i) / 4.0),
        1 => any::<f32>().prop_filter("finite", |v| v.is_finite()),
        1 => Just(f32::MIN_POSITIVE),
        1 => Just(1e-45),
        1 => Just(f32::MAX),
    ]
}

fn hard_rows(cols: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(hard_value(), cols)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ordinary_matrices(w in matrix(1..=6, 1..=300), scheme in schemes()) {
        check(view(&w), &scheme);
    }

    #[test]
    fn hard_values(values in hard_rows(1..=200), scheme in schemes()) {
        check(MatRef::from_row_major_slice(&values, 1, values.len()), &scheme);
    }

    #[test]
    fn powers_of_two(values in hard_rows(8..=400), scheme in unnamed()) {
        let (Group::Size(len), cols) = (scheme.group, values.len()) else { unreachable!() };
        let len = usize::try_from(len).unwrap();
        prop_assume!(cols >= len);
        check(MatRef::from_row_major_slice(&values[..cols / len * len], 1, cols / len * len), &scheme);
    }

    /// Not numbers are refused by every level, and the same one is named.
    #[test]
    fn not_numbers(w in matrix(1..=4, 1..=100), scheme in schemes(), at in any::<prop::sample::Index>(), bad in prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY])) {
        let mut w = w;
        let at = at.index(w.values.len());
        w.values[at] = bad;
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            let refused = level.run(|| quantize(view(&w), &scheme, Rounder::Nearest)).unwrap();
            prop_assert_eq!(refused, Err(Error::NonFinite { row: at / w.cols, col: at % w.cols }));
        }
    }
}

/// Every length up to 200 and around the pieces that rows are worked on in, with every named scheme and ragged groups.
#[test]
fn every_length() {
    let value = |k: usize| ((k * 7919 + 13) % 1009) as f32 / 504.0 - 1.0;
    for cols in (1..=200).chain([1023, 1024, 1025, 2047, 2049, 4100]) {
        let values: Vec<f32> = (0..2 * cols).map(value).collect();
        let weight = MatRef::from_row_major_slice(&values, 2, cols);
        for (name, scheme) in scheme::NAMED {
            match scheme.block_len() {
                Some(len) if cols % usize::try_from(len).unwrap() == 0 => check(weight, &scheme),
                Some(_) => {}
                None if cols <= 200 || name.contains('4') => {
                    for group in
                        [Group::Size(64), Group::Size(1 + u32::try_from(cols).unwrap() % 37), Group::Row]
                    {
                        check(weight, &scheme.with_group(group));
                    }
                }
                None => {}
            }
        }
    }
    assert!(blocks().len() > 5);
}

/// All codes, all scales in sight: what decodes need not be what encoding makes.
#[test]
fn every_code_decodes_alike() {
    for (name, scheme) in crate::common::free() {
        let bits = scheme.code.bits();
        let codes: Vec<u8> = (0..=255)
            .filter(|&c: &u8| usize::from(c) < 1 << bits && scheme.code.value(c).is_finite())
            .collect();
        let cols = codes.len();
        let mut packed = vec![0; rankbit_quant::pack::packed_len(cols, bits).unwrap()];
        rankbit_quant::pack::pack(&codes, bits, &mut packed);
        let scheme = scheme.with_nested(None).with_group(Group::Size(5)).with_scale_format(FloatFormat::F32);
        let groups = cols.div_ceil(5);
        let scales = (0..groups).map(|g| [1.0, -0.0, 1e-40, 1e30, 0.37][g % 5]).collect();
        let lengths = rankbit_quant::part_lengths((1, cols), &scheme).unwrap();
        let stored = Quantized::from_parts(
            (1, cols),
            scheme,
            packed,
            rankbit_quant::Floats::F32(scales),
            vec![0x5A; lengths.zeros],
        )
        .unwrap();
        let expected = Level::Portable.run(|| decoded(&stored));
        for level in levels() {
            assert_eq!(level.run(|| decoded(&stored)), expected, "{name} {level:?}");
        }
    }
}

/// A choice holds for its scope and thread only, and comes back after a panic.
#[test]
fn choices_are_scoped() {
    let before = Level::current();
    Level::Portable.run(|| {
        assert_eq!(Level::current(), Level::Portable);
        std::thread::scope(|s| s.spawn(|| assert_eq!(Level::current(), before)).join().unwrap());
        for level in levels() {
            level.run(|| assert_eq!(Level::current(), level));
        }
        assert_eq!(Level::current(), Level::Portable);
    });
    let panicked = std::panic::catch_unwind(|| Level::Portable.run(|| panic!("on purpose")));
    assert!(panicked.is_err());
    assert_eq!(Level::current(), before);
    let zero = nearest(MatRef::from_row_major_slice(&[0.0], 1, 1), &scheme::INT4);
    assert_eq!(decoded(&zero.quantized), [0]);
}
