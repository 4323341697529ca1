//! The multiple-choice knapsack against every selection there is, and against SciPy's solver.
#![expect(clippy::cast_possible_truncation, reason = "budgets are far inside the range")]

use proptest::prelude::*;
use rankbit_linalg::Error;
use rankbit_linalg::knapsack::{
    Alternative, Choice, Selection, Total, hull_front, minimize, minimize_within, pareto_front, relaxation,
};

type Items = Vec<Vec<Choice>>;

/// Losses are multiples of 1/8, so that sums are exact.
fn choice(cost: u64, eighths: i32) -> Choice {
    Choice { cost, loss: f64::from(eighths) / 8.0 }
}

fn items(most: usize, largest: u64) -> impl Strategy<Value = Items> {
    let one = (0..=largest, -400_i32..400).prop_map(|(cost, loss)| choice(cost, loss));
    prop::collection::vec(prop::collection::vec(one, 1..5), 0..=most)
}

/// Cost and loss of every selection.
fn every_total(items: &Items) -> Vec<Total> {
    let mut totals = vec![Total { cost: 0, loss: 0.0 }];
    for choices in items {
        totals = totals
            .iter()
            .flat_map(|t| choices.iter().map(|c| Total { cost: t.cost + c.cost, loss: t.loss + c.loss }))
            .collect();
    }
    totals
}

/// Least loss within the budget and, of those, least cost.
fn best(totals: &[Total], budget: u64) -> Option<Total> {
    let within = totals.iter().filter(|total| total.cost <= budget).copied();
    within.min_by(|a, b| a.loss.total_cmp(&b.loss).then(a.cost.cmp(&b.cost)))
}

fn is_consistent(items: &Items, found: &Selection) -> bool {
    let chosen: Vec<Choice> = items.iter().zip(&found.choices).map(|(item, &c)| item[c]).collect();
    found.choices.len() == items.len()
        && found.cost == chosen.iter().map(|c| c.cost).sum::<u64>()
        && found.loss == chosen.iter().map(|c| c.loss).sum::<f64>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Every budget that changes anything, small and huge costs: the optimum, consistent, never above the budget.
    #[test]
    fn equals_brute_force(items in prop_oneof![items(6, 12), items(6, 1 << 50)], shift in 0_u32..9) {
        let items: Items = items.iter().map(|choices| {
            choices.iter().map(|c| Choice { cost: c.cost << shift, ..*c }).collect()
        }).collect();
        let totals = every_total(&items);
        let mut budgets: Vec<u64> = totals.iter().flat_map(|t| [t.cost, t.cost + 1, t.cost.saturating_sub(1)]).collect();
        budgets.sort_unstable();
        budgets.dedup();
        let mut before = f64::INFINITY;
        for &budget in budgets.iter().step_by(budgets.len() / 40 + 1) {
            let found = minimize(&items, budget);
            match best(&totals, budget) {
                None => {
                    let smallest = totals.iter().map(|t| t.cost).min().unwrap_or(0);
                    prop_assert_eq!(found, Err(Error::BudgetTooSmall { budget, smallest }));
                }
                Some(best) => {
                    let found = found.expect("a selection");
                    prop_assert!(is_consistent(&items, &found));
                    prop_assert_eq!((found.cost, found.loss), (best.cost, best.loss));
                    // More budget never costs.
                    prop_assert!(found.loss <= before);
                    before = found.loss;
                    let relaxed = relaxation(&items, budget).expect("a bound");
                    let slack = 1e-9 * (1.0 + best.loss.abs());
                    prop_assert!(relaxed.bound <= best.loss + slack, "{relaxed:?} for {best:?}");
                    prop_assert!(relaxed.selection.cost <= budget && relaxed.selection.loss >= best.loss);
                    prop_assert!(is_consistent(&items, &relaxed.selection));
                    prop_assert!(relaxed.multiplier >= 0.0);
                    // The bound is at least the dual's value at the multiplier, whatever rounding the budget gained.
                    let price = relaxed.multiplier;
                    let priced = totals.iter().map(|t| t.loss + price * t.cost as f64).fold(f64::INFINITY, f64::min);
                    let size = 1.0 + price * budget as f64 + priced.abs();
                    prop_assert!(priced - price * budget as f64 <= relaxed.bound + 1e-9 * size);
                }
            }
        }
    }

    /// Both fronts against all totals.
    #[test]
    fn fronts_are_complete_and_nothing_lies_below(items in items(6, 30)) {
        let totals = every_total(&items);
        let front = pareto_front(&items, 100_000).expect("a front");
        let beaten = |a: &Total| totals.iter().any(|b| {
            b.cost <= a.cost && b.loss <= a.loss && (b.cost < a.cost || b.loss < a.loss)
        });
        let mut undominated: Vec<Total> = totals.iter().filter(|t| !beaten(t)).copied().collect();
        undominated.sort_by_key(|t| t.cost);
        undominated.dedup();
        prop_assert_eq!(&front, &undominated);
        let hull = hull_front(&items).expect("a front");
        prop_assert_eq!((hull[0].cost, hull[hull.len() - 1].loss), (front[0].cost, front[front.len() - 1].loss));
        for pair in hull.windows(2) {
            let ([a, b], t) = ([pair[0], pair[1]], &totals);
            prop_assert!(a.cost < b.cost && a.loss > b.loss);
            let below = |t: &Total| {
                (t.loss - a.loss) * (b.cost - a.cost) as f64 - (b.loss - a.loss) * (t.cost as f64 - a.cost as f64)
            };
            prop_assert!(t.iter().all(|t| below(t) >= -1e-6));
            prop_assert!(front.contains(&a));
        }
    }

    /// One limit is the exact program; three are every selection's.
    #[test]
    fn several_limits_equal_brute_force(
        rows in prop::collection::vec(prop::collection::vec(((0_u64..50, 0_u64..5000, 0_u64..9), -400_i32..400), 1..4), 0..6),
        fractions in (0.0..1.0, 0.0..1.0, 0.0..1.0),
    ) {
        let items: Vec<Vec<Alternative>> = rows.iter().map(|row| row.iter().map(|&((a, b, c), loss)| {
            Alternative { costs: vec![a, b, c], loss: f64::from(loss) / 8.0 }
        }).collect()).collect();
        let mut all = vec![(vec![0, 0, 0], 0.0)];
        for row in &items {
            all = all.iter().flat_map(|(costs, loss): &(Vec<u64>, f64)| row.iter().map(move |a| {
                (costs.iter().zip(&a.costs).map(|(x, y)| x + y).collect(), loss + a.loss)
            })).collect();
        }
        let limit = |k: usize, fraction: f64| {
            let ends = || all.iter().map(|(costs, _)| costs[k]);
            let (low, high) = (ends().min().unwrap_or(0), ends().max().unwrap_or(0));
            (low as f64 + fraction * (high - low) as f64) as u64
        };
        let limits = [limit(0, fractions.0), limit(1, fractions.1), limit(2, fractions.2)];
        let fits = |costs: &[u64]| costs.iter().zip(&limits).all(|(c, l)| c <= l);
        let least = all.iter().filter(|(costs, _)| fits(costs)).map(|&(_, loss)| loss).fold(f64::INFINITY, f64::min);
        match minimize_within(&items, &limits) {
            Ok(found) => {
                prop_assert!(fits(&found.costs), "{found:?} for {limits:?}");
                prop_assert_eq!(found.loss, least);
            }
            Err(error) => {
                prop_assert_eq!(error, Error::LimitsExclude);
                prop_assert_eq!(least, f64::INFINITY);
            }
        }
        let single: Vec<Vec<Choice>> = items.iter().map(|row| {
            row.iter().map(|a| Choice { cost: a.costs[1], loss: a.loss }).collect()
        }).collect();
        let projected: Vec<Vec<Alternative>> = items.iter().map(|row| {
            row.iter().map(|a| Alternative { costs: vec![a.costs[1]], loss: a.loss }).collect()
        }).collect();
        let exact = minimize(&single, limits[1]).expect("a selection");
        prop_assert_eq!(minimize_within(&projected, &limits[1..2]).expect("a selection").loss, exact.loss);
    }
}

