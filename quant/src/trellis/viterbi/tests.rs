use super::*;
use alloc::vec;
use rankbit_linalg::Stream;

fn normal(len: usize, name: &str) -> Vec<f32> {
    let mut x = vec![0.0; len];
    Stream::new(1, name).fill_normal(&mut x);
    x
}

/// All paths of `m` states, each an extension by one symbol at a time.
fn brute_force(trellis: &Encoder, start: Option<usize>, ring: bool, x: &[f32], w: &[f32]) -> f64 {
    let states = trellis.table.len();
    let mut best = f64::INFINITY;
    let mut stack: Vec<Vec<u16>> = (0..states)
        .filter(|s| start.is_none_or(|g| s >> trellis.rate == g))
        .map(|s| vec![u16::try_from(s).unwrap()])
        .collect();
    while let Some(path) = stack.pop() {
        let last = usize::from(path[path.len() - 1]);
        if path.len() == x.len() {
            if !ring || Some(last % trellis.groups) == start {
                best = best.min(cost(&trellis.table, x, w, &path));
            }
            continue;
        }
        for symbol in 0..1 << trellis.rate {
            let next = (last << trellis.rate | symbol) % states;
            stack.push(path.iter().copied().chain([u16::try_from(next).unwrap()]).collect());
        }
    }
    best
}

fn is_path(trellis: &Encoder, states: &[u16]) -> bool {
    states
        .windows(2)
        .all(|pair| usize::from(pair[1]) >> trellis.rate == usize::from(pair[0]) % trellis.groups)
}

#[test]
fn the_best_of_all_paths() {
    let mut scratch = Scratch::default();
    for rate in [1, 2] {
        let trellis = Encoder::new(4, rate, Level::Portable);
        for m in 1..=6 {
            for case in 0..4 {
                let x = normal(m, &alloc::format!("{rate} {m} {case}"));
                let w: Vec<f32> = (0..m).map(|i| ((i + case) % 3) as f32 * 0.5).collect();
                let mut states = vec![0; m];
                let found = trellis.free(&x, &w, &mut scratch, &mut states);
                let expected = brute_force(&trellis, None, false, &x, &w);
                assert!((f64::from(found) - expected).abs() <= 1e-5, "{rate} {m} {case}");
                assert!(is_path(&trellis, &states));
                assert!((cost(&trellis.table, &x, &w, &states) - expected).abs() <= 1e-5);
                for group in 0..trellis.groups {
                    let found = trellis.ring_through(group, &x, &w, &mut scratch, &mut states);
                    let expected = brute_force(&trellis, Some(group), true, &x, &w);
                    if expected.is_finite() {
                        assert!((f64::from(found) - expected).abs() <= 1e-5, "{rate} {m} {case} {group}");
                        assert!((cost(&trellis.table, &x, &w, &states) - expected).abs() <= 1e-5);
                        assert_eq!(usize::from(states[0]) >> trellis.rate, group);
                        assert_eq!(usize::from(states[m - 1]) % trellis.groups, group);
                    } else {
                        assert_eq!(found, f32::INFINITY);
                    }
                }
            }
        }
    }
}

#[test]
fn every_instruction_set_takes_the_same_path() {
    let mut scratch = Scratch::default();
    for window in [4, 8, 10, 12] {
        for rate in 1..=8.min(window) {
            let x = normal(96, "one path");
            // Equal weights and equal values make ties.
            let w: Vec<f32> = (0..96).map(|i| if i % 5 == 0 { 0.0 } else { 1.0 }).collect();
            let (mut expected, mut found) = (vec![0; 96], vec![0; 96]);
            let portable = Encoder::new(window, rate, Level::Portable);
            let cost = portable.ring(&x, &w, &mut scratch, &mut expected);
            for set in Level::ALL.into_iter().filter(|set| set.is_available()) {
                let trellis = Encoder::new(window, rate, set);
                assert_eq!(trellis.ring(&x, &w, &mut scratch, &mut found).to_bits(), cost.to_bits());
                assert_eq!(found, expected, "L {window} k {rate} {set:?}");
            }
        }
    }
}

#[test]
fn a_ring_closes_and_reports_its_cost() {
    let mut scratch = Scratch::default();
    for (window, rate) in [(8, 1), (8, 3), (12, 2), (12, 4), (10, 8)] {
        let trellis = Encoder::new(window, rate, Level::current());
        for m in [32, 64, 256] {
            let (x, w) = (normal(m, "ring"), vec![1.0; m]);
            let mut states = vec![0; m];
            let found = trellis.ring(&x, &w, &mut scratch, &mut states);
            assert!(is_path(&trellis, &states));
            assert_eq!(usize::from(states[0]) >> trellis.rate, usize::from(states[m - 1]) % trellis.groups);
            let expected = cost(&trellis.table, &x, &w, &states);
            assert!((f64::from(found) - expected).abs() <= 1e-4 * expected + 1e-6, "{found} {expected}");
            let free = trellis.free(&x, &w, &mut scratch, &mut states);
            assert!(free <= found);
        }
    }
}
