//! Batch norm, folded into the layer before it.

use crate::Error;
use alloc::vec::Vec;
use num_traits::Float;

/// `y = γ·(x - μ) / √(v + ε) + β` per channel, with the statistics of training.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BatchNorm<'a> {
    /// γ.
    pub gamma: &'a [f32],
    /// β.
    pub beta: &'a [f32],
    /// μ.
    pub mean: &'a [f32],
    /// v, not its root.
    pub variance: &'a [f32],
    /// ε, above 0 or with variances above 0.
    pub epsilon: f32,
}

impl BatchNorm<'_> {
    /// The layer's weights and bias with the batch norm in them, computed in f64.
    ///
    /// ```text
    /// w'[o, ·] = w[o, ·]·γ/σ,   b' = β + (b - μ)·γ/σ,   σ = √(v + ε)
    /// ```
    /// `weight` is `[channels, anything]`, row-major; without a bias pass an empty one.
    ///
    /// # Errors
    /// [`Error::ElementCount`] when the lengths do not fit one number of channels, [`Error::InvalidOption`] for a
    /// `v + ε` that is not positive, [`Error::StoredNonFinite`] when a folded weight or bias is not finite.
    pub fn fold(&self, weight: &[f32], bias: &[f32]) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let channels = self.gamma.len();
        let check = |what, found, expected| match found == expected {
            true => Ok(()),
            false => Err(Error::ElementCount { what, expected, found }),
        };
        check("beta", self.beta.len(), channels)?;
        check("mean", self.mean.len(), channels)?;
        check("variance", self.variance.len(), channels)?;
        check("bias", bias.len(), if bias.is_empty() { 0 } else { channels })?;
        let per_channel = weight.len().checked_div(channels).unwrap_or(0);
        check("weight", weight.len(), per_channel * channels)?;
        let (mut weights, mut biases) = (Vec::with_capacity(weight.len()), Vec::with_capacity(channels));
        for channel in 0..channels {
            let variance = f64::from(self.variance[channel]) + f64::from(self.epsilon);
            if variance.is_nan() || variance <= 0.0 {
                let requirement = "positive in every channel";
                return Err(Error::InvalidOption {
                    what: "variance + epsilon",
                    requirement,
                    found: variance,
                });
            }
            let factor = f64::from(self.gamma[channel]) / Float::sqrt(variance);
            let shifted =
                f64::from(bias.get(channel).copied().unwrap_or(0.0)) - f64::from(self.mean[channel]);
            biases.push(crate::float::narrow(f64::from(self.beta[channel]) + shifted * factor));
            let row = &weight[channel * per_channel..(channel + 1) * per_channel];
            weights.extend(row.iter().map(|&w| crate::float::narrow(f64::from(w) * factor)));
        }
        for (what, values) in [("folded weight", &weights), ("folded bias", &biases)] {
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(Error::StoredNonFinite { what, index });
            }
        }
        Ok((weights, biases))
    }
}
