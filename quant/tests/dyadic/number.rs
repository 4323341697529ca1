//! Dyadic numbers: their derivation and the rounding multiplication.

use super::exact::{any_dyadic, fraction, rounded, whole};
use num_rational::BigRational;
use proptest::prelude::*;
use rankbit_quant::Error;
use rankbit_quant::dyadic::{Dyadic, calibrate};

fn accumulator() -> impl Strategy<Value = i32> {
    prop_oneof![
        any::<i32>(),
        -300..300,
        Just(i32::MIN),
        Just(i32::MAX),
        (0..31).prop_map(|k| 1_i32 << k),
        (0..31).prop_map(|k: i32| -(1_i32 << k)),
    ]
}

fn wide() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -300..300_i64,
        Just(i64::MIN),
        Just(i64::MAX),
        (0..63).prop_map(|k| 1_i64 << k),
        (0..63).prop_map(|k: i32| -(1_i64 << k)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn multiplication_is_exact(value in accumulator(), scale in any_dyadic()) {
        let exact = whole(value) * fraction(scale);
        prop_assert_eq!(scale.scale(value), rounded(&exact, i64::MIN, i64::MAX));
    }

    #[test]
    fn wide_multiplication_is_exact(value in wide(), scale in any_dyadic()) {
        let exact = whole(value) * fraction(scale);
        prop_assert_eq!(scale.scale_wide(value), rounded(&exact, i64::MIN, i64::MAX));
    }

    #[test]
    fn one_multiplication_in_two_widths(value in any::<i32>(), scale in any_dyadic()) {
        prop_assert_eq!(scale.scale(value), scale.scale_wide(value.into()));
    }

    #[test]
    fn derivation_is_half_up_of_the_mantissa(log in -95.9..61.9_f64) {
        let scale = log.exp2();
        let dyadic = calibrate::dyadic(scale).unwrap();
        prop_assert!((1 << 30..1_u32 << 31).contains(&dyadic.multiplier()));
        // S = m·2^e exactly; b = ⌊m·2³¹ + ½⌋, c = 31 - e.
        let exact = BigRational::from_float(scale).unwrap();
        let (two, mut e) = (whole(2), 0_i32);
        let mut m = exact.clone();
        while m >= whole(1) { m /= &two; e += 1; }
        while m < BigRational::new(1.into(), 2.into()) { m *= &two; e -= 1; }
        let b = rounded(&(m * whole(1_u64 << 31)), 0, i64::MAX);
        prop_assert_eq!(fraction(dyadic), whole(b) * two.pow(e - 31));
        // Within 2⁻³¹ of S, relatively.
        let error = (fraction(dyadic) - &exact) / &exact;
        prop_assert!(error.clone() * whole(1_u64 << 31) <= whole(1) && error * whole(1_u64 << 31) >= whole(-1));
    }

    #[test]
    fn close_to_the_real_product(value in any::<i32>(), log in -20.0..6.0_f64) {
        let scale = log.exp2();
        let product = f64::from(value) * scale;
        let y = calibrate::dyadic(scale).unwrap().scale(value) as f64;
        prop_assert!((y - product).abs() <= 0.5 + product.abs() * (f64::powi(2.0, -31) + f64::EPSILON));
    }

    #[test]
    fn monotone_and_odd_but_for_ties(a in any::<i32>(), b in any::<i32>(), scale in any_dyadic()) {
        prop_assert!((a <= b) == (a == b || scale.scale(a) <= scale.scale(b)) || scale.scale(a) == scale.scale(b));
        prop_assume!(a != i32::MIN);
        let sum = scale.scale(a).saturating_add(scale.scale(-a));
        let twice = whole(2 * i64::from(a)) * fraction(scale);
        // x and -x round to opposite numbers, unless x lies in the middle: then both go up.
        let tie = twice.is_integer() && !(twice / whole(2)).is_integer();
        let saturated = scale.scale(a) == i64::MAX || scale.scale(-a) == i64::MAX;
        prop_assert!(sum == i64::from(tie) || saturated, "{}", sum);
    }
}

#[test]
fn every_shift_at_the_ends() {
    let ends = [i32::MIN, i32::MIN + 1, -3, -1, 0, 1, 2, 3, i32::MAX - 1, i32::MAX];
    let wide_ends = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    for shift in -31..=126 {
        for multiplier in [1 << 30, (1 << 30) + 1, 3 << 29, (1 << 31) - 1] {
            let scale = Dyadic::new(multiplier, shift).unwrap();
            for value in ends {
                let exact = rounded(&(whole(value) * fraction(scale)), i64::MIN, i64::MAX);
                assert_eq!(scale.scale(value), exact, "{value} · {multiplier} / 2^{shift}");
            }
            for value in wide_ends {
                let exact = rounded(&(whole(value) * fraction(scale)), i64::MIN, i64::MAX);
                assert_eq!(scale.scale_wide(value), exact, "{value} · {multiplier} / 2^{shift}");
            }
        }
    }
}

#[test]
fn equal_numbers_are_equal() {
    assert_eq!(Dyadic::new(1, 0), Ok(Dyadic::ONE));
    assert_eq!(Dyadic::new(1 << 31, 31), Ok(Dyadic::ONE));
    assert_eq!(Dyadic::new(3, 2), Dyadic::new(3 << 20, 22));
    // m·2³¹ rounds up to 2³¹: b does not fit 31 bits and is halved.
    let below_one = calibrate::dyadic(1.0 - f64::powi(2.0, -40)).unwrap();
    assert_eq!(below_one, Dyadic::ONE);
    assert_eq!((Dyadic::ONE.multiplier(), Dyadic::ONE.shift()), (1 << 30, 30));
}

#[test]
fn ties_go_up() {
    let half = Dyadic::new(1, 1).unwrap();
    let halves: Vec<i64> = [-3, -2, -1, 0, 1, 2, 3].into_iter().map(|x| half.scale(x)).collect();
    assert_eq!(halves, [-1, -1, 0, 0, 1, 1, 2]);
}

#[test]
fn ends_of_the_range() {
    for scale in [f64::powi(2.0, -96), f64::powi(2.0, 62) * (1.0 - 1e-9)] {
        assert!(calibrate::dyadic(scale).is_ok(), "{scale:e}");
    }
    let outside = [
        f64::powi(2.0, 62),
        f64::powi(2.0, -96) * 0.999,
        0.0,
        -0.0,
        -1.0,
        f64::MIN_POSITIVE / 2.0,
        5e-324,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    for scale in outside {
        assert!(matches!(calibrate::dyadic(scale), Err(Error::DyadicScale { .. })), "{scale:e}");
    }
    for (multiplier, shift) in [
        (0, 0),
        ((1 << 31) + 1, 40),
        (u32::MAX, 40),
        (1 << 30, -32),
        (1 << 30, 127),
        (1, 97),
        (1, i32::MAX),
        (1, i32::MIN),
        (1 << 31, -31),
        (1 << 31, i32::MIN),
    ] {
        assert_eq!(Dyadic::new(multiplier, shift), Err(Error::DyadicRange { multiplier, shift }));
    }
}
