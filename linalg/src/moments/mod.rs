//! What calibration knows of a layer's inputs, collected in one pass.
//!
//! For activations `X: [tokens, in]`, with means over all tokens seen:
//!
//! | moment | formula | size |
//! |---|---|---|
//! | `gram` | XᵀX / tokens | in×in, f64 |
//! | `second_moment` | mean of x² | in, f64 |
//! | `absmax` | max of abs(x) | in, f32 |
//! | `mean_abs` | mean of abs(x) | in, f64 |
//! | `mean` | mean of x | in, f64 |
//! | `sample` | rows of X, uniformly chosen | up to `sample`×in, f32 |
//!
//! # Example
//! Which factors of rank 2 lose least of a layer's *output*? Collect the inputs' moments, let them define the
//! metric, and compare with the plain decomposition:
//!
//! ```
//! use rankbit_linalg::faer::{Mat, MatRef};
//! use rankbit_linalg::{Method, MomentKinds, Moments, Stream, truncated, weighted};
//! # fn main() -> Result<(), rankbit_linalg::Error> {
//! let (out, inputs, tokens) = (24, 32, 100);
//! let mut stream = Stream::new(0, "example");
//! let mut file = vec![0f32; out * inputs]; // row-major, as a checkpoint stores it
//! stream.fill_normal(&mut file);
//! let weight = MatRef::from_row_major_slice(&file, out, inputs);
//!
//! // Activations: a few input channels are much louder than the others.
//! let mut moments = Moments::new(inputs, MomentKinds { gram: true, sample: 0 });
//! let x = Mat::from_fn(tokens, inputs, |_, j| stream.next_normal() as f32 * if j % 8 == 0 { 10.0 } else { 1.0 });
//! moments.update(x.as_ref())?; // again for every batch
//!
//! let metric = moments.metric()?;
//! let aware = weighted(weight, 2, &metric.root(1e-6)?, &Method::default())?.product();
//! let plain = truncated(weight, 2)?.reconstruct();
//! let error = |approximation: &Mat<f32>| metric.relative_error((weight - approximation).as_ref(), weight);
//! assert!(error(&aware)? < 0.8 * error(&plain)?);
//! # Ok(())
//! # }
//! ```

mod compensated;
mod shrinkage;

use alloc::vec;
use alloc::vec::Vec;

use faer::{Mat, MatRef};

use crate::metric::{check_finite, check_weights, symmetrize};
use crate::{Error, Metric, Scalar, Stream, dense};

use compensated::Low;
pub use shrinkage::{Shrinkage, Shrunk};

/// Rows converted to f64 at a time.
const PANEL: usize = 256;

/// Which of the larger moments to collect; the vectors always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MomentKinds {
    /// Collect the Gram matrix: in²·8 bytes and tokens·in² flops.
    pub gram: bool,
    /// Rows of the sample to keep; 0 for none.
    pub sample: usize,
}

/// Moments as they are stored, each optional; see [`Moments::from_parts`].
#[derive(Debug, Clone, Default)]
pub struct MomentParts {
    /// Tokens the moments were averaged over.
    pub tokens: Option<u64>,
    /// XᵀX / tokens, in×in.
    pub gram: Option<Mat<f64>>,
    /// Mean of x², per input.
    pub second_moment: Option<Vec<f64>>,
    /// Largest |x|, per input.
    pub absmax: Option<Vec<f32>>,
    /// Mean of |x|, per input.
    pub mean_abs: Option<Vec<f64>>,
    /// Mean of x, per input.
    pub mean: Option<Vec<f64>>,
    /// Rows of X.
    pub sample: Option<Mat<f32>>,
    /// Weight of each output (not a statistic of X, but stored with it).
    pub row_weight: Option<Vec<f64>>,
}

/// Streamed statistics of activations; see the [module](self).
#[derive(Debug, Clone)]
pub struct Moments {
    in_features: usize,
    sample_capacity: usize,
    stream: Stream,
    parts: MomentParts,
    /// Mean of ‖x‖⁴ over the tokens; unknown where the moments were computed elsewhere.
    fourth: Option<f64>,
    /// What the means lose to rounding, where that is kept.
    low: Option<Low>,
}

impl Moments {
    /// Nothing seen yet.
    pub fn new(in_features: usize, kinds: MomentKinds) -> Self {
        let parts = MomentParts {
            tokens: Some(0),
            gram: kinds.gram.then(|| Mat::zeros(in_features, in_features)),
            second_moment: Some(vec![0.0; in_features]),
            absmax: Some(vec![0.0; in_features]),
            mean_abs: Some(vec![0.0; in_features]),
            mean: Some(vec![0.0; in_features]),
            sample: (kinds.sample > 0).then(|| Mat::zeros(0, in_features)),
            row_weight: None,
        };
        Self {
            in_features,
            sample_capacity: kinds.sample,
            stream: sample_stream(),
            parts,
            fourth: Some(0.0),
            low: None,
        }
    }

