//! HALO's levels: exact without quantization, and better where their rotation helps.

use proptest::prelude::*;
use rankbit_linalg::Stream;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::halo::{Gradients, Level, Options, backward, forward};
use rankbit_quant::{Code, Error, MiniFloat};

const LEVELS: [Level; 3] = [Level::Zero, Level::One, Level::Two];
const INT8: Code = Code::Int { bits: 8, signed: true };

fn normal(rows: usize, cols: usize, seed: u64) -> Mat<f32> {
    let mut values = vec![0.0; rows * cols];
    Stream::new(seed, "halo").fill_normal(&mut values);
    MatRef::from_row_major_slice(&values, rows, cols).to_owned()
}

/// ‖A − B‖ / ‖B‖.
fn distance(a: &Mat<f32>, b: &Mat<f32>) -> f64 {
    let norm =
        |m: &Mat<f32>| m.col_iter().flat_map(|c| c.iter()).map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    assert_eq!((a.nrows(), a.ncols()), (b.nrows(), b.ncols()));
    norm(&(a - b)) / norm(b)
}

struct Case {
    x: Mat<f32>,
    weight: Mat<f32>,
    upstream: Mat<f32>,
}

impl Case {
    fn new(tokens: usize, features: usize, out: usize, seed: u64) -> Self {
        Self {
            x: normal(tokens, features, seed),
            weight: normal(out, features, seed + 1),
            upstream: normal(tokens, out, seed + 2),
        }
    }

    /// Distances of the three products from the exact ones.
    fn distances(&self, options: &Options) -> [f64; 3] {
        let y = forward(options, self.x.as_ref(), self.weight.as_ref()).unwrap();
        let Gradients { input, weight } =
            backward(options, self.x.as_ref(), self.weight.as_ref(), self.upstream.as_ref()).unwrap();
        [
            distance(&y, &(&self.x * self.weight.transpose())),
            distance(&input, &(&self.upstream * &self.weight)),
            distance(&weight, &(self.upstream.transpose() * &self.x)),
        ]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The identity in place of the quantizer: every level is the linear layer, of any size.
    #[test]
    fn exact_without_a_quantizer(tokens in 1..40_usize, features in 1..50_usize, out in 1..20_usize, seed in 0..10_000_u64, rotated: bool) {
        let case = Case::new(tokens, features, out, seed);
        for level in LEVELS {
            for found in case.distances(&Options { level, code: None, rotated }) {
                prop_assert!(found <= 1e-5, "{level:?}: {found}");
            }
        }
    }

    /// Eight bits on plain inputs: every level is close.
    #[test]
    fn close_with_eight_bits(tokens in 8..40_usize, features in 8..50_usize, out in 8..20_usize, seed in 0..10_000_u64, rotated: bool) {
        let case = Case::new(tokens, features, out, seed);
        for level in LEVELS {
            for code in [INT8, Code::MiniFloat(MiniFloat::E4m3)] {
                for found in case.distances(&Options { level, code: Some(code), rotated }) {
                    prop_assert!(found <= 0.1 && found > 0.0, "{level:?} {code:?}: {found}");
                }
            }
        }
    }
}

/// Loud features: the forward rotation repairs the forward product. Loud tokens: level 2 repairs the inputs' gradient.
#[test]
fn rotations_help_where_they_should() {
    let mut case = Case::new(64, 128, 96, 5);
    for t in 0..64 {
        case.x[(t, 17)] *= 60.0;
    }
    for o in 0..96 {
        case.upstream[(23, o)] *= 60.0;
    }
    let run = |level, rotated| case.distances(&Options { level, code: Some(INT8), rotated });
    let (zero, one, two, turned) =
        (run(Level::Zero, false), run(Level::One, false), run(Level::Two, false), run(Level::Two, true));
    // What the loud token costs the quiet ones is hidden by its own norm, so the gradients of all others are compared.
    assert!(one[0] < 0.5 * zero[0] && two[0] == one[0], "{zero:?} {one:?} {two:?}");
    let exact = &case.upstream * &case.weight;
    let quiet = |level| {
        let options = Options { level, code: Some(INT8), rotated: false };
        let found =
            backward(&options, case.x.as_ref(), case.weight.as_ref(), case.upstream.as_ref()).unwrap().input;
        let without = |m: &Mat<f32>| Mat::from_fn(63, 128, |t, j| m[(if t < 23 { t } else { t + 1 }, j)]);
        distance(&without(&found), &without(&exact))
    };
    assert!(quiet(Level::Two) < 0.7 * quiet(Level::One), "{} {}", quiet(Level::Two), quiet(Level::One));
    // What the forward product rotated serves the weight's gradient too: its loud column is spread.
    assert!(turned[2] < 1.5 * two[2], "{turned:?} {two:?}");
}

#[test]
fn bad_inputs() {
    let options = Options { level: Level::Two, code: Some(INT8), rotated: true };
    let Case { x, weight, upstream } = Case::new(4, 6, 3, 1);
    let (x, weight, upstream) = (x.as_ref(), weight.as_ref(), upstream.as_ref());
    assert!(matches!(
        forward(&options, x.subcols(0, 5), weight),
        Err(Error::ShapeMismatch { what: "weight", .. })
    ));
    assert!(matches!(
        forward(&options, x.subcols(0, 0), weight.subcols(0, 0)),
        Err(Error::ShapeMismatch { .. })
    ));
    for bad in [upstream.subcols(0, 2), upstream.subrows(0, 3)] {
        assert!(matches!(backward(&options, x, weight, bad), Err(Error::ShapeMismatch { .. })));
    }
    let nan = Mat::from_fn(4, 6, |t, j| if (t, j) == (2, 1) { f32::NAN } else { 1.0 });
    for level in LEVELS {
        let options = Options { level, ..options };
        assert!(matches!(forward(&options, nan.as_ref(), weight), Err(Error::ActivationNonFinite { .. })));
        let code = Some(Code::Int { bits: 8, signed: false });
        let found = forward(&Options { code, ..options }, x, weight);
        assert!(matches!(found, Err(Error::InvalidActivation { .. })));
        // No tokens, no outputs.
        let empty = forward(&options, x.subrows(0, 0), weight).unwrap();
        assert_eq!((empty.nrows(), empty.ncols()), (0, 3));
        let none = backward(&options, x, weight.subrows(0, 0), upstream.subcols(0, 0)).unwrap();
        assert_eq!((none.input.nrows(), none.weight.nrows()), (4, 0));
        let found = backward(&options, x.subrows(0, 0), weight, upstream.subrows(0, 0)).unwrap();
        assert_eq!((found.input.nrows(), found.weight.nrows()), (0, 3));
    }
}
