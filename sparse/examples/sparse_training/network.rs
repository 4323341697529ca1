//! A network of three linear layers, its gradient by hand, and Adam.

use rankbit_linalg::Stream;
use rankbit_linalg::faer::{Mat, MatRef};

/// `Y = X·Wᵀ + b`.
#[derive(Clone)]
pub(crate) struct Layer {
    /// `[out, in]`.
    pub(crate) weight: Mat<f32>,
    /// `[1, out]`.
    pub(crate) bias: Mat<f32>,
}

/// Layers with ReLU between them, ten classes at the end.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) layers: Vec<Layer>,
}

impl Network {
    /// Random weights of variance 2/in (He), for layers between these widths.
    pub(crate) fn new(widths: &[usize], stream: &mut Stream) -> Self {
        let layer = |pair: &[usize]| {
            let mut values = vec![0.0; pair[0] * pair[1]];
            stream.fill_normal(&mut values);
            let scale = (2.0 / pair[0] as f32).sqrt();
            Layer {
                weight: Mat::from_fn(pair[1], pair[0], |i, j| values[i * pair[0] + j] * scale),
                bias: Mat::zeros(1, pair[1]),
            }
        };
        Self { layers: widths.windows(2).map(layer).collect() }
    }

    /// What goes into every layer, then the logits.
    fn forward(&self, x: MatRef<'_, f32>) -> Vec<Mat<f32>> {
        let mut values = vec![x.to_owned()];
        for (k, layer) in self.layers.iter().enumerate() {
            let mut y = &values[k] * layer.weight.transpose();
            for (j, column) in y.col_iter_mut().enumerate() {
                let last = k + 1 == self.layers.len();
                column.iter_mut().for_each(|y| {
                    *y += layer.bias[(0, j)];
                    *y = if last { *y } else { y.max(0.0) };
                });
            }
            values.push(y);
        }
        values
    }

    /// The gradient of the mean cross entropy for these images: as many matrices as the network has.
    pub(crate) fn gradient(&self, x: MatRef<'_, f32>, labels: &[usize]) -> Self {
        let values = self.forward(x);
        let logits = &values[self.layers.len()];
        let mut back = Mat::zeros(logits.nrows(), logits.ncols());
        for (t, &label) in labels.iter().enumerate() {
            let top = logits.row(t).iter().fold(f32::NEG_INFINITY, |m, y| m.max(*y));
            let total: f32 = logits.row(t).iter().map(|y| (y - top).exp()).sum();
            for j in 0..logits.ncols() {
                let share = (logits[(t, j)] - top).exp() / total;
                back[(t, j)] = (share - f32::from(u8::from(j == label))) / labels.len() as f32;
            }
        }
        let mut layers = Vec::new();
        for (k, layer) in self.layers.iter().enumerate().rev() {
            let weight = back.transpose() * &values[k];
            let bias = Mat::from_fn(1, back.ncols(), |_, j| back.col(j).iter().sum());
            let mut next = &back * &layer.weight;
            for (next, value) in next.col_iter_mut().zip(values[k].col_iter()) {
                next.iter_mut().zip(value.iter()).filter(|(_, v)| **v <= 0.0).for_each(|(n, _)| *n = 0.0);
            }
            layers.push(Layer { weight, bias });
            back = next;
        }
        layers.reverse();
        Self { layers }
    }

    /// The part of the images that it classifies right.
    pub(crate) fn accuracy(&self, x: MatRef<'_, f32>, labels: &[usize]) -> f64 {
        let values = self.forward(x);
        let logits = &values[self.layers.len()];
        let class = |t: usize| (0..logits.ncols()).max_by(|&a, &b| logits[(t, a)].total_cmp(&logits[(t, b)]));
        let right = labels.iter().enumerate().filter(|&(t, label)| class(t) == Some(*label)).count();
        right as f64 / labels.len() as f64
    }

    /// Its matrices.
    fn parts(&mut self) -> impl Iterator<Item = &mut Mat<f32>> {
        self.layers.iter_mut().flat_map(|layer| [&mut layer.weight, &mut layer.bias])
    }
}

/// Adam (Kingma & Ba 2015) with β = 0.9 and 0.999.
pub(crate) struct Adam {
    first: Network,
    second: Network,
    steps: i32,
}

impl Adam {
    /// Nothing seen yet.
    pub(crate) fn new(network: &Network) -> Self {
        let mut zeros = network.clone();
        zeros.parts().for_each(|part| part.fill(0.0));
        Self { first: zeros.clone(), second: zeros, steps: 0 }
    }

    /// Moves `network` against `gradient`.
    pub(crate) fn step(&mut self, network: &mut Network, gradient: &mut Network, rate: f32) {
        self.steps += 1;
        let corrections = (1.0 - 0.9_f32.powi(self.steps), 1.0 - 0.999_f32.powi(self.steps));
        let states = self.first.parts().zip(self.second.parts());
        for ((weight, gradient), (first, second)) in network.parts().zip(gradient.parts()).zip(states) {
            for i in 0..weight.nrows() {
                for j in 0..weight.ncols() {
                    let g = gradient[(i, j)];
                    first[(i, j)] = 0.9 * first[(i, j)] + 0.1 * g;
                    second[(i, j)] = 0.999 * second[(i, j)] + 0.001 * g * g;
                    let (m, v) = (first[(i, j)] / corrections.0, second[(i, j)] / corrections.1);
                    weight[(i, j)] -= rate * m / (v.sqrt() + 1e-8);
                }
            }
        }
    }
}
