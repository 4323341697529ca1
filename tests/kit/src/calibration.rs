//! Moments of the linear layers' inputs, and the file that carries them to `rankbit compress --calib`.
//!
//! ```text
//! T.gram      f64 [in, in]   XᵀX / tokens
//! T.absmax    f32 [in]       max |x|
//! T.mean_abs  f32 [in]       Σ |x| / tokens
//! T.mean      f32 [in]       Σ x / tokens
//! T.tokens    i64 [1]
//! ```
//!
//! for each linear weight `T` (its full name in the checkpoint) that owns its input; `__metadata__.alias` is a
//! JSON object from the name of every other one to the name under which the shared input is stored.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

use crate::Error;
use crate::bert::Bert;
use crate::dense::{add_upper_gram, mirror, product};
use crate::model::SentenceModel;

/// Moments of one linear layer's input `X: [tokens, in]`.
#[derive(Clone, Debug, PartialEq)]
pub struct InputMoments {
    /// Rows of `X` seen.
    pub tokens: i64,
    /// `XᵀX / tokens`, row-major `[in, in]`.
    pub gram: Vec<f64>,
    /// Largest magnitude of each column.
    pub absmax: Vec<f32>,
    /// Mean magnitude of each column.
    pub mean_abs: Vec<f32>,
    /// Mean of each column.
    pub mean: Vec<f32>,
}

/// Moments of every linear layer's input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// By the name of the weight that owns the input.
    pub moments: BTreeMap<String, InputMoments>,
    /// From a weight that shares another's input to that other weight.
    pub alias: BTreeMap<String, String>,
}

/// Sums that become [`InputMoments`] once all tokens are seen.
struct Sums {
    tokens: i64,
    gram: Vec<f64>,
    absmax: Vec<f32>,
    abs: Vec<f64>,
    plain: Vec<f64>,
}

impl Calibration {
    /// Runs the model over the sentences. Calibration and held-out sentences go through this one function.
    ///
    /// Costs `tokens·in²` multiplications for each distinct input, in f64: about ten seconds on two cores for
    /// the 768 calibration sentences. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::Empty`] without a sentence, [`Error::Tokens`] when the tokenizer refuses one.
    pub fn capture<S: AsRef<str>>(model: &SentenceModel, sentences: &[S]) -> Result<Self, Error> {
        if sentences.is_empty() {
            return Err(Error::Empty("there is no sentence to capture moments from"));
        }
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        let mut alias = BTreeMap::new();
        let mut inputs = HashMap::new();
        for name in model.network().linear_names() {
            let owner = Bert::shared_input(name);
            if owner != name {
                alias.insert(name.to_owned(), owner);
            }
            let columns = model.tensors().get(name).and_then(|tensor| tensor.shape.get(1));
            inputs.insert(name.to_owned(), columns.copied().unwrap_or(0));
        }
        model.embed_observed(sentences, &mut |name, x| {
            if !alias.contains_key(name) {
                let inputs = inputs[name];
                sums.entry(name.to_owned()).or_insert_with(|| Sums::new(inputs)).add(x);
            }
        })?;
        let moments = sums.into_iter().map(|(name, sums)| (name, sums.finish())).collect();
        Ok(Self { moments, alias })
    }

    /// The moments of a weight's input, also where another weight owns it.
    pub fn of(&self, weight: &str) -> Option<&InputMoments> {
        self.moments.get(self.alias.get(weight).map_or(weight, String::as_str))
    }

    /// Writes the calibration file of the module's documentation.
    ///
    /// # Errors
    /// [`Error::Format`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let fail = |reason: String| Error::Format { path: path.to_path_buf(), reason };
        let mut buffers: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, moments) in &self.moments {
            let side = moments.absmax.len();
            let gram = moments.gram.iter().flat_map(|value| value.to_le_bytes()).collect();
            buffers.push((format!("{name}.gram"), Dtype::F64, vec![side, side], gram));
            let tokens = moments.tokens.to_le_bytes().to_vec();
            buffers.push((format!("{name}.tokens"), Dtype::I64, vec![1], tokens));
            let vectors =
                [("absmax", &moments.absmax), ("mean_abs", &moments.mean_abs), ("mean", &moments.mean)];
            for (part, values) in vectors {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                buffers.push((format!("{name}.{part}"), Dtype::F32, vec![side], bytes));
            }
        }
        let views = buffers.iter().map(|(name, dtype, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
        });
        let views: Result<Vec<_>, safetensors::SafeTensorError> = views.collect();
        let views = views.map_err(|error| fail(error.to_string()))?;
        let alias = serde_json::to_string(&self.alias).map_err(|error| fail(error.to_string()))?;
        let metadata = HashMap::from([("alias".to_owned(), alias)]);
        serialize_to_file(views, Some(metadata), path).map_err(|error| fail(error.to_string()))
    }
}

impl Sums {
    fn new(inputs: usize) -> Self {
        let zero = vec![0.0; inputs];
        Self {
            tokens: 0,
            gram: vec![0.0; inputs * inputs],
            absmax: vec![0.0; inputs],
            abs: zero.clone(),
            plain: zero,
        }
    }

    fn add(&mut self, x: &[f32]) {
        let inputs = self.absmax.len();
        for row in x.chunks_exact(inputs) {
            self.tokens += 1;
            let sums = self.absmax.iter_mut().zip(&mut self.abs).zip(&mut self.plain);
            for (((absmax, abs), plain), &x) in sums.zip(row) {
                *absmax = absmax.max(x.abs());
                *abs += f64::from(x.abs());
                *plain += f64::from(x);
            }
        }
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        add_upper_gram(&mut self.gram, &wide, inputs);
    }

    fn finish(mut self) -> InputMoments {
        let tokens = self.tokens as f64;
        mirror(&mut self.gram, self.absmax.len());
        self.gram.iter_mut().for_each(|sum| *sum /= tokens);
        #[expect(clippy::cast_possible_truncation, reason = "rounded once, at the end")]
        let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / tokens) as f32).collect();
        InputMoments {
            tokens: self.tokens,
            gram: self.gram,
            absmax: self.absmax,
            mean_abs: mean(self.abs),
            mean: mean(self.plain),
        }
    }
}

/// The relative error of a layer's output on inputs with the given Gram matrix.
///
/// ```text
/// ‖(W − Ŵ)Xᵀ‖ / ‖W·Xᵀ‖ = √( tr(E·H·Eᵀ) / tr(W·H·Wᵀ) ),   E = W − Ŵ
/// ```
///
/// Slow and plain, in f64: it judges what the crates under test report.
///
/// # Errors
/// [`Error::Empty`] when the matrices do not fit the Gram matrix or the output is zero.
pub fn output_error(weight: &[f32], approximation: &[f32], gram: &[f64]) -> Result<f64, Error> {
    let side = gram.len().isqrt();
    let fits = side > 0 && side * side == gram.len() && weight.len().is_multiple_of(side);
    if !fits || weight.len() != approximation.len() {
        return Err(Error::Empty("the matrices do not fit the Gram matrix"));
    }
    let original: Vec<f64> = weight.iter().map(|&w| f64::from(w)).collect();
    let error: Vec<f64> = original.iter().zip(approximation).map(|(w, &a)| w - f64::from(a)).collect();
    let energy = |m: &[f64]| -> f64 { product(m, gram, side, side).iter().zip(m).map(|(a, b)| a * b).sum() };
    let total = energy(&original);
    if total == 0.0 {
        return Err(Error::Empty("the layer's output is zero"));
    }
    Ok((energy(&error).max(0.0) / total).sqrt())
}
