//! Relevance: how much each layer contributes to an output, by layer-wise propagation from the output back.
//!
//! ```text
//! R_j = Σ_k z_jk / (Σ_j' z_j'k) · R_k,     z_jk = a_j·w_kj        Σ_j R_j = Σ_k R_k
//! ```
//!
//! Every rule conserves the sum. Layers whose inputs carry more relevance matter more; LRP-QViT (arXiv 2401.11243) gives
//! them more bits, see [`Loss::Relevance`](super::Loss::Relevance). The caller walks its own network backwards with
//! [`linear`], [`product`] and [`residual`], or describes it as a list of [`Layer`]s for [`contributions`].
//!
//! Sources: S. Bach et al., *On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
//! propagation* (2015); H. Chefer, S. Gur, L. Wolf, *Transformer interpretability beyond attention visualization*,
//! arXiv 2012.09838, section 3 (products and skip connections). Choices where these leave room: a bias takes no
//! relevance, and an output that nothing contributes to spreads its own evenly, so that sums are kept.

use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatRef};

use crate::Error;

/// Which contributions share an output's relevance.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rule {
    /// All of them, the sum kept away from 0 by this fraction of the sum of magnitudes; what the stabilizer would
    /// swallow is given back by magnitude. 0 to 1; 0.01 is usual.
    Epsilon(f64),
    /// The positive ones alone.
    Positive,
}

/// A layer of a chain, as [`contributions`] walks it.
#[derive(Clone, Debug)]
pub enum Layer<'a> {
    /// `Y = X·Wᵀ + b`; gets a score.
    Linear {
        /// `[out, in]`.
        weight: MatRef<'a, f32>,
        /// One value an output; empty for none.
        bias: &'a [f32],
    },
    /// A function of each value, through which relevance passes unchanged.
    Elementwise(fn(f64) -> f64),
    /// `Y = X + f(X)`, with f the layers inside, which get scores too.
    Residual(Vec<Layer<'a>>),
}

/// Relevance of the inputs of a linear layer.
///
/// `inputs: [tokens, in]`, `weight: [out, in]`, `relevance: [tokens, out]` of its outputs. O(tokens·out·in).
///
/// # Errors
/// [`Error::ShapeMismatch`]; [`Error::Linalg`] for an ε outside 0 to 1, or a value that is not finite.
pub fn linear(
    inputs: MatRef<'_, f64>,
    weight: MatRef<'_, f32>,
    relevance: MatRef<'_, f64>,
    rule: Rule,
) -> Result<Mat<f64>, Error> {
    check_rule(rule)?;
    expect("inputs", (relevance.nrows(), weight.ncols()), inputs.shape())?;
    expect("relevance", (inputs.nrows(), weight.nrows()), relevance.shape())?;
    let mut found = Mat::zeros(inputs.nrows(), inputs.ncols());
    let mut shares = vec![0.0; inputs.ncols()];
    for t in 0..inputs.nrows() {
        for k in 0..weight.nrows() {
            for (share, (a, w)) in shares.iter_mut().zip(inputs.row(t).iter().zip(weight.row(k).iter())) {
                *share = a * f64::from(*w);
            }
            spread(&mut shares, relevance[(t, k)], rule);
            for (sum, share) in found.row_mut(t).iter_mut().zip(&shares) {
                *sum += share;
            }
        }
    }
    finite("relevance", found)
}

