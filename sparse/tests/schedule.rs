//! Training schedules: densities at each step, and gradients where they should and should not flow.

use crate::common::{normal, single, whole};
use proptest::prelude::*;
use rankbit_linalg::faer::Mat;
use rankbit_sparse::schedule::{
    Coupled, Decay, Frames, GradientFlow, LayerShape, MaskDecay, Mosa, RigL, S2ft, Sara, SrSte,
    StructureDecay, cubic, erk_densities, magnitude_mask,
};
use rankbit_sparse::{Error, Mask, NmPattern, Pattern};

const TWO: NmPattern = NmPattern::TWO_OF_FOUR;

fn nm(keep: u32, of: u32) -> NmPattern {
    NmPattern::new(keep, of).unwrap()
}

proptest! {
    /// Kept weights receive exactly g, pruned ones g + λ·w; without a pull all receive g.
    #[test]
    fn sr_ste_pulls_pruned_weights_only(seed in 0_u32..200, pull in 0.0_f32..0.1) {
        let (w, g) = (normal(5, 18, &format!("w{seed}")), normal(5, 18, &format!("g{seed}")));
        let rule = SrSte::new(TWO, pull).unwrap();
        let (mask, forward) = rule.forward(w.as_ref()).unwrap();
        prop_assert_eq!(&mask, &magnitude_mask(w.as_ref(), &Pattern::Nm(TWO)).unwrap());
        let gradient = rule.gradient(w.as_ref(), &mask, g.as_ref()).unwrap();
        let plain = SrSte::new(TWO, 0.0).unwrap().gradient(w.as_ref(), &mask, g.as_ref()).unwrap();
        for i in 0..5 {
            for j in 0..18 {
                let kept = mask.contains(i, j);
                prop_assert_eq!(forward[(i, j)], if kept { w[(i, j)] } else { 0.0 });
                prop_assert_eq!(gradient[(i, j)], if kept { g[(i, j)] } else { g[(i, j)] + pull * w[(i, j)] });
                prop_assert_eq!(plain[(i, j)], g[(i, j)]);
            }
        }
    }

    /// Dense before, masked after, never rising between; the restricted flow is the derivative of the forward pass.
    #[test]
    fn mask_decay_leads_from_dense_to_masked(
        start in 0_u64..50, len in 0_u64..100, rate in 0.0_f64..0.2, linear in any::<bool>(),
    ) {
        let decay = if linear { Decay::Linear { rate } } else { Decay::Exponential { rate } };
        let rule = MaskDecay::new(start, start + len, decay, GradientFlow::Restricted).unwrap();
        let factors: Vec<f64> = (0..start + len + 3).map(|t| rule.factor(t)).collect();
        prop_assert!(factors.windows(2).all(|w| w[1] <= w[0]));
        prop_assert!(factors.iter().all(|d| (0.0..=1.0).contains(d)));
        prop_assert!((0..start).all(|t| rule.factor(t) == 1.0) && rule.factor(start + len) == 0.0);
        if len > 0 {
            prop_assert_eq!(rule.factor(start), 1.0);
        }
        let (w, g) = (normal(3, 8, "w"), normal(3, 8, "g"));
        let mask = magnitude_mask(w.as_ref(), &Pattern::Nm(TWO)).unwrap();
        let straight = MaskDecay::new(start, start + len, decay, GradientFlow::Straight).unwrap();
        for t in [0, start, start + len / 2, start + len] {
            let forward = rule.forward(w.as_ref(), &mask, t).unwrap();
            let flow = rule.gradient(g.as_ref(), &mask, t).unwrap();
            prop_assert_eq!(&straight.gradient(g.as_ref(), &mask, t).unwrap(), &g);
            for i in 0..3 {
                for j in 0..8 {
                    let factor = if mask.contains(i, j) { 1.0 } else { rule.factor(t) };
                    prop_assert_eq!(forward[(i, j)], single(f64::from(w[(i, j)]) * factor));
                    prop_assert_eq!(flow[(i, j)], single(f64::from(g[(i, j)]) * factor));
                }
            }
        }
    }

    /// As many active weights as before, the largest magnitudes stay, and what is grown has the largest gradients.
    #[test]
    fn rigl_keeps_the_number_of_weights(
        (rows, cols) in (1_usize..8, 1_usize..20), seed in 0_usize..100, step in 0_u64..120, density in 0.1_f64..0.9,
    ) {
        let (w, g) = (normal(rows, cols, &format!("w{seed}")), normal(rows, cols, &format!("g{seed}")));
        let mask = Mask::from_fn((rows, cols), |i, j| ((i * 31 + j * 17 + seed) % 100) as f64 <= 100.0 * density);
        let rule = RigL::new(10, 100, 0.3).unwrap();
        let update = rule.update(w.as_ref(), g.as_ref(), &mask, step).unwrap();
        prop_assert_eq!(update.mask.count(), mask.count());
        prop_assert_eq!(update.dropped.count(), update.grown.count());
        prop_assert_eq!(update.mask.distance(&mask).unwrap(), 2 * update.grown.count());
        let most = whole(rule.fraction(step) * mask.count() as f64);
        prop_assert!(update.grown.count() <= most);
        let each = |m: &Mask| (0..rows).flat_map(|i| m.row(i).map(move |j| (i, j)).collect::<Vec<_>>()).collect::<Vec<_>>();
        for dropped in each(&update.dropped) {
            let larger = each(&mask).into_iter().filter(|&at| w[at].abs() > w[dropped].abs()).count();
            prop_assert!(larger >= mask.count() - most);
        }
        for grown in each(&update.grown) {
            for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
                prop_assert!(update.mask.contains(i, j) || g[(i, j)].abs() <= g[grown].abs());
            }
        }
        // Within groups N stays.
        let pattern = nm(4, 8);
        let mask = magnitude_mask(w.as_ref(), &Pattern::Nm(pattern)).unwrap();
        let update = rule.update_nm(w.as_ref(), g.as_ref(), (&mask, pattern), step).unwrap();
        update.mask.check(pattern).unwrap();
        prop_assert_eq!(update.mask.count(), mask.count());
        prop_assert!(step < 100 || update.mask == mask);
    }

    /// The totals match, no density exceeds 1, and those below 1 are in the documented proportion.
    #[test]
    fn erk_densities_add_up(
        sides in prop::collection::vec((1_usize..200, 1_usize..200, prop_oneof![Just((1, 1)), Just((3, 3))]), 1..8),
        density in 0.0_f64..=1.0,
    ) {
        let layers: Vec<LayerShape> =
            sides.iter().map(|&(out, inputs, kernel)| LayerShape { out, inputs, kernel }).collect();
        let found = erk_densities(&layers, density).unwrap();
        let size = |l: &LayerShape| (l.out * l.inputs * l.kernel.0 * l.kernel.1) as f64;
        let total: f64 = layers.iter().map(size).sum();
        let kept: f64 = layers.iter().zip(&found.layers).map(|(l, d)| size(l) * d).sum();
        prop_assert!((kept - density * total).abs() <= 1e-9 * total, "{kept} {total}");
        for (layer, d) in layers.iter().zip(&found.layers) {
            let kernel = if layer.kernel == (1, 1) { 0 } else { layer.kernel.0 + layer.kernel.1 };
            let expected = found.factor * (layer.out + layer.inputs + kernel) as f64 / size(layer);
            prop_assert!((0.0..=1.0).contains(d));
            prop_assert!(*d == 1.0 || (d - expected).abs() <= 1e-12);
        }
    }

    /// The permutation leaves the product as it is; the slice trains alone; merging is adding.
    #[test]
    fn s2ft_trains_one_slice_of_an_unchanged_function(
        units in 1_usize..6, unit_len in 1_usize..4, seed in 0_u64..50, share in 0.0_f64..=1.0,
    ) {
        let chosen = whole(share * units as f64);
        let plan = S2ft::random(units, chosen, unit_len, (seed, "layer")).unwrap();
        prop_assert_eq!(plan.trained(), chosen * unit_len);
        let mut sorted = plan.order().to_vec();
        sorted.sort_unstable();
        prop_assert!(sorted.into_iter().eq(0..units));
        let inner = units * unit_len;
        let (up, down) = (normal(inner, 5, "up"), normal(4, inner, "down"));
        let new_up = plan.permute(up.as_ref(), Coupled::Rows).unwrap();
        let mut new_down = plan.permute(down.as_ref(), Coupled::Columns).unwrap();
        let difference = (&down * &up - &new_down * &new_up).norm_l2();
        prop_assert!(difference <= 1e-5 * (1.0 + (&down * &up).norm_l2()));
        // d/dΔ of f(W + Δ on the slice) is the slice of the dense gradient.
        let gradient = normal(4, inner, "g");
        let slice = plan.slice(gradient.as_ref(), Coupled::Columns).unwrap();
        prop_assert_eq!(slice.shape(), (4, plan.trained()));
        let before = new_down.clone();
        plan.merge(new_down.as_mut(), slice.as_ref(), Coupled::Columns).unwrap();
        for i in 0..4 {
            for j in 0..inner {
                let added = if j < plan.trained() { gradient[(i, j)] } else { 0.0 };
                prop_assert_eq!(new_down[(i, j)], before[(i, j)] + added);
            }
        }
        prop_assert!(S2ft::random(units, units + 1, unit_len, (seed, "layer")).is_err());
    }

    /// A partition; merging what was split gives the same bits; one expert is a plain adapter.
    #[test]
    fn mosa_partitions(rows in 1_usize..8, cols in 1_usize..8, experts in 1_usize..6, seed in 0_u64..50) {
        let mut mosa = Mosa::new((rows, cols), experts, (seed, "adapter")).unwrap();
        let counts: Vec<usize> = mosa.experts().iter().map(Mask::count).collect();
        prop_assert_eq!(counts.iter().sum::<usize>(), rows * cols);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        for i in 0..rows {
            for j in 0..cols {
                prop_assert_eq!(mosa.experts().iter().filter(|m| m.contains(i, j)).count(), 1);
            }
        }
        let weight = normal(rows, cols, "w");
        let split = mosa.split(weight.as_ref()).unwrap();
        prop_assert_eq!(&mosa.merge(&split).unwrap(), &weight);
        prop_assert!(experts != 1 || split[0] == weight);
        let drawn: Vec<usize> = (0..60 * experts).map(|_| mosa.draw()).collect();
        prop_assert!((0..experts).all(|e| drawn.contains(&e)) && drawn.iter().all(|e| *e < experts));
        prop_assert!(mosa.merge(&split[1..]).is_err());
    }
}

