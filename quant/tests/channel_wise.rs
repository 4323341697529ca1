//! The reparameterised LayerNorm: the same layer, and one scale that gives the codes of many.

use proptest::prelude::*;
use rankbit_linalg::Stream;
use rankbit_quant::Error;
use rankbit_quant::activation::channel_wise::{ChannelWise, Reparameterized};

const TOKENS: usize = 40;

struct Layer {
    /// What the norm hands on before gain and shift.
    normed: Vec<f32>,
    gain: Vec<f32>,
    shift: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Layer {
    /// Channels of very different size and position, as behind a vision transformer's norms.
    fn new(channels: usize, out: usize, seed: u64) -> Self {
        let mut stream = Stream::new(seed, "layer norm");
        let mut normal = |count: usize, scale: f32| {
            let mut values = vec![0.0; count];
            stream.fill_normal(&mut values);
            values.iter_mut().for_each(|v| *v *= scale);
            values
        };
        let gain = normal(channels, 1.0).iter().map(|g| (1.5 * g).exp()).collect();
        Self {
            normed: normal(TOKENS * channels, 1.0),
            gain,
            shift: normal(channels, 0.7),
            weight: normal(out * channels, 0.1),
            bias: normal(out, 0.5),
        }
    }

    /// The norm's output under a gain and a shift, in f64.
    fn output(&self, gain: &[f32], shift: &[f32]) -> Vec<f64> {
        let channels = gain.len();
        self.normed
            .iter()
            .enumerate()
            .map(|(i, x)| f64::from(*x) * f64::from(gain[i % channels]) + f64::from(shift[i % channels]))
            .collect()
    }

    fn sample(&self) -> Vec<f32> {
        let channels = self.gain.len();
        self.normed
            .iter()
            .enumerate()
            .map(|(i, x)| x * self.gain[i % channels] + self.shift[i % channels])
            .collect()
    }
}

/// `W·x + b` of each token, and the sizes of its terms.
fn apply(x: &[f64], weight: &[f32], bias: &[f32]) -> Vec<(f64, f64)> {
    let channels = weight.len() / bias.len();
    x.chunks_exact(channels)
        .flat_map(|x| {
            weight.chunks_exact(channels).zip(bias).map(|(w, b)| {
                x.iter().zip(w).fold((f64::from(*b), f64::from(b.abs())), |(sum, size), (x, w)| {
                    let term = x * f64::from(*w);
                    (sum + term, size + term.abs())
                })
            })
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `W'·x' + b' = W·x + b` and `x'/s̃ + z̃ = x/s + z`, up to the f32 in which γ', β', W', b' and s̃ are stored.
    #[test]
    fn both_identities(channels in 1..40_usize, out in 1..12_usize, seed in 0..10_000_u64, bits in 2_u8..=8, percentile in 0.6..=1.0) {
        let layer = Layer::new(channels, out, seed);
        let quantizer = ChannelWise::from_sample(&layer.sample(), (TOKENS, channels), bits, percentile).unwrap();
        let Reparameterized { gain, shift, weight, bias, scale, zero_point } =
            quantizer.reparameterize(&layer.gain, &layer.shift, &layer.weight, &layer.bias).unwrap();
        prop_assert_eq!((scale, zero_point), quantizer.tensor_wise());
        let (x, moved) = (layer.output(&layer.gain, &layer.shift), layer.output(&gain, &shift));
        let (y, same) = (apply(&x, &layer.weight, &layer.bias), apply(&moved, &weight, &bias));
        for ((a, size_a), (b, size_b)) in y.iter().zip(&same) {
            // b' holds the difference of two sums of up to this size.
            let steps: f64 = (0..channels).map(|j| quantizer.scales()[j] * 256.0 * 0.5).sum();
            let allowed = 4.0 * f64::from(f32::EPSILON) * (size_a + size_b + steps);
            prop_assert!((a - b).abs() <= allowed, "{a} became {b}");
        }
        let mut equal = 0;
        let mut codes = vec![0; channels];
        let sample = layer.sample();
        for (t, (x, moved)) in x.chunks_exact(channels).zip(moved.chunks_exact(channels)).enumerate() {
            quantizer.quantize_row(&sample[t * channels..][..channels], &mut codes).unwrap();
            for j in 0..channels {
                let one = moved[j] / f64::from(scale) + f64::from(zero_point);
                let many = x[j] / quantizer.scales()[j] + quantizer.zero_points()[j];
                prop_assert!((one - many).abs() <= 1e-4 * (1.0 + many.abs()), "{one} against {many}");
                let top = f64::from((1_u16 << bits) - 1);
                let code = ((moved[j] / f64::from(scale)).round_ties_even() + f64::from(zero_point)).clamp(0.0, top);
                equal += usize::from(code == f64::from(codes[j]));
            }
        }
        // Only a value beside a tie may fall on its other side.
        prop_assert!(equal * 100 >= TOKENS * channels * 98, "{equal} of {}", TOKENS * channels);
    }

    /// The whole range clips nothing: each entry errs by half a step of its own channel, plus what a rounded zero
    /// point takes at the ends.
    #[test]
    fn half_a_step_of_its_own_channel(channels in 1..30_usize, seed in 0..10_000_u64, bits in 2_u8..=8) {
        let sample = Layer::new(channels, 1, seed).sample();
        let quantizer = ChannelWise::from_sample(&sample, (TOKENS, channels), bits, 1.0).unwrap();
        let mut codes = vec![0; channels];
        for x in sample.chunks_exact(channels) {
            quantizer.quantize_row(x, &mut codes).unwrap();
            for j in 0..channels {
                let (s, z) = (quantizer.scales()[j], quantizer.zero_points()[j]);
                let error = (f64::from(x[j]) - s * (f64::from(codes[j]) - z)).abs();
                prop_assert!(error <= s * (1.0 + 1e-9), "{} became code {}", x[j], codes[j]);
            }
        }
    }
}

/// Channels of different size: one scale on the old output loses what one scale on the new one keeps.
#[test]
fn the_exchange_pays() {
    let (channels, bits) = (64, 4);
    let layer = Layer::new(channels, 8, 3);
    let quantizer = ChannelWise::from_sample(&layer.sample(), (TOKENS, channels), bits, 1.0).unwrap();
    let found = quantizer.reparameterize(&layer.gain, &layer.shift, &layer.weight, &layer.bias).unwrap();
    let exact = apply(&layer.output(&layer.gain, &layer.shift), &layer.weight, &layer.bias);
    let error = |x: &[f64], scale: f64, zero: f64, weight: &[f32], bias: &[f32]| {
        let x: Vec<f64> =
            x.iter().map(|x| ((x / scale).round_ties_even().clamp(-zero, 15.0 - zero)) * scale).collect();
        let y = apply(&x, weight, bias);
        y.iter().zip(&exact).map(|(a, b)| (a.0 - b.0).powi(2)).sum::<f64>().sqrt()
    };
    let x = layer.output(&layer.gain, &layer.shift);
    let (low, high) = x.iter().fold((0.0_f64, 0.0_f64), |(low, high), x| (low.min(*x), high.max(*x)));
    let scale = (high - low) / 15.0;
    let plain = error(&x, scale, (-low / scale).round_ties_even(), &layer.weight, &layer.bias);
    let moved = layer.output(&found.gain, &found.shift);
    let exchanged =
        error(&moved, f64::from(found.scale), f64::from(found.zero_point), &found.weight, &found.bias);
    assert!(exchanged < 0.6 * plain, "{exchanged} against {plain}");
}

/// A percentile leaves out the tails, in each channel by itself.
#[test]
fn clipping_leaves_out_the_tails() {
    // Channel 0: 0 ..= 100; channel 1: the same with one entry far away.
    let sample: Vec<f32> =
        (0..=100_u8).flat_map(|t| [f32::from(t), if t == 100 { 1e6 } else { f32::from(t) }]).collect();
    let scales =
        |percentile| ChannelWise::from_sample(&sample, (101, 2), 8, percentile).unwrap().scales().to_vec();
    assert_eq!(scales(1.0), [100.0 / 255.0, 1e6 / 255.0]);
    assert_eq!(scales(0.95), [95.0 / 255.0, 95.0 / 255.0]);
    // A channel without spread is left as it is.
    let still = ChannelWise::from_sample(&[0.0, 1.0, 0.0, -1.0], (2, 2), 8, 1.0).unwrap();
    assert_eq!(still.scales(), [2.0 / 255.0, 2.0 / 255.0]);
    let none = ChannelWise::from_sample(&[0.0; 4], (2, 2), 8, 1.0).unwrap();
    let same = none.reparameterize(&[2.0, 3.0], &[0.5, 1.0], &[1.0, 2.0], &[4.0]).unwrap();
    assert_eq!(
        (same.gain, same.shift, same.weight, same.bias),
        (vec![2.0, 3.0], vec![0.5, 1.0], vec![1.0, 2.0], vec![4.0])
    );
}

#[test]
fn bad_inputs() {
    let make =
        |sample: &[f32], shape, bits, percentile| ChannelWise::from_sample(sample, shape, bits, percentile);
    for bits in [0, 1, 9, 255] {
        assert!(matches!(make(&[1.0], (1, 1), bits, 1.0), Err(Error::InvalidOption { what: "bits", .. })));
    }
    for percentile in [0.5, 0.0, -1.0, 1.1, f64::NAN, f64::INFINITY] {
        let found = make(&[1.0], (1, 1), 8, percentile);
        assert!(matches!(found, Err(Error::InvalidOption { what: "percentile", .. })), "{percentile}");
    }
    for (len, shape) in [(0, (0, 0)), (0, (0, 3)), (0, (3, 0)), (5, (2, 3)), (4, (usize::MAX, 2))] {
        assert!(
            matches!(make(&vec![1.0; len], shape, 8, 1.0), Err(Error::ShapeMismatch { .. })),
            "{shape:?}"
        );
    }
    let found = make(&[1.0, 2.0, f32::NAN, 3.0], (2, 2), 8, 1.0);
    assert_eq!(found, Err(Error::ActivationNonFinite { token: 1, feature: 0 }));
    let quantizer = make(&[1.0, -2.0, 0.5, 3.0], (2, 2), 8, 1.0).unwrap();
    assert!(quantizer.quantize_row(&[1.0], &mut [0; 2]).is_err());
    assert!(quantizer.quantize_row(&[1.0, 2.0], &mut [0; 1]).is_err());
    let two = [1.0, 1.0];
    for (gain, shift, weight, bias) in [
        (&[1.0][..], &two[..], &two[..], &[0.0][..]),
        (&two, &[1.0], &two, &[0.0]),
        (&two, &two, &[1.0; 3], &[0.0]),
        (&two, &two, &two, &[]),
    ] {
        assert!(matches!(
            quantizer.reparameterize(gain, shift, weight, bias),
            Err(Error::ShapeMismatch { .. })
        ));
    }
    let found = quantizer.reparameterize(&two, &two, &[1.0, f32::INFINITY], &[0.0]);
    assert_eq!(found, Err(Error::StoredNonFinite { what: "weight", index: 1 }));
    let found = quantizer.reparameterize(&[f32::NAN, 1.0], &two, &two, &[0.0]);
    assert_eq!(found, Err(Error::StoredNonFinite { what: "gain", index: 0 }));
}