/// The optima that SciPy's mixed-integer solver found; see scripts/oracle/knapsack.py.
#[test]
fn equals_scipy() {
    let cases: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/knapsack.json")).expect("kept vectors");
    let list = |value: &serde_json::Value| value.as_array().expect("a list").clone();
    let mut counts = [0, 0];
    for case in list(&cases) {
        let limits: Vec<u64> = list(&case["limits"]).iter().map(|l| l.as_u64().expect("a limit")).collect();
        let optimum = case["optimum"].as_f64().expect("a loss");
        let rows = list(&case["costs"]).into_iter().zip(list(&case["losses"]));
        let items: Vec<Vec<Alternative>> = rows
            .map(|(costs, losses)| {
                list(&costs)
                    .iter()
                    .zip(list(&losses))
                    .map(|(costs, loss)| Alternative {
                        costs: list(costs).iter().map(|c| c.as_u64().expect("a cost")).collect(),
                        loss: loss.as_f64().expect("a loss"),
                    })
                    .collect()
            })
            .collect();
        let within = minimize_within(&items, &limits).expect("an assignment");
        assert_eq!(within.loss, optimum);
        assert!(within.costs.iter().zip(&limits).all(|(c, l)| c <= l));
        if let [limit] = *limits.as_slice() {
            let single: Items = items
                .iter()
                .map(|row| row.iter().map(|a| Choice { cost: a.costs[0], loss: a.loss }).collect())
                .collect();
            assert_eq!(minimize(&single, limit).expect("a selection").loss, optimum);
        }
        counts[usize::from(limits.len() > 1)] += 1;
    }
    assert_eq!(counts, [15, 9]);
}

