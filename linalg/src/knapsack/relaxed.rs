//! The linear relaxation by its steepest steps.

use alloc::vec;
use alloc::vec::Vec;

use super::{Choice, Kept, Program, Selection};
use crate::Error;

/// A lower bound and a selection near it; from [`relaxation`].
#[derive(Debug, Clone, PartialEq)]
pub struct Relaxation {
    /// No selection within the budget has a smaller loss (up to rounding).
    pub bound: f64,
    /// What one more unit of cost would take off the bound, ≥ 0: the Lagrange multiplier of the budget.
    pub multiplier: f64,
    /// A selection within the budget; its loss is at least `bound`.
    pub selection: Selection,
}

/// The linear relaxation, in which an item may take parts of several choices.
///
/// ```text
/// max_λ [ Σᵢ min_c (lossᵢ(c) + λ·costᵢ(c)) − λ·budget ]  =  bound  ≤  optimum  ≤  selection.loss
/// ```
/// A budget between two sums of costs is first rounded down to the nearest whose distance from the smallest costs is a
/// multiple of the common divisor, which only raises the bound.
/// 1. In each item only the lower convex hull of (cost, loss) matters (LP-dominance).
/// 2. From the cheapest choices on, the steps along the hulls are taken by falling slope −Δloss / Δcost while they
///    fit; the first that does not gives the multiplier and the fractional rest of the bound.
/// 3. Later steps that still fit make the selection better.
///
/// Cost O(N log N) for N choices. Source: E. Zemel, *The linear multiple choice knapsack problem* (1980); H. Kellerer,
/// U. Pferschy, D. Pisinger, *Knapsack Problems* (2004), section 11.2.
///
/// # Errors
/// As [`minimize`](super::minimize).
pub fn relaxation<C: AsRef<[Choice]>>(items: &[C], budget: u64) -> Result<Relaxation, Error> {
    let program = Program::new(items)?;
    let capacity = program.capacity(budget)?;
    let relaxed = Relaxed::new(&program, capacity);
    Ok(Relaxation {
        bound: relaxed.bound,
        multiplier: relaxed.price / program.unit as f64,
        selection: program.selection(&relaxed.positions),
    })
}

/// A step of one item from one vertex of its hull to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) item: usize,
    /// Position reached, among the kept choices.
    pub(super) to: usize,
    pub(super) extra: u64,
    /// How much the loss falls, > 0.
    pub(super) gain: f64,
}

impl Step {
    pub(super) fn slope(&self) -> f64 {
        self.gain / self.extra as f64
    }
}

/// Every step of every hull, steepest first; of equal slopes in the order of items, and within an item as they follow.
pub(super) fn steps(program: &Program) -> Vec<Step> {
    let mut steps = Vec::new();
    for (item, kept) in program.kept.iter().enumerate() {
        let hull = hull(kept);
        for (&from, &to) in hull.iter().zip(hull.iter().skip(1)) {
            if let (Some(a), Some(b)) = (kept.get(from), kept.get(to)) {
                steps.push(Step { item, to, extra: b.extra - a.extra, gain: a.loss - b.loss });
            }
        }
    }
    // Within an item they fall strictly already: the hull was found with these very quotients.
    steps.sort_by(|a, b| b.slope().total_cmp(&a.slope()).then((a.item, a.to).cmp(&(b.item, b.to))));
    steps
}

/// Positions of the lower convex hull of choices whose costs rise and losses fall.
fn hull(kept: &[Kept]) -> Vec<usize> {
    let mut hull: Vec<usize> = Vec::new();
    let slope = |a: usize, b: usize| match (kept.get(a), kept.get(b)) {
        (Some(a), Some(b)) => (a.loss - b.loss) / (b.extra - a.extra) as f64,
        _ => 0.0,
    };
    for next in 0..kept.len() {
        while let [.., before, last] = *hull.as_slice()
            && slope(before, last) <= slope(last, next)
        {
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

/// The relaxation in units of the program.
pub(super) struct Relaxed {
    pub(super) bound: f64,
    /// The multiplier per unit.
    pub(super) price: f64,
    /// A feasible selection, as positions.
    pub(super) positions: Vec<usize>,
    /// Whether every item has its least loss.
    pub(super) unconstrained: bool,
}

impl Relaxed {
    pub(super) fn new(program: &Program, capacity: u64) -> Self {
        let mut positions = vec![0; program.kept.len()];
        let mut blocked = vec![false; program.kept.len()];
        let (mut left, mut price) = (capacity, None);
        let mut bound = program.dearest_loss();
        for step in steps(program) {
            let (Some(position), Some(blocked)) = (positions.get_mut(step.item), blocked.get_mut(step.item))
            else {
                continue;
            };
            if *blocked {
                continue;
            }
            if step.extra <= left {
                left -= step.extra;
                *position = step.to;
                if price.is_none() {
                    bound -= step.gain;
                }
            } else {
                *blocked = true;
                if price.is_none() {
                    price = Some(step.slope());
                    bound -= step.slope() * left as f64;
                }
            }
        }
        Self { bound, price: price.unwrap_or(0.0), positions, unconstrained: price.is_none() }
    }
}