    /// Moments computed elsewhere. Whatever is absent stays absent and is named when something needs it.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a part of another width; [`Error::NonFinite`]; [`Error::InvalidMetric`] for
    /// a Gram matrix that is not symmetric with non-negative diagonal, or for negative second moments, absolute
    /// maxima, mean absolute values or row weights.
    pub fn from_parts(in_features: usize, mut parts: MomentParts) -> Result<Self, Error> {
        if let Some(gram) = &mut parts.gram {
            check_shape("gram", (in_features, in_features), gram.shape())?;
            symmetrize(gram)?;
        }
        if let Some(values) = &parts.second_moment {
            check_shape("second_moment", (1, in_features), (1, values.len()))?;
            check_weights(values, "second_moment", false)?;
        }
        if let Some(values) = &parts.absmax {
            check_shape("absmax", (1, in_features), (1, values.len()))?;
            let wide: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
            check_weights(&wide, "absmax", false)?;
        }
        if let Some(values) = &parts.mean_abs {
            check_shape("mean_abs", (1, in_features), (1, values.len()))?;
            check_weights(values, "mean_abs", false)?;
        }
        if let Some(values) = &parts.mean {
            check_shape("mean", (1, in_features), (1, values.len()))?;
            check_finite(values, "mean", false)?;
        }
        if let Some(values) = &parts.row_weight {
            check_weights(values, "row_weight", true)?;
        }
        let mut sample_capacity = 0;
        if let Some(sample) = &parts.sample {
            check_shape("sample", (sample.nrows(), in_features), sample.shape())?;
            dense::largest_modulus(sample.as_ref(), "sample")?;
            sample_capacity = sample.nrows();
        }
        Ok(Self { in_features, sample_capacity, stream: sample_stream(), parts, fourth: None, low: None })
    }
}

fn sample_stream() -> Stream {
    Stream::new(0, "moments.sample")
}

fn check_shape(what: &'static str, expected: (usize, usize), found: (usize, usize)) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
}

impl Moments {
    /// Adds the rows of `x`, [tokens, in]. Cost with a Gram matrix: tokens·in² flops plus O(in²), so give many
    /// rows at once. Nothing changes when an error is returned.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another width; [`Error::NonFinite`] naming token and input;
    /// [`Error::MissingMoment`] `tokens` when made from parts without a count.
    pub fn update(&mut self, x: MatRef<'_, f32>) -> Result<(), Error> {
        check_shape("activations", (x.nrows(), self.in_features), x.shape())?;
        dense::largest_modulus(x, "activations")?;
        let before = self.parts.tokens.ok_or(Error::MissingMoment { name: "tokens" })?;
        if x.nrows() == 0 {
            return Ok(());
        }
        let after = before.saturating_add(x.nrows() as u64);
        if self.low.is_some() {
            self.update_compensated(x, before)?;
        } else {
            self.update_plain(x, before, after);
        }
        self.update_sample(x, before);
        self.parts.tokens = Some(after);
        Ok(())
    }

    /// The means over `before` tokens become those with the rows of `x`, which are finite.
    fn update_plain(&mut self, x: MatRef<'_, f32>, before: u64, after: u64) {
        self.rescale(before as f64 / after as f64);
        let mut start = 0;
        while start < x.nrows() {
            let rows = PANEL.min(x.nrows() - start);
            let panel = dense::convert(x.subrows(start, rows), 1.0);
            self.add_panel(&panel, 1.0 / after as f64);
            start += rows;
        }
        if let Some(gram) = &mut self.parts.gram {
            dense::mirror_lower(gram);
        }
    }

    /// Multiplies every mean by `keep`.
    fn rescale(&mut self, keep: f64) {
        let parts = &mut self.parts;
        for column in parts.gram.iter_mut().flat_map(|gram| gram.col_iter_mut()) {
            column.iter_mut().for_each(|value| *value *= keep);
        }
        let vectors = [&mut parts.second_moment, &mut parts.mean_abs, &mut parts.mean];
        for values in vectors.into_iter().flatten() {
            values.iter_mut().for_each(|value| *value *= keep);
        }
        self.fourth = self.fourth.map(|value| value * keep);
    }

