//! The log-Bessel functions: kept vectors, identities, edges.

use proptest::prelude::*;
use rankbit_linalg::Error;
use rankbit_linalg::special::{
    bessel_i_ratio, bessel_k_ratio, log_bessel_i, log_bessel_i_batch, log_bessel_i_derivative, log_bessel_k,
    log_bessel_k_batch, log_bessel_k_derivative,
};

use crate::support::close;

/// Eight units in the last place from 1e-3 on; below, what that is there.
fn bound(value: f64) -> f64 {
    let size = value.abs().max(1e-3);
    8.0 * (f64::from_bits(size.to_bits() + 1) - size)
}

/// v, x, and both logarithms in two parts.
fn vectors() -> Vec<[f64; 6]> {
    include_str!("../../tests/vectors/log_bessel.csv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let numbers: Vec<f64> = line.split(',').map(|number| number.parse().expect("a number")).collect();
            numbers.try_into().expect("six columns")
        })
        .collect()
}

#[test]
fn as_mpmath() {
    let vectors = vectors();
    assert!(vectors.len() > 1300);
    for [v, x, i, i_low, k, k_low] in vectors {
        for (name, found, high, low) in
            [("I", log_bessel_i(v, x), i, i_low), ("K", log_bessel_k(v, x), k, k_low)]
        {
            let error = ((found - high) - low).abs();
            assert!(error <= bound(high), "ln {name}_{v}({x}) = {high}: off by {error}");
        }
    }
}

#[test]
fn published_values() {
    close(log_bessel_i(100.3, 50.0), -36.2725264198554, 1e-12);
    close(log_bessel_k(100.3, 50.0), 30.860_233_484_548_256, 1e-14);
    close(log_bessel_k(50.0, 0.01), 408.788_464_582_982_7, 2e-13);
    close(log_bessel_k(0.0, 0.001), 1.949_288_550_192_198_7, 2e-15);
    close(log_bessel_i(0.3, 2.0), 0.778_240_798_369_861_8, 1e-15);
    close(log_bessel_k(2.5, 9000.0), -9_004.326_365_260_7, 4e-12);
}

/// Through the zeros of ln K and ln I, found by bisection to neighbouring numbers: the slope there tells both values, far
/// below what one part would resolve, and the two kernels meet where they change over.
#[test]
fn zeros_are_resolved() {
    for v in [0.0, 1e-3, 0.2, 0.5, 0.9, 1.7, 3.0, 8.0, 13.5, 22.0, 26.0] {
        for (first, f) in [(true, log_bessel_i as fn(f64, f64) -> f64), (false, log_bessel_k)] {
            let sign = if first { 1.0 } else { -1.0 };
            let (mut low, mut high) = (1e-12_f64, 40.0_f64);
            if sign * f(v, low) >= 0.0 {
                continue; // I₀ has none
            }
            while high.to_bits() - low.to_bits() > 1 {
                let middle = f64::from_bits((low.to_bits() + high.to_bits()) / 2);
                if sign * f(v, middle) < 0.0 { low = middle } else { high = middle }
            }
            let slope = if first { log_bessel_i_derivative(v, low) } else { log_bessel_k_derivative(v, low) };
            let step = slope * (high - low);
            close((f(v, high) - f(v, low)) / step, 1.0, 1e-2);
            assert!(f(v, low).abs().max(f(v, high).abs()) <= step.abs() * 1.01, "{v} {first}");
        }
    }
}

/// All of SciPy's overflow region and beyond: finite on 1e-3 … 1e5 squared, borders of the regions included.
#[test]
fn finite_and_continuous() {
    let grid: Vec<f64> = (0..=160).map(|i| 10f64.powf(f64::from(i) / 20.0 - 3.0)).collect();
    for &v in &grid {
        let mut before = (f64::NEG_INFINITY, f64::INFINITY);
        for &x in &grid {
            let now = (log_bessel_i(v, x), log_bessel_k(v, x));
            assert!(now.0.is_finite() && now.1.is_finite(), "{v} {x}");
            assert!(now.0 > before.0 && now.1 < before.1, "monotone at {v} {x}");
            before = now;
        }
    }
    for v in [0.0, 0.3, 0.5, 1.0, 7.5, 20.0] {
        for x in [1.0, 4.0, 8.0, f64::sqrt(1024.0 - v * v), f64::sqrt(65536.0 - v * v)] {
            let next = x * (1.0 + 1e-15);
            let slope = (v + x) * 2e-15;
            close(log_bessel_i(v, x), log_bessel_i(v, next), slope + 2.0 * bound(x));
            close(log_bessel_k(v, x), log_bessel_k(v, next), slope + 2.0 * bound(log_bessel_k(v, x)));
        }
    }
}

