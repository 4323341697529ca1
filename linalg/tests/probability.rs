//! Quantiles, binomial bounds, von Mises–Fisher distributions, certificates.

use proptest::prelude::*;
use rankbit_linalg::certify::{Certificate, CertifyOptions, Counts, Partition, certify, joint_radius};
use rankbit_linalg::faer::Mat;
use rankbit_linalg::special::{VonMisesFisher, bessel_i_ratio, clopper_pearson_lower, normal_quantile};
use rankbit_linalg::{Error, Stream};

use crate::support::{at_most, close};

/// `scripts/oracle/functions.py`.
fn vectors(name: &str) -> Vec<Vec<f64>> {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/functions.json")).expect("kept vectors");
    let rows = vectors[name].as_array().expect("an array");
    let numbers = |row: &serde_json::Value| -> Vec<f64> {
        row.as_array().expect("a row").iter().map(|x| x.as_f64().expect("a number")).collect()
    };
    rows.iter().map(numbers).collect()
}

#[test]
fn quantiles_as_mpmath() {
    let vectors = vectors("quantiles");
    assert_eq!(vectors.len(), 16);
    for row in vectors {
        close(normal_quantile(row[0]), row[1], 1e-15 * row[1].abs().max(1.0));
    }
    assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
    assert_eq!(normal_quantile(1.0), f64::INFINITY);
    for p in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(normal_quantile(p).is_nan());
    }
    assert!(normal_quantile(5e-324) < -38.0);
}

#[test]
fn bounds_as_scipy() {
    let vectors = vectors("bounds");
    assert_eq!(vectors.len(), 51);
    for row in vectors {
        let [k, n, alpha, expected] = row[..] else { panic!("four numbers") };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole numbers below 2⁵³"
        )]
        let found = clopper_pearson_lower(k as u64, n as u64, alpha).unwrap();
        close(found, expected, 1e-11 * expected);
        at_most(found, expected, 1e-13 * expected);
    }
}

#[test]
fn bad_bounds() {
    assert!(matches!(clopper_pearson_lower(0, 0, 0.1), Err(Error::InvalidOption { what: "trials", .. })));
    assert!(matches!(clopper_pearson_lower(2, 1, 0.1), Err(Error::InvalidOption { what: "successes", .. })));
    for alpha in [0.0, 1.0, -1.0, f64::NAN] {
        assert!(matches!(
            clopper_pearson_lower(1, 2, alpha),
            Err(Error::InvalidOption { what: "alpha", .. })
        ));
    }
    assert!(matches!(clopper_pearson_lower(1, u64::MAX, 0.1), Err(Error::TooLarge { .. })));
    // The largest count allowed, and the smallest confidences.
    let most = clopper_pearson_lower(1 << 31, 1 << 32, 0.001).unwrap();
    assert!(most < 0.5 && most > 0.4999);
    assert!(clopper_pearson_lower(5, 10, 1e-300).unwrap() > 0.0);
    assert!(clopper_pearson_lower(5, 10, 1.0 - 1e-16).unwrap() <= 1.0);
}

/// The true binomial tail at the bound is α: summed by hand.
#[test]
fn the_tail_at_the_bound_is_alpha() {
    for (k, n) in [(3u64, 10u64), (9, 10), (50, 60), (1, 40)] {
        let p = clopper_pearson_lower(k, n, 0.01).unwrap();
        let tail: f64 = (k..=n)
            .map(|j| {
                let choose: f64 = (0..j).map(|i| (n - i) as f64 / (i + 1) as f64).product();
                choose * p.powf(j as f64) * (1.0 - p).powf((n - j) as f64)
            })
            .sum();
        close(tail, 0.01, 1e-12);
    }
}

#[test]
fn concentrations_as_mpmath() {
    let vectors = vectors("concentrations");
    assert_eq!(vectors.len(), 12);
    for row in vectors {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole numbers")]
        let found = VonMisesFisher::concentration_of(row[0] as usize, row[1]).unwrap();
        // κ magnifies the rounding of 1 − A.
        close(found, row[2], 1e-14 * row[2] / (1.0 - row[1]).min(0.5));
    }
}

