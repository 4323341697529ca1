//! The multiple-choice knapsack: one choice for each item, least total loss within a budget.
//!
//! ```text
//! minimize Σᵢ lossᵢ(cᵢ)   subject to   Σᵢ costᵢ(cᵢ) ≤ budget,   one choice cᵢ for each item i
//! ```
//!
//! It is the program behind mixed precision: items are tensors, choices their formats or ranks, costs stored bits.
//! Costs are whole numbers (`u64`), losses any finite `f64`, also negative ones.
//!
//! | item | what it gives |
//! |---|---|
//! | [`minimize`] | an optimum, exactly, for costs of any size |
//! | [`relaxation`] | a lower bound by the linear (equally, Lagrangian) relaxation, and a feasible selection near it |
//! | [`hull_front`] | the totals on the lower convex hull of all (cost, loss): a trade-off curve at no extra cost |
//! | [`pareto_front`] | every total that no other one beats in both, up to a limit |
//! | `minimize_within` | several limits at once, by a solver; needs `std` |
//!
//! Losses are added in `f64` in the order of the items, so "least" holds up to the rounding of such a sum, a few
//! n·2⁻⁵³ of its terms. Ties: of equal losses the least cost; beyond that the same input gives the same selection.

mod exact;
mod front;
mod relaxed;
#[cfg(feature = "std")]
mod several;

use alloc::vec::Vec;

use crate::Error;

pub use exact::minimize;
pub use front::{Total, hull_front, pareto_front};
pub use relaxed::{Relaxation, relaxation};
#[cfg(feature = "std")]
pub use several::{Alternative, Assignment, minimize_within};

/// One way to settle an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// What it takes of the budget.
    pub cost: u64,
    /// What it adds to the total; finite.
    pub loss: f64,
}

/// One choice for each item.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Index of the choice, item by item.
    pub choices: Vec<usize>,
    /// Sum of their costs.
    pub cost: u64,
    /// Sum of their losses, in the order of the items.
    pub loss: f64,
}

/// A choice that is worth considering, relative to the cheapest of its item.
#[derive(Debug, Clone, Copy)]
struct Kept {
    index: usize,
    /// Cost above the item's smallest, in units of the common divisor.
    extra: u64,
    loss: f64,
}

/// A checked program in its smallest form.
///
/// Scaling: from every cost its item's smallest is taken off, and what is left divided by the greatest common divisor
/// of all of them. Both leave the set of selections within the budget as it is, so nothing is lost.
struct Program {
    /// For each item the choices that no other one of it beats: costs rise, losses fall strictly.
    kept: Vec<Vec<Kept>>,
    /// Sum of the smallest costs.
    base: u64,
    /// What the units of `extra` are worth.
    unit: u64,
    /// A bound on the magnitude of every partial sum of losses.
    magnitude: f64,
}

impl Program {
    fn new<C: AsRef<[Choice]>>(items: &[C]) -> Result<Self, Error> {
        let mut kept = Vec::with_capacity(items.len());
        let (mut base, mut top, mut unit, mut magnitude) = (0_u64, 0_u64, 0_u64, 0.0_f64);
        let too_large = |what| Error::TooLarge { what };
        for (item, choices) in items.iter().enumerate() {
            let choices = choices.as_ref();
            let mut order: Vec<(usize, Choice)> = choices.iter().copied().enumerate().collect();
            if let Some(&(choice, _)) = order.iter().find(|(_, choice)| !choice.loss.is_finite()) {
                return Err(Error::NonFinite {
                    what: "loss of a choice (item, choice)",
                    row: item,
                    col: choice,
                });
            }
            order
                .sort_by(|(i, a), (j, b)| a.cost.cmp(&b.cost).then(a.loss.total_cmp(&b.loss)).then(i.cmp(j)));
            let Some(&(_, cheapest)) = order.first() else { return Err(Error::NoChoice { item }) };
            let mut undominated: Vec<Kept> = Vec::new();
            for (index, choice) in order {
                if undominated.last().is_none_or(|last| choice.loss < last.loss) {
                    let extra = choice.cost - cheapest.cost;
                    unit = gcd(unit, extra);
                    undominated.push(Kept { index, extra, loss: choice.loss });
                }
            }
            let dearest = undominated.last().map_or(0, |last| last.extra);
            base = base.checked_add(cheapest.cost).ok_or_else(|| too_large("sum of the smallest costs"))?;
            top = top.checked_add(dearest).ok_or_else(|| too_large("sum of the largest costs"))?;
            magnitude += undominated.iter().map(|kept| kept.loss.abs()).fold(0.0, f64::max);
            kept.push(undominated);
        }
        if !magnitude.is_finite() {
            return Err(too_large("sum of the losses"));
        }
        let unit = unit.max(1);
        for kept in kept.iter_mut().flatten() {
            kept.extra /= unit;
        }
        base.checked_add(top).ok_or_else(|| too_large("sum of the largest costs"))?;
        Ok(Self { kept, base, unit, magnitude })
    }

    /// What the budget leaves beyond the smallest costs, in units.
    fn capacity(&self, budget: u64) -> Result<u64, Error> {
        match budget.checked_sub(self.base) {
            Some(left) => Ok(left / self.unit),
            None => Err(Error::BudgetTooSmall { budget, smallest: self.base }),
        }
    }

    /// Sum of the cheapest choices' losses.
    fn dearest_loss(&self) -> f64 {
        self.kept.iter().filter_map(|kept| kept.first()).map(|kept| kept.loss).sum()
    }

    /// The selection with these positions among the kept choices.
    fn selection(&self, positions: &[usize]) -> Selection {
        let mut selection =
            Selection { choices: Vec::with_capacity(positions.len()), cost: self.base, loss: 0.0 };
        for kept in self.kept.iter().zip(positions).filter_map(|(kept, &position)| kept.get(position)) {
            selection.choices.push(kept.index);
            // Sums of largest costs were checked.
            selection.cost += kept.extra * self.unit;
            selection.loss += kept.loss;
        }
        selection
    }

    /// What rounding may add to a sum of losses and priced costs.
    fn slack(&self, price: f64, capacity: u64) -> f64 {
        let terms = self.kept.len() as f64 + 2.0;
        8.0 * terms * f64::EPSILON * (self.magnitude + price * capacity as f64)
    }
}

/// Greatest common divisor; that of 0 and x is x.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
