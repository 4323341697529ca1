//! Scales whose ratios are powers of two (ZeroQuant-FP's M1 and M2), and what that buys: exact casts to 8-bit floats.

use crate::common::{nearest, row, view};
use proptest::prelude::*;
use rankbit_kit::strategy::matrix;
use rankbit_linalg::faer::Mat;
use rankbit_quant::{
    Code, Error, FloatFormat, Group, MiniFloat, PowerRule, Quantized, RatioRule, Rounder, ScaleRule, Scheme,
    ZeroPoint, quantize, scheme,
};

fn fp4(scale_rule: ScaleRule) -> Scheme {
    let code = Code::MiniFloat(MiniFloat::E2m1);
    let plain = scheme::INT4.with_scale_format(FloatFormat::F32);
    Scheme { code, scale_rule, zero: ZeroPoint::None, ..plain }
}

/// A power of two, exactly.
fn is_power(x: f64) -> bool {
    x > 0.0 && x.is_finite() && x.to_bits() << 12 == 0
}

fn scale(q: &Quantized, row: usize, group: usize) -> f64 {
    f64::from(q.scale(row, group))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Ratios are powers of two, on the side of the free scale that the rule names, by less than a factor of two.
    #[test]
    fn ratios_are_powers_of_two(m in matrix(1..=5, 1..=120), size in 1_u32..60) {
        // Scales in f32's normal range, so that they are stored as they are.
        prop_assume!(m.values.iter().all(|v| *v == 0.0 || (v.abs() < 1e30 && v.abs() > 1e-30)));
        let groups = Group::Size(size);
        let free = nearest(view(&m), &fp4(ScaleRule::Absmax).with_group(groups)).quantized;
        for rule in [RatioRule::Clip, RatioRule::Keep] {
            let q = nearest(view(&m), &fp4(ScaleRule::Ratio(rule)).with_group(groups)).quantized;
            let per_row = q.grouping().per_row;
            // A row with a single group shares with all rows.
            let pool = |i: usize| if per_row == 1 { 0..m.rows } else { i..i + 1 };
            for i in 0..m.rows {
                let top = pool(i).flat_map(|r| (0..per_row).map(move |g| (r, g))).map(|(r, g)| scale(&free, r, g)).fold(0.0, f64::max);
                for g in 0..per_row {
                    let (s, found) = (scale(&free, i, g), scale(&q, i, g));
                    if s == 0.0 {
                        prop_assert_eq!(found, 0.0);
                        continue;
                    }
                    prop_assert!(is_power(found / top), "{found} under {top}");
                    let allowed = f64::from(f32::EPSILON) * s;
                    match rule {
                        RatioRule::Clip => prop_assert!(found <= s + allowed && found >= s / 2.0 - allowed),
                        RatioRule::Keep => prop_assert!(found >= s - allowed && found <= 2.0 * s + allowed),
                    }
                }
            }
        }
    }

    /// Neither M1 nor the keeping ratio clips: every entry errs by half a gap of its code at most.
    #[test]
    fn nothing_is_clipped(m in matrix(1..=4, 1..=90)) {
        prop_assume!(m.values.iter().all(|v| *v == 0.0 || (v.abs() < 1e30 && v.abs() > 1e-30)));
        for rule in [ScaleRule::Power(PowerRule::Ceil), ScaleRule::Ratio(RatioRule::Keep)] {
            let q = nearest(view(&m), &fp4(rule).with_group(Group::Size(16))).quantized;
            for i in 0..m.rows {
                for (j, decoded) in row(&q, i).iter().enumerate() {
                    let w = f64::from(m.values[i * m.cols + j]);
                    let s = scale(&q, i, j / 16);
                    prop_assert!((w - f64::from(*decoded)).abs() <= s * (1.0 + 1e-6), "{w} became {decoded}");
                }
            }
        }
    }

    /// Over the row's largest scale every value is a number of E5M2: the cast to FP8 changes exponents only.
    #[test]
    fn the_cast_to_fp8_is_exact(rows in 1..4_usize, seed in 0..1000_u32) {
        // Group magnitudes over 13 powers of two: E5M2 goes down to 2^-16, E2M1's half to 2^-1 under 2^-15.
        let w = Mat::from_fn(rows, 96, |i, j| {
            let noise = ((i * 7919 + j * 104_729 + usize::try_from(seed).unwrap() * 31) % 1009) as f32 / 1009.0 - 0.5;
            noise * 2.0_f32.powi(-i32::try_from(j / 16).unwrap() * 2)
        });
        for rule in [ScaleRule::Ratio(RatioRule::Clip), ScaleRule::Ratio(RatioRule::Keep), ScaleRule::Power(PowerRule::Ceil)] {
            let q = nearest(w.as_ref(), &fp4(rule).with_group(Group::Size(16))).quantized;
            for i in 0..rows {
                let top = (0..6).map(|g| q.scale(i, g)).fold(0.0, f32::max);
                for value in row(&q, i) {
                    let ratio = value / top;
                    let cast = MiniFloat::E5m2.value(MiniFloat::E5m2.encode(ratio));
                    prop_assert_eq!(cast, ratio, "{}", value);
                    prop_assert_eq!(cast * top, value);
                }
            }
        }
    }
}

/// The rule works with every symmetric code and every rounder that leaves scales alone, and with nothing else.
#[test]
fn where_it_belongs() {
    let w = Mat::from_fn(4, 64, |i, j| ((i * 13 + j * 7) % 23) as f32 / 11.0 - 1.0);
    for scheme in [scheme::INT4, scheme::INT8, scheme::NF4, fp4(ScaleRule::Absmax)] {
        let scheme = Scheme { scale_rule: ScaleRule::Ratio(RatioRule::Clip), ..scheme };
        for rounder in [Rounder::Nearest, Rounder::Mse, Rounder::HQQ, Rounder::Stochastic { seed: 1 }] {
            let q = quantize(w.as_ref(), &scheme.with_group(Group::Size(16)), rounder).unwrap().quantized;
            for i in 0..4 {
                let top = (0..4).map(|g| scale(&q, i, g)).fold(0.0, f64::max);
                assert!((0..4).all(|g| is_power(scale(&q, i, g) / top)), "{scheme:?} {rounder:?}");
            }
        }
    }
    let ratio = ScaleRule::Ratio(RatioRule::Keep);
    for bad in [
        Scheme { scale_rule: ratio, ..scheme::UINT4 },
        Scheme { scale_rule: ratio, ..scheme::MXFP4 },
        Scheme { scale_rule: ratio, ..scheme::NVFP4 },
        Scheme { scale_rule: ratio, ..scheme::Q4_K },
    ] {
        assert!(matches!(bad.check(), Err(Error::InvalidScheme { .. })), "{bad:?}");
    }
}
