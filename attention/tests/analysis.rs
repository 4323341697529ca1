//! The temperature sweep: flat maps are of low rank, peaked ones sparse, and the sum wins between them.

use rankbit_attention::{Error, regimes};
use rankbit_linalg::Stream;
use rankbit_linalg::faer::Mat;

/// Logits of a few directions that all rows share, and of one near key for each row.
fn logits(n: usize) -> Mat<f64> {
    let mut stream = Stream::new(4, "logits");
    let mut factors = vec![0.0; 2 * n * 2];
    stream.fill_normal(&mut factors);
    Mat::from_fn(n, n, |i, j| {
        let shared = (0..2).map(|r| factors[i * 2 + r] * factors[2 * n + j * 2 + r]).sum::<f64>();
        shared + if (i * 7 + 3) % n == j { 4.0 } else { 0.0 }
    })
}

#[test]
fn each_kind_has_its_temperatures() {
    let found = regimes(logits(48).as_ref(), &[0.05, 1.0, 1e9], 16).expect("good logits");
    let [cold, middle, hot] = found.as_slice() else { panic!("three temperatures") };
    assert!(cold.entropy < middle.entropy && middle.entropy < hot.entropy);
    assert!((hot.entropy - 48.0_f64.ln()).abs() <= 1e-4);
    assert!(cold.sparse <= 1e-6 && cold.low_rank > 0.1, "{cold:?}");
    assert!(hot.low_rank <= 1e-6 && hot.sparse > 0.5, "{hot:?}");
    assert!(middle.both < middle.sparse && middle.both < middle.low_rank, "{middle:?}");
    for one in found {
        assert!([one.sparse, one.low_rank, one.both].iter().all(|e| (0.0..=1.0).contains(e)), "{one:?}");
    }
}

#[test]
fn bad_input_is_refused() {
    let good = logits(6);
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let found = regimes(good.as_ref(), &[temperature], 8);
        assert!(matches!(found, Err(Error::InvalidOption { what: "temperature", .. })));
    }
    assert!(matches!(regimes(good.as_ref(), &[1.0], 3), Err(Error::InvalidOption { what: "budget", .. })));
    for bad in [f64::NAN, f64::INFINITY] {
        let mut logits = good.clone();
        logits[(2, 3)] = bad;
        assert!(matches!(regimes(logits.as_ref(), &[1.0], 8), Err(Error::Linalg(_))));
    }
    for (n, s) in [(0, 0), (0, 3), (3, 0), (1, 1)] {
        let found = regimes(Mat::zeros(n, s).as_ref(), &[1.0], 8).expect("nothing to do");
        assert!(found[0].both <= 1e-12 || n * s == 1);
    }
}
