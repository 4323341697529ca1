//! Which tasks to sample for a target task: relevance by the Lasso, and how many samples each.
//!
//! Tasks share a representation: task t has a head w_t (k numbers) on it. The relevance of the T sources to the target
//! head w₀ is the smallest combination that gives it:
//!
//! ```text
//! ν¹ = argmin ½‖W·ν − w₀‖² + λ·‖ν‖₁          W = [w₁ … w_T]: k×T
//! n_t = max(N·|ν_t|^p/Σ|ν|^p, n_min)          p = 1 for ν¹, 2 for the least-squares ν²
//! ```
//! Source: Wang, Chen, Jamieson, Du, *Improved Active Multi-Task Representation Learning via Lasso*, arXiv 2306.02556,
//! sections 3 and 4.

use alloc::vec::Vec;

use faer::MatRef;

use super::{Lasso, LassoOptions, lambda_max, lasso};
use crate::Error;

/// How relevant each source is.
#[derive(Debug, Clone, PartialEq)]
pub struct Relevance {
    /// ν, one per source.
    pub weights: Vec<f64>,
    /// Σ|ν|, which the sampling bound is proportional to the square of.
    pub norm: f64,
    /// The Lasso behind it, with its gap.
    pub solution: Lasso,
}

/// ν¹ of estimated heads: the columns of `heads: [k, T]` against `target: [k]`, with λ = `relative_lambda`·λ_max
/// (0.01 … 0.1 is usual).
///
/// # Errors
/// Those of [`lasso`]; [`Error::InvalidOption`] for a relative λ outside (0, 1].
pub fn relevance(
    heads: MatRef<'_, f64>,
    target: &[f64],
    relative_lambda: f64,
    options: &LassoOptions,
) -> Result<Relevance, Error> {
    if !(relative_lambda > 0.0 && relative_lambda <= 1.0) {
        let requirement = "in (0, 1]";
        return Err(Error::InvalidOption { what: "relative_lambda", requirement, found: relative_lambda });
    }
    let largest = lambda_max(heads, target, options)?;
    // A target that no head has a part of: any λ gives zero.
    let lambda = (relative_lambda * largest).max(f64::MIN_POSITIVE);
    let solution = lasso(heads, target, lambda, options)?;
    let norm = solution.coefficients.iter().map(|weight| weight.abs()).sum();
    Ok(Relevance { weights: solution.coefficients.clone(), norm, solution })
}

/// Samples of each source: proportional to |ν|^power, at least `least` each, `total` in all where that allows it.
///
/// Sources that would get fewer than `least` get `least`; the others share what is left in proportion, by largest
/// remainders (ties to the first). All-zero ν: equal shares. The sum is max(total, least·T).
///
/// # Errors
/// [`Error::NonFinite`] for ν; [`Error::InvalidOption`] for a power that is not positive and finite;
/// [`Error::TooLarge`] when least·T overflows.
pub fn allocate_samples(weights: &[f64], power: f64, total: u64, least: u64) -> Result<Vec<u64>, Error> {
    if let Some(row) = weights.iter().position(|weight| !weight.is_finite()) {
        return Err(Error::NonFinite { what: "relevance", row, col: 0 });
    }
    if !(power > 0.0 && power.is_finite()) {
        return Err(Error::InvalidOption { what: "power", requirement: "positive and finite", found: power });
    }
    let floor = least.checked_mul(weights.len() as u64).ok_or(Error::TooLarge { what: "least samples" })?;
    let largest = weights.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
    let share = |weight: f64| if largest > 0.0 { libm::pow(weight.abs() / largest, power) } else { 1.0 };
    let shares: Vec<f64> = weights.iter().map(|&weight| share(weight)).collect();
    let mut counts = alloc::vec![least; weights.len()];
    if total <= floor {
        return Ok(counts);
    }
    // Fix at the minimum what falls below it, until the others' shares of the rest all exceed it.
    let mut free: Vec<usize> = (0..weights.len()).collect();
    let (sum, rest) = loop {
        let sum: f64 = free.iter().filter_map(|&at| shares.get(at)).sum();
        let rest = total - least * (weights.len() - free.len()) as u64;
        let before = free.len();
        let above =
            |at: &usize| shares.get(*at).is_some_and(|share| share * rest as f64 >= least as f64 * sum);
        free.retain(above);
        if free.len() == before || free.is_empty() {
            break (sum, rest);
        }
    };
    let mut remainders: Vec<(f64, usize)> = Vec::with_capacity(free.len());
    let mut given = 0u64;
    for &at in &free {
        let exact = if sum > 0.0 { shares.get(at).copied().unwrap_or(0.0) / sum * rest as f64 } else { 0.0 };
        let whole = floor_to_u64(exact).max(least).min(rest - given);
        given += whole;
        remainders.push((exact - whole as f64, at));
        if let Some(count) = counts.get_mut(at) {
            *count = whole;
        }
    }
    remainders.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut left = rest - given;
    while left > 0 && !remainders.is_empty() {
        for &(_, at) in &remainders {
            if let Some(count) = counts.get_mut(at)
                && left > 0
            {
                // One each, or all that rounding of huge totals left over.
                let more = (left / remainders.len() as u64).max(1);
                *count += more;
                left -= more;
            }
        }
    }
    Ok(counts)
}

/// The whole part of a non-negative number below 2⁶⁴.
fn floor_to_u64(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole parts are the purpose"
    )]
    let whole = libm::floor(value.max(0.0)) as u64;
    whole
}