    /// Adds `add` times the sums over the rows of a panel (only the lower half of the Gram matrix).
    fn add_panel(&mut self, panel: &Mat<f64>, add: f64) {
        let parts = &mut self.parts;
        if let Some(gram) = &mut parts.gram {
            dense::add_gram_lower(gram.as_mut(), panel.as_ref(), add);
        }
        let add_sums = |values: &mut Option<Vec<f64>>, sum: fn(&[f64]) -> f64| {
            for (j, value) in values.iter_mut().flatten().enumerate() {
                *value += add * sum(panel.col_as_slice(j));
            }
        };
        add_sums(&mut parts.second_moment, dense::line_norm_squared);
        add_sums(&mut parts.mean_abs, |column| column.iter().map(|x| x.abs()).sum());
        add_sums(&mut parts.mean, |column| column.iter().sum());
        for (j, value) in parts.absmax.iter_mut().flatten().enumerate() {
            let largest = panel.col_as_slice(j).iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
            *value = value.max(<f32 as Scalar>::from_f64(largest));
        }
        if let Some(fourth) = &mut self.fourth {
            let mut squares = vec![0.0; panel.nrows()];
            for column in panel.col_iter() {
                for (square, x) in squares.iter_mut().zip(column.iter()) {
                    *square += x * x;
                }
            }
            *fourth += add * dense::line_norm_squared(&squares);
        }
    }

    /// Reservoir sampling (algorithm R): every row seen so far is in the sample with equal probability, and the
    /// choice depends on the row's number only, not on how rows were chunked.
    fn update_sample(&mut self, x: MatRef<'_, f32>, before: u64) {
        let Some(sample) = &mut self.parts.sample else { return };
        let capacity = self.sample_capacity;
        for (row, seen) in x.row_iter().zip(0..) {
            let token = before.saturating_add(seen);
            let slot = if sample.nrows() < capacity {
                let slot = sample.nrows();
                sample.resize_with(slot + 1, self.in_features, |_, _| 0.0);
                slot
            } else {
                let draw = self.stream.next_below(token.saturating_add(1));
                usize::try_from(draw).unwrap_or(usize::MAX)
            };
            if slot < capacity {
                sample.row_mut(slot).copy_from(row);
            }
        }
    }