/// Relevance of both factors of `C = A·B`, `a: [m, k]`, `b: [k, n]`, `relevance: [m, n]`: each factor gets half of what
/// the rule gives it, so that both together carry the product's. For attention's `Q·Kᵀ` and `P·V`.
///
/// # Errors
/// As [`linear`].
pub fn product(
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    relevance: MatRef<'_, f64>,
    rule: Rule,
) -> Result<(Mat<f64>, Mat<f64>), Error> {
    check_rule(rule)?;
    expect("second factor", (a.ncols(), relevance.ncols()), b.shape())?;
    expect("relevance", (a.nrows(), b.ncols()), relevance.shape())?;
    let (mut to_a, mut to_b) = (Mat::zeros(a.nrows(), a.ncols()), Mat::zeros(b.nrows(), b.ncols()));
    let mut shares = vec![0.0; a.ncols()];
    for i in 0..a.nrows() {
        for j in 0..b.ncols() {
            for (share, (a, b)) in shares.iter_mut().zip(a.row(i).iter().zip(b.col(j).iter())) {
                *share = a * b;
            }
            spread(&mut shares, relevance[(i, j)] / 2.0, rule);
            for (k, share) in shares.iter().enumerate() {
                to_a[(i, k)] += share;
                to_b[(k, j)] += share;
            }
        }
    }
    Ok((finite("relevance", to_a)?, finite("relevance", to_b)?))
}

/// Relevance of both sides of `Y = A + B`, each entry split as |a| : |b|, evenly where both are 0.
///
/// # Errors
/// [`Error::ShapeMismatch`]; [`Error::Linalg`] for a value that is not finite.
pub fn residual(
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
    relevance: MatRef<'_, f64>,
) -> Result<(Mat<f64>, Mat<f64>), Error> {
    expect("second term", a.shape(), b.shape())?;
    expect("relevance", a.shape(), relevance.shape())?;
    let share = Mat::from_fn(a.nrows(), a.ncols(), |i, j| {
        // Halved first, so that the sum of magnitudes cannot overflow.
        let (x, y) = (a[(i, j)].abs() / 2.0, b[(i, j)].abs() / 2.0);
        let part = if x + y == 0.0 { 0.5 } else { x / (x + y) };
        part * relevance[(i, j)]
    });
    let rest = Mat::from_fn(a.nrows(), a.ncols(), |i, j| relevance[(i, j)] - share[(i, j)]);
    Ok((finite("relevance", share)?, finite("relevance", rest)?))
}