#[test]
fn structure_decay_walks_the_published_frames() {
    let frames = |target, kind| StructureDecay::new(0, 1, target, kind).unwrap().frames().to_vec();
    assert_eq!(frames(nm(1, 16), Frames::Stepwise), [nm(15, 16), nm(8, 16), nm(4, 16), nm(2, 16), nm(1, 16)]);
    assert_eq!(frames(nm(1, 8), Frames::Stepwise), [nm(7, 8), nm(4, 8), nm(2, 8), nm(1, 8)]);
    assert_eq!(frames(nm(2, 4), Frames::Stepwise), [nm(3, 4), nm(2, 4)]);
    assert_eq!(frames(nm(1, 2), Frames::Stepwise), [nm(1, 2)]);
    assert_eq!(frames(nm(1, 4), Frames::Geometric), [nm(8, 32), nm(4, 16), nm(2, 8), nm(1, 4)]);
    assert!(frames(nm(1, 4), Frames::Geometric).iter().all(|p| p.density() == 0.25));
    for bad in [nm(2, 2), nm(3, 4), nm(1, 3)] {
        assert!(
            matches!(StructureDecay::new(0, 9, bad, Frames::Stepwise), Err(Error::InvalidOption { .. })),
            "{bad}"
        );
    }
    let decay = StructureDecay::new(10, 50, nm(1, 8), Frames::Stepwise).unwrap();
    let at = |step| decay.pattern(step).map(|p| p.keep());
    assert_eq!([at(0), at(9)], [None; 2]);
    assert_eq!([at(10), at(19), at(20), at(29), at(30), at(40), at(49)], [7, 7, 4, 4, 2, 1, 1].map(Some));
    assert_eq!([at(50), at(u64::MAX)], [Some(1); 2]);
    // No step at all: the target at once.
    let empty = StructureDecay::new(5, 5, nm(1, 8), Frames::Stepwise).unwrap();
    assert_eq!((empty.pattern(4), empty.pattern(5)), (None, Some(nm(1, 8))));
    assert!(StructureDecay::new(6, 5, nm(1, 8), Frames::Stepwise).is_err());
}