    /// Adds what another collection saw, as if its rows had been given here (the sample is drawn anew from
    /// both, in proportion to their tokens).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another width; [`Error::MissingMoment`] if a moment kept here is missing in
    /// `other`, or a token count on either side. Nothing changes then.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        check_shape("moments", (1, self.in_features), (1, other.in_features))?;
        let (ours, theirs) = (&self.parts, &other.parts);
        let before = ours.tokens.ok_or(Error::MissingMoment { name: "tokens" })?;
        let added = theirs.tokens.ok_or(Error::MissingMoment { name: "tokens" })?;
        let missing = [
            (ours.gram.is_some() && theirs.gram.is_none(), "gram"),
            (ours.second_moment.is_some() && theirs.second_moment.is_none(), "second_moment"),
            (ours.absmax.is_some() && theirs.absmax.is_none(), "absmax"),
            (ours.mean_abs.is_some() && theirs.mean_abs.is_none(), "mean_abs"),
            (ours.mean.is_some() && theirs.mean.is_none(), "mean"),
            (ours.sample.is_some() && theirs.sample.is_none(), "sample"),
        ];
        if let Some((_, name)) = missing.into_iter().find(|(missing, _)| *missing) {
            return Err(Error::MissingMoment { name });
        }
        let after = before.saturating_add(added);
        if added == 0 {
            return Ok(());
        }
        self.average(other, added as f64 / after as f64);
        if let (Some(sample), Some(theirs)) = (&mut self.parts.sample, &theirs.sample) {
            *sample = merge_samples(sample, theirs, before, added, self.sample_capacity, &mut self.stream);
        }
        self.parts.tokens = Some(after);
        Ok(())
    }

    /// Forgets everything seen, so that the next collection draws another sample.
    pub fn reset(&mut self) {
        let parts = &mut self.parts;
        parts.tokens = Some(0);
        for column in parts.gram.iter_mut().flat_map(|gram| gram.col_iter_mut()) {
            column.iter_mut().for_each(|value| *value = 0.0);
        }
        let vectors = [&mut parts.second_moment, &mut parts.mean_abs, &mut parts.mean];
        vectors.into_iter().flatten().for_each(|values| values.fill(0.0));
        if let Some(values) = &mut parts.absmax {
            values.fill(0.0);
        }
        if let Some(sample) = &mut parts.sample {
            sample.truncate(0, self.in_features);
        }
        self.fourth = Some(0.0);
        if self.low.is_some() {
            self.low = Some(Low::new(&self.parts));
        }
    }

    /// Tokens seen; 0 if unknown.
    pub fn tokens(&self) -> u64 {
        self.parts.tokens.unwrap_or(0)
    }

    /// Width of the activations.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// XᵀX / tokens, in×in.
    ///
    /// # Errors
    /// [`Error::MissingMoment`] if it was not collected.
    pub fn gram(&self) -> Result<MatRef<'_, f64>, Error> {
        self.parts.gram.as_ref().map(|gram| gram.as_ref()).ok_or(Error::MissingMoment { name: "gram" })
    }

    /// Mean of x² per input; the diagonal of the Gram matrix where only that is known.
    ///
    /// # Errors
    /// [`Error::MissingMoment`] if neither was collected.
    pub fn second_moment(&self) -> Result<Vec<f64>, Error> {
        match (&self.parts.second_moment, &self.parts.gram) {
            (Some(values), _) => Ok(values.clone()),
            (None, Some(gram)) => Ok(gram.diagonal().column_vector().iter().copied().collect()),
            (None, None) => Err(Error::MissingMoment { name: "second_moment" }),
        }
    }

    /// Largest |x| per input.
    ///
    /// # Errors
    /// [`Error::MissingMoment`] if it was not collected.
    pub fn absmax(&self) -> Result<&[f32], Error> {
        self.parts.absmax.as_deref().ok_or(Error::MissingMoment { name: "absmax" })
    }

    /// Mean of |x| per input.
    ///
    /// # Errors
    /// [`Error::MissingMoment`] if it was not collected.
    pub fn mean_abs(&self) -> Result<&[f64], Error> {
        self.parts.mean_abs.as_deref().ok_or(Error::MissingMoment { name: "mean_abs" })
    }

    /// Mean of x per input.
    ///
    /// # Errors
    /// [`Error::MissingMoment`] if it was not collected.
    pub fn mean(&self) -> Result<&[f64], Error> {
        self.parts.mean.as_deref().ok_or(Error::MissingMoment { name: "mean" })
    }

    /// The kept rows of X, at most as many as asked for.
    ///
    /// # Errors
    /// [`Error::MissingMoment`] if none were to be kept.
    pub fn sample(&self) -> Result<MatRef<'_, f32>, Error> {
        self.parts.sample.as_ref().map(|rows| rows.as_ref()).ok_or(Error::MissingMoment { name: "sample" })
    }

    /// Weight of each output, if one was given.
    pub fn row_weight(&self) -> Option<&[f64]> {
        self.parts.row_weight.as_deref()
    }

    /// Everything that is known, for storing.
    pub fn parts(&self) -> &MomentParts {
        &self.parts
    }

    /// The metric of output errors: H = Gram matrix if known, else the diagonal of second moments, with the
    /// row weights if given.
    ///
    /// # Errors
    /// [`Error::MissingMoment`] if neither is known; [`Error::InvalidMetric`] if rounding of a Gram matrix
    /// given as a part went too far.
    pub fn metric(&self) -> Result<Metric, Error> {
        let metric = match &self.parts.gram {
            Some(gram) => Metric::gram(gram.clone())?,
            None => Metric::diagonal(self.second_moment()?)?,
        };
        match &self.parts.row_weight {
            Some(weights) => metric.with_rows(weights.clone()),
            None => Ok(metric),
        }
    }
}

/// Draws a sample of the union of two populations from a sample of each, without replacement.
fn merge_samples(
    ours: &Mat<f32>,
    theirs: &Mat<f32>,
    our_tokens: u64,
    their_tokens: u64,
    capacity: usize,
    stream: &mut Stream,
) -> Mat<f32> {
    let mut order = |rows: usize| {
        let mut order: Vec<usize> = (0..rows).collect();
        for last in (1..rows).rev() {
            let other = usize::try_from(stream.next_below(last as u64 + 1)).unwrap_or(last);
            order.swap(last, other);
        }
        order
    };
    let (mut from_ours, mut from_theirs) = (order(ours.nrows()), order(theirs.nrows()));
    let (mut our_left, mut their_left) = (our_tokens, their_tokens);
    let mut picked = Vec::new();
    while picked.len() < capacity {
        let take_ours = match (from_ours.is_empty(), from_theirs.is_empty()) {
            (true, true) => break,
            (false, true) => true,
            (true, false) => false,
            (false, false) => stream.next_below(our_left.saturating_add(their_left)) < our_left,
        };
        let row = if take_ours {
            from_ours.pop().map(|i| ours.row(i))
        } else {
            from_theirs.pop().map(|i| theirs.row(i))
        };
        if take_ours {
            our_left = our_left.saturating_sub(1);
        } else {
            their_left = their_left.saturating_sub(1);
        }
        picked.extend(row);
    }
    Mat::from_fn(picked.len(), ours.ncols(), |i, j| picked.get(i).map_or(0.0, |row| row[j]))
}