/// The density on a circle and a sphere integrates to 1; in three dimensions it is known in closed form.
#[test]
fn densities() {
    for kappa in [0.0, 1e-6, 0.3, 5.0, 400.0] {
        let circle = VonMisesFisher::new(&[3.0, 4.0], kappa).unwrap();
        let steps = 4000;
        let mean: f64 = (0..steps)
            .map(|i| {
                let angle = f64::from(i) * std::f64::consts::TAU / f64::from(steps);
                circle.log_density(&[angle.cos(), angle.sin()]).unwrap().exp()
            })
            .sum();
        close(mean * std::f64::consts::TAU / f64::from(steps), 1.0, 1e-11);
        let sphere = VonMisesFisher::new(&[0.0, 0.0, 1.0], kappa).unwrap();
        let area = 4.0 * std::f64::consts::PI;
        let expected = if kappa == 0.0 { -area.ln() } else { (kappa / kappa.sinh() / area).ln() };
        let expected = if kappa > 300.0 { (kappa / area * 2.0).ln() - kappa } else { expected };
        close(sphere.log_normalizer(), expected, 1e-13 * expected.abs().max(kappa));
        let resultant = if kappa == 0.0 { 0.0 } else { 1.0 / kappa.tanh() - 1.0 / kappa };
        close(sphere.mean_resultant(), resultant, if kappa < 1e-3 { 1e-9 } else { 1e-13 });
    }
    // The borders of the two forms of the normalizer meet.
    for p in [2usize, 3, 500] {
        let mean: Vec<f64> = (0..p).map(|i| f64::from(u8::from(i == 0))).collect();
        let border = (1e-8 * p as f64 / 2.0).sqrt();
        let at = |kappa: f64| VonMisesFisher::new(&mean, kappa).unwrap().log_normalizer();
        close(at(border * 0.999_999), at(border * 1.000_001), 1e-12 * p as f64);
    }
    let huge = VonMisesFisher::new(&[1.0; 32768], 155_212.6).unwrap();
    assert!(huge.log_normalizer().is_finite());
}

/// Samples: unit vectors whose mean is A_p·μ within six standard errors, whose component along μ has the closed
/// distribution in three dimensions.
#[test]
fn samples() {
    let draws = 4000;
    for (p, kappa) in [(2, 0.0), (2, 3.0), (3, 0.7), (5, 1e4), (40, 25.0), (3, 1e12)] {
        let mean: Vec<f64> = (0..p).map(|i| if i % 2 == 0 { 1.0 } else { -0.5 }).collect();
        let distribution = VonMisesFisher::new(&mean, kappa).unwrap();
        let mut stream = Stream::new(7, "samples");
        let mut sum = vec![0.0; p];
        let mut along = Vec::new();
        for _ in 0..draws {
            let x = distribution.sample(&mut stream);
            close(x.iter().map(|x| x * x).sum(), 1.0, 1e-14);
            along.push(x.iter().zip(distribution.mean()).map(|(x, m)| x * m).sum::<f64>());
            for (sum, x) in sum.iter_mut().zip(&x) {
                *sum += x / f64::from(draws);
            }
        }
        let expected = distribution.mean_resultant();
        let error = 6.0 / f64::from(draws).sqrt();
        // A deviation of the component has variance below min(1, p/κ²)-ish; that of a coordinate across, (1 − A²)/(p − 1).
        let spread = (1.0 - expected * expected).sqrt().max(1e-9);
        for (sum, m) in sum.iter().zip(distribution.mean()) {
            close(*sum, expected * m, error * spread);
        }
        if p == 3 && kappa > 0.0 && kappa < 100.0 {
            // F(w) = (e^{κw} − e^{−κ})/(e^κ − e^{−κ}); Kolmogorov's distance.
            along.sort_by(f64::total_cmp);
            let worst = along.iter().enumerate().map(|(i, w)| {
                let f = ((kappa * w).exp() - (-kappa).exp()) / (kappa.exp() - (-kappa).exp());
                (f - i as f64 / f64::from(draws)).abs()
            });
            at_most(worst.fold(0.0, f64::max), 2.0 / f64::from(draws).sqrt(), 0.0);
        }
    }
}

