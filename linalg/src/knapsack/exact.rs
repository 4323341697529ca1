//! The exact dynamic program over lists of undominated states.

use alloc::vec::Vec;

use super::relaxed::Relaxed;
use super::{Choice, Kept, Program, Selection};
use crate::Error;

/// States kept at most, all items together, and candidates of one item: 8 and 24 bytes each.
const MAX_STATES: usize = 1 << 24;

/// The selection of least loss whose cost is within `budget`.
///
/// 1. Costs are shifted and divided by their common divisor, dominated choices dropped: nothing is lost.
/// 2. The [relaxation](super::relaxation) gives a multiplier λ and a first selection. A choice costs
///    `regret = loss + λ·cost − min over the item's choices` more than the bound allows; choices, and later partial
///    selections, whose regrets exceed the gap between bound and best selection cannot lead to an optimum.
/// 3. Item by item, those with the largest regrets first, the list of (cost, loss) of partial selections grows by
///    every choice left, and keeps only what no other entry beats in both. Completing each entry by the choices of
///    least regret gives better selections on the way and narrows the gap.
///
/// Exact whatever the size of costs. Time and memory follow the number of undominated states inside the gap: at
/// most budget / divisor for each item, in practice a few hundred, since the gap is at most one step of one item.
///
/// Source: K. Dudziński, S. Walukiewicz, *Exact methods for the knapsack problem and its generalizations* (1987);
/// D. Pisinger, *A minimal algorithm for the multiple-choice knapsack problem* (1995).
///
/// ```
/// use rankbit_linalg::knapsack::{Choice, minimize};
/// let choice = |cost, loss| Choice { cost, loss };
/// let items = [vec![choice(2, 9.0), choice(4, 1.0)], vec![choice(2, 4.0), choice(4, 0.5)]];
/// let found = minimize(&items, 6)?;
/// assert_eq!((found.choices, found.cost, found.loss), (vec![1, 0], 6, 5.0));
/// # Ok::<(), rankbit_linalg::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoChoice`] for an item without choices; [`Error::NonFinite`] for a loss that is NaN or infinite (row:
/// item, column: choice); [`Error::BudgetTooSmall`] with the smallest budget that can be met; [`Error::TooLarge`] when
/// sums of costs exceed 2⁶⁴ − 1, sums of losses overflow, or the lists would exceed 2²⁴ states (only seen on
/// instances built for it: large costs without common divisor, proportional to the losses).
pub fn minimize<C: AsRef<[Choice]>>(items: &[C], budget: u64) -> Result<Selection, Error> {
    let program = Program::new(items)?;
    let capacity = program.capacity(budget)?;
    let relaxed = Relaxed::new(&program, capacity);
    if relaxed.unconstrained {
        return Ok(program.selection(&relaxed.positions));
    }
    Ok(program.selection(&search(&program, capacity, &relaxed)?))
}

/// An item that is still open, with its choices' regrets.
struct Open {
    item: usize,
    /// Position among the kept choices, and the choice.
    choices: Vec<(usize, Kept)>,
    /// min (loss + λ·extra).
    least: f64,
    /// Extra and loss of the choice of least regret.
    favourite: (u64, f64),
    /// Smallest extra.
    cheapest: u64,
    /// Smallest regret of the other choices.
    second: f64,
}

/// A partial selection.
#[derive(Debug, Clone, Copy)]
struct State {
    extra: u64,
    loss: f64,
    parent: u32,
    choice: u32,
}

