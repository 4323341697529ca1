//! The float network, and its calibration.

use super::data::Digits;
use super::network::{Network, Step};
use rankbit_quant::Error;
use rankbit_quant::dyadic::calibrate::{
    BatchNorm, Calibrated, Observed, average_pool, conv2d, linear, requantize, residual,
};
use rankbit_quant::dyadic::cost::Work;
use rankbit_quant::dyadic::{Activation, Conv2d, IntFormat, MaxPool, Window};

/// Output and input channels of the four convolutions.
const CHANNELS: [(usize, usize); 4] = [(16, 1), (16, 16), (16, 16), (32, 16)];
/// Sides of their images.
const SIDES: [usize; 4] = [8, 8, 8, 4];

/// Weights, with every batch norm folded into its convolution.
pub(super) struct Twin {
    convs: Vec<(Vec<f32>, Vec<f32>)>,
    linear: (Vec<f32>, Vec<f32>),
}

/// What is computed for one image, after the ReLUs.
struct Layers {
    first: Vec<f32>,
    second: Vec<f32>,
    sum: Vec<f32>,
    fourth: Vec<f32>,
    mean: Vec<f32>,
    logits: Vec<f32>,
}

impl Twin {
    /// The weights that scripts/digits.py wrote.
    pub(super) fn new() -> Result<Self, Error> {
        let (words, _) = include_bytes!("weights.bin").as_chunks::<4>();
        let floats: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        let mut rest = floats.as_slice();
        let mut take = |count: usize| {
            let (part, tail) = rest.split_at(count);
            rest = tail;
            part
        };
        let mut convs = Vec::new();
        for (out, channels) in CHANNELS {
            let weight = take(out * channels * 9);
            let norm = BatchNorm {
                gamma: take(out),
                beta: take(out),
                mean: take(out),
                variance: take(out),
                epsilon: 1e-5,
            };
            convs.push(norm.fold(weight, &[])?);
        }
        Ok(Self { convs, linear: (take(320).to_vec(), take(10).to_vec()) })
    }

