//! Attention as its formula reads, in f64: what everything else is held to.
//!
//! One row of weights at a time; the n×s matrix exists only where a caller collects [`weights`].

use alloc::{vec, vec::Vec};

use rankbit_linalg::Scalar;

use crate::{Error, Tensor, View};

/// The weights of one query over all keys: `softmaxⱼ(τ·q·k_j + score(j))`, zeros when every score is -∞.
///
/// `score` is what is added to the product, `-∞` to hide the key. `query` and the rows of `key` are of equal length.
pub fn weights(query: &[f64], key: &[Vec<f64>], scale: f64, score: impl Fn(usize) -> f64) -> Vec<f64> {
    let dot = |k: &Vec<f64>| query.iter().zip(k).map(|(a, b)| a * b).sum::<f64>();
    let scores: Vec<f64> = key.iter().enumerate().map(|(j, k)| scale * dot(k) + score(j)).collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return vec![0.0; key.len()];
    }
    let powers: Vec<f64> = scores.iter().map(|s| num_traits::Float::exp(s - max)).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

/// Attention in f64; `score([batch, head, query, key])` is added to `τ·q·k` (-∞ hides the pair). Grouped-query heads as in
/// [`exact`](crate::exact()).
///
/// # Errors
/// [`Error::ShapeMismatch`] when the operands' shapes disagree, [`Error::InvalidOption`] when key heads do not divide the query
/// heads, [`Error::TooLarge`] when the output's size overflows.
pub fn attention<T: Scalar>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    scale: Option<f64>,
    score: impl Fn([usize; 4]) -> f64,
) -> Result<Tensor<f64>, Error> {
    let ([batch, heads, tokens, dim], [_, kv_heads, keys, _]) = (query.shape(), key.shape());
    let value_dim = value.shape()[3];
    for (what, found, last) in [("key", key.shape(), dim), ("value", value.shape(), value_dim)] {
        let expected = [batch, kv_heads, keys, last];
        if found != expected {
            return Err(Error::ShapeMismatch { what, expected, found });
        }
    }
    if heads > 0 && (kv_heads == 0 || !heads.is_multiple_of(kv_heads)) {
        let requirement = "a positive divisor of the number of query heads";
        return Err(Error::InvalidOption { what: "key heads", requirement, found: kv_heads as f64 });
    }
    let scale = scale.unwrap_or(1.0 / num_traits::Float::sqrt(dim as f64));
    let mut output = Tensor::zeros([batch, heads, tokens, value_dim])?;
    let row = |view: View<'_, T>, b, h, t| -> Vec<f64> {
        (0..view.shape()[3]).map(|i| view.at([b, h, t, i]).to_f64()).collect()
    };
    for b in 0..batch {
        for h in 0..heads {
            let kv = h * kv_heads / heads;
            let key: Vec<Vec<f64>> = (0..keys).map(|j| row(key, b, kv, j)).collect();
            for i in 0..tokens {
                let weights = weights(&row(query, b, h, i), &key, scale, |j| score([b, h, i, j]));
                let line = output.line_mut(b, h, i);
                for (j, weight) in weights.into_iter().enumerate().filter(|(_, weight)| *weight != 0.0) {
                    for (e, sum) in line.iter_mut().enumerate() {
                        *sum += weight * value.at([b, kv, j, e]).to_f64();
                    }
                }
            }
        }
    }
    Ok(output)
}