#[test]
fn edges() {
    let infinity = f64::INFINITY;
    assert_eq!(log_bessel_i(0.0, 0.0), 0.0);
    assert_eq!(log_bessel_i(0.5, 0.0), -infinity);
    assert_eq!(log_bessel_k(0.0, 0.0), infinity);
    assert_eq!(log_bessel_i(3.0, infinity), infinity);
    assert_eq!(log_bessel_k(3.0, infinity), -infinity);
    assert_eq!(log_bessel_i(infinity, 3.0), -infinity);
    assert_eq!(log_bessel_k(-infinity, 3.0), infinity);
    for (v, x) in [(f64::NAN, 1.0), (1.0, f64::NAN), (1.0, -1.0), (infinity, infinity), (1.0, -infinity)] {
        assert!(log_bessel_i(v, x).is_nan() && log_bessel_k(v, x).is_nan(), "{v} {x}");
        assert!(bessel_i_ratio(v, x).is_nan() && bessel_k_ratio(v, x).is_nan(), "{v} {x}");
    }
    assert!(log_bessel_i(-0.5, 1.0).is_nan());
    assert_eq!(log_bessel_k(-2.5, 1.5), log_bessel_k(2.5, 1.5));
    // The least and the largest numbers there are.
    for (v, x) in [(0.0, 5e-324), (3.0, 5e-324), (f64::MAX, 1.0), (0.0, f64::MAX), (1e308, 5e-324)] {
        assert!(!log_bessel_i(v, x).is_nan() && !log_bessel_k(v, x).is_nan(), "{v} {x}");
    }
    assert_eq!((bessel_i_ratio(2.0, 0.0), bessel_i_ratio(2.0, infinity)), (0.0, 1.0));
    assert_eq!((bessel_k_ratio(2.0, 0.0), bessel_k_ratio(2.0, infinity)), (infinity, 1.0));
    close(bessel_i_ratio(0.0, 1e-300), 5e-301, 1e-315);
    assert!((bessel_i_ratio(1e305, 1e305) - (2f64.sqrt() - 1.0)).abs() < 1e-15);
}

#[test]
fn lengths_are_checked() {
    let mut out = [0.0; 3];
    let bad = log_bessel_i_batch(&[1.0, 2.0], &[1.0; 3], &mut out);
    assert!(matches!(bad, Err(Error::ShapeMismatch { what: "orders", .. })));
    let bad = log_bessel_k_batch(&[1.0], &[1.0; 4], &mut out);
    assert!(matches!(bad, Err(Error::ShapeMismatch { what: "out", .. })));
    log_bessel_k_batch(&[1.5], &[1.0, 0.0, -1.0], &mut out).unwrap();
    assert_eq!(out.map(f64::to_bits), [1.0, 0.0, -1.0].map(|x| log_bessel_k(1.5, x).to_bits()));
    log_bessel_i_batch(&[], &[], &mut []).unwrap();
}

/// Orders and arguments over the range asked for, and small ones, where the recurrences are.
fn pairs() -> impl Strategy<Value = (f64, f64)> {
    prop_oneof![
        (-3.0f64..5.0, -3.0f64..5.0).prop_map(|(v, x)| (10f64.powf(v), 10f64.powf(x))),
        (0.0f64..40.0, 1e-6f64..40.0),
        (-300.0f64..300.0, -300.0f64..300.0).prop_map(|(v, x)| (10f64.powf(v), 10f64.powf(x))),
    ]
}

proptest! {
    /// I_v·K_{v+1} + I_{v+1}·K_v = 1/x, which ties four functions together.
    #[test]
    fn wronskian((v, x) in pairs()) {
        let (i, k) = (log_bessel_i(v, x), log_bessel_k(v, x));
        let ratios = bessel_k_ratio(v, x);
        prop_assume!(ratios.is_finite() && i.abs() < 1e250);
        let sum = i + k + (ratios + bessel_i_ratio(v, x)).ln() + x.ln();
        prop_assert!(sum.abs() <= 16.0 * f64::EPSILON * i.abs().max(k.abs()).max(x.ln().abs()).max(1.0), "{sum}");
    }

    /// Ratios are those of the logarithms, obey both recurrences and the known bounds.
    #[test]
    fn ratios((v, x) in pairs()) {
        let (r, upper) = (bessel_i_ratio(v, x), bessel_i_ratio(v + 1.0, x));
        let lower_bound = x / (v + 0.5 + x.hypot(v + 1.5));
        let upper_bound = x / (v + x.hypot(v + 2.0));
        prop_assert!(r >= lower_bound * (1.0 - 1e-14) && r <= upper_bound * (1.0 + 1e-14), "{r}");
        let again = 1.0 / (2.0 * (v + 1.0) / x + upper);
        prop_assert!((r - again).abs() <= 2e-14 * r + f64::MIN_POSITIVE, "{r} {again}");
        let (k, upper) = (bessel_k_ratio(v, x), bessel_k_ratio(v + 1.0, x));
        if upper.is_finite() {
            let again = 2.0 * (v + 1.0) / x + 1.0 / k;
            prop_assert!((upper - again).abs() <= 2e-14 * upper, "{upper} {again}");
        }
    }

    /// Derivatives are slopes.
    #[test]
    fn derivatives(v in 0.0f64..60.0, x in 0.1f64..80.0) {
        let h = 1e-5 * x;
        let slope = |f: fn(f64, f64) -> f64| (f(v, x + h) - f(v, x - h)) / (2.0 * h);
        let scale = 1.0 + v / x;
        prop_assert!((slope(log_bessel_i) - log_bessel_i_derivative(v, x)).abs() <= 1e-7 * scale);
        prop_assert!((slope(log_bessel_k) - log_bessel_k_derivative(-v, x)).abs() <= 1e-7 * scale);
    }

    /// Closed forms of half an order.
    #[test]
    fn half_orders(x in 1e-3f64..700.0) {
        let sinh = x - (2.0 * std::f64::consts::PI * x).ln() / 2.0 + (-(-2.0 * x).exp_m1()).ln();
        prop_assert!((log_bessel_i(0.5, x) - sinh).abs() <= 4.0 * f64::EPSILON * sinh.abs().max(4.0));
        let k = (std::f64::consts::FRAC_PI_2 / x).ln() / 2.0 - x;
        prop_assert!((log_bessel_k(0.5, x) - k).abs() <= 4.0 * f64::EPSILON * k.abs().max(4.0));
        let next = k + (1.0 / x).ln_1p();
        prop_assert!((log_bessel_k(1.5, x) - next).abs() <= 4.0 * f64::EPSILON * next.abs().max(4.0));
    }
}
