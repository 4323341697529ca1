//! The sentence encoder: its files, its tokenizer, its embeddings.
//!
//! What an end-to-end test does with it:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use rankbit_kit::calibration::{Calibration, output_error};
//! use rankbit_kit::model::{SentenceModel, corpus, mean_cosine};
//! use rankbit_kit::tensor::read_tensors;
//! use rankbit_kit::text::Sentences;
//!
//! # fn main() -> Result<(), rankbit_kit::Error> {
//! let model = SentenceModel::load()?;
//! let text = Sentences::read(&corpus())?;
//! let original = model.embed(&text.held_out)?;
//!
//! // For `rankbit compress --calib`, from sentences that the evaluation does not use.
//! Calibration::capture(&model, &text.calibration)?.write(Path::new("acts.safetensors"))?;
//!
//! // ... compress `model::checkpoint()`, decompress it to dense.safetensors ...
//! let dense = read_tensors(Path::new("dense.safetensors"))?;
//! let cosine = mean_cosine(&original, &model.with(dense.clone())?.embed(&text.held_out)?)?;
//!
//! let held_out = Calibration::capture(&model, &text.held_out)?;
//! for name in model.network().linear_names() {
//!     let (weight, approximation) = (&model.tensors()[name].values, &dense[name].values);
//!     let gram = &held_out.of(name).expect("every linear layer is captured").gram;
//!     println!("{name}: {} (cosine {cosine})", output_error(weight, approximation, gram)?);
//! }
//! # Ok(())
//! # }
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::{Tokenizer, TruncationParams};

use crate::Error;
use crate::bert::{Bert, Config, Observer, Product};
use crate::tensor::{Tensor, Tensors, read_tensors};

/// Longest sentence, in tokens, with the two that stand around every sentence.
const MAX_TOKENS: usize = 128;

/// One unit-length embedding per sentence.
pub type Embeddings = Vec<Vec<f32>>;

/// Where `scripts/fetch-model.sh` puts its files: `data/` in the repository, or the absolute path
/// `$RANKBIT_DATA`.
pub fn data_folder() -> PathBuf {
    let given = std::env::var_os("RANKBIT_DATA").map(PathBuf::from);
    given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data"))
}

/// The checkpoint of the sentence encoder, whether or not it has been fetched.
pub fn checkpoint() -> PathBuf {
    data_folder().join("minilm/model.safetensors")
}

/// The corpus of [`crate::text::Sentences`], whether or not it has been fetched.
pub fn corpus() -> PathBuf {
    data_folder().join("text/lee_background.cor")
}

/// The encoder with its tokenizer and weights.
#[derive(Clone, Debug)]
pub struct SentenceModel {
    tokenizer: Arc<Tokenizer>,
    config: Config,
    tensors: Tensors,
    network: Bert,
}

impl SentenceModel {
    /// Loads the encoder that `scripts/fetch-model.sh` fetched.
    ///
    /// # Errors
    /// [`Error::NotFetched`] when a file is missing (let the test fail with it), [`Error::Io`] and
    /// [`Error::Format`] when one cannot be read, [`Error::Config`], [`Error::MissingTensor`] and
    /// [`Error::Shape`] when its content is not this network's.
    pub fn load() -> Result<Self, Error> {
        let folder = data_folder().join("minilm");
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|source| Error::reading(&path, source))
        };
        let format = |name: &str, reason: String| Error::Format { path: folder.join(name), reason };
        let json = serde_json::from_slice(&read("config.json")?)
            .map_err(|error| format("config.json", error.to_string()))?;
        let config = Config::from_json(&json)?;
        let mut tokenizer = Tokenizer::from_bytes(read("tokenizer.json")?)
            .map_err(|error| format("tokenizer.json", error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams { max_length: MAX_TOKENS, ..Default::default() }))
            .map_err(|error| format("tokenizer.json", error.to_string()))?;
        let tensors = read_tensors(&checkpoint())?;
        let network = Bert::new(config.clone(), &tensors)?;
        Ok(Self { tokenizer: Arc::new(tokenizer), config, tensors, network })
    }

    /// The same encoder with some tensors replaced; the others are shared.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] when the checkpoint has no tensor of that name, [`Error::Shape`] when its
    /// shape is another.
    pub fn with(&self, replacements: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self, Error> {
        let mut tensors = self.tensors.clone();
        for (name, tensor) in replacements {
            match tensors.get_mut(&name) {
                Some(old) => *old = tensor,
                None => return Err(Error::MissingTensor { name }),
            }
        }
        let network = Bert::new(self.config.clone(), &tensors)?;
        Ok(Self { tokenizer: self.tokenizer.clone(), config: self.config.clone(), tensors, network })
    }

    /// The same encoder with the tensors of another checkpoint of the same names and shapes.
    ///
    /// # Errors
    /// Those of [`read_tensors`] and [`Self::with`].
    pub fn with_file(&self, path: &Path) -> Result<Self, Error> {
        self.with(read_tensors(path)?)
    }

    /// The same encoder with other products in its linear layers.
    #[must_use]
    pub fn with_product(&self, product: Arc<Product>) -> Self {
        Self { network: self.network.with_product(product), ..self.clone() }
    }

    /// The float tensors of the checkpoint.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// The encoder without its tokenizer.
    pub fn network(&self) -> &Bert {
        &self.network
    }

    /// Token ids of each sentence, cut at 128, with the tokens that open and close it.
    ///
    /// # Errors
    /// [`Error::Tokens`] when the tokenizer refuses a sentence.
    pub fn tokens<S: AsRef<str>>(&self, sentences: &[S]) -> Result<Vec<Vec<u32>>, Error> {
        let encode = |(sentence, text): (usize, &S)| {
            let encoding = self.tokenizer.encode(text.as_ref(), true);
            let encoding = encoding.map_err(|error| Error::Tokens { sentence, reason: error.to_string() })?;
            Ok(encoding.get_ids().to_vec())
        };
        sentences.iter().enumerate().map(encode).collect()
    }

    /// The embedding of each sentence.
    ///
    /// # Errors
    /// [`Error::Tokens`] when the tokenizer refuses a sentence.
    pub fn embed<S: AsRef<str>>(&self, sentences: &[S]) -> Result<Embeddings, Error> {
        self.embed_observed(sentences, &mut |_, _| {})
    }

    /// [`Self::embed`], while `observe` sees the input of every linear layer.
    ///
    /// # Errors
    /// [`Error::Tokens`] when the tokenizer refuses a sentence.
    pub fn embed_observed<S: AsRef<str>>(
        &self,
        sentences: &[S],
        observe: Observer,
    ) -> Result<Embeddings, Error> {
        self.network.embed(&self.tokens(sentences)?, observe)
    }
}

/// The cosine of each pair of embeddings of unit length.
///
/// # Errors
/// [`Error::Empty`] when there is none, or not equally many on both sides.
pub fn cosines(a: &Embeddings, b: &Embeddings) -> Result<Vec<f64>, Error> {
    if a.is_empty() || a.len() != b.len() {
        return Err(Error::Empty("the two sets of embeddings do not pair up"));
    }
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        let product = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        product(a, b) / (product(a, a) * product(b, b)).sqrt()
    };
    Ok(a.iter().zip(b).map(cosine).collect())
}

/// The mean of [`cosines`]: what compression did to the sentences, 1 when nothing.
///
/// # Errors
/// Those of [`cosines`].
pub fn mean_cosine(a: &Embeddings, b: &Embeddings) -> Result<f64, Error> {
    let cosines = cosines(a, b)?;
    Ok(cosines.iter().sum::<f64>() / cosines.len() as f64)
}
