//! The log-Bessel kernel against its twins in f64, within its bound.

use rankbit_gpu::{Error, Gpu, Limits, Selection};
use rankbit_linalg::Stream;
use rankbit_linalg::special::{log_bessel_i, log_bessel_k};

fn gpu() -> Gpu {
    Gpu::new().expect("these tests need a GPU adapter; Mesa's lavapipe (mesa-vulkan-drivers) will do")
}

/// The documented bound.
fn bound(v: f64, x: f64) -> f64 {
    let s = v.hypot(x);
    let log = (x / (v + s)).ln();
    let log = if log.is_finite() { log } else { x.ln() - (v + s).ln() };
    32.0 * 2f64.powi(-24) * (1.0 + s + v * log.abs())
}

fn single(value: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
    let value = value as f32;
    value
}

/// A grid over all magnitudes, borders of the regions, and random pairs; returns the worst share of the bound.
#[test]
fn within_the_bound_everywhere() {
    let gpu = gpu();
    let mut pairs: Vec<(f32, f32)> = Vec::new();
    let ladder = |low: f64, high: f64, count: i32| {
        (0..=count).map(move |i| single(low * (high / low).powf(f64::from(i) / f64::from(count))))
    };
    for v in ladder(1e-38, 1e35, 60).chain([0.0, 0.5, 1.0, 1.5, 15.5, 15.999]) {
        pairs.extend(ladder(1e-37, 1e35, 60).map(|x| (v, x)));
    }
    for v in ladder(1e-3, 40.0, 80).chain([0.0, 0.5, 1.5, 2.5, 14.5, 15.5]) {
        pairs.extend(ladder(1e-3, 40.0, 120).chain([1.0, 1.000_000_1, 16.0]).map(|x| (v, x)));
        let border = (256.0 - f64::from(v) * f64::from(v)).max(0.0).sqrt();
        pairs.extend([1.0 - 1e-6, 1.0, 1.0 + 1e-6].map(|by| (v, single((border * by).max(1e-3)))));
    }
    let mut stream = Stream::new(3, "gpu log bessel");
    for _ in 0..40_000 {
        let mut draw = |low: f64, high: f64| single(10f64.powf(low + (high - low) * stream.next_uniform()));
        pairs.push((draw(-3.0, 5.0), draw(-3.0, 5.0)));
        pairs.push((draw(-2.0, 1.3), draw(-2.0, 1.3)));
    }
    let (orders, xs): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
    for (name, found, twin) in [
        ("I", gpu.log_bessel_i(&orders, &xs).unwrap(), log_bessel_i as fn(f64, f64) -> f64),
        ("K", gpu.log_bessel_k(&orders, &xs).unwrap(), log_bessel_k),
    ] {
        assert_eq!(found.len(), pairs.len());
        let mut worst = (0.0, 0.0, 0.0);
        for (&(v, x), &found) in pairs.iter().zip(&found) {
            let (v, x) = (f64::from(v), f64::from(x));
            let expected = twin(v, x);
            let share = (f64::from(found) - expected).abs() / bound(v, x);
            assert!(
                share <= 1.0,
                "ln {name}_{v:e}({x:e}) = {expected:e}, found {found:e}: {share} of the bound"
            );
            if share > worst.0 {
                worst = (share, v, x);
            }
        }
        println!("ln {name}: worst {:.3} of the bound at v = {:e}, x = {:e}", worst.0, worst.1, worst.2);
        // A bound that nothing comes near would not see a lost digit.
        assert!(worst.0 > 0.02, "{worst:?}");
    }
}

/// What the kernel does not take comes from the twin; one order serves many arguments; the sign of an order of K.
#[test]
fn edges_and_single_orders() {
    let gpu = gpu();
    let infinity = f32::INFINITY;
    let xs = [0.0, 1e-40, -1.0, f32::NAN, infinity, 3e38, 2.0];
    for v in [0.0, 2.5, f32::NAN, infinity, 3e38] {
        let (i, k) = (gpu.log_bessel_i(&[v], &xs).unwrap(), gpu.log_bessel_k(&[v], &xs).unwrap());
        for ((&x, i), k) in xs.iter().zip(i).zip(k) {
            for (found, twin) in [(i, log_bessel_i as fn(f64, f64) -> f64), (k, log_bessel_k)] {
                let expected = single(twin(f64::from(v), f64::from(x)));
                let same = found == expected || (found.is_nan() && expected.is_nan());
                let close = (found - expected).abs() <= single(bound(f64::from(v), f64::from(x)));
                assert!(same || close, "{v} {x}: {found} {expected}");
            }
        }
    }
    assert!(gpu.log_bessel_i(&[-0.5], &[1.0]).unwrap()[0].is_nan());
    assert_eq!(gpu.log_bessel_k(&[-2.5], &[1.5]).unwrap(), gpu.log_bessel_k(&[2.5], &[1.5]).unwrap());
    assert_eq!(gpu.log_bessel_i(&[], &[]).unwrap(), Vec::<f32>::new());
    assert_eq!(gpu.log_bessel_i(&[1.0], &[]).unwrap(), Vec::<f32>::new());
    let expected = Error::ShapeMismatch { what: "orders", expected: (3, 1), found: (2, 1) };
    assert_eq!(gpu.log_bessel_k(&[1.0, 2.0], &[1.0; 3]).unwrap_err(), expected);
}

/// More workgroups than one dimension holds; more pairs than can be bound.
#[test]
fn grids_and_limits() {
    let few = Limits { binding_bytes: 1 << 16, buffer_bytes: 1 << 16, groups_per_dimension: 9 };
    let folded = Gpu::with(&Selection { limits: Some(few), ..Selection::default() }).unwrap();
    let xs: Vec<f32> = (0..5000u16).map(|i| 0.01 + f32::from(i) * 0.01).collect();
    assert_eq!(folded.log_bessel_i(&[3.5], &xs).unwrap(), gpu().log_bessel_i(&[3.5], &xs).unwrap());
    assert!(matches!(
        folded.log_bessel_i(&[3.5], &vec![1.0; 20_000]),
        Err(Error::LimitExceeded { what: "arguments", .. })
    ));
}
