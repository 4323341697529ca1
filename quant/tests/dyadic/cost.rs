//! Counting operations, bits and seconds.

use rankbit_quant::Error;
use rankbit_quant::dyadic::cost::{Speed, Work};

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
fn latency_is_counted_in_whole_nanoseconds() {
    let work = Work { macs: 1000, weights: 10 };
    assert_eq!(Speed { rate: 2e3, overhead: 0.25 }.nanoseconds(&work), Ok(750_000_000));
    assert_eq!(Speed { rate: 3e12, overhead: 0.0 }.nanoseconds(&work), Ok(1), "rounded up");
    assert_eq!(Speed { rate: 1.0, overhead: 0.0 }.nanoseconds(&Work { macs: 0, weights: 1 }), Ok(0));
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
        let latency = Speed { rate, overhead }.nanoseconds(&work);
        assert!(matches!(latency, Err(Error::InvalidOption { .. })), "{rate} {overhead}");
    }
    let forever = Speed { rate: f64::MIN_POSITIVE, overhead: 0.0 };
    assert!(matches!(forever.nanoseconds(&work), Err(Error::TooLarge { .. })));
}
