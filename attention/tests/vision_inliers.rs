//! The inlier search: PyTorch's vectors, motions that are found, the bound, bad input.

use proptest::prelude::*;
use rankbit_attention::vision::{
    Compatible, Correspondences, Inliers, Motion, SearchOptions, consensus, inliers, seed_maps, seeds, wilson,
};
use rankbit_attention::{Error, Tensor};

use crate::common::{gap, levels, random};
use crate::vision_blocks::{tensor, vectors};

/// A rotation from random numbers, by Motion itself from points to their images under a product of plane turns.
fn rotation(angles: [f64; 3]) -> [[f64; 3]; 3] {
    let turn = |axis: usize, angle: f64| {
        let (sin, cos) = angle.sin_cos();
        let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
        let mut m = [[0.0; 3]; 3];
        m[axis][axis] = 1.0;
        (m[a][a], m[a][b], m[b][a], m[b][b]) = (cos, -sin, sin, cos);
        m
    };
    let product = |a: [[f64; 3]; 3], b: [[f64; 3]; 3]| {
        [0, 1, 2].map(|i| [0, 1, 2].map(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
    };
    product(product(turn(0, angles[0]), turn(1, angles[1])), turn(2, angles[2]))
}

/// n pairs, of which the first `inside` move rigidly.
fn moved(motion: &Motion, n: usize, inside: usize, seed: u64) -> [Tensor<f64>; 2] {
    let (x, mut y) = (random::<f64>([1, 1, n, 3], seed), random::<f64>([1, 1, n, 3], seed + 1));
    for (y, x) in y.as_mut_slice().chunks_exact_mut(3).zip(x.as_slice().chunks_exact(3)).take(inside) {
        y.copy_from_slice(&motion.apply([x[0], x[1], x[2]]));
    }
    [x, y]
}

fn points(x: &Tensor<f64>) -> Vec<[f64; 3]> {
    x.as_slice().chunks_exact(3).map(|x| [x[0], x[1], x[2]]).collect()
}

/// Vectors of PyTorch 2.15 (scripts/oracle/vision_networks.py), every step.
#[test]
fn pytorch_agrees() {
    let case = &vectors()["inliers"][0];
    let list =
        |value: &serde_json::Value| -> Vec<usize> { serde_json::from_value(value.clone()).expect("numbers") };
    let options: Vec<f64> = serde_json::from_value(case["options"].clone()).expect("numbers");
    let [sigma, feature_sigma, radius, threshold] = options[..] else { panic!("four options") };
    let size = usize::try_from(case["size"].as_u64().expect("a size")).expect("small");
    let count = usize::try_from(case["count"].as_u64().expect("a size")).expect("small");
    let [source, target, scores, feature, maps] =
        ["source", "target", "scores", "feature", "maps"].map(|name| tensor(&case[name]));
    let found = seeds(source.view(), scores.view(), radius, count).expect("good operands");
    assert_eq!(found, list(&case["seeds"]));
    let pairs = Correspondences { source: source.view(), target: target.view(), sigma };
    // Rows of the maps, the last layer first.
    let layers = case["layers"].as_array().expect("layers");
    let zeros = |shape| Tensor::from_vec(vec![0.0; shape], [1, 1, 1, shape]).expect("it fits");
    let (row, square) = (zeros(4), Tensor::from_vec(vec![0.0; 16], [1, 1, 4, 4]).expect("it fits"));
    for (i, layer) in layers.iter().rev().enumerate() {
        let [query, key, after, query_layer, query_bias, key_layer, key_bias] =
            ["query", "key", "after", "query_layer", "query_bias", "key_layer", "key_bias"]
                .map(|name| tensor(&layer[name]));
        let operands = Compatible {
            feature: after.view(),
            query: query.view(),
            key: key.view(),
            value: key.view(),
            query_layer: query_layer.view(),
            query_bias: query_bias.view(),
            key_layer: key_layer.view(),
            key_bias: key_bias.view(),
            value_layer: square.view(),
            value_bias: row.view(),
            first: square.view(),
            first_bias: row.view(),
            second: square.view(),
            second_bias: row.view(),
            last: square.view(),
            last_bias: row.view(),
        };
        let rows = seed_maps(&operands, &pairs, after.view(), feature_sigma, &found).expect("good operands");
        let len = rows.as_slice().len();
        assert!(gap(rows.as_slice(), &maps.as_slice()[i * len..(i + 1) * len]) <= 1e-12, "layer {i}");
    }
    let bounds = wilson(maps.view(), &found, size).expect("good operands");
    assert!(gap(bounds.as_slice(), tensor(&case["bounds"]).as_slice()) <= 1e-12);
    let groups: Vec<Vec<usize>> = serde_json::from_value(case["groups"].clone()).expect("numbers");
    assert_eq!(consensus(&bounds, &found, size), Ok(groups));
    let options = SearchOptions { size, feature_sigma, threshold, iterations: 10 };
    for best in levels(|| inliers(&pairs, feature.view(), maps.view(), &found, &options)) {
        let best = best.expect("good operands");
        assert!((best.fitness - case["fitness"].as_f64().expect("a number")).abs() <= 1e-12);
        assert!(gap(best.motion.rotation.as_flattened(), tensor(&case["rotation"]).as_slice()) <= 1e-10);
        assert!(gap(&best.motion.translation, tensor(&case["translation"]).as_slice()) <= 1e-10);
        assert_eq!(best.inliers, list(&case["inliers"]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// The least squares of exact images are the motion, also of points in a plane; and always a rotation.
    #[test]
    fn motions_are_found(angles in [-3.0..3.0_f64, -3.0..3.0, -3.0..3.0], flat: bool, n in 3..20_usize, seed in 0..1000_u64) {
        let motion = Motion { rotation: rotation(angles), translation: [1.0, -2.0, 0.5] };
        let mut x = points(&random([1, 1, n, 3], seed));
        if flat {
            x.iter_mut().for_each(|x| x[2] = 0.25);
        }
        let y: Vec<[f64; 3]> = x.iter().map(|&x| motion.apply(x)).collect();
        let weights: Vec<f64> = random::<f64>([1, 1, 1, n], seed + 1).as_slice().iter().map(|x| x.abs() + 0.1).collect();
        let found = Motion::between(&x, &y, &weights).expect("good points");
        prop_assert!(gap(found.rotation.as_flattened(), motion.rotation.as_flattened()) <= 1e-7);
        prop_assert!(gap(&found.translation, &motion.translation) <= 1e-7);
        // Mirrored points: the best rotation, no mirror.
        let mirrored: Vec<[f64; 3]> = x.iter().map(|x| [-x[0], x[1], x[2]]).collect();
        let [a, b, c] = Motion::between(&x, &mirrored, &weights).expect("good points").rotation;
        let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
        prop_assert!(gap(&cross, &c) <= 1e-9);
    }

    /// Half of the pairs are outliers, and the maps know the inliers only in part: the motion is found.
    #[test]
    fn inliers_are_found(angles in [-3.0..3.0_f64, -3.0..3.0, -3.0..3.0], seed in 0..1000_u64) {
        let (n, inside, size) = (60, 30, 8);
        let motion = Motion { rotation: rotation(angles), translation: [0.3, -0.2, 0.5] };
        let [x, y] = moved(&motion, n, inside, seed);
        let pairs = Correspondences { source: x.view(), target: y.view(), sigma: 0.1 };
        let feature = random::<f64>([1, 1, n, 4], seed + 2);
        let seeds = [0, 40, 7];
        let mut maps = random::<f64>([5, 1, 3, n], seed + 3);
        for row in maps.as_mut_slice().chunks_exact_mut(n) {
            row[..inside].iter_mut().for_each(|x| *x += 2.5);
        }
        let options = SearchOptions { size, feature_sigma: 10.0, threshold: 0.05, iterations: 10 };
        let found = inliers(&pairs, feature.view(), maps.view(), &seeds, &options).expect("good operands");
        prop_assert!((0..inside).all(|i| found.inliers.contains(&i)), "{:?}", found.inliers);
        prop_assert!(gap(found.motion.rotation.as_flattened(), motion.rotation.as_flattened()) <= 1e-3);
        prop_assert!(found.fitness > 0.45 && found.fitness <= 1.0);
        prop_assert!(found.consensus.len() == size && [0, 40, 7].contains(&found.consensus[0]));
    }

    /// A bound lies between 0 and the share of votes, and grows with every map that votes for a pair.
    #[test]
    fn the_bound_is_one(n in 5..20_usize, count in 1..6_usize, seed in 0..1000_u64) {
        let one = random::<f64>([1, 1, 1, n], seed);
        let maps = Tensor::from_vec(one.as_slice().repeat(count), [count, 1, 1, n]).expect("it fits");
        let found = wilson(maps.view(), &[1], 3).expect("good operands");
        let before = wilson(one.view(), &[1], 3).expect("good operands");
        let voted = found.as_slice().iter().filter(|x| **x > 0.0).count();
        prop_assert_eq!(voted, 2);
        for (now, before) in found.as_slice().iter().zip(before.as_slice()) {
            prop_assert!((0.0..1.0).contains(now) && now >= before && (count == 1 || *before == 0.0 || now > before));
        }
    }

    /// Seeds are local maxima, best first.
    #[test]
    fn seeds_are_the_largest_around_them(n in 1..40_usize, radius in 0.1..3.0_f64, count in 0..50_usize, seed in 0..1000_u64) {
        let (x, s) = (random::<f64>([1, 1, n, 3], seed), random::<f64>([1, 1, 1, n], seed + 1));
        let (at, scores) = (points(&x), s.as_slice());
        let found = seeds(x.view(), s.view(), radius, count).expect("good operands");
        let far = |i: usize, j: usize| {
            (0..3).map(|k| (at[i][k] - at[j][k]).powi(2)).sum::<f64>().sqrt() >= radius
        };
        prop_assert!(found.len() == count || (0..n).filter(|&i| (0..n).all(|j| far(i, j) || scores[i] >= scores[j])).count() == found.len());
        prop_assert!(found.windows(2).all(|pair| scores[pair[0]] >= scores[pair[1]]));
        prop_assert!(found.iter().all(|&i| (0..n).all(|j| far(i, j) || scores[i] >= scores[j])));
        prop_assert!(count == 0 || (0..n).max_by(|&a, &b| scores[a].total_cmp(&scores[b])) == found.first().copied());
    }
}

#[test]
fn bad_input_is_refused() {
    let x = random::<f64>([1, 1, 6, 3], 1);
    let (feature, maps) = (random::<f64>([1, 1, 6, 2], 2), random::<f64>([2, 1, 2, 6], 3));
    let options = SearchOptions { size: 3, ..Default::default() };
    let pairs = Correspondences { source: x.view(), target: x.view(), sigma: 0.1 };
    let run = |seeds: &[usize], options: &SearchOptions| {
        inliers(&pairs, feature.view(), maps.view(), seeds, options)
    };
    assert!(run(&[0, 3], &options).is_ok());
    let option = |found: Result<Inliers, Error>, named: &str| {
        assert!(
            matches!(found, Err(Error::InvalidOption { what, .. }) if what == named),
            "{named}: {found:?}"
        );
    };
    option(run(&[0, 6], &options), "seed");
    option(run(&[0, 3], &SearchOptions { size: 2, ..options }), "size");
    option(run(&[0, 3], &SearchOptions { size: 7, ..options }), "size");
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        option(run(&[0, 3], &SearchOptions { feature_sigma: bad, ..options }), "feature_sigma");
        option(run(&[0, 3], &SearchOptions { threshold: bad, ..options }), "threshold");
        let pairs = Correspondences { sigma: bad, ..pairs };
        option(inliers(&pairs, feature.view(), maps.view(), &[0, 3], &options), "sigma");
        assert!(seeds(x.view(), x.view(), bad, 1).is_err());
    }
    let none = random::<f64>([0, 1, 2, 6], 1);
    option(inliers(&pairs, feature.view(), none.view(), &[0, 3], &options), "maps");
    let none = random::<f64>([2, 1, 0, 6], 1);
    option(inliers(&pairs, feature.view(), none.view(), &[], &options), "seeds");
    let shape = |found: Result<Inliers, Error>, named: &str| {
        assert!(
            matches!(found, Err(Error::ShapeMismatch { what, .. }) if what == named),
            "{named}: {found:?}"
        );
    };
    shape(run(&[0], &options), "maps");
    let other = random::<f64>([1, 1, 5, 3], 1);
    shape(
        inliers(
            &Correspondences { target: other.view(), ..pairs },
            feature.view(),
            maps.view(),
            &[0, 3],
            &options,
        ),
        "target",
    );
    shape(inliers(&pairs, other.view(), maps.view(), &[0, 3], &options), "feature");
    let mut bad = x.clone();
    bad.as_mut_slice()[4] = f64::NAN;
    let found = inliers(
        &Correspondences { target: bad.view(), ..pairs },
        feature.view(),
        maps.view(),
        &[0, 3],
        &options,
    );
    assert_eq!(found, Err(Error::NonFinite { what: "target", index: [0, 0, 1, 1] }));
    // All points in one place, and weights of nothing: still a rotation.
    let same = [[1.0; 3]; 4];
    let found = Motion::between(&same, &same, &[1.0; 4]).expect("good points");
    assert!(gap(&found.apply([1.0; 3]), &[1.0; 3]) <= 1e-12);
    assert!(Motion::between(&same, &same, &[0.0; 4]).is_ok());
    assert!(Motion::between(&[], &[], &[]).is_ok());
    assert!(Motion::between(&same, &same, &[1.0; 3]).is_err());
    assert!(Motion::between(&same, &same, &[-1.0; 4]).is_err());
    assert!(Motion::between(&[[f64::NAN; 3]], &[[0.0; 3]], &[1.0]).is_err());
}
