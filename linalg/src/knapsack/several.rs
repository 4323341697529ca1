//! Several limits at once, by a mixed-integer solver.
//!
//! The solver is `microlp`: plain Rust, no native library, maintained, branch and bound on a revised simplex. It works
//! in floating point; what it returns is rounded, checked in whole numbers, and searched anew without it if it does
//! not hold, so a limit is never exceeded.

use alloc::vec;
use alloc::vec::Vec;

use microlp::{ComparisonOp, OptimizationDirection, Problem, SolveOutcome, Variable};

use crate::Error;

/// Selections ruled out by the check in whole numbers before giving up.
const ATTEMPTS: usize = 64;

/// One way to settle an item when there are several limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// What it takes of each limit.
    pub costs: Vec<u64>,
    /// What it adds to the total; finite.
    pub loss: f64,
}

/// One alternative for each item.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Index of the alternative, item by item.
    pub choices: Vec<usize>,
    /// Sum of their costs, limit by limit.
    pub costs: Vec<u64>,
    /// Sum of their losses, in the order of the items.
    pub loss: f64,
}

/// The assignment of least loss that keeps every limit.
///
/// ```text
/// minimize Σᵢ lossᵢ(cᵢ)   subject to   Σᵢ costᵢₖ(cᵢ) ≤ limitₖ  for every k
/// ```
///
/// Limits are kept exactly; the loss is the least to the solver's accuracy, about 10⁻⁷ of the largest difference
/// between two alternatives of an item. With one limit, [`minimize`](super::minimize) is exact and needs no solver.
///
/// # Errors
/// [`Error::NoChoice`]; [`Error::ShapeMismatch`] for an alternative with another number of costs than there are
/// limits; [`Error::NonFinite`] for a loss (row: item, column: alternative); [`Error::TooLarge`] when the costs of a
/// limit exceed 2⁶⁴ − 1 in sum; [`Error::BudgetTooSmall`] for a limit that cannot be met even alone;
/// [`Error::LimitsExclude`] when all of them together cannot; [`Error::NoConvergence`] when the solver gives up.
pub fn minimize_within<A: AsRef<[Alternative]>>(items: &[A], limits: &[u64]) -> Result<Assignment, Error> {
    check(items, limits)?;
    let open = open(items, limits);
    let scale = open.iter().map(|choices| spread(choices)).fold(0.0, f64::max);
    let mut problem = Problem::new(OptimizationDirection::Minimize);
    let variables: Vec<Vec<(Variable, usize)>> = open
        .iter()
        .map(|choices| {
            let least = choices.iter().map(|(_, a)| a.loss).fold(f64::INFINITY, f64::min);
            let weight = |loss: f64| if scale > 0.0 { (loss - least) / scale } else { 0.0 };
            choices.iter().map(|&(index, a)| (problem.add_binary_var(weight(a.loss)), index)).collect()
        })
        .collect();
    for item in &variables {
        let sum: Vec<(Variable, f64)> = item.iter().map(|&(variable, _)| (variable, 1.0)).collect();
        problem.add_constraint(&sum, ComparisonOp::Eq, 1.0);
    }
    for k in 0..limits.len() {
        if let Some(row) = limit_row(&open, &variables, limits, k) {
            problem.add_constraint(&row, ComparisonOp::Le, 1.0);
        }
    }
    for _ in 0..ATTEMPTS {
        let solution = match problem.clone().solve() {
            Ok(SolveOutcome::Solution(solution)) => solution,
            Err(microlp::Error::Infeasible) => return Err(Error::LimitsExclude),
            Ok(SolveOutcome::Interrupted(_)) | Err(_) => {
                return Err(Error::NoConvergence { what: "program" });
            }
        };
        let chosen: Vec<(Variable, usize)> = variables
            .iter()
            .filter_map(|item| {
                let value = |variable| solution.var_value(variable);
                item.iter().copied().max_by(|a, b| value(a.0).total_cmp(&value(b.0)).then(b.1.cmp(&a.1)))
            })
            .collect();
        let found = assignment(items, limits.len(), chosen.iter().map(|&(_, index)| index).collect());
        if found.costs.iter().zip(limits).all(|(cost, limit)| cost <= limit) {
            return Ok(found);
        }
        // Within the solver's tolerance, but not within the limit: anything but this one.
        let cut: Vec<(Variable, f64)> = chosen.iter().map(|&(variable, _)| (variable, 1.0)).collect();
        problem.add_constraint(&cut, ComparisonOp::Le, chosen.len() as f64 - 1.0);
    }
    Err(Error::NoConvergence { what: "program" })
}

