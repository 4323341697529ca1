//! Refusals: one typed error each, no panic.

use crate::common::{blocks, free};
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::{
    Code, Error, FloatFormat, Floats, Group, Quantized, Rounder, ScaleRule, ZeroPoint, part_lengths,
    quantize, scheme,
};

#[test]
fn non_finite_weights_are_named() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut w = Mat::<f32>::zeros(5, 70);
        w[(3, 66)] = bad;
        for (name, scheme) in free() {
            for group in [Group::Size(64), Group::Row, Group::Tensor] {
                let found = quantize(w.as_ref(), &scheme.with_group(group), Rounder::Nearest);
                assert_eq!(found, Err(Error::NonFinite { row: 3, col: 66 }), "{name} {bad}");
            }
        }
    }
}

#[test]
fn invalid_schemes() {
    let w = Mat::<f32>::zeros(2, 2);
    let mut schemes = vec![scheme::INT4; 4];
    schemes[0].code = Code::Int { bits: 9, signed: true };
    schemes[1].code = Code::Int { bits: 0, signed: false };
    schemes[2].zero = ZeroPoint::Integer;
    schemes[3].scale_rule = ScaleRule::Range;
    for scheme in schemes {
        let found = quantize(w.as_ref(), &scheme, Rounder::Nearest);
        assert!(matches!(found, Err(Error::InvalidScheme { .. })), "{scheme:?}");
    }
    let zero_group = scheme::INT4.with_group(Group::Size(0));
    assert_eq!(
        quantize(w.as_ref(), &zero_group, Rounder::Nearest),
        Err(Error::GroupSize { group_size: 0, in_features: 2 })
    );
}

#[test]
fn any_shape_and_group() {
    for (rows, cols) in [(0, 0), (0, 5), (5, 0), (1, 1), (1, 3), (3, 1)] {
        let w = Mat::<f32>::full(rows, cols, 0.25);
        for (name, scheme) in free() {
            for group in [Group::Size(1), Group::Size(2), Group::Size(u32::MAX), Group::Row, Group::Tensor] {
                let q = quantize(w.as_ref(), &scheme.with_group(group), Rounder::Nearest).unwrap().quantized;
                let back = q.dequantize();
                assert_eq!((back.nrows(), back.ncols()), (rows, cols), "{name}");
                assert!(back.col_iter().all(|c| c.iter().all(|v| (v - 0.25).abs() < 4e-4)), "{name}");
                let mut long = vec![0.0; cols + 1];
                assert!(q.row_into(0, &mut long).is_err() && q.row_into(rows, &mut long[..cols]).is_err());
            }
        }
    }
}

#[test]
fn overflowing_sizes() {
    for shape in [(usize::MAX, 2), (usize::MAX, usize::MAX), (2, usize::MAX / 3)] {
        for (_, scheme) in free() {
            // Either the sizes fit an address space, or the error says that they do not; no overflow panic.
            match part_lengths(shape, &scheme.with_group(Group::Size(1))) {
                Ok(lengths) => assert!(lengths.codes > 0),
                Err(error) => assert!(matches!(error, Error::TooLarge { .. })),
            }
        }
    }
    assert!(part_lengths((usize::MAX, usize::MAX), &scheme::INT8).is_err());
    for (name, scheme) in blocks() {
        let found = part_lengths((usize::MAX / 8, 1 << 20), &scheme);
        assert!(matches!(found, Err(Error::TooLarge { .. })), "{name}");
    }
}

#[test]
fn parts_that_do_not_fit() {
    let w = [1.0_f32, -2.0, 3.0, 0.5];
    let q =
        quantize(MatRef::from_row_major_slice(&w, 2, 2), &scheme::UINT4, Rounder::Nearest).unwrap().quantized;
    let build = |codes: &[u8], scales: Floats, zeros: &[u8]| {
        Quantized::from_parts((2, 2), scheme::UINT4, codes.to_vec(), scales, zeros.to_vec())
    };
    let scales = q.scales().floats().clone();
    assert!(build(q.codes(), scales.clone(), q.zeros()).is_ok());
    assert!(matches!(build(&[0], scales.clone(), q.zeros()), Err(Error::PartLength { part: "codes", .. })));
    assert!(matches!(build(q.codes(), scales.clone(), &[]), Err(Error::PartLength { part: "zeros", .. })));
    let short = Floats::encode(&[1.0], FloatFormat::F16);
    assert!(matches!(build(q.codes(), short, q.zeros()), Err(Error::PartLength { part: "scales", .. })));
    let nan = Floats::encode(&[1.0, f32::NAN], FloatFormat::F16);
    assert!(matches!(build(q.codes(), nan, q.zeros()), Err(Error::StoredNonFinite { index: 1, .. })));
    let other = Floats::encode(&[1.0, 1.0], FloatFormat::Bf16);
    assert!(matches!(build(q.codes(), other, q.zeros()), Err(Error::InvalidScheme { .. })));
    assert!(Floats::from_bytes(&[0; 3], FloatFormat::F16, 1, "scales").is_err());
    assert!(Floats::from_bytes(&[], FloatFormat::F32, usize::MAX, "scales").is_err());
}