#[test]
fn endpoints_of_the_schedules() {
    let rule = RigL::new(100, 1000, 0.3).unwrap();
    assert_eq!((rule.fraction(0), rule.fraction(1000), rule.fraction(u64::MAX)), (0.3, 0.0, 0.0));
    assert!((rule.fraction(500) - 0.15).abs() < 1e-12);
    let updates: Vec<u64> = (0..1201).filter(|&t| rule.is_update(t)).collect();
    assert_eq!(updates, [100, 200, 300, 400, 500, 600, 700, 800, 900]);
    let sparsity = |t| cubic(t, (100, 200), (0.1, 0.9)).unwrap();
    assert_eq!((sparsity(0), sparsity(100), sparsity(200), sparsity(999)), (0.1, 0.1, 0.9, 0.9));
    assert!((sparsity(150) - (0.9 - 0.8 * 0.125)).abs() < 1e-12);
    assert!((100..200).all(|t| sparsity(t + 1) >= sparsity(t)));
    assert_eq!(cubic(7, (7, 7), (0.0, 0.5)), Ok(0.5));
}

/// Entries outside the mask never change, and the choice is made anew only at the turn.
#[test]
fn sara_trains_small_weights() {
    let mut weight = normal(6, 9, "w");
    let start = weight.clone();
    let mut sara = Sara::new(weight.as_ref(), 0.5, 3).unwrap();
    let chosen = sara.mask().clone();
    for i in 0..6 {
        for j in 0..9 {
            assert_eq!(chosen.contains(i, j), weight[(i, j)].abs() < 0.5);
        }
    }
    for step in 0..5 {
        let anew = sara.step(weight.as_ref(), step).unwrap();
        assert_eq!(anew, step == 3);
        let trained: Vec<f32> = sara.gather(weight.as_ref()).unwrap().iter().map(|w| w + 0.2).collect();
        sara.scatter(&trained, weight.as_mut()).unwrap();
        for i in 0..6 {
            for j in 0..9 {
                assert!(chosen.contains(i, j) || weight[(i, j)] == start[(i, j)]);
            }
        }
    }
    // Some grew beyond the threshold by the turn and are frozen.
    assert!(sara.mask().count() < chosen.count());
    assert_eq!(Sara::new(weight.as_ref(), 0.0, 0).unwrap().mask().count(), 0);
    assert_eq!(Sara::new(weight.as_ref(), f32::INFINITY, 0).unwrap().mask().count(), 54);
    assert!(Sara::new(weight.as_ref(), f32::NAN, 0).is_err() && Sara::new(weight.as_ref(), -1.0, 0).is_err());
    assert!(sara.scatter(&[1.0], weight.as_mut()).is_err());
    assert!(sara.gather(normal(2, 2, "x").as_ref()).is_err());
}

