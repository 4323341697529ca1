//! What must be refused, with a typed error and never a panic.

use rankbit_quant::Error;
use rankbit_quant::dyadic::calibrate::{
    BatchNorm, Observed, average_pool, conv2d, linear, requantize, residual,
};
use rankbit_quant::dyadic::integer::Wide;
use rankbit_quant::dyadic::{
    Activation, Average, AveragePool, Conv2d, Dyadic, IntFormat, Linear, MaxPool, Requantize, Residual, Sums,
    Tensor, Window,
};

const HUGE: usize = usize::MAX;

fn zeros(shape: [usize; 4]) -> Tensor {
    Tensor::new(shape, IntFormat::INT8, &vec![0; shape.iter().product()]).unwrap()
}

fn conv(window: Window) -> Result<Conv2d, Error> {
    let len = window.kernel.0.saturating_mul(window.kernel.1).min(1 << 12);
    Conv2d::new([1, 1, window.kernel.0, window.kernel.1], vec![1; len], vec![0], window, 1, IntFormat::INT8)
}

#[test]
fn formats_and_tensors() {
    for bits in [0, 1, 9, 32, u8::MAX] {
        for signed in [false, true] {
            assert!(matches!(IntFormat::new(bits, signed), Err(Error::InvalidLayer { .. })));
        }
    }
    let one = |value| Tensor::new([1, 1, 1, 1], IntFormat::INT4, &[value]);
    for value in [-9, 8, i32::MIN, i32::MAX] {
        assert_eq!(one(value), Err(Error::CodeOutOfRange { index: 0, found: value.into() }));
    }
    assert!(one(-8).is_ok() && one(7).is_ok());
    assert!(Tensor::new([1, 1, 1, 1], IntFormat::UINT4, &[-1]).is_err());
    assert!(matches!(Tensor::new([1, 2, 1, 1], IntFormat::INT8, &[0]), Err(Error::ElementCount { .. })));
    for shape in [[HUGE, 2, 1, 1], [0, 1, HUGE, HUGE], [HUGE, HUGE, 0, 1], [HUGE, 1, 1, 2]] {
        assert!(matches!(Tensor::new(shape, IntFormat::INT8, &[]), Err(Error::TooLarge { .. })), "{shape:?}");
        assert!(matches!(Sums::new(shape, Wide::I64(Vec::new())), Err(Error::TooLarge { .. })));
    }
    assert!(matches!(Sums::new([1, 1, 1, 3], Wide::I32(vec![0; 2])), Err(Error::ElementCount { .. })));
}

#[test]
fn empty_tensors_of_many_planes_cost_nothing() {
    let (x, sums) = (
        Tensor::new([1 << 40, 1 << 20, 0, 1], IntFormat::INT8, &[]).unwrap(),
        Sums::new([1 << 40, 1 << 20, 0, 1], Wide::I32(Vec::new())).unwrap(),
    );
    let one = || vec![Dyadic::ONE];
    assert_eq!(Requantize::new(one(), IntFormat::INT8, false).unwrap().apply(&sums).unwrap(), x);
    let add = Residual::new(one(), one(), IntFormat::INT8, false).unwrap();
    assert_eq!(add.apply(&sums, &sums).unwrap(), x);
    let window = Window { kernel: (2, 1), padding: (1, 0), ..Window::square(2) };
    let pool = AveragePool::new(window, Average::Truncate, IntFormat::INT8).unwrap();
    assert!(matches!(pool.apply(&x), Err(Error::TooLarge { .. })));
    assert!(matches!(MaxPool::new(window).unwrap().apply(&x), Err(Error::TooLarge { .. })));
}

