//! The byte layout, as documented.

use crate::common::{nearest, schemes, view};
use proptest::prelude::*;
use rankbit_kit::strategy::matrix;
use rankbit_linalg::faer::MatRef;
use rankbit_quant::{FloatFormat, Floats, Group, Quantized, Scales, part_lengths, scheme};

proptest! {
    #[test]
    fn parts_come_back_and_have_the_stated_sizes(m in matrix(1..=6, 1..=90), scheme in schemes()) {
        let q = nearest(view(&m), &scheme).quantized;
        let lengths = part_lengths(q.shape(), q.scheme()).unwrap();
        prop_assert_eq!(q.codes().len(), m.rows * (m.cols * q.scheme().code.bits()).div_ceil(8));
        let stored = q.scales();
        prop_assert_eq!((q.codes().len(), q.zeros().len()), (lengths.codes, lengths.zeros));
        prop_assert_eq!((stored.floats().len(), stored.packed_codes().len()), (lengths.scales, lengths.scale_codes));
        let bytes = stored.floats().to_bytes();
        let floats = Floats::from_bytes(&bytes, q.scheme().scale_format, lengths.scales, "scales").unwrap();
        let scales = match q.scheme().nested {
            None => floats.into(),
            Some(nested) => {
                let (codes, offset) = (stored.packed_codes().to_vec(), stored.offset().unwrap_or(f32::NAN));
                Scales::nested(nested, q.grouping().scale_shape(m.rows), codes, floats, offset).unwrap()
            }
        };
        let back = Quantized::from_parts(q.shape(), *q.scheme(), q.codes().to_vec(), scales, q.zeros().to_vec()).unwrap();
        prop_assert_eq!(&back, &q);
        prop_assert_eq!(q.stored_bits(), 8 * lengths.bytes as u64);
        let offset = 4 * usize::from(stored.offset().is_some());
        prop_assert_eq!(lengths.bytes, q.codes().len() + bytes.len() + lengths.scale_codes + q.zeros().len() + offset);
        // Row by row is the same as the whole.
        let whole = q.dequantize();
        for i in 0..m.rows {
            let row = crate::common::row(&back, i);
            prop_assert!(row.iter().zip(whole.row(i).iter()).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }

    #[test]
    fn sixteen_bit_floats_are_little_endian_and_exact(values in prop::collection::vec(-1e4_f32..1e4, 0..40)) {
        for format in [FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16] {
            let stored = Floats::encode(&values, format);
            let back = Floats::from_bytes(&stored.to_bytes(), format, values.len(), "values").unwrap();
            prop_assert_eq!(&back, &stored);
            for (i, v) in values.iter().enumerate() {
                prop_assert_eq!(stored.get(i), format.round(f64::from(*v)));
            }
        }
    }
}

/// Beyond a tie by less than half of f64's mantissa can tell: up, in one step; on it: to even.
#[test]
fn sixteen_bit_rounding_is_one_step() {
    let tiny = 2.0_f64.powi(-40);
    for (format, spacing) in [(FloatFormat::F16, 2.0_f64.powi(-10)), (FloatFormat::Bf16, 2.0_f64.powi(-7))] {
        let round = |x: f64| f64::from(format.round(x));
        let tie = 1.0 + spacing / 2.0;
        assert_eq!([tie - tiny, tie, tie + tiny].map(round), [1.0, 1.0, 1.0 + spacing], "{format:?}");
        assert_eq!([-tie + tiny, -tie, -tie - tiny].map(round), [-1.0, -1.0, -1.0 - spacing], "{format:?}");
        let tie = tie + spacing;
        assert_eq!([tie - tiny, tie].map(round), [1.0 + spacing, 1.0 + 2.0 * spacing], "{format:?}");
        let mut pushed = Floats::with_capacity(format, 1);
        assert_eq!(pushed.push(tie - tiny), format.round(tie - tiny));
    }
}

/// One row of each width, by hand: codes 0, 1, 2 … in order.
#[test]
fn code_bytes_by_hand() {
    // int4, scale 1: values -7 ..= 7 are codes 1 ..= 15; then 0 is code 8. Low half first.
    let row: Vec<f32> = (-7_i8..=7).map(f32::from).chain([0.0]).collect();
    let q = nearest(MatRef::from_row_major_slice(&row, 1, 16), &scheme::INT4).quantized;
    assert_eq!(q.codes(), [0x21, 0x43, 0x65, 0x87, 0xA9, 0xCB, 0xED, 0x8F]);
    assert_eq!(q.scales().floats().to_bytes(), [0x00, 0x3C]); // 1.0 as f16

    // uint4 with zero point 3: values -3 ..= 12.
    let row: Vec<f32> = (-3_i8..=12).map(f32::from).collect();
    let q = nearest(MatRef::from_row_major_slice(&row, 1, 16), &scheme::UINT4).quantized;
    assert_eq!(q.codes(), [0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE]);
    assert_eq!(q.zeros(), [3]);

    // int3: -3 ..= 3 are codes 1 ..= 7; 001 010 011 100 101 110 111 100, lowest bit first.
    let row: Vec<f32> = (-3_i8..=3).map(f32::from).chain([0.0]).collect();
    let q = nearest(MatRef::from_row_major_slice(&row, 1, 8), &scheme::INT3).quantized;
    assert_eq!(q.codes(), [0b1101_0001, 0b0101_1000, 0b1001_1111]);

    // uint2, two groups of two: zero points 0 and 3 side by side in one byte.
    let row = [0.0, 3.0, 0.0, -3.0];
    let q = nearest(MatRef::from_row_major_slice(&row, 1, 4), &scheme::UINT2.with_group(Group::Size(2)))
        .quantized;
    assert_eq!((q.codes(), q.zeros()), ([0b0011_1100].as_slice(), [0b1100].as_slice()));
}

/// Bits per weight of the common configurations.
#[test]
fn bits_per_weight() {
    let row = vec![0.5_f32; 384 * 4];
    let m = MatRef::from_row_major_slice(&row, 4, 384);
    for (scheme, bits) in [
        (scheme::INT4, 4.25),
        (scheme::UINT4, 4.3125),
        (scheme::NF4, 4.5),
        (scheme::INT8.with_group(Group::Row), 8.0 + 16.0 / 384.0),
        (scheme::UINT2, 2.0 + 18.0 / 64.0),
        (scheme::INT3, 3.25),
        (scheme::INT2.with_group(Group::Tensor), 2.0 + 16.0 / 1536.0),
        (scheme::UINT4_F, 4.5),
        // 24 groups of 16 in a row, under one f16.
        (scheme::UINT4_N, 4.0 + 7.0 / 16.0 + 16.0 / 384.0),
        (scheme::UINT3_N, 3.0 + 6.0 / 16.0 + 16.0 / 384.0),
        (scheme::UINT2_N, 2.0 + 9.0 / 16.0 + 16.0 / 384.0),
        // 24 groups of 64 in all, under one f32 and the mean.
        (scheme::NF4_DQ, 4.0 + 8.0 / 64.0 + 64.0 / 1536.0),
        (scheme::NF4_LQ, 4.0 + 8.0 / 64.0 + 48.0 / 1536.0),
        // 3 × 6 blocks, those of the last row cut.
        (scheme::FP8_E4M3.with_group(Group::Block { rows: 2, cols: 128 }), 8.0 + 6.0 * 32.0 / 1536.0),
    ] {
        let q = nearest(m, &scheme).quantized;
        assert_eq!(q.stored_bits() as f64 / (4.0 * 384.0), bits, "{scheme:?}");
    }
}