/// Blocks that do not divide `in` are refused; so are group and scale format that do not fit the rule.
#[test]
fn blocks_that_do_not_divide() {
    for (name, scheme) in blocks() {
        let len = usize::try_from(scheme.block_len().unwrap()).unwrap();
        for cols in [1, len - 1, len + 1, 3 * len / 2] {
            let w = Mat::<f32>::zeros(2, cols);
            let expected = Error::GroupSize { group_size: len, in_features: cols };
            assert_eq!(quantize(w.as_ref(), &scheme, Rounder::Nearest), Err(expected.clone()), "{name}");
            assert_eq!(part_lengths((2, cols), &scheme), Err(expected), "{name}");
        }
        assert!(quantize(Mat::<f32>::zeros(3, 0).as_ref(), &scheme, Rounder::Nearest).is_ok());
        let mut w = Mat::<f32>::zeros(2, 2 * len);
        w[(1, len + 3)] = f32::NAN;
        let found = quantize(w.as_ref(), &scheme, Rounder::Nearest);
        assert_eq!(found, Err(Error::NonFinite { row: 1, col: len + 3 }), "{name}");
    }
    for scheme in [
        scheme::NF4.with_scale_format(FloatFormat::E8m0),
        scheme::UINT4.with_scale_format(FloatFormat::E4m3),
        scheme::MXFP4.with_scale_format(FloatFormat::E4m3),
        scheme::NVFP4.with_group(Group::Size(0)),
        scheme::Q4_0.with_group(Group::Size(64)),
        scheme::Q4_K.with_scale_format(FloatFormat::F32),
    ] {
        assert!(quantize(Mat::<f32>::zeros(2, 64).as_ref(), &scheme, Rounder::Nearest).is_err());
    }
}

/// Codes and scales that are no numbers, and common factors that are none.
#[test]
fn hostile_codes_and_scales() {
    let w = Mat::<f32>::full(1, 32, 1.0);
    let parts = |scheme| {
        let q = quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
        (q.codes().to_vec(), q.scales().floats().clone())
    };
    for (scheme, bad) in [
        (scheme::FP8_E4M3, [0x7F, 0xFF].as_slice()),
        (scheme::MXFP8_E4M3, &[0x7F, 0xFF]),
        (scheme::FP8_E5M2, &[0x7C, 0xFC, 0x7D, 0xFF]),
        (scheme::MXFP8_E5M2, &[0x7C, 0x7E]),
    ] {
        for &code in bad {
            let (mut codes, scales) = parts(scheme);
            codes[5] = code;
            let found = Quantized::from_parts((1, 32), scheme, codes, scales, Vec::new());
            assert_eq!(found, Err(Error::NotANumber { row: 0, col: 5, code }));
        }
    }
    let (codes, _) = parts(scheme::MXFP4);
    let found = Quantized::from_parts((1, 32), scheme::MXFP4, codes, Floats::E8m0(vec![255]), Vec::new());
    assert_eq!(found, Err(Error::StoredNonFinite { what: "scales", index: 0 }));
    assert!(Floats::from_bytes(&[255], FloatFormat::E8m0, 1, "scales").is_err());
    assert!(Floats::from_bytes(&[0x38, 0x7F], FloatFormat::E4m3, 2, "scales").is_err());
    let (_, scales) = parts(scheme::NVFP4);
    for global in [f32::NAN, f32::INFINITY, 0.0, -1.0, 1e-40, f32::MAX] {
        assert!(scales.clone().with_global_scale(global).is_err(), "{global}");
    }
}

proptest! {
    /// Any bit pattern as a weight: a result or a named entry, never a panic.
    #[test]
    fn any_bits(bits in prop::collection::vec(any::<u32>(), 24), (name, scheme) in prop::sample::select(scheme::NAMED.to_vec())) {
        let cols = scheme.block_len().map_or(8, |len| usize::try_from(len).unwrap());
        let w: Vec<f32> = bits.into_iter().cycle().take(3 * cols).map(f32::from_bits).collect();
        match quantize(MatRef::from_row_major_slice(&w, 3, cols), &scheme, Rounder::Nearest) {
            Ok(rounded) => prop_assert!(rounded.quantized.dequantize().col_iter().all(|c| c.iter().all(|v| v.is_finite()))),
            Err(Error::BlockOverflow { .. }) => { prop_assert!(!scheme.layout.is_planar()); }
            Err(Error::NonFinite { row, col }) => prop_assert!(!w[row * cols + col].is_finite()),
            Err(other) => prop_assert!(false, "{name}: {other}"),
        }
    }
}