#[test]
fn windows_that_mean_nothing() {
    let square = Window::square(3);
    let none = [
        Window::square(0),
        Window { kernel: (3, 0), ..square },
        square.with_stride(0),
        Window { stride: (1, 0), ..square },
        square.with_dilation(0),
        square.with_padding(3),
        square.with_padding(HUGE),
        Window { padding: (0, HUGE / 2), ..square },
    ];
    for window in none {
        assert!(matches!(window.check(), Err(Error::InvalidLayer { .. })), "{window:?}");
        assert!(matches!(conv(window), Err(Error::InvalidLayer { .. })), "{window:?}");
        assert!(MaxPool::new(window).is_err());
        assert!(AveragePool::new(window, Average::Truncate, IntFormat::INT8).is_err());
        let activation = Activation::new(1.0, IntFormat::INT8).unwrap();
        assert!(average_pool(window, activation, activation).is_err());
    }
    for window in [
        square.with_dilation(HUGE),
        square.with_dilation(HUGE / 2 + 1),
        Window::square(HUGE).with_dilation(2),
    ] {
        assert!(matches!(window.check(), Err(Error::TooLarge { .. })), "{window:?}");
        assert!(conv(window).is_err());
    }
    // Padding that only its window's dilation allows: the padded size overflows.
    let wide = Window { kernel: (2, 1), stride: (1, 1), padding: (HUGE / 2 + 9, 0), dilation: (HUGE - 9, 1) };
    assert!(wide.check().is_ok());
    assert!(matches!(wide.outputs((5, 5)), Err(Error::TooLarge { .. })));
    assert!(conv(wide).unwrap().apply(&zeros([1, 1, 5, 5])).is_err());
    // Windows larger than the image.
    for window in [square, Window { kernel: (1, 5), ..Window::square(1) }, Window::square(2).with_dilation(3)]
    {
        let x = zeros([1, 1, 2, 2]);
        assert!(matches!(conv(window).unwrap().apply(&x), Err(Error::InvalidLayer { .. })));
        assert!(matches!(MaxPool::new(window).unwrap().apply(&x), Err(Error::InvalidLayer { .. })));
    }
    // Outputs that no memory holds, from an image that it does.
    let thin = Window { kernel: (2, 1), stride: (1, 1), padding: (1 << 61, 0), dilation: (1 << 61, 1) };
    assert!(matches!(conv(thin).unwrap().apply(&zeros([1, 1, 4, 4])), Err(Error::TooLarge { .. })));
    // Averages over windows whose sums could leave i32.
    let large = AveragePool::new(Window::square(1 << 12), Average::Truncate, IntFormat::INT8);
    assert!(matches!(large, Err(Error::InvalidLayer { .. })));
    // A maximum of nothing.
    let apart = Window { kernel: (2, 2), stride: (1, 1), padding: (1, 1), dilation: (2, 2) };
    assert!(matches!(
        MaxPool::new(apart).unwrap().apply(&zeros([1, 1, 1, 1])),
        Err(Error::InvalidLayer { .. })
    ));
}

#[test]
fn layers_whose_parts_do_not_fit() {
    let format = IntFormat::INT8;
    for (out, features) in [(0, 1), (1, 0), (0, 0)] {
        assert!(matches!(
            Linear::new((out, features), vec![], vec![0; out], format),
            Err(Error::InvalidLayer { .. })
        ));
        let window = Window::square(1);
        let conv = Conv2d::new([out, features, 1, 1], vec![], vec![0; out], window, 1, format);
        assert!(matches!(conv, Err(Error::InvalidLayer { .. })), "zero channels");
    }
    assert!(matches!(Linear::new((2, 3), vec![0; 5], vec![0; 2], format), Err(Error::ElementCount { .. })));
    assert!(matches!(Linear::new((2, 3), vec![0; 6], vec![0; 3], format), Err(Error::ElementCount { .. })));
    assert!(matches!(Linear::new((HUGE, 3), vec![], vec![], format), Err(Error::TooLarge { .. })));
    for groups in [0, 2, HUGE] {
        let conv = Conv2d::new([3, 1, 1, 1], vec![0; 3], vec![0; 3], Window::square(1), groups, format);
        assert!(matches!(conv, Err(Error::InvalidLayer { .. })), "{groups} groups");
    }
    let conv = Conv2d::new([1, 1, 2, 2], vec![0; 4], vec![0], Window::square(3), 1, format);
    assert!(matches!(conv, Err(Error::InvalidLayer { .. })), "a kernel of another size");
    let conv = Conv2d::new([HUGE, HUGE, 1, 1], vec![], vec![], Window::square(1), 1, format);
    assert!(matches!(conv, Err(Error::TooLarge { .. })));
    let layer = Linear::new((2, 3), vec![0; 6], vec![0; 2], format).unwrap();
    assert!(matches!(layer.apply(&zeros([1, 2, 1, 1])), Err(Error::ElementCount { .. })));
    let conv = Conv2d::new([2, 3, 1, 1], vec![0; 6], vec![0; 2], Window::square(1), 2, format).unwrap();
    assert!(
        matches!(conv.apply(&zeros([1, 3, 1, 1])), Err(Error::ElementCount { .. })),
        "groups have 3 channels each"
    );
}

