//! The bound that makes rounding to nearest what it is, and what follows from it.

use crate::common::{free, full_range, half_gap, nearest, row, schemes, spans, values, view};
use proptest::prelude::*;
use rankbit_kit::strategy::matrix;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::{Code, FloatFormat, Group, Scheme, scheme};

/// What rounding the scale to its stored format can take from the group's extreme entry, relative to the scale.
fn scale_rounding(scheme: &Scheme) -> f64 {
    let unit: f64 = match scheme.scale_format {
        FloatFormat::F32 => 2.0_f64.powi(-24),
        _ => 1.0 / 256.0,
    };
    f64::from(scheme.code.max()) * unit
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_entry_errs_by_more_than_half_a_gap(m in matrix(1..=6, 1..=150), scheme in full_range()) {
        let rounded = nearest(view(&m), &scheme);
        let q = &rounded.quantized;
        for i in 0..m.rows {
            for (j, value) in row(q, i).into_iter().enumerate() {
                let weight = f64::from(m.values[i * m.cols + j]);
                let scale = f64::from(q.scale(i, j / q.grouping().size));
                let bound = scale * (half_gap(q.scheme().code) + scale_rounding(q.scheme()))
                    + 1e-6 * weight.abs() + f64::from(f32::MIN_POSITIVE);
                let error = (f64::from(value) - weight).abs();
                prop_assert!(error <= bound, "[{i}, {j}]: {value} for {weight}, scale {scale}");
            }
        }
    }

    #[test]
    fn a_decoded_matrix_is_its_own_nearest(m in matrix(1..=5, 1..=100), bits in 0..7_usize) {
        // With f32 scales the extreme entry decodes to itself, so scale and codes come back (symmetric formats).
        let scheme = scheme::NAMED[bits].1.with_scale_format(FloatFormat::F32);
        let once = nearest(view(&m), &scheme).quantized;
        let twice = nearest(once.dequantize().as_ref(), &scheme).quantized;
        for i in 0..m.rows {
            for (a, b) in row(&once, i).into_iter().zip(row(&twice, i)) {
                prop_assert!((a - b).abs() <= 2e-6 * a.abs(), "{a} then {b}");
            }
        }
    }

    #[test]
    fn powers_of_two_move_scales_only(m in matrix(1..=4, 1..=90), exponent in -6..6_i32, (_, scheme) in prop::sample::select(free())) {
        let scheme = scheme.with_scale_format(FloatFormat::F32);
        prop_assume!(m.values.iter().all(|v| *v == 0.0 || v.abs() > 1e-25));
        let factor = 2.0_f32.powi(exponent);
        let scaled: Vec<f32> = m.values.iter().map(|v| v * factor).collect();
        prop_assume!(scaled.iter().all(|v| v.is_finite()));
        let plain = nearest(view(&m), &scheme).quantized;
        let moved = nearest(MatRef::from_row_major_slice(&scaled, m.rows, m.cols), &scheme).quantized;
        prop_assert_eq!(plain.codes(), moved.codes());
        prop_assert_eq!(plain.zeros(), moved.zeros());
    }

    #[test]
    fn symmetric_codes_mirror(m in matrix(1..=4, 1..=90), which in 0..7_usize) {
        let scheme = scheme::NAMED[which].1;
        let mirrored: Vec<f32> = m.values.iter().map(|v| -v).collect();
        let plain = nearest(view(&m), &scheme).quantized;
        let mirror = nearest(MatRef::from_row_major_slice(&mirrored, m.rows, m.cols), &scheme).quantized;
        for i in 0..m.rows {
            for (a, b) in row(&plain, i).into_iter().zip(row(&mirror, i)) {
                prop_assert_eq!(a, -b);
            }
        }
    }

    #[test]
    fn zero_is_exact(m in matrix(1..=4, 1..=90), scheme in full_range(), at in any::<prop::sample::Index>()) {
        let mut m = m;
        let at = at.index(m.values.len());
        m.values[at] = 0.0;
        let q = nearest(view(&m), &scheme).quantized;
        prop_assert_eq!(row(&q, at / m.cols)[at % m.cols], 0.0);
    }

    #[test]
    fn strides_do_not_matter(m in matrix(1..=6, 1..=70), scheme in schemes()) {
        let transposed = Mat::from_fn(m.cols, m.rows, |j, i| m.values[i * m.cols + j]);
        let direct = nearest(view(&m), &scheme);
        prop_assert_eq!(&direct, &nearest(transposed.transpose(), &scheme));
        let reversed = view(&m).reverse_rows();
        prop_assert_eq!(direct.quantized, nearest(reversed.to_owned().reverse_rows(), &scheme).quantized);
    }

    #[test]
    fn smaller_groups_never_have_larger_scales(m in matrix(1..=4, 2..=90), size in 1..40_u32, which in 0..7_usize) {
        let scheme = scheme::NAMED[which].1.with_scale_format(FloatFormat::F32);
        let fine = nearest(view(&m), &scheme.with_group(Group::Size(size))).quantized;
        let coarse = nearest(view(&m), &scheme.with_group(Group::Row)).quantized;
        for i in 0..m.rows {
            for g in 0..fine.grouping().per_row {
                prop_assert!(fine.scale(i, g) <= coarse.scale(i, 0));
            }
        }
    }
}

