//! Pooling against the formulas.

use super::exact::{any_format, at, fraction, layer_dyadic, place, rounded, tensor, values, whole, window};
use proptest::prelude::*;
use rankbit_quant::Error;
use rankbit_quant::dyadic::{Average, AveragePool, IntFormat, MaxPool, Tensor, Window, calibrate};

/// What each window sees, in order; `None` is padding.
fn seen(input: &Tensor, window: &Window) -> Vec<Vec<Option<i64>>> {
    let [batch, channels, height, width] = input.shape();
    let (rows, cols) = window.outputs((height, width)).unwrap();
    let x = values(input);
    let mut windows = Vec::new();
    for (n, c) in (0..batch).flat_map(|n| (0..channels).map(move |c| (n, c))) {
        for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
            let entries = (0..window.kernel.0).flat_map(|i| (0..window.kernel.1).map(move |j| (i, j)));
            let entry = |(i, j)| {
                let y = place(row, i, window.stride.0, window.padding.0, window.dilation.0);
                at(
                    &x,
                    input.shape(),
                    [n, c],
                    y,
                    place(col, j, window.stride.1, window.padding.1, window.dilation.1),
                )
            };
            windows.push(entries.map(entry).collect());
        }
    }
    windows
}

fn input() -> impl Strategy<Value = (Tensor, Window)> {
    let sizes = (0_usize..=2, 1_usize..=3, (1_usize..=7, 1_usize..=7), any_format());
    sizes.prop_flat_map(|(batch, channels, image, format)| {
        (tensor([batch, channels, image.0, image.1], format), window(image))
    })
}

proptest! {
    #[test]
    fn averages_are_exact((input, window) in input(), scale in layer_dyadic(), format in any_format()) {
        let pool = AveragePool::new(window, Average::Rescale(scale), format).unwrap();
        let expected = seen(&input, &window).into_iter().map(|seen| {
            let sum: i64 = seen.into_iter().flatten().sum();
            rounded(&(whole(sum) * fraction(scale)), format.low().into(), format.high().into())
        });
        prop_assert_eq!(values(&pool.apply(&input).unwrap()), expected.collect::<Vec<_>>());
    }

    #[test]
    fn truncated_averages_are_exact((input, window) in input()) {
        let pool = AveragePool::new(window, Average::Truncate, input.format()).unwrap();
        let expected = seen(&input, &window).into_iter().map(|seen| {
            let area = i64::try_from(seen.len()).unwrap();
            let sum: i64 = seen.into_iter().flatten().sum();
            // trunc(sum/area + 1/100): toward zero.
            let exact = num_rational::Rational64::new(sum, area) + num_rational::Rational64::new(1, 100);
            exact.trunc().to_integer()
        });
        prop_assert_eq!(values(&pool.apply(&input).unwrap()), expected.collect::<Vec<_>>());
    }

    #[test]
    fn maxima_are_those_of_the_codes((input, window) in input()) {
        match MaxPool::new(window) {
            Ok(pool) => {
                let maxima: Option<Vec<i64>> =
                    seen(&input, &window).into_iter().map(|seen| seen.into_iter().flatten().max()).collect();
                match (pool.apply(&input), maxima) {
                    (Ok(y), Some(maxima)) => {
                        prop_assert_eq!(values(&y), maxima);
                        prop_assert_eq!(y.format(), input.format());
                    }
                    (Err(Error::InvalidLayer { .. }), None) => {}
                    (result, maxima) => prop_assert!(false, "{:?} {:?}", result, maxima),
                }
            }
            Err(error) => {
                let typed = matches!(error, Error::InvalidLayer { .. });
                prop_assert!(typed, "{}", error);
                prop_assert!(window.padding.0 > window.kernel.0 / 2 || window.padding.1 > window.kernel.1 / 2);
            }
        }
    }
}

#[test]
fn a_calibrated_average_holds_the_area() {
    // Codes of 0.5 to codes of 0.25, windows of 4: Σ·0.5/(0.25·4) = Σ/2, ties up.
    let (input, output) = (
        calibrate::Activation::new(0.5, IntFormat::INT8).unwrap(),
        calibrate::Activation::new(0.25, IntFormat::INT8).unwrap(),
    );
    let pool = calibrate::average_pool(Window::square(2).with_stride(2), input, output).unwrap();
    let x = Tensor::new([1, 1, 2, 4], IntFormat::INT8, &[1, 2, -3, 0, 3, 1, 0, 0]).unwrap();
    assert_eq!(values(&pool.apply(&x).unwrap()), [4, -1]);
}
