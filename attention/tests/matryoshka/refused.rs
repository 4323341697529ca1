//! Bad bases, ranks, steps and tokens.

use super::*;

#[test]
fn bad_bases_and_ranks_are_refused() {
    let one = |size: usize| Mat::<f64>::identity(size, size);
    assert!(matches!(
        Bases::new(vec![one(2)], vec![]),
        Err(Error::ShapeMismatch { what: "value bases", .. })
    ));
    assert!(matches!(
        Bases::new(vec![one(2), one(3)], vec![one(2), one(2)]),
        Err(Error::ShapeMismatch { .. })
    ));
    assert!(matches!(Bases::new(vec![Mat::zeros(2, 3)], vec![one(2)]), Err(Error::ShapeMismatch { .. })));
    for bad in [1.1, f64::NAN, f64::INFINITY] {
        let mut basis = one(3);
        basis[(1, 1)] = bad;
        assert!(matches!(Bases::new(vec![basis], vec![one(2)]), Err(Error::NotOrthogonal { head: 0, .. })));
    }
    let empty = Bases::new(vec![], vec![]).expect("no heads");
    assert_eq!((empty.dims(), empty.ranks(0.5).expect("in range").key.len()), ((0, 0), 0));
    let bases = bases(2, 4, 3, 1);
    for bad in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(matches!(bases.ranks(bad), Err(Error::InvalidOption { what: "fraction", .. })));
    }
    assert_eq!(bases.ranks(1e-9).expect("in range"), Ranks { key: vec![1, 1], value: vec![1, 1] });

    let good = bases.ranks(1.0).expect("in range");
    let t: [Tensor<f64>; 3] = [random([1, 4, 3, 4], 1), random([1, 2, 5, 4], 2), random([1, 2, 5, 3], 3)];
    let run = |t: &[Tensor<f64>; 3], ranks: &Ranks, options: &ExactOptions<'_, f64>| {
        let [q, k, v] = t.each_ref().map(Tensor::view);
        let found = nested(q, k, v, &bases, ranks, options);
        let upstream = Tensor::from_vec(vec![1.0; 36], [1, 4, 3, 3]).expect("it fits");
        let by = nested_gradient(q, k, v, &bases, ranks, options, upstream.view());
        assert_eq!(found.as_ref().err(), by.as_ref().err());
        found
    };
    let options = ExactOptions::default();
    assert!(run(&t, &good, &options).is_ok());
    for bad in [
        Ranks { key: vec![4], ..good.clone() },
        Ranks { value: vec![3; 3], ..good.clone() },
        Ranks { key: vec![4, 0], ..good.clone() },
        Ranks { value: vec![4, 3], ..good.clone() },
    ] {
        assert!(matches!(
            run(&t, &bad, &options),
            Err(Error::ShapeMismatch { .. } | Error::InvalidOption { .. })
        ));
        assert!(Cache::new(bases.clone(), bad, 1, None).is_err());
    }
    for (i, shape) in
        [(0, [1, 4, 3, 5]), (1, [1, 2, 5, 5]), (1, [1, 4, 5, 4]), (2, [1, 2, 5, 4]), (2, [1, 2, 4, 3])]
    {
        let mut bad = t.clone();
        bad[i] = random(shape, 1);
        assert!(matches!(run(&bad, &good, &options), Err(Error::ShapeMismatch { .. })), "{shape:?}");
    }
    for i in 0..3 {
        let mut bad = t.clone();
        bad[i].as_mut_slice()[2] = f64::NEG_INFINITY;
        assert!(matches!(run(&bad, &good, &options), Err(Error::NonFinite { .. })));
    }
    let bias = random([1, 2, 3, 5], 1);
    let narrow = ExactOptions { bias: Some(bias.view()), ..options };
    assert!(matches!(run(&t, &good, &narrow), Err(Error::ShapeMismatch { what: "bias", .. })));
    let mut huge = t.clone();
    huge[0].as_mut_slice().fill(1e200);
    huge[1].as_mut_slice().fill(1e200);
    assert!(matches!(run(&huge, &good, &options), Err(Error::Overflow { .. })));
    let upstream = random([1, 4, 3, 4], 1);
    let [q, k, v] = t.each_ref().map(Tensor::view);
    let by = nested_gradient(q, k, v, &bases, &good, &options, upstream.view());
    assert!(matches!(by, Err(Error::ShapeMismatch { what: "output gradient", .. })));
    // No tokens, no batch.
    for (n, s, batch) in [(0, 5, 1), (3, 0, 1), (3, 5, 0)] {
        let t: [Tensor<f64>; 3] =
            [random([batch, 4, n, 4], 1), random([batch, 2, s, 4], 2), random([batch, 2, s, 3], 3)];
        let [q, k, v] = t.each_ref().map(Tensor::view);
        let found = nested(q, k, v, &bases, &good, &options).expect("empty");
        assert!(found.output.as_slice().iter().all(|&x| x == 0.0));
        let by = nested_gradient(q, k, v, &bases, &good, &options, found.output.view()).expect("empty");
        assert!(by.bases.key.iter().all(|by| by.norm_max() == 0.0));
    }
}

