//! The layer that the examples time, made from the words `TOKENS OUT IN FORMAT RANK INPUTS COUNT`.

use rankbit_linalg::Stream;
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::{Factor, LowRank, Split};
use rankbit_quant::{Activation, FloatFormat, Group, Quantized, Rounder, Scheme, quantize};
use std::error::Error;

/// A random layer and its inputs.
pub(crate) struct Layer {
    shape: (usize, usize),
    base: Quantized,
    low_rank: Option<LowRank>,
    activation: Activation,
    /// The inputs, `[tokens, in]`.
    pub(crate) x: Mat<f32>,
    /// The last word: runs or rounds.
    pub(crate) count: usize,
}

impl Layer {
    /// From the program's arguments; the format's own groups, INPUTS `float`, `int8` or `int4` (per group of 64).
    pub(crate) fn from_arguments() -> Result<Self, Box<dyn Error>> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let [tokens, out, features, format, rank, inputs, count] = words.as_slice() else {
            return Err("TOKENS OUT IN FORMAT RANK INPUTS COUNT".into());
        };
        let (tokens, out, features): (usize, usize, usize) =
            (tokens.parse()?, out.parse()?, features.parse()?);
        let (rank, count): (usize, usize) = (rank.parse()?, count.parse()?);
        let scheme = Scheme::named(format).ok_or("no such format")?;
        let activation = match inputs.as_str() {
            "float" => Activation::Float,
            "int8" => Activation::integer(8, Group::Size(64)),
            "int4" => Activation::INT4,
            _ => return Err("inputs are float, int8 or int4".into()),
        };
        let mut random = Stream::new(0, "layer");
        let mut normal = |rows: usize, cols: usize| {
            let mut values = vec![0.0_f32; rows * cols];
            random.fill_normal(&mut values);
            Mat::from_fn(rows, cols, |i, j| values[i * cols + j])
        };
        let base = quantize(normal(out, features).as_ref(), &scheme, Rounder::Nearest)?.quantized;
        let mut factor = |rows, cols| Factor::encode(normal(rows, cols).as_ref(), FloatFormat::F16).0;
        let low_rank =
            if rank == 0 { None } else { Some(LowRank::new(factor(out, rank), factor(rank, features))?) };
        let x = normal(tokens, features);
        Ok(Self { shape: (out, features), base, low_rank, activation, x, count })
    }

    /// With its low-rank term, where RANK is not 0, or without.
    pub(crate) fn split(&self, whole: bool) -> Result<Split, Box<dyn Error>> {
        let low_rank = self.low_rank.clone().filter(|_| whole);
        Ok(Split::new(self.shape, None, Some(self.base.clone()), low_rank)?
            .with_activation(self.activation)?)
    }
}