/// The nuclear norm's gradient is that of finite differences, away from singular values that are zero or equal.
#[test]
fn saras_regularizer_has_the_gradient_it_says() {
    let weight = normal(4, 6, "w");
    let sara = Sara::new(weight.as_ref(), 1.0, 0).unwrap();
    let (_, gradient) = sara.nuclear(weight.as_ref()).unwrap();
    let entries = sara.gather(weight.as_ref()).unwrap();
    assert_eq!(gradient.len(), entries.len());
    let step = 1e-2_f32;
    for k in 0..entries.len() {
        let value = |by: f32| {
            let mut moved = entries.clone();
            moved[k] += by;
            let mut weight = weight.clone();
            sara.scatter(&moved, weight.as_mut()).unwrap();
            sara.nuclear(weight.as_ref()).unwrap().0
        };
        let difference = (value(step) - value(-step)) / f64::from(2.0 * step);
        assert!((difference - f64::from(gradient[k])).abs() < 5e-3, "{k}: {difference} {}", gradient[k]);
    }
    let zeros = Mat::<f32>::zeros(3, 3);
    let (norm, gradient) = Sara::new(zeros.as_ref(), 1.0, 0).unwrap().nuclear(zeros.as_ref()).unwrap();
    assert_eq!((norm, gradient), (0.0, vec![0.0; 9]));
}