#[test]
fn fits() {
    let distribution = VonMisesFisher::new(&[1.0, 2.0, -1.0, 0.5], 30.0).unwrap();
    let mut stream = Stream::new(3, "fit");
    let rows: Vec<Vec<f64>> = (0..3000).map(|_| distribution.sample(&mut stream)).collect();
    let samples = Mat::from_fn(3000, 4, |i, j| rows[i][j]);
    let fitted = VonMisesFisher::fit(samples.as_ref()).unwrap();
    close(fitted.concentration(), 30.0, 3.0);
    // The likelihood is at its maximum.
    let likelihood = |d: &VonMisesFisher| -> f64 { rows.iter().map(|x| d.log_density(x).unwrap()).sum() };
    let best = likelihood(&fitted);
    for factor in [0.99, 1.01] {
        let other = VonMisesFisher::new(fitted.mean(), fitted.concentration() * factor).unwrap();
        assert!(likelihood(&other) < best);
    }
    assert!(likelihood(&distribution) < best);
    // f32 rows; rows that cancel.
    let single = Mat::from_fn(3000, 4, |i, j| <f32 as rankbit_linalg::Scalar>::from_f64(rows[i][j]));
    close(VonMisesFisher::fit(single.as_ref()).unwrap().concentration(), fitted.concentration(), 1e-4);
    let opposite = Mat::from_fn(2, 2, |i, j| if j == 0 { [1.0, -1.0][i] } else { 0.0 });
    assert_eq!(VonMisesFisher::fit(opposite.as_ref()).unwrap().concentration(), 0.0);
}

#[test]
fn bad_distributions() {
    let new = |mean: &[f64], kappa| VonMisesFisher::new(mean, kappa);
    assert!(matches!(new(&[1.0], 1.0), Err(Error::InvalidOption { what: "dimension", .. })));
    assert!(matches!(new(&[], 1.0), Err(Error::InvalidOption { what: "dimension", .. })));
    assert!(matches!(new(&[0.0, 0.0], 1.0), Err(Error::InvalidOption { what: "length of the mean", .. })));
    assert!(matches!(new(&[0.0, f64::NAN], 1.0), Err(Error::NonFinite { what: "mean", row: 1, col: 0 })));
    for kappa in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(new(&[0.0, 1.0], kappa), Err(Error::InvalidOption { what: "concentration", .. })));
    }
    let wild = new(&[1e-300, 1e-300], 1.0).unwrap();
    close(wild.mean()[0], 0.5f64.sqrt(), 1e-15);
    assert!(new(&[1e300, 1e300], 1e300).unwrap().sample(&mut Stream::new(0, "x"))[0].is_finite());
    assert!(matches!(wild.log_density(&[1.0]), Err(Error::ShapeMismatch { what: "x", .. })));
    for resultant in [-0.1, 1.0, f64::NAN] {
        assert!(matches!(VonMisesFisher::concentration_of(3, resultant), Err(Error::InvalidOption { .. })));
    }
    let fit = |x: &Mat<f64>| VonMisesFisher::fit(x.as_ref());
    assert!(matches!(fit(&Mat::zeros(0, 3)), Err(Error::InvalidOption { what: "samples", .. })));
    assert!(matches!(fit(&Mat::zeros(2, 3)), Err(Error::InvalidOption { what: "length of a sample", .. })));
    assert!(matches!(fit(&Mat::zeros(2, 0)), Err(Error::InvalidOption { what: "dimension", .. })));
    let same = Mat::from_fn(5, 2, |_, j| if j == 0 { 1.0 } else { 0.0 });
    assert!(matches!(fit(&same), Err(Error::InvalidOption { what: "mean resultant length", .. })));
    let mut broken = same;
    broken[(3, 1)] = f64::NAN;
    assert!(matches!(fit(&broken), Err(Error::NonFinite { what: "samples", row: 3, col: 1 })));
}

#[test]
fn partitions() {
    let partition = Partition::checkered(2, 3, 4).unwrap();
    assert_eq!(partition.len(), 24);
    assert_eq!(&partition.flags()[..8], &[true, false, true, false, false, true, false, true]);
    assert_eq!(partition.flags()[..12], partition.flags()[12..]);
    let x: Vec<usize> = (0..24).collect();
    let (left, right) = partition.split(&x).unwrap();
    assert_eq!((left.len(), right.len()), (12, 12));
    assert_eq!(partition.merge(&left, &right).unwrap(), x);
    assert!(matches!(partition.split(&[1.0]), Err(Error::ShapeMismatch { what: "x", .. })));
    assert!(matches!(partition.merge(&left, &[]), Err(Error::ShapeMismatch { what: "right", .. })));
    assert!(matches!(Partition::checkered(2, usize::MAX, 2), Err(Error::TooLarge { .. })));
    assert!(Partition::checkered(3, 0, 5).unwrap().is_empty());
    let own = Partition::new(vec![false, true]);
    assert_eq!(own.split(&['a', 'b']).unwrap(), (vec!['b'], vec!['a']));
}

