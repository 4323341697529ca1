//! What can go wrong around the sentence model.

use std::path::PathBuf;

/// Why the model, its text or a calibration file could not be read, run or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the model or its text is not where it should be.
    #[error("{} is missing: run scripts/fetch-model.sh first", path.display())]
    NotFetched {
        /// The file looked for.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file was read but does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The network needs a tensor that its weights lack.
    #[error("the weights have no tensor {name}")]
    MissingTensor {
        /// Its name in the checkpoint.
        name: String,
    },
    /// A tensor has another shape than the network's configuration asks for.
    #[error("tensor {name} has shape {found:?}, the network needs {expected:?}")]
    Shape {
        /// Its name in the checkpoint.
        name: String,
        /// What the configuration asks for.
        expected: Vec<usize>,
        /// What was given.
        found: Vec<usize>,
    },
    /// The network's configuration is not one this forward pass can run.
    #[error("the network's configuration has no usable {field}")]
    Config {
        /// The field of `config.json`.
        field: &'static str,
    },
    /// A sentence has no token, too many, or one outside the vocabulary.
    #[error("sentence {sentence}: {reason}")]
    Tokens {
        /// Its place among the sentences given.
        sentence: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There was nothing to measure: no sentence, no token or an all-zero reference.
    #[error("{0}")]
    Empty(&'static str),
}

impl Error {
    /// The error of reading a file that `scripts/fetch-model.sh` should have put there.
    pub(crate) fn reading(path: &std::path::Path, source: std::io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::NotFetched { path },
            _ => Self::Io { path, source },
        }
    }
}