/// Everything that can be wrong with the arguments.
fn check<A: AsRef<[Alternative]>>(items: &[A], limits: &[u64]) -> Result<(), Error> {
    let (mut smallest, mut largest) = (vec![0_u64; limits.len()], vec![0_u64; limits.len()]);
    let mut losses = 0.0_f64;
    for (item, choices) in items.iter().enumerate() {
        let choices = choices.as_ref();
        if choices.is_empty() {
            return Err(Error::NoChoice { item });
        }
        for (choice, alternative) in choices.iter().enumerate() {
            if alternative.costs.len() != limits.len() {
                return Err(Error::ShapeMismatch {
                    what: "costs of an alternative",
                    expected: (1, limits.len()),
                    found: (1, alternative.costs.len()),
                });
            }
            if !alternative.loss.is_finite() {
                return Err(Error::NonFinite {
                    what: "loss of a choice (item, choice)",
                    row: item,
                    col: choice,
                });
            }
        }
        losses += choices.iter().map(|a| a.loss.abs()).fold(0.0, f64::max);
        for (k, (low, high)) in smallest.iter_mut().zip(&mut largest).enumerate() {
            let costs = || choices.iter().filter_map(|a| a.costs.get(k).copied());
            let sum = |sum: u64, cost: Option<u64>| sum.checked_add(cost.unwrap_or(0));
            let what = "sum of the costs of a limit";
            *low = sum(*low, costs().min()).ok_or(Error::TooLarge { what })?;
            *high = sum(*high, costs().max()).ok_or(Error::TooLarge { what })?;
        }
    }
    if !losses.is_finite() {
        return Err(Error::TooLarge { what: "sum of the losses" });
    }
    match smallest.iter().zip(limits).find(|(smallest, limit)| smallest > limit) {
        Some((&smallest, &budget)) => Err(Error::BudgetTooSmall { budget, smallest }),
        None => Ok(()),
    }
}

/// For each item the alternatives that fit the limits when all others take least, with their indices.
fn open<'a, A: AsRef<[Alternative]>>(items: &'a [A], limits: &[u64]) -> Vec<Vec<(usize, &'a Alternative)>> {
    let cheapest = |choices: &[Alternative], k: usize| {
        choices.iter().filter_map(|a| a.costs.get(k).copied()).min().unwrap_or(0)
    };
    let room: Vec<u64> = (0..limits.len())
        .map(|k| {
            let taken: u64 = items.iter().map(|item| cheapest(item.as_ref(), k)).sum();
            limits.get(k).map_or(0, |limit| limit.saturating_sub(taken))
        })
        .collect();
    items
        .iter()
        .map(|item| {
            let choices = item.as_ref();
            let fits = |a: &Alternative| {
                let extra = |k: usize, cost: u64| cost - cheapest(choices, k);
                a.costs.iter().zip(&room).enumerate().all(|(k, (&cost, &room))| extra(k, cost) <= room)
            };
            choices.iter().enumerate().filter(|(_, a)| fits(a)).collect()
        })
        .collect()
}

/// Difference between the largest and the smallest loss.
fn spread(choices: &[(usize, &Alternative)]) -> f64 {
    let losses = || choices.iter().map(|(_, a)| a.loss);
    losses().fold(f64::NEG_INFINITY, f64::max) - losses().fold(f64::INFINITY, f64::min)
}

/// Limit `k` over the variables, scaled so that its right side is 1; `None` where it cannot be exceeded.
///
/// Taken off are the smallest costs of what is still open, so that the row sees only what can be decided.
fn limit_row(
    open: &[Vec<(usize, &Alternative)>],
    variables: &[Vec<(Variable, usize)>],
    limits: &[u64],
    k: usize,
) -> Option<Vec<(Variable, f64)>> {
    let cost = |a: &Alternative| a.costs.get(k).copied().unwrap_or(0);
    let least = |item: &[(usize, &Alternative)]| item.iter().map(|(_, a)| cost(a)).min().unwrap_or(0);
    let most = |item: &[(usize, &Alternative)]| item.iter().map(|(_, a)| cost(a)).max().unwrap_or(0);
    let limit = limits.get(k).copied().unwrap_or(0);
    let taken: u64 = open.iter().map(|item| least(item)).sum();
    if open.iter().map(|item| most(item)).sum::<u64>() <= limit {
        return None;
    }
    // With no room at all nothing but the smallest costs is left: any positive cost then breaks the row.
    let room = limit.saturating_sub(taken).max(1) as f64;
    let full = if limit <= taken { 2.0 } else { 1.0 };
    let mut row = Vec::new();
    for (item, variables) in open.iter().zip(variables) {
        let least = least(item);
        for (&(_, a), &(variable, _)) in item.iter().zip(variables) {
            let extra = cost(a) - least;
            if extra > 0 {
                row.push((variable, full * extra as f64 / room));
            }
        }
    }
    Some(row)
}

fn assignment<A: AsRef<[Alternative]>>(items: &[A], limits: usize, choices: Vec<usize>) -> Assignment {
    let mut found = Assignment { choices: Vec::new(), costs: vec![0; limits], loss: 0.0 };
    for alternative in items.iter().zip(&choices).filter_map(|(item, &index)| item.as_ref().get(index)) {
        for (sum, cost) in found.costs.iter_mut().zip(&alternative.costs) {
            // Sums of the largest costs were checked.
            *sum += cost;
        }
        found.loss += alternative.loss;
    }
    found.choices = choices;
    found
}
