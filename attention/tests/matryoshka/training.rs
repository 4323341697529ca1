//! Training against principal components.

use super::*;

/// A network of one attention layer and a readout, whose logits see few directions of the values, and not the loudest. The source's
/// claim: principal components lose it at low ranks, training by the divergence of the logits finds it, for all ranks at once.
#[test]
fn training_beats_components_at_every_rank() {
    let (heads, n, d, classes) = (2, 24, 8, 5);
    let shape = [1, heads, n, d];
    // Loud channels that the readout does not see, and that queries do not ask for.
    let loud = |t: Tensor<f64>| {
        let data =
            t.as_slice().iter().enumerate().map(|(i, x)| if i % d < 4 { 4.0 * x } else { *x }).collect();
        Tensor::from_vec(data, shape).expect("it fits")
    };
    let quiet = |t: Tensor<f64>| {
        let data = t
            .as_slice()
            .iter()
            .enumerate()
            .map(|(i, x)| if i % d < 4 { 0.02 * x } else { 2.0 * x })
            .collect();
        Tensor::from_vec(data, t.shape()).expect("it fits")
    };
    let (q, k, v) = (quiet(random(shape, 1)), loud(random(shape, 2)), loud(random(shape, 3)));
    let readout = quiet(random([1, heads, classes, d], 4));
    // logits[token, class] = Σ over heads and channels.
    let logits = |output: &Tensor<f64>| {
        let at = |i: usize, c: usize| -> f64 {
            let head = |h: usize| {
                let (o, w) = (
                    &output.as_slice()[(h * n + i) * d..][..d],
                    &readout.as_slice()[(h * classes + c) * d..][..d],
                );
                o.iter().zip(w).map(|(o, w)| o * w).sum::<f64>()
            };
            (0..heads).map(head).sum()
        };
        Tensor::from_vec((0..n * classes).map(|i| at(i / classes, i % classes)).collect(), [1, 1, n, classes])
            .expect("it fits")
    };
    let options = ExactOptions::default();
    let teacher = logits(&exact(q.view(), k.view(), v.view(), &options).expect("good operands").output);
    let loss = |bases: &Bases, ranks: &Ranks| {
        let found = nested(q.view(), k.view(), v.view(), bases, ranks, &options).expect("good operands");
        distillation(teacher.view(), logits(&found.output).view()).expect("finite")
    };
    let gradient = |bases: &Bases, ranks: &Ranks| -> (f64, BasesGradient) {
        let (value, by) = loss(bases, ranks);
        let up = |at: usize| -> f64 {
            let (h, i, c) = (at / (n * d), at / d % n, at % d);
            (0..classes)
                .map(|class| {
                    by.as_slice()[i * classes + class] * readout.as_slice()[(h * classes + class) * d + c]
                })
                .sum()
        };
        let upstream = Tensor::from_vec((0..heads * n * d).map(up).collect(), shape).expect("it fits");
        let found = nested_gradient(q.view(), k.view(), v.view(), bases, ranks, &options, upstream.view());
        (value, found.expect("good operands").bases)
    };
    let mut calibration = Calibration::new(heads, d, d).expect("small");
    calibration.update(k.view(), v.view()).expect("finite");
    let before = calibration.bases().expect("tokens were seen");
    let settings = TrainOptions { steps: 800, rate: 0.03, ..Default::default() };
    let run = || {
        train(core::slice::from_ref(&before), &settings, |_, layers, ranks| {
            for u in layers[0].key().iter().chain(layers[0].value()) {
                assert!(residual(u) <= 1e-9);
            }
            let (value, by) = gradient(&layers[0], &ranks[0]);
            Ok::<_, Error>((value, vec![by]))
        })
        .expect("finite")
    };
    let trained = run();
    assert_eq!(trained, run(), "the same seed");
    assert_eq!(trained.losses.len(), 800);
    let after = &trained.layers[0];
    for u in after.key().iter().chain(after.value()) {
        assert!(residual(u) <= 1e-9);
    }
    let mut sums = [0.0, 0.0];
    for rank in 1..d {
        let ranks = before.ranks(rank as f64 / d as f64).expect("in range");
        let (before, after) = (loss(&before, &ranks).0, loss(after, &ranks).0);
        assert!(after < before, "rank {rank}: {before} before, {after} after");
        sums = [sums[0] + before, sums[1] + after];
    }
    assert!(sums[1] < 0.5 * sums[0], "{sums:?}");
    assert!(loss(after, &after.ranks(1.0).expect("in range")).0 <= 1e-12);
    // Ranks by the greedy search lose no more than equal ranks of the same budget.
    let found = greedy(core::slice::from_ref(after), &BudgetOptions { step: 1, keep: 0.5 }, |ranks| {
        Ok::<_, Error>(loss(after, &ranks[0]).0)
    });
    let equal = loss(after, &after.ranks(0.5).expect("in range")).0;
    assert!(found.expect("in range").path.last().expect("not empty").1 <= equal);
}
