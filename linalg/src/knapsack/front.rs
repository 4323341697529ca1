//! Trade-off curves: which totals of cost and loss are worth having.

use alloc::vec::Vec;

use super::relaxed::steps;
use super::{Choice, Program};
use crate::Error;

/// Cost and loss of a selection. [`minimize`](super::minimize) with its cost as the budget finds one that has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Total {
    /// Sum of costs.
    pub cost: u64,
    /// Sum of losses.
    pub loss: f64,
}

/// The totals on the lower convex hull of all selections, by rising cost and falling loss: from all cheapest choices,
/// the steps along the items' hulls by falling slope.
///
/// Every vertex of the hull is among them, points on its edges too, and nothing off it. O(N log N) for N choices. The
/// whole [Pareto front](pareto_front) has more points between these, none of them below the hull.
///
/// # Errors
/// As [`minimize`](super::minimize), without a budget.
pub fn hull_front<C: AsRef<[Choice]>>(items: &[C]) -> Result<Vec<Total>, Error> {
    let program = Program::new(items)?;
    let mut total = Total { cost: program.base, loss: program.dearest_loss() };
    let steps = steps(&program);
    let mut front = Vec::with_capacity(steps.len() + 1);
    front.push(total);
    for step in steps {
        // Sums of largest costs were checked.
        total.cost += step.extra * program.unit;
        total.loss -= step.gain;
        front.push(total);
    }
    Ok(front)
}

/// Every total that no selection beats in both cost and loss, by rising cost and falling loss.
///
/// Complete, and therefore possibly long: at most the sum of costs over their common divisor, but without such a
/// divisor the product of the numbers of choices.
///
/// # Errors
/// As [`minimize`](super::minimize), without a budget; [`Error::TooLarge`] as soon as there are more than `limit`
/// totals for some of the first items.
pub fn pareto_front<C: AsRef<[Choice]>>(items: &[C], limit: usize) -> Result<Vec<Total>, Error> {
    let program = Program::new(items)?;
    let mut front = alloc::vec![(0_u64, 0.0_f64)];
    for kept in &program.kept {
        let mut next: Vec<(u64, f64)> = Vec::new();
        for &(extra, loss) in &front {
            next.extend(kept.iter().map(|kept| (extra + kept.extra, loss + kept.loss)));
        }
        next.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut least = f64::INFINITY;
        next.retain(|&(_, loss)| {
            let keep = loss < least;
            least = least.min(loss);
            keep
        });
        if next.len() > limit {
            return Err(Error::TooLarge { what: "Pareto front" });
        }
        front = next;
    }
    Ok(front
        .into_iter()
        .map(|(extra, loss)| Total { cost: program.base + extra * program.unit, loss })
        .collect())
}