    /// The class of each image, in floats.
    pub(super) fn classify(&self, digits: &Digits) -> Vec<usize> {
        let class = |pixels: &[u8]| {
            let logits = self.layers(pixels).logits;
            (0..10).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0)
        };
        digits.pixels.chunks_exact(64).map(class).collect()
    }

    /// The integer network whose middle layers have weights and inputs of `bits` bits; the first and the last layer
    /// have 8. The ranges of activations are those of `digits`.
    pub(super) fn calibrate(&self, digits: &Digits, bits: u8) -> Result<Network, Error> {
        let mut ranges = [const { Observed::extremes() }; 5];
        for pixels in digits.pixels.chunks_exact(64) {
            let layers = self.layers(pixels);
            let seen = [&layers.first, &layers.second, &layers.sum, &layers.fourth, &layers.mean];
            for (range, values) in ranges.iter_mut().zip(seen) {
                range.see(values)?;
            }
        }
        let pixels = Activation::new(1.0 / 16.0, IntFormat::UINT8)?;
        let [first, second, sum] = [0, 1, 2].map(|i| ranges[i].activation(bits));
        let (first, second, sum) = (first?, second?, sum?);
        let (fourth, mean) = (ranges[3].activation(8)?, ranges[4].activation(8)?);

        let one = self.conv(0, 8, pixels)?;
        let two = self.conv(1, bits, first)?;
        let three = self.conv(2, bits, second)?;
        let four = self.conv(3, bits, sum)?;
        let last = linear((10, 32), &self.linear.0, &self.linear.1, 8, mean)?;
        // The finest of the ten scales: no logit loses a bit.
        let finest = last.scales.iter().copied().fold(f32::INFINITY, f32::min);
        let logits = requantize(&last.scales, Activation::new(finest, IntFormat::INT8)?, false)?;
        let step = |layer: Calibrated<Conv2d>, output| -> Result<Step, Error> {
            Ok(Step { requantize: requantize(&layer.scales, output, true)?, conv: layer.layer })
        };
        Ok(Network {
            steps: [step(one, first)?, step(two, second)?],
            add: residual(&three.scales, &[first.scale()], sum, true)?,
            third: three.layer,
            maximum: MaxPool::new(Window::square(2).with_stride(2))?,
            fourth: step(four, fourth)?,
            average: average_pool(Window::square(4), fourth, mean)?,
            linear: last.layer,
            logits,
        })
    }

    /// Convolution `index` in integers.
    fn conv(&self, index: usize, bits: u8, input: Activation) -> Result<Calibrated<Conv2d>, Error> {
        let ((out, channels), (weight, bias)) = (CHANNELS[index], &self.convs[index]);
        let window = Window::square(3).with_padding(1);
        conv2d([out, channels, 3, 3], weight, bias, window, 1, bits, input)
    }

    /// Everything in floats.
    fn layers(&self, pixels: &[u8]) -> Layers {
        let pixels: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel) / 16.0).collect();
        let relu = |x: Vec<f32>| -> Vec<f32> { x.into_iter().map(|x| x.max(0.0)).collect() };
        let first = relu(self.float_conv(0, &pixels));
        let second = relu(self.float_conv(1, &first));
        let sum = self.float_conv(2, &second).iter().zip(&first).map(|(x, y)| x + y).collect();
        let sum: Vec<f32> = relu(sum);
        let pooled: Vec<f32> = (0..16 * 16)
            .map(|i| {
                let corner = i / 16 * 64 + i % 16 / 4 * 16 + i % 4 * 2;
                [0, 1, 8, 9].iter().map(|step| sum[corner + step]).fold(0.0, f32::max)
            })
            .collect();
        let fourth = relu(self.float_conv(3, &pooled));
        let mean: Vec<f32> = fourth.chunks_exact(16).map(|plane| plane.iter().sum::<f32>() / 16.0).collect();
        let (weight, bias) = &self.linear;
        let logit =
            |(row, bias): (&[f32], &f32)| bias + row.iter().zip(&mean).map(|(w, x)| w * x).sum::<f32>();
        let logits = weight.chunks_exact(32).zip(bias).map(logit).collect();
        Layers { first, second, sum, fourth, mean, logits }
    }

    /// Convolution `index` in floats: 3 × 3 with a border of zeros.
    fn float_conv(&self, index: usize, x: &[f32]) -> Vec<f32> {
        let ((out, channels), side, (weight, bias)) = (CHANNELS[index], SIDES[index], &self.convs[index]);
        let mut y: Vec<f32> = bias.iter().flat_map(|&bias| vec![bias; side * side]).collect();
        let (wide, mut padded) = (side + 2, vec![0.0; channels * (side + 2) * (side + 2)]);
        for (i, row) in x.chunks_exact(side).enumerate() {
            let at = (i / side * wide + i % side + 1) * wide + 1;
            padded[at..at + side].copy_from_slice(row);
        }
        for (o, c) in (0..out).flat_map(|o| (0..channels).map(move |c| (o, c))) {
            for (k, &w) in weight[(o * channels + c) * 9..(o * channels + c + 1) * 9].iter().enumerate() {
                for (row, y) in y[o * side * side..(o + 1) * side * side].chunks_exact_mut(side).enumerate() {
                    let at = (c * wide + row + k / 3) * wide + k % 3;
                    for (y, x) in y.iter_mut().zip(&padded[at..at + side]) {
                        *y += w * x;
                    }
                }
            }
        }
        y
    }
}

/// Multiply-accumulate operations and weights of the five layers for one image.
pub(super) fn work() -> Result<Vec<Work>, Error> {
    let conv = |(&(out, channels), &side): (&(usize, usize), &usize)| {
        Work::conv2d([out as u64, channels as u64, 3, 3], (side as u64, side as u64))
    };
    CHANNELS.iter().zip(&SIDES).map(conv).chain([Work::linear((10, 32), 1)]).collect()
}