#[test]
fn bad_steps_are_refused() {
    // Cayley.
    assert_eq!(cayley(Mat::<f64>::zeros(0, 0).as_ref()).expect("empty").shape(), (0, 0));
    assert!(matches!(cayley(Mat::<f64>::zeros(2, 3).as_ref()), Err(Error::ShapeMismatch { .. })));
    for bad in [f64::NAN, f64::INFINITY, 1e200, 1e30] {
        let a = Mat::from_fn(3, 3, |i, j| if (i, j) == (0, 1) { bad } else { (i + 2 * j) as f64 });
        let found = cayley(a.as_ref());
        match found {
            Ok(r) => assert!(residual(&r) <= 1e-9),
            Err(error) => assert!(matches!(error, Error::Linalg(_) | Error::NotOrthogonal { .. })),
        }
    }
    let a = MatRef::from_row_major_slice(&[0.0, 1.0, 2.0, 3.0], 2, 2);
    assert!(matches!(cayley_gradient(a, Mat::zeros(2, 3).as_ref()), Err(Error::ShapeMismatch { .. })));

    // Calibration.
    let mut calibration = Calibration::new(1, 2, 2).expect("small");
    assert!(matches!(calibration.bases(), Err(Error::Linalg(_))));
    assert!(matches!(Calibration::new(usize::MAX, 2, 2), Err(Error::TooLarge { .. })));
    let x: Tensor<f64> = random([1, 1, 3, 2], 1);
    let wide: Tensor<f64> = random([1, 1, 3, 3], 1);
    assert!(matches!(
        calibration.update(x.view(), wide.view()),
        Err(Error::ShapeMismatch { what: "value", .. })
    ));
    for bad in [f64::NAN, f64::INFINITY, 1e300] {
        let mut y = x.clone();
        y.as_mut_slice()[3] = bad;
        let found = calibration.update(x.view(), y.view());
        assert_eq!(found, Err(Error::NonFinite { what: "value", index: [0, 0, 1, 1] }));
    }
    assert!(matches!(calibration.bases(), Err(Error::Linalg(_))), "nothing was added");
    // Zeros have components too.
    let zeros = Tensor::from_vec(vec![0.0_f64; 6], [1, 1, 3, 2]).expect("it fits");
    calibration.update(zeros.view(), zeros.view()).expect("finite");
    assert!(calibration.bases().is_ok());

    // Training.
    let layers = [bases(1, 2, 2, 1)];
    let zero =
        |size| BasesGradient { key: vec![Mat::zeros(size, size)], value: vec![Mat::zeros(size, size)] };
    let run = |options: &TrainOptions, value: f64, by: Vec<BasesGradient>| {
        train(&layers, options, |_, _, _| Ok::<_, Error>((value, by.clone())))
    };
    let options = TrainOptions { steps: 2, ..Default::default() };
    assert_eq!(run(&options, 1.0, vec![zero(2)]).expect("nothing moves").losses, [1.0, 1.0]);
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(run(&TrainOptions { rate: bad, ..options.clone() }, 1.0, vec![zero(2)]).is_err());
        assert!(run(&TrainOptions { fractions: vec![bad], ..options.clone() }, 1.0, vec![zero(2)]).is_err());
    }
    assert!(run(&TrainOptions { fractions: vec![], ..options.clone() }, 1.0, vec![zero(2)]).is_err());
    assert!(matches!(run(&options, f64::NAN, vec![zero(2)]), Err(Error::NonFinite { what: "loss", .. })));
    assert!(matches!(run(&options, 1.0, vec![]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(run(&options, 1.0, vec![zero(3)]), Err(Error::ShapeMismatch { .. })));
    let mut nan = zero(2);
    nan.value[0][(1, 0)] = f64::NAN;
    assert!(matches!(run(&options, 1.0, vec![nan]), Err(Error::NonFinite { index: [0, 0, 1, 0], .. })));

    // Divergence: huge logits, and none.
    let teacher = Tensor::from_vec(vec![1e300_f64, -1e300], [1, 1, 1, 2]).expect("it fits");
    let (loss, by) = distillation(teacher.view(), teacher.view()).expect("finite");
    assert!(loss == 0.0 && by.as_slice() == [0.0, 0.0]);
    assert!(matches!(distillation(teacher.view(), x.view()), Err(Error::ShapeMismatch { .. })));
    let none = Tensor::from_vec(Vec::<f64>::new(), [1, 1, 3, 0]).expect("it fits");
    assert_eq!(distillation(none.view(), none.view()).expect("empty").0, 0.0);

    // Budget.
    let search =
        |step, keep, value: f64| greedy(&layers, &BudgetOptions { step, keep }, |_| Ok::<_, Error>(value));
    assert!(matches!(search(0, 0.5, 1.0), Err(Error::InvalidOption { what: "step", .. })));
    for bad in [0.0, 0.4, 1.5, f64::NAN] {
        assert!(matches!(search(1, bad, 1.0), Err(Error::InvalidOption { what: "keep", .. })), "{bad}");
    }
    assert!(matches!(search(1, 0.5, f64::NAN), Err(Error::NonFinite { what: "loss", .. })));
    assert_eq!(
        search(usize::MAX, 0.5, 1.0).expect("in range").ranks[0],
        Ranks { key: vec![1], value: vec![1] }
    );
    let none =
        greedy(&[], &BudgetOptions { step: 1, keep: 1.0 }, |_| Ok::<_, Error>(0.0)).expect("nothing to do");
    assert_eq!((none.ranks.len(), none.path.len()), (0, 1));
}

#[test]
fn bad_tokens_are_refused_by_the_cache() {
    let bases = bases(2, 4, 3, 1);
    let good = bases.ranks(1.0).expect("in range");
    let mut cache = Cache::new(bases.clone(), good.clone(), 1, Some(scheme::INT8)).expect("good ranks");
    let (k, v): (Tensor<f64>, Tensor<f64>) = (random([1, 2, 70, 4], 1), random([1, 2, 70, 3], 2));
    cache.append(k.view(), v.view()).expect("finite");
    let before = cache.clone();
    let narrow: Tensor<f64> = random([1, 2, 70, 3], 1);
    assert!(matches!(cache.append(narrow.view(), v.view()), Err(Error::ShapeMismatch { what: "key", .. })));
    let fewer: Tensor<f64> = random([1, 2, 60, 3], 1);
    assert!(matches!(cache.append(k.view(), fewer.view()), Err(Error::ShapeMismatch { what: "value", .. })));
    for (bad, far) in [(f64::NAN, false), (f64::INFINITY, false), (1e300, true)] {
        let mut v = v.clone();
        v.as_mut_slice()[200] = bad;
        let found = cache.append(k.view(), v.view());
        assert!(matches!(
            (found, far),
            (Err(Error::NonFinite { what: "value", .. }), false) | (Err(Error::Overflow { .. }), true)
        ));
    }
    assert_eq!(cache, before);
    let none: (Tensor<f64>, Tensor<f64>) = (random([1, 2, 0, 4], 1), random([1, 2, 0, 3], 1));
    cache.append(none.0.view(), none.1.view()).expect("nothing to do");
    assert_eq!(cache, before);

    let options = ExactOptions::default();
    for shape in [[1, 3, 2, 4], [2, 4, 2, 4], [1, 4, 2, 5]] {
        let q: Tensor<f64> = random(shape, 1);
        assert!(cache.attend(q.view(), &options).is_err(), "{shape:?}");
    }
    let mut q: Tensor<f64> = random([1, 4, 2, 4], 1);
    assert!(cache.attend(q.view(), &options).is_ok());
    q.as_mut_slice()[5] = f64::NAN;
    assert!(matches!(cache.attend(q.view(), &options), Err(Error::NonFinite { what: "query", .. })));
    // Nothing stored: zeros, as attention over no keys.
    let q: Tensor<f64> = random([1, 4, 2, 4], 1);
    let empty = Cache::new(bases.clone(), good.clone(), 1, None).expect("good ranks");
    let found = empty.attend(q.view(), &options).expect("no keys");
    assert!(found.output.as_slice().iter().all(|&x| x == 0.0));
    assert!(found.lse.as_slice().iter().all(|&x| x == f64::NEG_INFINITY));

    // Schemes that do not fit.
    for bad in [scheme::Q8_0, scheme::INT8.with_group(Group::Size(0))] {
        assert!(matches!(Cache::new(bases.clone(), good.clone(), 1, Some(bad)), Err(Error::Quant(_))));
    }
    assert!(matches!(Cache::new(bases, good, usize::MAX, None), Err(Error::TooLarge { .. })));
}