/// Many tensors, many candidates, budgets without a common divisor: what a large network asks for, in no time.
#[test]
fn a_large_network() {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 31)
    };
    let items: Items = (0..500)
        .map(|_| {
            let (weights, noise) = (1e5 + 1e7 * uniform(), 0.5 + uniform());
            (0..24)
                .map(|j| {
                    let bits = 2.0 + 0.27 * f64::from(j) + 0.1 * uniform();
                    Choice {
                        cost: (weights * bits) as u64,
                        loss: weights * noise * (0.8 + 0.4 * uniform()) * 4_f64.powf(-bits),
                    }
                })
                .collect()
        })
        .collect();
    let smallest: u64 = items.iter().map(|item| item.iter().map(|c| c.cost).min().expect("choices")).sum();
    for factor in [1.0, 1.2, 1.7, 2.5] {
        let budget = (smallest as f64 * factor) as u64;
        let found = minimize(&items, budget.max(smallest)).expect("a selection");
        let relaxed = relaxation(&items, budget.max(smallest)).expect("a bound");
        assert!(found.cost <= budget.max(smallest));
        assert!(relaxed.bound <= found.loss * (1.0 + 1e-12) && found.loss <= relaxed.selection.loss);
        // The exact optimum all but closes the gap.
        assert!(found.loss <= relaxed.bound * (1.0 + 1e-4), "{} above {}", found.loss, relaxed.bound);
    }
}

#[test]
fn bad_input() {
    let none: Items = Vec::new();
    assert_eq!(minimize(&none, 0), Ok(Selection { choices: Vec::new(), cost: 0, loss: 0.0 }));
    assert_eq!(hull_front(&none), Ok(vec![Total { cost: 0, loss: 0.0 }]));
    let empty = vec![vec![choice(1, 1)], Vec::new()];
    assert_eq!(minimize(&empty, 9), Err(Error::NoChoice { item: 1 }));
    for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let bad = vec![vec![choice(1, 1)], vec![choice(1, 1), Choice { cost: 1, loss }]];
        assert!(matches!(minimize(&bad, 9), Err(Error::NonFinite { row: 1, col: 1, .. })));
        assert!(matches!(hull_front(&bad), Err(Error::NonFinite { row: 1, col: 1, .. })));
        assert!(matches!(relaxation(&bad, 9), Err(Error::NonFinite { row: 1, col: 1, .. })));
        assert!(matches!(pareto_front(&bad, 9), Err(Error::NonFinite { row: 1, col: 1, .. })));
        let bad = [[Alternative { costs: vec![1], loss }]];
        assert!(matches!(minimize_within(&bad, &[9]), Err(Error::NonFinite { row: 0, col: 0, .. })));
    }
    let huge = |cost| vec![vec![choice(cost, 1), choice(u64::MAX, 0)]; 2];
    assert!(matches!(minimize(&huge(u64::MAX), u64::MAX), Err(Error::TooLarge { .. })));
    assert!(matches!(minimize(&huge(0), u64::MAX), Err(Error::TooLarge { .. })));
    let wide = [[Choice { cost: 0, loss: f64::MAX }], [Choice { cost: 0, loss: f64::MAX }]];
    assert!(matches!(minimize(&wide, 0), Err(Error::TooLarge { .. })));
    assert_eq!(
        minimize(&[[choice(u64::MAX, 1)]], u64::MAX - 1),
        Err(Error::BudgetTooSmall { budget: u64::MAX - 1, smallest: u64::MAX })
    );
    assert_eq!(
        minimize(&[[choice(u64::MAX, 8)]], u64::MAX),
        Ok(Selection { choices: vec![0], cost: u64::MAX, loss: 1.0 })
    );
    assert!(matches!(pareto_front(&[[choice(0, 8), choice(1, 0)]], 1), Err(Error::TooLarge { .. })));

    let pair = |a: [u64; 2], b: [u64; 2]| {
        vec![vec![Alternative { costs: a.to_vec(), loss: 0.0 }, Alternative { costs: b.to_vec(), loss: 0.0 }]]
    };
    assert_eq!(minimize_within(&pair([0, 5], [5, 0]), &[4, 4]), Err(Error::LimitsExclude));
    assert_eq!(
        minimize_within(&pair([1, 5], [5, 0]), &[0, 9]),
        Err(Error::BudgetTooSmall { budget: 0, smallest: 1 })
    );
    assert!(matches!(minimize_within(&pair([1, 5], [5, 0]), &[9]), Err(Error::ShapeMismatch { .. })));
    let twice = [pair([1, u64::MAX], [5, 0]), pair([1, u64::MAX], [5, 0])].concat();
    assert!(matches!(minimize_within(&twice, &[9, 9]), Err(Error::TooLarge { .. })));
    assert!(matches!(minimize_within(&[Vec::new()], &[9, 9]), Err(Error::NoChoice { item: 0 })));
    let without: [Vec<Alternative>; 0] = [];
    assert_eq!(minimize_within(&without, &[1]).map(|found| found.costs), Ok(vec![0]));
}