#[test]
fn scales_that_do_not_fit() {
    let one = || vec![Dyadic::ONE];
    assert!(matches!(Requantize::new(vec![], IntFormat::INT8, false), Err(Error::InvalidLayer { .. })));
    assert!(Residual::new(vec![], one(), IntFormat::INT8, false).is_err());
    assert!(Residual::new(one(), vec![], IntFormat::INT8, false).is_err());
    let sums = |channels| Sums::from(&zeros([1, channels, 1, 1]));
    let two = Requantize::new(vec![Dyadic::ONE; 2], IntFormat::INT8, false).unwrap();
    assert!(matches!(two.apply(&sums(3)), Err(Error::ElementCount { .. })));
    assert!(two.apply_wide(&sums(3)).is_err());
    let add = Residual::new(vec![Dyadic::ONE; 2], one(), IntFormat::INT8, false).unwrap();
    assert!(matches!(add.apply(&sums(3), &sums(3)), Err(Error::ElementCount { .. })));
    assert!(matches!(add.apply(&sums(2), &sums(3)), Err(Error::InvalidLayer { .. })));
    let bad = [0.0, -0.0, -1.0, 1e-40, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let fine = Activation::new(1.0, IntFormat::INT8).unwrap();
    for scale in bad {
        assert!(matches!(Activation::new(scale, IntFormat::INT8), Err(Error::DyadicScale { .. })), "{scale}");
        for result in
            [requantize(&[1.0, scale], fine, false).err(), residual(&[1.0], &[1.0, scale], fine, false).err()]
        {
            assert!(matches!(result, Some(Error::DyadicScale { index: 1, .. })), "{scale}: {result:?}");
        }
    }
    let large = Activation::new(1e30, IntFormat::INT8).unwrap();
    assert!(matches!(requantize(&[1e-30], large, false), Err(Error::DyadicScale { .. })));
    let small = Activation::new(1e-30, IntFormat::INT8).unwrap();
    assert!(matches!(requantize(&[1e30], small, false), Err(Error::DyadicScale { .. })));
}

#[test]
fn weights_and_activations_that_are_no_numbers() {
    let input = Activation::new(0.1, IntFormat::INT8).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let not_finite = |error| matches!(error, Some(Error::StoredNonFinite { index: 1, .. }));
        assert!(not_finite(linear((1, 2), &[1.0, bad], &[], 8, input).err()));
        assert!(not_finite(linear((2, 1), &[1.0, 1.0], &[0.0, bad], 8, input).err()));
        assert!(not_finite(input.quantize([1, 2, 1, 1], &[0.0, bad]).err()));
        assert!(not_finite(Observed::extremes().see(&[0.0, bad]).err()));
    }
    assert!(matches!(linear((2, 2), &[1.0; 3], &[], 8, input), Err(Error::ElementCount { .. })));
    assert!(matches!(linear((2, 2), &[1.0; 4], &[0.0], 8, input), Err(Error::ElementCount { .. })));
    assert!(linear((0, 2), &[], &[], 8, input).is_err());
    assert!(linear((2, 0), &[], &[], 8, input).is_err());
    assert!(linear((HUGE, HUGE), &[], &[], 8, input).is_err());
    assert!(conv2d([0, 1, 1, 1], &[], &[], Window::square(1), 1, 8, input).is_err());
    assert!(conv2d([1, 1, 1, 1], &[1.0], &[], Window::square(1), 0, 8, input).is_err());
    for bits in [0, 1, 9] {
        assert!(matches!(linear((1, 1), &[1.0], &[], bits, input), Err(Error::InvalidLayer { .. })));
        assert!(Observed::extremes().activation(bits).is_err());
    }
    // Weights so small that their scale is subnormal, and so large that with this input no f32 holds the product.
    assert!(matches!(linear((1, 1), &[1e-38], &[], 8, input), Err(Error::DyadicScale { .. })));
    let loud = Activation::new(1e30, IntFormat::INT8).unwrap();
    let layer = linear((1, 1), &[1e30], &[1.0], 8, loud).unwrap();
    assert!(matches!(requantize(&layer.scales, loud, false), Err(Error::DyadicScale { .. })));
    for momentum in [-0.1, 1.0, f32::NAN] {
        assert!(matches!(Observed::running(momentum), Err(Error::InvalidOption { .. })));
    }
}

#[test]
fn batch_norms_that_do_not_fit() {
    let one = [1.0_f32; 2];
    let norm = BatchNorm { gamma: &one, beta: &one, mean: &one, variance: &one, epsilon: 0.0 };
    assert!(norm.fold(&[1.0; 4], &[]).is_ok());
    assert!(matches!(norm.fold(&[1.0; 3], &[]), Err(Error::ElementCount { .. })));
    assert!(matches!(norm.fold(&[1.0; 4], &[1.0]), Err(Error::ElementCount { .. })));
    for short in [
        BatchNorm { beta: &[1.0], ..norm },
        BatchNorm { mean: &[], ..norm },
        BatchNorm { variance: &[1.0; 3], ..norm },
        BatchNorm { gamma: &[], ..norm },
    ] {
        assert!(matches!(short.fold(&[1.0; 4], &[]), Err(Error::ElementCount { .. })));
    }
    for variance in [[1.0, 0.0], [1.0, -2.0], [1.0, f32::NAN]] {
        let norm = BatchNorm { variance: &variance, ..norm };
        assert!(matches!(norm.fold(&[1.0; 4], &[]), Err(Error::InvalidOption { .. })), "{variance:?}");
    }
    let norm = BatchNorm { gamma: &[1e30, 1.0], ..norm };
    assert!(matches!(norm.fold(&[1e30; 4], &[]), Err(Error::StoredNonFinite { .. })));
}
