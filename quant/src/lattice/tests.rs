use super::*;
use crate::simd::Level;
use alloc::vec;
use rankbit_linalg::Stream;

const ALL: [Lattice; 3] = [Lattice::E8p, Lattice::E8p3, Lattice::E8p4];

#[test]
fn errors_on_normal_values() {
    let mut x = vec![0.0_f32; 1 << 18];
    Stream::new(3, "lattice").fill_normal(&mut x);
    let norm: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    for (lattice, expected) in ALL.into_iter().zip([0.3024, 0.1722, 0.0914]) {
        let encoder = Encoder::new(lattice);
        let mut bytes = vec![0; x.len() / BLOCK * lattice.bits()];
        let mut error = 0.0;
        let mut points = Vec::new();
        for (x, bytes) in x.chunks_exact(BLOCK).zip(bytes.chunks_exact_mut(lattice.bits())) {
            let point = encoder.encode(x.try_into().unwrap(), bytes);
            error += x.iter().zip(&point).map(|(x, p)| f64::from(x - p).powi(2)).sum::<f64>();
            points.extend(point);
        }
        let relative = (error / norm).sqrt();
        assert!((relative / expected - 1.0).abs() < 0.005, "{lattice:?}: {relative}");
        // What was encoded is what is decoded, on every path, whole or cut short.
        for set in Level::ALL.into_iter().filter(|set| set.is_available()) {
            let decoder = Decoder::new(lattice, set);
            for len in [x.len(), 13, 7, 0] {
                let mut out = vec![f32::NAN; len];
                decoder.values(&bytes, &mut out);
                assert!(out == points[..len], "{lattice:?} {set:?}");
            }
        }
    }
}

#[test]
fn short_points_of_e8() {
    let points = e8::points();
    assert_eq!(points.len(), 256);
    for (code, point) in points.iter().enumerate() {
        assert_eq!(usize::from(e8::nearest(&points, point).0), code);
        let sum: f32 = point.iter().sum();
        let (norm, even) = (point.iter().map(|p| p * p).sum::<f32>(), sum % 2.0 == 0.0);
        assert!(even && [0.0, 2.0, 4.0].contains(&norm), "{point:?}");
    }
    assert_eq!(points.iter().filter(|p| p.iter().map(|p| p * p).sum::<f32>() == 2.0).count(), 240);
}
