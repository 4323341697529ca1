//! The network after calibration. Floats are forbidden in this file.
#![forbid(clippy::float_arithmetic, clippy::disallowed_types, unsafe_code)]

use rankbit_quant::Error;
use rankbit_quant::dyadic::{
    AveragePool, Conv2d, IntFormat, Linear, MaxPool, Requantize, Residual, Sums, Tensor,
};

/// A convolution and the way back to codes.
pub(super) struct Step {
    /// Codes to sums.
    pub(super) conv: Conv2d,
    /// Sums to codes, with the ReLU.
    pub(super) requantize: Requantize,
}

impl Step {
    fn apply(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.requantize.apply(&self.conv.apply(x)?)
    }
}

/// Two convolutions, a third that the first one's output is added to, pooling, a fourth, the mean, a linear layer.
pub(super) struct Network {
    /// The first two.
    pub(super) steps: [Step; 2],
    /// The third.
    pub(super) third: Conv2d,
    /// Its sums and the first one's codes, with the ReLU.
    pub(super) add: Residual,
    /// 2 × 2.
    pub(super) maximum: MaxPool,
    /// The fourth.
    pub(super) fourth: Step,
    /// 4 × 4.
    pub(super) average: AveragePool,
    /// To ten classes.
    pub(super) linear: Linear,
    /// To one scale for all ten.
    pub(super) logits: Requantize,
}

impl Network {
    /// The class of each image of 64 pixels.
    pub(super) fn classify(&self, pixels: &[u8]) -> Result<Vec<usize>, Error> {
        let pixels: Vec<i32> = pixels.iter().map(|&pixel| pixel.into()).collect();
        let x = Tensor::new([pixels.len() / 64, 1, 8, 8], IntFormat::UINT8, &pixels)?;
        let first = self.steps[0].apply(&x)?;
        let second = self.steps[1].apply(&first)?;
        let sum = self.add.apply(&self.third.apply(&second)?, &Sums::from(&first))?;
        let fourth = self.fourth.apply(&self.maximum.apply(&sum)?)?;
        let logits = self.logits.apply_wide(&self.linear.apply(&self.average.apply(&fourth)?)?)?;
        let largest = |logits: &[i64]| (0..logits.len()).max_by_key(|&class| logits[class]).unwrap_or(0);
        Ok(logits.to_i64().chunks_exact(10).map(largest).collect())
    }

    /// The largest magnitude that any of its sums can reach.
    pub(super) fn bound(&self) -> u64 {
        let convs = [&self.steps[0].conv, &self.steps[1].conv, &self.third, &self.fourth.conv];
        convs.map(Conv2d::bound).into_iter().fold(self.linear.bound(), u64::max)
    }
}
