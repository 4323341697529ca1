//! Counting operations, bits and seconds.

use rankbit_quant::Error;
use rankbit_quant::dyadic::cost::{Speed, Work, between, costs};

#[test]
fn counts_of_a_known_layer() {
    // ResNet-50's first convolution: 64 × 3 × 7 × 7 weights, 112 × 112 outputs.
    let work = Work::conv2d([64, 3, 7, 7], (112, 112)).unwrap();
    assert_eq!((work.weights, work.macs), (9408, 118_013_952));
    assert_eq!(work.bit_operations(4, 8).unwrap(), 32 * 118_013_952);
    assert_eq!(work.size(4).unwrap(), 4 * 9408);
    let linear = Work::linear((10, 64), 3).unwrap();
    assert_eq!((linear.weights, linear.macs), (640, 1920));
}

#[test]
fn a_row_of_the_program() {
    let work = Work { macs: 1000, weights: 10 };
    let speeds = [Speed { bits: 4, rate: 2e3, overhead: 0.25 }, Speed { bits: 8, rate: 1e3, overhead: 0.25 }];
    let [four, eight] = costs(work, &speeds).unwrap()[..] else { panic!("two costs") };
    assert_eq!((four.size, four.bit_operations, four.latency), (40, 16_000, 0.75));
    assert_eq!((eight.size, eight.bit_operations, eight.latency), (80, 64_000, 1.25));
    assert_eq!(between(four.latency, eight.latency, 0.5).unwrap(), 1.0);
    assert_eq!((between(1.0, 3.0, 0.0).unwrap(), between(1.0, 3.0, 1.0).unwrap()), (1.0, 3.0));
}

#[test]
fn hopeless_counts_are_refused() {
    assert!(matches!(Work::linear((u64::MAX, 2), 1), Err(Error::TooLarge { .. })));
    assert!(matches!(
        Work::conv2d([1 << 20, 1 << 20, 1 << 20, 1 << 20], (1, 1)),
        Err(Error::TooLarge { .. })
    ));
    let work = Work { macs: u64::MAX / 8, weights: u64::MAX / 2 };
    assert!(matches!(work.bit_operations(8, 8), Err(Error::TooLarge { .. })));
    assert!(matches!(work.size(8), Err(Error::TooLarge { .. })));
    let work = Work { macs: 1, weights: 1 };
    for (rate, overhead) in
        [(0.0, 0.0), (-1.0, 0.0), (f64::NAN, 0.0), (f64::INFINITY, 0.0), (1.0, -1.0), (1.0, f64::NAN)]
    {
        let speed = Speed { bits: 8, rate, overhead };
        assert!(matches!(costs(work, &[speed]), Err(Error::InvalidOption { .. })), "{rate} {overhead}");
    }
    for fraction in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(between(0.0, 1.0, fraction), Err(Error::InvalidOption { .. })));
    }
}