/// Every stored code of every format decodes to its documented value, and that value encodes to the code.
#[test]
fn every_code_decodes_and_encodes() {
    for (name, scheme) in free() {
        if !spans(&scheme) {
            continue; // Scales that do not follow from the extremes: below, and `nested`.
        }
        let scheme = scheme.with_group(Group::Row).with_scale_format(FloatFormat::F32);
        let values = values(scheme.code);
        match scheme.code {
            Code::Int { bits, signed: true } => {
                let offset = f32::from(1_u16 << (bits - 1));
                assert!((0_u16..).zip(&values).all(|(c, v)| *v == f32::from(c) - offset), "{name}");
            }
            Code::Int { signed: false, .. } => {
                assert!((0_u16..).zip(&values).all(|(c, v)| *v == f32::from(c)), "{name}");
            }
            Code::Table(table) => assert_eq!(values, table.values(), "{name}"),
            Code::MiniFloat(_) | Code::Fixed | Code::Trellis(_) | Code::Lattice(_) => {
                assert!(!values.is_empty(), "{name}")
            }
        }
        // The symmetric formats never produce their lowest code.
        let first = usize::from(matches!(scheme.code, Code::Int { signed: true, .. }));
        let row = &values[first..];
        let q = nearest(MatRef::from_row_major_slice(row, 1, row.len()), &scheme).quantized;
        assert_eq!(q.scale(0, 0), 1.0, "{name}");
        assert_eq!(crate::common::row(&q, 0), row, "{name}");
        let mut stored = vec![0; row.len()];
        rankbit_quant::pack::unpack(q.codes(), scheme.code.bits(), &mut stored);
        for (i, code) in stored.into_iter().enumerate() {
            // The same number, and so the same code; equal ones (zeros) may swap.
            let same = scheme.code.value(code).to_bits() == row[i].to_bits();
            assert!(same || row[i] == 0.0, "{name}: {code} for {i}");
        }
    }
}

/// No other scale, with the nearest codes, gives `binary` or `ternary` a smaller error.
#[test]
fn least_squares_scales_are_the_best() {
    let error = |row: &[f32], scale: f32, zero: bool| -> f64 {
        let levels = if zero { vec![-scale, 0.0, scale] } else { vec![-scale, scale] };
        let nearest = |w: f32| levels.iter().map(|l| f64::from(w - l).powi(2)).fold(f64::MAX, f64::min);
        row.iter().map(|&w| nearest(w)).sum()
    };
    for seed in 0..40_u16 {
        let row: Vec<f32> = (0..24_u16)
            .map(|j| (f32::from(seed * 31 + j * 17) * 0.7).sin().powi(3) * f32::from(1 + j % 4))
            .collect();
        for (scheme, zero) in [(scheme::BINARY, false), (scheme::TERNARY, true)] {
            let scheme = scheme.with_group(Group::Row).with_scale_format(FloatFormat::F32);
            let q = nearest(MatRef::from_row_major_slice(&row, 1, row.len()), &scheme).quantized;
            let found: f64 =
                crate::common::row(&q, 0).iter().zip(&row).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let best =
                (1..4000_u16).map(|i| error(&row, f32::from(i) * 0.001, zero)).fold(f64::MAX, f64::min);
            assert!(found <= best * (1.0 + 1e-6), "{scheme:?}: {found} against {best}");
        }
    }
}

/// Halves go to the even neighbour.
#[test]
fn ties_go_to_even() {
    let row = [7.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 6.5];
    let scheme = scheme::INT4.with_group(Group::Row);
    let q = nearest(MatRef::from_row_major_slice(&row, 1, 8), &scheme).quantized;
    assert_eq!(crate::common::row(&q, 0), [7.0, 0.0, 2.0, 2.0, 0.0, -2.0, -2.0, 6.0]);
}

/// A table tie goes to the lower index.
#[test]
fn table_ties_go_down() {
    let values = rankbit_quant::code::table::NF4;
    // 0.0 and 0.0795803 have an exact midpoint in f32.
    let row = [1.0, values[8] / 2.0, values[8] / 2.0 + 1e-7];
    let q = nearest(MatRef::from_row_major_slice(&row, 1, 3), &scheme::NF4).quantized;
    assert_eq!(crate::common::row(&q, 0), [1.0, 0.0, values[8]]);
}

/// 16-bit scales out of range become f32, and the result says so.
#[test]
fn scales_out_of_range_are_widened() {
    for (size, widened) in
        [(1e-30_f32, true), (1e-7, true), (1e-3, false), (1.0, false), (1e4, false), (1e7, true)]
    {
        let row: Vec<f32> = (0..64_u8).map(|j| size * (f32::from(j) / 63.0 - 0.4)).collect();
        let rounded = nearest(MatRef::from_row_major_slice(&row, 1, 64), &scheme::INT4);
        assert_eq!(rounded.widened_from, widened.then_some(FloatFormat::F16), "size {size}");
        assert_eq!(
            rounded.quantized.scales().format(),
            if widened { FloatFormat::F32 } else { FloatFormat::F16 }
        );
        let error: f32 = crate::common::row(&rounded.quantized, 0)
            .iter()
            .zip(&row)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(error <= size * 0.6 / 7.0 * 0.51, "size {size}: error {error}");
    }
}

/// The largest finite weights neither overflow nor become NaN.
#[test]
fn the_whole_range_of_f32_works() {
    let row = [f32::MAX, f32::MIN, 0.0, 1.0, f32::MIN_POSITIVE, -f32::MIN_POSITIVE / 4.0, -0.0, 3e38];
    for (name, scheme) in free() {
        for scheme in [scheme.with_group(Group::Size(2)), scheme.with_group(Group::Row)] {
            let q = nearest(MatRef::from_row_major_slice(&row, 1, 8), &scheme).quantized;
            assert!(crate::common::row(&q, 0).iter().all(|v| v.is_finite()), "{name}");
        }
    }
}