#[test]
fn schedules_refuse_what_means_nothing() {
    assert!(SrSte::new(TWO, f32::NAN).is_err() && SrSte::new(TWO, -1.0).is_err());
    for rate in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(MaskDecay::new(0, 1, Decay::Linear { rate }, GradientFlow::Straight).is_err());
    }
    assert!(MaskDecay::new(2, 1, Decay::Linear { rate: 0.1 }, GradientFlow::Straight).is_err());
    assert!(
        RigL::new(0, 1, 0.3).is_err() && RigL::new(1, 1, 1.5).is_err() && RigL::new(1, 1, f64::NAN).is_err()
    );
    let (w, mask) = (normal(2, 8, "w"), Mask::empty((2, 8)));
    let rule = RigL::new(1, 10, 0.3).unwrap();
    let nan = Mat::from_fn(2, 8, |_, _| f32::NAN);
    assert!(matches!(
        rule.update(w.as_ref(), nan.as_ref(), &mask, 1),
        Err(Error::NonFinite { what: "gradient", .. })
    ));
    assert!(rule.update(w.as_ref(), normal(2, 7, "g").as_ref(), &mask, 1).is_err());
    let crowded = Mask::from_fn((2, 8), |_, _| true);
    let refused = rule.update_nm(w.as_ref(), w.as_ref(), (&crowded, TWO), 1);
    assert!(matches!(refused, Err(Error::TooManyKept { .. })));
    let wrong = SrSte::new(TWO, 0.1).unwrap().gradient(w.as_ref(), &mask, normal(2, 7, "g").as_ref());
    assert!(matches!(wrong, Err(Error::ShapeMismatch { .. })));
    assert!(SrSte::new(TWO, 0.1).unwrap().forward(nan.as_ref()).is_err());
    assert!(erk_densities(&[LayerShape { out: 0, inputs: 2, kernel: (1, 1) }], 0.5).is_err());
    assert!(erk_densities(&[], 2.0).is_err() && erk_densities(&[], 0.5).unwrap().layers.is_empty());
    assert!(cubic(0, (2, 1), (0.0, 0.5)).is_err() && cubic(0, (1, 2), (0.0, f64::NAN)).is_err());
    assert!(S2ft::best(&[1.0, f64::NAN], 1, 2).is_err() && S2ft::best(&[1.0], 1, 0).is_err());
    let plan = S2ft::best(&[1.0, 3.0, 2.0], 2, 2).unwrap();
    assert_eq!(plan.order(), [1, 2, 0]);
    assert!(plan.permute(normal(5, 6, "w").as_ref(), Coupled::Rows).is_err());
    assert!(plan.slice(normal(6, 5, "w").as_ref(), Coupled::Columns).is_err());
    assert!(Mosa::new((2, 2), 0, (0, "a")).is_err());
    assert!(Mosa::new((usize::MAX, 2), 2, (0, "a")).is_err());
    assert!(Mosa::new((0, 5), 2, (0, "a")).unwrap().experts().iter().all(|m| m.count() == 0));
}