/// Contribution score of every linear layer, in order, residual branches as they come.
///
/// 1. Forward: `inputs: [tokens, in]` through the layers.
/// 2. The last output's relevance is its value at `target` in every token, 0 elsewhere.
/// 3. Backward by the rules; a layer's score is the positive relevance of its inputs.
/// 4. Scores are divided by their mean, so that a uniform network has ones.
///
/// # Errors
/// [`Error::ShapeMismatch`] where layers do not fit each other or there is no output `target`; those of [`linear`].
pub fn contributions(
    layers: &[Layer<'_>],
    inputs: MatRef<'_, f64>,
    target: usize,
    rule: Rule,
) -> Result<Vec<f64>, Error> {
    let steps = forward(layers, inputs.to_owned())?;
    let output = steps.last().map_or(inputs, |step| step.output.as_ref());
    if target >= output.ncols() {
        let (expected, found) = (output.shape(), (output.nrows(), target.saturating_add(1)));
        return Err(Error::ShapeMismatch { what: "target", expected, found });
    }
    let relevance =
        Mat::from_fn(output.nrows(), output.ncols(), |t, k| if k == target { output[(t, k)] } else { 0.0 });
    let mut scores = Vec::new();
    backward(layers, inputs, &steps, relevance, rule, &mut scores)?;
    scores.reverse();
    let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    if mean > 0.0 {
        scores.iter_mut().for_each(|score| *score /= mean);
    }
    Ok(scores)
}

/// What a layer gave.
struct Step {
    /// Steps of its residual branch.
    inner: Vec<Step>,
    output: Mat<f64>,
}

fn forward(layers: &[Layer<'_>], inputs: Mat<f64>) -> Result<Vec<Step>, Error> {
    let mut steps: Vec<Step> = Vec::with_capacity(layers.len());
    for layer in layers {
        let x = steps.last().map_or(inputs.as_ref(), |step| step.output.as_ref());
        let step = match layer {
            Layer::Linear { weight, bias } => {
                expect("inputs", (x.nrows(), weight.ncols()), x.shape())?;
                if !bias.is_empty() {
                    expect("bias", (1, weight.nrows()), (1, bias.len()))?;
                }
                let output = Mat::from_fn(x.nrows(), weight.nrows(), |t, k| {
                    let products = x.row(t).iter().zip(weight.row(k).iter()).map(|(a, w)| a * f64::from(*w));
                    products.sum::<f64>() + bias.get(k).copied().map_or(0.0, f64::from)
                });
                Step { inner: Vec::new(), output }
            }
            Layer::Elementwise(f) => {
                let output = Mat::from_fn(x.nrows(), x.ncols(), |t, k| f(x[(t, k)]));
                Step { inner: Vec::new(), output }
            }
            Layer::Residual(inner) => {
                let inner = forward(inner, x.to_owned())?;
                let branch = inner.last().map_or(x, |step| step.output.as_ref());
                expect("residual branch", x.shape(), branch.shape())?;
                let output = x + branch;
                Step { inner, output }
            }
        };
        steps.push(Step { output: finite("activation", step.output)?, ..step });
    }
    Ok(steps)
}

/// Relevance of `inputs`; scores are appended from the last layer to the first.
fn backward(
    layers: &[Layer<'_>],
    inputs: MatRef<'_, f64>,
    steps: &[Step],
    mut relevance: Mat<f64>,
    rule: Rule,
    scores: &mut Vec<f64>,
) -> Result<Mat<f64>, Error> {
    for (i, (layer, Step { inner, .. })) in layers.iter().zip(steps).enumerate().rev() {
        let before = i.checked_sub(1).and_then(|i| steps.get(i));
        let x = before.map_or(inputs, |step| step.output.as_ref());
        relevance = match layer {
            Layer::Elementwise(_) => relevance,
            Layer::Linear { weight, .. } => {
                let found = linear(x, *weight, relevance.as_ref(), rule)?;
                scores.push(found.col_iter().flat_map(|col| col.iter()).map(|r| r.max(0.0)).sum());
                found
            }
            Layer::Residual(layers) => {
                let branch = inner.last().map_or(x, |step| step.output.as_ref());
                let (past, through) = residual(x, branch, relevance.as_ref())?;
                past + backward(layers, x, inner, through, rule, scores)?
            }
        };
    }
    Ok(relevance)
}

/// Turns contributions into their shares of `relevance`, whose sum is `relevance`.
fn spread(shares: &mut [f64], relevance: f64, rule: Rule) {
    if rule == Rule::Positive {
        shares.iter_mut().for_each(|share| *share = share.max(0.0));
    }
    let sum: f64 = shares.iter().sum();
    let magnitudes: f64 = shares.iter().map(|share| share.abs()).sum();
    let stabilizer = match rule {
        Rule::Positive => 0.0,
        Rule::Epsilon(epsilon) => epsilon * magnitudes,
    };
    let divisor = sum + if sum < 0.0 { -stabilizer } else { stabilizer };
    if divisor == 0.0 {
        let even = relevance / shares.len().max(1) as f64;
        shares.fill(even);
        return;
    }
    // What the stabilizer holds back.
    let rest = relevance * (1.0 - sum / divisor) / magnitudes;
    shares.iter_mut().for_each(|share| *share = *share / divisor * relevance + rest * share.abs());
}

fn check_rule(rule: Rule) -> Result<(), Error> {
    match rule {
        Rule::Epsilon(found) if !(0.0..=1.0).contains(&found) => {
            let requirement = "from 0 to 1";
            Err(Error::Linalg(rankbit_linalg::Error::InvalidOption { what: "epsilon", requirement, found }))
        }
        _ => Ok(()),
    }
}

fn expect(what: &'static str, expected: (usize, usize), found: (usize, usize)) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
}

/// The matrix itself, or its first value that is not finite.
fn finite(what: &'static str, matrix: Mat<f64>) -> Result<Mat<f64>, Error> {
    for (col, column) in matrix.col_iter().enumerate() {
        if let Some(row) = column.iter().position(|value| !value.is_finite()) {
            return Err(Error::Linalg(rankbit_linalg::Error::NonFinite { what, row, col }));
        }
    }
    Ok(matrix)
}