/// By brute force over the moves of both halves: the shortest that lets another class win.
#[test]
fn the_radius_is_the_shortest_move() {
    let phi = |z: f64| 0.5 * simpson_erfc(-z / std::f64::consts::SQRT_2);
    for (pl, pr, sl, sr) in [(0.9, 0.8, 0.5, 0.5), (0.99, 0.4, 0.25, 1.0), (0.6, 0.7, 1.0, 0.3)] {
        let radius = joint_radius((pl, pr), (sl, sr));
        let (a, b) = (normal_quantile(pl), normal_quantile(pr));
        let wins = |s: f64, t: f64| phi(a - s / sl) + phi(b - t / sr) > 1.0;
        for step in 0..=200 {
            let angle = f64::from(step) / 200.0 * std::f64::consts::FRAC_PI_2;
            assert!(wins(radius * 0.9999 * angle.cos(), radius * 0.9999 * angle.sin()));
        }
        // It is met in the direction (sr, sl)/hypot.
        let length = sl.hypot(sr);
        assert!(!wins(radius * 1.0001 * sr / length, radius * 1.0001 * sl / length));
    }
    close(joint_radius((0.9, 0.9), (0.5, 0.5)), 2f64.sqrt() * 0.5 * normal_quantile(0.9), 1e-15);
    assert_eq!(joint_radius((0.9, 0.0), (0.5, 0.5)), f64::NEG_INFINITY);
    assert!(joint_radius((0.9, f64::NAN), (0.5, 0.5)).is_nan());
    close(joint_radius((0.9, 0.9), (1e300, 1e300)), 1e300 * 2f64.sqrt() * normal_quantile(0.9), 1e286);
}

