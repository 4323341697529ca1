//! Ways to train a sparse network: the same loop, and what a schedule of the library changes in it.

use super::data::Digits;
use super::network::{Adam, Network};
use rankbit_linalg::Stream;
use rankbit_linalg::faer::Mat;
use rankbit_sparse::schedule::{MaskDecay, SrSte, StructureDecay, magnitude_mask};
use rankbit_sparse::{Error, Mask, NmPattern, Pattern};

/// How the first layers come to be sparse.
pub(crate) enum Recipe {
    /// Not at all.
    Dense,
    /// Dense training, then the largest weights of each group.
    OneShot,
    /// A mask from the first step on.
    SrSte(SrSte),
    /// A mask that fades in.
    MaskDecay(MaskDecay),
    /// Sparser and sparser masks; the gradient passes straight through.
    StructureDecay(StructureDecay),
}

/// The loop's numbers.
#[derive(Clone, Copy)]
pub(crate) struct Training {
    /// What the first two layers are to have.
    pub(crate) pattern: NmPattern,
    /// Steps of 50 images.
    pub(crate) steps: u64,
    /// Adam's rate at the start; it falls to 0 as a cosine.
    pub(crate) rate: f32,
    /// Of weights and batches.
    pub(crate) seed: u64,
}

/// What came of it.
pub(crate) struct Outcome {
    /// On the images for tests, with the sparse weights.
    pub(crate) accuracy: f64,
    /// Part of the first layer's weights that counted fully, at every step.
    pub(crate) densities: Vec<f64>,
    /// The masks of the sparse layers, in the end.
    pub(crate) masks: Vec<Mask>,
}

const BATCH: usize = 50;
const WIDTHS: [usize; 4] = [64, 128, 128, 10];
/// The first so many layers become sparse.
const SPARSE: usize = 2;

/// Trains on `train`, measures on `test`.
pub(crate) fn run(
    recipe: &Recipe,
    training: &Training,
    (train, test): (&Digits, &Digits),
) -> Result<Outcome, Error> {
    let mut stream = Stream::new(training.seed, "digits");
    let mut network = Network::new(&WIDTHS, &mut stream);
    let mut adam = Adam::new(&network);
    let mut order: Vec<usize> = (0..train.labels.len()).collect();
    let mut densities = Vec::new();
    for step in 0..training.steps {
        let batches = (order.len() / BATCH) as u64;
        let at = usize::try_from(step % batches).unwrap_or(0) * BATCH;
        if at == 0 {
            shuffle(&mut order, &mut stream);
        }
        let chosen = &order[at..at + BATCH];
        let x = Mat::from_fn(BATCH, WIDTHS[0], |t, j| train.pixels[(chosen[t], j)]);
        let labels: Vec<usize> = chosen.iter().map(|&image| train.labels[image]).collect();

        let mut used = network.clone();
        let mut masks = Vec::new();
        for (used, layer) in used.layers.iter_mut().zip(&network.layers).take(SPARSE) {
            let (mask, weight) = recipe.forward(training, &layer.weight, step)?;
            used.weight = weight;
            masks.push(mask);
        }
        densities.push(masks.first().map_or(1.0, Mask::density));
        let mut gradient = used.gradient(x.as_ref(), &labels);
        for ((gradient, layer), mask) in gradient.layers.iter_mut().zip(&network.layers).zip(&masks) {
            gradient.weight = recipe.gradient(&layer.weight, mask, &gradient.weight, step)?;
        }
        let done = step as f32 / training.steps as f32;
        let rate = training.rate * 0.5 * (1.0 + (core::f32::consts::PI * done).cos());
        adam.step(&mut network, &mut gradient, rate);
    }
    let mut masks = Vec::new();
    if !matches!(recipe, Recipe::Dense) {
        for layer in network.layers.iter_mut().take(SPARSE) {
            let mask = magnitude_mask(layer.weight.as_ref(), &Pattern::Nm(training.pattern))?;
            layer.weight = mask.apply(layer.weight.as_ref())?;
            masks.push(mask);
        }
    }
    let accuracy = network.accuracy(test.pixels.as_ref(), &test.labels);
    Ok(Outcome { accuracy, densities, masks })
}

impl Recipe {
    /// The entries that count fully and the weight of the forward pass.
    fn forward(&self, training: &Training, weight: &Mat<f32>, step: u64) -> Result<(Mask, Mat<f32>), Error> {
        let all = || Mask::from_fn(weight.shape(), |_, _| true);
        match self {
            Self::Dense | Self::OneShot => Ok((all(), weight.clone())),
            Self::SrSte(rule) => rule.forward(weight.as_ref()),
            Self::MaskDecay(rule) => {
                let mask = magnitude_mask(weight.as_ref(), &Pattern::Nm(training.pattern))?;
                let faded = rule.forward(weight.as_ref(), &mask, step)?;
                Ok(if rule.factor(step) < 1.0 { (mask, faded) } else { (all(), faded) })
            }
            Self::StructureDecay(rule) => match rule.pattern(step) {
                None => Ok((all(), weight.clone())),
                Some(pattern) => SrSte::new(pattern, 0.0)?.forward(weight.as_ref()),
            },
        }
    }

    /// The gradient that the optimizer gets.
    fn gradient(
        &self,
        weight: &Mat<f32>,
        mask: &Mask,
        gradient: &Mat<f32>,
        step: u64,
    ) -> Result<Mat<f32>, Error> {
        match self {
            Self::Dense | Self::OneShot | Self::StructureDecay(_) => Ok(gradient.clone()),
            Self::SrSte(rule) => rule.gradient(weight.as_ref(), mask, gradient.as_ref()),
            Self::MaskDecay(rule) => rule.gradient(gradient.as_ref(), mask, step),
        }
    }
}

fn shuffle(order: &mut [usize], stream: &mut Stream) {
    for last in (1..order.len()).rev() {
        let other = usize::try_from(stream.next_below(last as u64 + 1)).unwrap_or(last);
        order.swap(last, other);
    }
}