/// Positions of an optimum.
fn search(program: &Program, capacity: u64, relaxed: &Relaxed) -> Result<Vec<usize>, Error> {
    let price = relaxed.price;
    let slack = program.slack(price, capacity);
    let mut best = program.selection(&relaxed.positions).loss;
    let mut open: Vec<Open> =
        program.kept.iter().enumerate().map(|(item, kept)| Open::new(item, kept, price)).collect();
    let all_least: f64 = open.iter().map(|open| open.least).sum();
    let bound = all_least - price * capacity as f64;
    for open in &mut open {
        open.drop_above(best - bound + slack, price);
    }
    // Few states first: items that hardly have an alternative.
    open.sort_by(|a, b| b.second.total_cmp(&a.second).then(a.item.cmp(&b.item)));

    let mut rest = Rest::all(&open);
    let mut list = alloc::vec![State { extra: 0, loss: 0.0, parent: 0, choice: 0 }];
    let mut history: Vec<Vec<(u32, u32)>> = Vec::with_capacity(open.len());
    let mut total = 0_usize;
    for item in &open {
        rest.without(item);
        let mut next: Vec<State> = Vec::new();
        for (parent, state) in (0_u32..).zip(&list) {
            for (choice, (_, kept)) in (0_u32..).zip(&item.choices) {
                let extra = state.extra + kept.extra;
                if extra > capacity || capacity - extra < rest.cheapest {
                    continue;
                }
                let loss = state.loss + kept.loss;
                if loss + price * extra as f64 + rest.least - price * capacity as f64 > best + slack {
                    continue;
                }
                if extra + rest.favourite.0 <= capacity {
                    best = best.min(loss + rest.favourite.1);
                }
                if next.len() >= MAX_STATES {
                    return Err(Error::TooLarge { what: "states of the knapsack" });
                }
                next.push(State { extra, loss, parent, choice });
            }
        }
        next.sort_unstable_by(|a, b| {
            let key = |s: &State| (s.parent, s.choice);
            a.extra.cmp(&b.extra).then(a.loss.total_cmp(&b.loss)).then(key(a).cmp(&key(b)))
        });
        let mut least = f64::INFINITY;
        next.retain(|state| {
            let keep = state.loss < least;
            least = least.min(state.loss);
            keep
        });
        total = total.saturating_add(next.len());
        if total > MAX_STATES {
            return Err(Error::TooLarge { what: "states of the knapsack" });
        }
        history.push(next.iter().map(|state| (state.parent, state.choice)).collect());
        list = next;
    }
    // The last entry has the least loss, and of equal ones the least cost; the list cannot be empty, since an
    // optimum stays within every bound.
    let mut at = list.len().checked_sub(1).ok_or(Error::NoConvergence { what: "knapsack" })?;
    let mut positions = relaxed.positions.clone();
    for (item, states) in open.iter().zip(&history).rev() {
        let Some(&(parent, choice)) = states.get(at) else { break };
        let chosen = item.choices.get(choice as usize).map_or(0, |&(position, _)| position);
        if let Some(position) = positions.get_mut(item.item) {
            *position = chosen;
        }
        at = parent as usize;
    }
    Ok(positions)
}

impl Open {
    fn new(item: usize, kept: &[Kept], price: f64) -> Self {
        let mut open = Self {
            item,
            choices: kept.iter().copied().enumerate().collect(),
            least: f64::INFINITY,
            favourite: (0, 0.0),
            cheapest: 0,
            second: f64::INFINITY,
        };
        for kept in kept {
            let value = kept.loss + price * kept.extra as f64;
            if value < open.least {
                open.least = value;
                open.favourite = (kept.extra, kept.loss);
            }
        }
        open
    }

    /// Drops choices whose regret is above `gap`.
    fn drop_above(&mut self, gap: f64, price: f64) {
        let least = self.least;
        let regret = |kept: &Kept| kept.loss + price * kept.extra as f64 - least;
        let favourite = self.favourite.0;
        self.choices.retain(|(_, kept)| kept.extra == favourite || regret(kept) <= gap);
        let others = self.choices.iter().filter(|(_, kept)| kept.extra != favourite);
        self.second = others.map(|(_, kept)| regret(kept)).fold(f64::INFINITY, f64::min);
        self.cheapest = self.choices.iter().map(|(_, kept)| kept.extra).min().unwrap_or(0);
    }
}

/// Sums over the items not yet decided.
struct Rest {
    least: f64,
    favourite: (u64, f64),
    cheapest: u64,
}

impl Rest {
    fn all(open: &[Open]) -> Self {
        let mut rest = Self { least: 0.0, favourite: (0, 0.0), cheapest: 0 };
        for item in open {
            rest.least += item.least;
            rest.favourite.0 += item.favourite.0;
            rest.favourite.1 += item.favourite.1;
            rest.cheapest += item.cheapest;
        }
        rest
    }

    fn without(&mut self, item: &Open) {
        self.least -= item.least;
        self.favourite.0 -= item.favourite.0;
        self.favourite.1 -= item.favourite.1;
        self.cheapest -= item.cheapest;
    }
}
