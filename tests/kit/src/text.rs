//! Which sentences calibrate, and which are held out.
//!
//! The text is a news corpus of 300 documents, one a line. Documents 0–199 give the calibration sentences,
//! documents 200–299 the held-out ones, so no sentence of the one set comes from a document of the other.
//! A sentence ends in one of `.!?` followed by white space; only those of 6 to 60 words are taken, in order.

use std::path::Path;

use crate::Error;

/// How many calibration sentences the figures of this project are measured with.
pub const CALIBRATION_SENTENCES: usize = 768;
/// How many held-out sentences they are measured on.
pub const HELD_OUT_SENTENCES: usize = 384;

/// The calibration and held-out sentences of one corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentences {
    /// The first [`CALIBRATION_SENTENCES`] sentences of documents 0–199.
    pub calibration: Vec<String>,
    /// The first [`HELD_OUT_SENTENCES`] sentences of documents 200–299.
    pub held_out: Vec<String>,
}

impl Sentences {
    /// Reads the corpus at `path` and picks both sets.
    ///
    /// # Errors
    /// [`Error::NotFetched`] when the file is missing, [`Error::Io`] when it cannot be read as UTF-8,
    /// [`Error::Format`] when it holds fewer sentences than the sets need.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let corpus = std::fs::read_to_string(path).map_err(|source| Error::reading(path, source))?;
        let documents: Vec<&str> = corpus.trim().split('\n').collect();
        let (first, last) = documents.split_at(documents.len().min(200));
        let picked = Self {
            calibration: pick(first, CALIBRATION_SENTENCES),
            held_out: pick(last, HELD_OUT_SENTENCES),
        };
        if picked.calibration.len() < CALIBRATION_SENTENCES || picked.held_out.len() < HELD_OUT_SENTENCES {
            let reason = format!(
                "found {} calibration and {} held-out sentences, expected {CALIBRATION_SENTENCES} and \
                 {HELD_OUT_SENTENCES}",
                picked.calibration.len(),
                picked.held_out.len()
            );
            return Err(Error::Format { path: path.to_path_buf(), reason });
        }
        Ok(picked)
    }
}

fn pick(documents: &[&str], limit: usize) -> Vec<String> {
    let sentences = documents.iter().flat_map(|document| split(document));
    let fitting = sentences.filter(|sentence| (6..=60).contains(&sentence.split_whitespace().count()));
    fitting.take(limit).map(str::to_owned).collect()
}

/// Cuts a document behind every `.`, `!` or `?` that white space follows; the white space belongs to neither.
fn split(document: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut rest = document.trim();
    while let Some(end) = sentence_end(rest) {
        let (sentence, after) = rest.split_at(end);
        sentences.push(sentence);
        rest = after.trim_start();
    }
    sentences.push(rest);
    sentences
}

/// The byte behind the first full stop that white space follows.
fn sentence_end(text: &str) -> Option<usize> {
    let next = text.chars().skip(1).chain(std::iter::once('x'));
    text.char_indices()
        .zip(next)
        .find(|&((_, this), next)| matches!(this, '.' | '!' | '?') && next.is_whitespace())
        .map(|((at, this), _)| at + this.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_only_where_white_space_follows_a_stop() {
        assert_eq!(
            split(" One. Two!  Three?Four 4.5 five... Six "),
            ["One.", "Two!", "Three?Four 4.5 five...", "Six"]
        );
        assert_eq!(split(""), [""]);
        assert_eq!(split("ends."), ["ends."]);
    }

    #[test]
    fn takes_sentences_of_6_to_60_words_up_to_the_limit() {
        let long = vec!["word"; 61].join(" ");
        let documents = ["a b c d e. a b c d e f. ", long.as_str(), "one two three four five six"];
        assert_eq!(pick(&documents, 9), ["a b c d e f.", "one two three four five six"]);
        assert_eq!(pick(&documents, 1), ["a b c d e f."]);
    }
}
