//! HAWQ-V3's program: bits for each layer under limits of size, bit operations and latency.
//!
//! ```text
//! minimize Σᵢ Ωᵢ(bᵢ)   subject to   Σᵢ nᵢ·bᵢ ≤ size,   Σᵢ bᵢ²·MACᵢ ≤ bit operations,   Σᵢ latencyᵢ(bᵢ) ≤ latency
//! ```
//!
//! Weights and activations of a layer share their bits, as do layers whose outputs meet in a residual sum.
//! `Ωᵢ` is any loss, HAWQ-V2's [`Loss::Hessian`](super::Loss::Hessian) in the paper.
//!
//! Source: HAWQ-V3, arXiv 2011.10680, section 3.4 and the authors' notebook.

use alloc::collections::BTreeMap;
use alloc::{string::String, vec, vec::Vec};
use rankbit_linalg::knapsack::{Alternative, minimize_within};

use crate::Error;

/// What a layer is with some number of bits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LayerBits {
    /// Bits of weights and activations.
    pub bits: u8,
    /// What the network loses.
    pub loss: f64,
    /// Measured time, in any whole unit that all layers share (nanoseconds, say); 0 where latency is not limited.
    pub latency: u64,
}

/// A layer and its options.
#[derive(Clone, PartialEq, Debug)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Number of weights.
    pub weights: u64,
    /// Multiply–accumulates of one forward pass.
    pub macs: u64,
    /// What it may become; one option fixes it, as the paper fixes the first and the last layer at 8 bits.
    pub options: Vec<LayerBits>,
    /// Layers with the same number here take the same bits.
    pub tied: Option<u32>,
}

/// Limits; `None` for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Bits of all weights, `Σ nᵢ·bᵢ`.
    pub size: Option<u64>,
    /// [`bit_operations`] of all layers.
    pub bit_operations: Option<u64>,
    /// Time of all layers.
    pub latency: Option<u64>,
}

/// The bits of every layer, and what they come to.
#[derive(Clone, PartialEq, Debug)]
pub struct Bits {
    /// Bits, layer by layer.
    pub bits: Vec<u8>,
    /// Sum of losses.
    pub loss: f64,
    /// Bits of all weights.
    pub size: u64,
    /// Bit operations of all layers.
    pub bit_operations: u64,
    /// Time of all layers.
    pub latency: u64,
}

/// Bit operations of a layer: `b_w · b_a · MAC` with as many bits for activations as for weights. `None` on overflow.
pub const fn bit_operations(bits: u8, macs: u64) -> Option<u64> {
    macs.checked_mul(bits as u64 * bits as u64)
}

/// A limit as the paper sets it: `low + fraction · (high − low)`, between the totals of the smallest and the largest
/// bits; the paper takes a quarter, a half and three quarters. Fractions outside 0 to 1 are taken as its ends.
pub fn limit_between(low: u64, high: u64, fraction: f64) -> u64 {
    let range = high.saturating_sub(low);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most the range, at least 0"
    )]
    let part = (fraction.clamp(0.0, 1.0) * range as f64) as u64;
    low.saturating_add(part.min(range))
}

/// Solves the program with [`minimize_within`]: limits are kept exactly, the loss is the least to its accuracy.
///
/// # Errors
/// [`Error::InvalidRecipe`] when tied layers do not offer the same bits in the same order; those of
/// [`minimize_within`], whose items are the layers, tied ones as one, in the order of their first.
pub fn allocate(layers: &[Layer], limits: &Limits) -> Result<Bits, Error> {
    let too_large = || Error::Linalg(rankbit_linalg::Error::TooLarge { what: "bit operations" });
    let mut items: Vec<Vec<Alternative>> = Vec::new();
    let mut owners = Vec::with_capacity(layers.len());
    let mut groups: BTreeMap<u32, (usize, &Layer)> = BTreeMap::new();
    for layer in layers {
        let mut alternatives = Vec::with_capacity(layer.options.len());
        for option in &layer.options {
            let size = layer.weights.checked_mul(u64::from(option.bits)).ok_or_else(too_large)?;
            let operations = bit_operations(option.bits, layer.macs).ok_or_else(too_large)?;
            alternatives
                .push(Alternative { costs: vec![size, operations, option.latency], loss: option.loss });
        }
        let known = layer.tied.and_then(|tied| groups.get(&tied).copied());
        let Some((owner, first)) = known else {
            if let Some(tied) = layer.tied {
                groups.insert(tied, (items.len(), layer));
            }
            owners.push(items.len());
            items.push(alternatives);
            continue;
        };
        if !first.options.iter().map(|option| option.bits).eq(layer.options.iter().map(|option| option.bits))
        {
            return Err(Error::InvalidRecipe { reason: "tied layers offer different bits" });
        }
        owners.push(owner);
        for (sum, more) in items.get_mut(owner).into_iter().flatten().zip(alternatives) {
            for (cost, add) in sum.costs.iter_mut().zip(more.costs) {
                *cost = cost.checked_add(add).ok_or_else(too_large)?;
            }
            sum.loss += more.loss;
        }
    }
    let all = [limits.size, limits.bit_operations, limits.latency];
    let kept =
        |costs: &[u64]| costs.iter().zip(all).filter_map(|(&cost, limit)| limit.map(|_| cost)).collect();
    let limited: Vec<Vec<Alternative>> = items
        .iter()
        .map(|item| item.iter().map(|a| Alternative { costs: kept(&a.costs), loss: a.loss }).collect())
        .collect();
    let found = minimize_within(&limited, &all.into_iter().flatten().collect::<Vec<u64>>())?;
    let mut result = Bits { bits: Vec::new(), loss: found.loss, size: 0, bit_operations: 0, latency: 0 };
    let chosen = items.iter().zip(&found.choices).filter_map(|(item, &choice)| item.get(choice));
    for alternative in chosen {
        if let [size, operations, latency] = *alternative.costs.as_slice() {
            result.size = result.size.saturating_add(size);
            result.bit_operations = result.bit_operations.saturating_add(operations);
            result.latency = result.latency.saturating_add(latency);
        }
    }
    result.bits = layers
        .iter()
        .zip(&owners)
        .filter_map(|(layer, &owner)| Some(layer.options.get(*found.choices.get(owner)?)?.bits))
        .collect();
    Ok(result)
}