fn simpson_erfc(x: f64) -> f64 {
    // By Simpson's rule: another hand than the crate's.
    let steps = 4000;
    let (low, high) = (x, 9.0f64);
    let width = (high - low) / f64::from(steps);
    let inner: f64 = (0..=steps)
        .map(|i| {
            let t = low + f64::from(i) * width;
            let weight = if i == 0 || i == steps { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
            (-t * t).exp() * weight
        })
        .sum();
    inner * width / 3.0 * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn certificates() {
    let options = CertifyOptions { alpha: 0.001, sigmas: (0.5, 0.5) };
    let selection = Counts { left: &[10, 80, 10], right: &[0, 95, 5] };
    let samples = Counts { left: &[500, 9000, 500], right: &[100, 9800, 100] };
    let certificate = certify(selection, samples, &options).unwrap();
    let Certificate::Certified { class, radius, bounds } = certificate else { panic!("certified") };
    let expected = (
        clopper_pearson_lower(9000, 10000, 0.0005).unwrap(),
        clopper_pearson_lower(9800, 10000, 0.0005).unwrap(),
    );
    assert_eq!((class, bounds), (1, expected));
    close(radius, 0.5 / 2f64.sqrt() * (normal_quantile(expected.0) + normal_quantile(expected.1)), 1e-14);
    assert_eq!(certificate.radius(), radius);
    // One half below ½ does not matter while the other makes up for it.
    let uneven = Counts { left: &[5500, 4500, 0], right: &[0, 9900, 100] };
    assert!(certify(selection, uneven, &options).unwrap().radius() > 0.0);
    // No winner; none of the samples.
    let split = Counts { left: &[5000, 5000, 0], right: &[5000, 5000, 0] };
    let abstained = certify(selection, split, &options).unwrap();
    assert!(matches!(abstained, Certificate::Abstain { class: 1, .. }) && abstained.radius() == 0.0);
    let never = Counts { left: &[10, 0, 0], right: &[0, 10, 0] };
    assert!(matches!(certify(selection, never, &options).unwrap(), Certificate::Abstain { .. }));
    // Ties go to the first.
    let tie = Counts { left: &[7, 3, 0], right: &[0, 4, 7] };
    let Certificate::Abstain { class, .. } = certify(tie, split, &options).unwrap() else {
        panic!("abstain")
    };
    assert_eq!(class, 0);
}

#[test]
fn bad_certificates() {
    let options = CertifyOptions { alpha: 0.001, sigmas: (0.5, 0.5) };
    let (counts, none) = (Counts { left: &[1, 2], right: &[3, 4] }, Counts { left: &[], right: &[] });
    assert!(matches!(certify(none, none, &options), Err(Error::InvalidOption { what: "classes", .. })));
    assert!(matches!(
        certify(counts, none, &options),
        Err(Error::ShapeMismatch { what: "left samples", .. })
    ));
    let zeros = Counts { left: &[0, 0], right: &[0, 0] };
    assert!(matches!(certify(counts, zeros, &options), Err(Error::InvalidOption { what: "trials", .. })));
    let many = Counts { left: &[u64::MAX, 1], right: &[0, 1] };
    assert!(matches!(certify(counts, many, &options), Err(Error::TooLarge { .. })));
    for alpha in [0.0, 1.0, f64::NAN] {
        let options = CertifyOptions { alpha, ..options };
        assert!(matches!(certify(counts, counts, &options), Err(Error::InvalidOption { what: "alpha", .. })));
    }
    for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = CertifyOptions { sigmas: (0.5, sigma), ..options };
        assert!(matches!(certify(counts, counts, &options), Err(Error::InvalidOption { what: "sigma", .. })));
    }
}

proptest! {
    #[test]
    fn quantiles_invert(z in -8.0f64..5.0) {
        let p = 0.5 * simpson_erfc(-z / std::f64::consts::SQRT_2);
        let density = (-z * z / 2.0).exp() / 2.5066;
        prop_assert!((normal_quantile(p) - z).abs() <= 1e-12 + 1e-10 * p / density);
    }

    /// Monotone in the counts and the confidence, and below the share that was seen.
    #[test]
    fn bounds_are_monotone(n in 1u64..100_000, share in 0.0f64..1.0, alpha in 1e-6f64..0.3) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below n")]
        let k = (share * n as f64) as u64;
        let bound = clopper_pearson_lower(k, n, alpha).unwrap();
        prop_assert!(bound >= 0.0 && bound <= k as f64 / n as f64 + 1e-12);
        prop_assert!(clopper_pearson_lower(k + 1, n.max(k + 1), alpha).unwrap() >= bound);
        prop_assert!(clopper_pearson_lower(k, n, alpha / 2.0).unwrap() <= bound);
    }

    #[test]
    fn concentrations_invert(p in 2usize..5000, kappa in -4.0f64..6.0) {
        let kappa = 10f64.powf(kappa);
        let resultant = bessel_i_ratio(p as f64 / 2.0 - 1.0, kappa);
        prop_assume!(resultant < 1.0 - 1e-12);
        let found = VonMisesFisher::concentration_of(p, resultant).unwrap();
        prop_assert!((found - kappa).abs() <= 1e-13 * kappa / (1.0 - resultant).min(0.5));
    }

    /// The radius grows with both probabilities.
    #[test]
    fn radii_are_monotone(l in 0.01f64..0.99, r in 0.01f64..0.99, s in 0.01f64..10.0, t in 0.01f64..10.0) {
        let radius = joint_radius((l, r), (s, t));
        prop_assert!(joint_radius((l + 0.005, r), (s, t)) > radius);
        prop_assert!(joint_radius((l, r + 0.005), (s, t)) > radius);
        prop_assert!((joint_radius((r, l), (t, s)) - radius).abs() <= 1e-12);
    }

    /// Halves put together again.
    #[test]
    fn partitions_merge(flags in prop::collection::vec(any::<bool>(), 0..50)) {
        let x: Vec<usize> = (0..flags.len()).collect();
        let partition = Partition::new(flags);
        let (left, right) = partition.split(&x).unwrap();
        prop_assert_eq!(partition.merge(&left, &right).unwrap(), x);
    }
}

/// Wrong more rarely than α: bounds of 2000 simulated counts.
#[test]
fn bounds_cover() {
    let mut stream = Stream::new(5, "coverage");
    let (n, p) = (50u64, 0.9);
    let wrong = (0..2000)
        .filter(|_| {
            let k = (0..n).filter(|_| stream.next_uniform() < p).count() as u64;
            clopper_pearson_lower(k, n, 0.05).unwrap() > p
        })
        .count();
    assert!(wrong > 10 && wrong <= 130, "{wrong}");
}
