//! Which head needs how many coordinates: a greedy search.

use alloc::vec::Vec;

use super::{Bases, Ranks};
use crate::Error;

/// Options of [`greedy`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetOptions {
    /// Columns that one move drops, at least 1.
    pub step: usize,
    /// Share of all coordinates that may stay, above 0 and at most 1.
    pub keep: f64,
}

/// What [`greedy`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// The ranks of each layer.
    pub ranks: Vec<Ranks>,
    /// After each move: the share of coordinates that stay, and the loss. Entry 0 is before the first.
    pub path: Vec<(f64, f64)>,
}

/// Ranks within a budget: from all columns on, lowers the rank whose loss is least after it, until the budget is met. Of equal losses
/// the first counts: layers in order, keys before values, heads in order.
///
/// `loss` tells what ranks cost on calibration data, less being better: the source takes [`distillation`](super::distillation) of the
/// whole network. It is called once for each basis and move: `bases²·d/step` times at most. The path lies on the way of every smaller
/// budget, so one search serves all.
///
/// Source: Lin et al., arXiv 2410.14731, section 4.3.
///
/// # Errors
/// [`Error::InvalidOption`] for a step of 0 or a budget that is out of range or below one column for each basis;
/// [`Error::NonFinite`] for a loss that is not finite; what `loss` returns.
pub fn greedy<E: From<Error>>(
    layers: &[Bases],
    options: &BudgetOptions,
    mut loss: impl FnMut(&[Ranks]) -> Result<f64, E>,
) -> Result<Budget, E> {
    let option = |what, requirement, found| E::from(Error::InvalidOption { what, requirement, found });
    if options.step == 0 {
        return Err(option("step", "at least 1", 0.0));
    }
    if !(options.keep > 0.0 && options.keep <= 1.0) {
        return Err(option("keep", "above 0 and at most 1", options.keep));
    }
    let mut ranks = Vec::new();
    for layer in layers {
        ranks.push(layer.ranks(1.0)?);
    }
    let count = |ranks: &[Ranks]| ranks.iter().flat_map(Ranks::iter).sum::<usize>();
    let bases = ranks.iter().flat_map(Ranks::iter).filter(|&rank| rank > 0).count();
    let all = count(&ranks);
    let share = |ranks: &[Ranks]| if all > 0 { count(ranks) as f64 / all as f64 } else { 0.0 };
    if (bases as f64) > options.keep * all as f64 {
        return Err(option("keep", "at least one column of each basis", options.keep));
    }
    let mut measured = |ranks: &[Ranks], moves: usize| -> Result<f64, E> {
        let loss = loss(ranks)?;
        match loss.is_finite() {
            true => Ok(loss),
            false => Err(Error::NonFinite { what: "loss", index: [moves, 0, 0, 0] }.into()),
        }
    };
    let first = measured(&ranks, 0)?;
    let mut path = Vec::from([(share(&ranks), first)]);
    while count(&ranks) as f64 > options.keep * all as f64 {
        let mut best: Option<(f64, Vec<Ranks>)> = None;
        for (layer, at) in layers
            .iter()
            .enumerate()
            .flat_map(|(l, layer)| (0..layer.key().len() + layer.value().len()).map(move |at| (l, at)))
        {
            let mut lower = ranks.clone();
            let Some(rank) = lower.get_mut(layer).and_then(|layer| layer.iter_mut().nth(at)) else {
                continue;
            };
            if *rank <= 1 {
                continue;
            }
            *rank = rank.saturating_sub(options.step).max(1);
            let loss = measured(&lower, path.len())?;
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, lower));
            }
        }
        let Some((loss, lower)) = best else { break };
        ranks = lower;
        path.push((share(&ranks), loss));
    }
    Ok(Budget { ranks, path })
}
