//! Random streams.

use crate::support::close;
use rand_core::{Rng, SeedableRng};
use rankbit_linalg::Stream;

/// The documented key, fed to the generator directly.
#[test]
fn key_is_as_documented() {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&42u64.to_le_bytes());
    // FNV-1a-64 of "foobar", from the authors' test vectors.
    key[8..16].copy_from_slice(&0x8594_4171_f739_67e8u64.to_le_bytes());
    key[16..24].copy_from_slice(&6u64.to_le_bytes());
    key[24..].copy_from_slice(b"rankbit\0");
    let mut expected = rand_chacha::ChaCha8Rng::from_seed(key);
    let mut stream = Stream::new(42, "foobar");
    for _ in 0..100 {
        assert_eq!(stream.next_u64(), expected.next_u64());
    }
    assert_eq!(stream.next_u32(), expected.next_u32());
    let (mut one, mut two) = ([0u8; 13], [0u8; 13]);
    stream.fill_bytes(&mut one);
    expected.fill_bytes(&mut two);
    assert_eq!(one, two);
    assert_eq!(Stream::derive_seed(42, "foobar"), Stream::new(42, "foobar").next_u64());
}

/// The first values never change: files and reports depend on them.
#[test]
fn kept_values() {
    let mut stream = Stream::new(0, "");
    let found: Vec<f64> = (0..4).map(|_| stream.next_normal()).collect();
    assert_eq!(found, KEPT);
}

const KEPT: [f64; 4] = [1.262141384092007, 1.9992187441933338, 0.29123213761829003, -0.173406188216969];

/// Seed and name both matter.
#[test]
fn streams_differ() {
    let first = |seed, name| Stream::new(seed, name).next_u64();
    let mut all =
        vec![first(0, ""), first(1, ""), first(0, "a"), first(0, "b"), first(0, "ab"), first(0, "a\0")];
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 6);
}

/// Mean, variance, skewness, kurtosis and tails of 200 000 normal values, within six standard errors.
#[test]
fn normal_values() {
    const COUNT: usize = 200_000;
    let mut values = vec![0f64; COUNT];
    Stream::new(3, "normal").fill_normal(&mut values);
    let moment = |power: i32| values.iter().map(|x| x.powi(power)).sum::<f64>() / COUNT as f64;
    let error = |variance: f64| 6.0 * (variance / COUNT as f64).sqrt();
    close(moment(1), 0.0, error(1.0));
    close(moment(2), 1.0, error(2.0));
    close(moment(3), 0.0, error(15.0));
    close(moment(4), 3.0, error(96.0));
    let beyond = values.iter().filter(|x| x.abs() > 2.0).count() as f64 / COUNT as f64;
    close(beyond, 0.045_500_264, error(0.0455 * 0.9545));
    // Neighbours are independent: the polar method makes pairs.
    let product = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / COUNT as f64;
    close(product, 0.0, error(1.0));
}

/// Chunks do not matter, and f32 is the rounded f64.
#[test]
fn fill_is_one_sequence() {
    let mut whole = [0f64; 101];
    Stream::new(1, "x").fill_normal(&mut whole);
    let mut chunked = [0f32; 101];
    let mut stream = Stream::new(1, "x");
    for chunk in chunked.chunks_mut(7) {
        stream.fill_normal(chunk);
    }
    for (wide, narrow) in whole.iter().zip(chunked) {
        close(f64::from(narrow), *wide, wide.abs() * 1e-7);
    }
}

#[test]
fn uniform_values() {
    const COUNT: usize = 100_000;
    let mut values = vec![0f32; COUNT];
    Stream::new(3, "uniform").fill_uniform(&mut values);
    assert!(values.iter().all(|x| (0.0..1.0).contains(x)));
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / COUNT as f64;
    close(mean, 0.5, 6.0 * (1.0 / 12.0 / COUNT as f64).sqrt());
    let mut stream = Stream::new(3, "below");
    let mut counts = [0usize; 7];
    for _ in 0..COUNT {
        counts[usize::try_from(stream.next_below(7)).unwrap()] += 1;
    }
    for count in counts {
        close(count as f64, COUNT as f64 / 7.0, 6.0 * (COUNT as f64 * 6.0 / 49.0).sqrt());
    }
    assert_eq!((stream.next_below(0), stream.next_below(1)), (0, 0));
    assert!((0..100).all(|_| stream.next_below(u64::MAX) < u64::MAX));
}
