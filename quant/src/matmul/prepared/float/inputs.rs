//! Inputs that stay floats, in the order that the kernels read them.

use super::super::Input;
use crate::{Error, rows};
use alloc::vec::Vec;

/// Tokens side by side.
const WIDTH: usize = 8;

/// Inputs as floats, and the memory they lie in, which the next ones reuse.
///
/// ```text
/// token tile   r tokens: 8, the last what is left:   [columns][r]
/// ```
#[derive(Clone, Debug, Default)]
pub struct FloatActivations {
    tokens: usize,
    features: usize,
    values: Vec<f32>,
    row: Vec<f32>,
}

impl FloatActivations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory for `tokens` inputs of `features` entries, after which [`FloatActivations::set`] allocates nothing for as
    /// many or fewer.
    pub fn reserve(&mut self, features: usize, tokens: usize) {
        let len = tokens.saturating_mul(features);
        if self.values.len() < len {
            self.values.resize(len, 0.0);
        }
        if self.row.len() < features {
            self.row.resize(features, 0.0);
        }
    }

    /// Whether there is memory for `tokens` inputs of `features` entries.
    pub const fn holds(&self, features: usize, tokens: usize) -> bool {
        self.values.len() >= tokens.saturating_mul(features) && self.row.len() >= features
    }

    /// Bytes that [`FloatActivations::reserve`] takes.
    pub const fn bytes(features: usize, tokens: usize) -> usize {
        tokens.saturating_add(1).saturating_mul(features).saturating_mul(4)
    }

    /// Takes the row-major `x`, `[tokens, features]`. Cost O(tokens · features).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` does not have `tokens · features` entries. There are no inputs then.
    pub fn set<X: Input>(&mut self, x: &[X], (tokens, features): (usize, usize)) -> Result<(), Error> {
        (self.tokens, self.features) = (0, 0);
        rows::check_len("activations", x.len(), (tokens, features))?;
        self.reserve(features, tokens);
        for token in 0..tokens {
            let x = X::floats(&x[token * features..][..features], &mut self.row[..features]);
            let first = token / WIDTH * WIDTH;
            let stride = WIDTH.min(tokens - first);
            let tile = &mut self.values[first * features..];
            for (at, &x) in x.iter().enumerate() {
                tile[at * stride + token - first] = x;
            }
        }
        (self.tokens, self.features) = (tokens, features);
        Ok(())
    }

    /// Number of tokens.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens and features.
    pub const fn shape(&self) -> (usize, usize) {
        (self.tokens, self.features)
    }

    /// Whether there are tokens `token .. token + count`.
    pub(super) fn check_tokens(&self, token: usize, count: usize) -> Result<(), Error> {
        let end = token.saturating_add(count);
        if end > self.tokens {
            return Err(Error::ShapeMismatch { what: "tokens", expected: (self.tokens, 1), found: (end, 1) });
        }
        Ok(())
    }

    /// The inputs of token `token`, and those beside it in its tile, from column `column` on; how far columns are apart,
    /// and how many tokens are left in the tile.
    pub(super) fn from(&self, token: usize, column: usize) -> (&[f32], usize, usize) {
        let first = token / WIDTH * WIDTH;
        let stride = WIDTH.min(self.tokens - first);
        let at = first * self.features + column * stride + (token - first);
        let end = (first + stride) * self.features;
        (&self.values[at.min(end)..end], stride, stride - (token - first))
    }
}
