//! Operands, comparisons, and what every instruction set and thread count has to agree on.

use rankbit_attention::{Attention, Tensor};
use rankbit_linalg::{Scalar, Stream};
use rankbit_quant::simd::Level;

/// Independent normal entries.
pub(crate) fn random<T: Scalar>(shape: [usize; 4], seed: u64) -> Tensor<T> {
    let mut data = vec![T::from_f64(0.0); shape.iter().product()];
    Stream::new(seed, "attention").fill_normal(&mut data);
    Tensor::from_vec(data, shape).expect("the length fits")
}

/// The same values, rounded.
pub(crate) fn rounded(x: &Tensor<f64>) -> Tensor<f32> {
    let data = x.as_slice().iter().map(|&x| Scalar::from_f64(x)).collect();
    Tensor::from_vec(data, x.shape()).expect("the length fits")
}

/// Largest absolute difference; infinite when a NaN or another length is met.
pub(crate) fn gap<A: Scalar, B: Scalar>(a: &[A], b: &[B]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let mut worst = 0.0;
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (Scalar::to_f64(a), Scalar::to_f64(b));
        // Equal infinities are no gap.
        let gap = if a == b { 0.0 } else { (a - b).abs() };
        worst = if gap <= worst { worst } else { gap };
        if gap.is_nan() {
            return f64::INFINITY;
        }
    }
    worst
}

/// Runs `work` at every level that the machine has, and each with one thread and with three: threads must not change a bit.
/// Hands back the results by level.
pub(crate) fn levels<R: PartialEq + Send + core::fmt::Debug>(work: impl Fn() -> R + Sync) -> Vec<R> {
    let mut found = vec![];
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            pool.install(|| level.run(&work).expect("the level is available"))
        };
        let one = run(1);
        assert_eq!(one, run(3), "{level:?}: threads change the result");
        found.push(one);
    }
    found
}

/// Compares gradients with central differences of `Σ upstream·output` in a few entries of each operand.
///
/// `output` maps the operands to the output; all in f64.
pub(crate) fn check_gradients(
    operands: &[Tensor<f64>],
    gradients: &[&Tensor<f64>],
    upstream: &Tensor<f64>,
    output: impl Fn(&[Tensor<f64>]) -> Tensor<f64>,
) {
    assert_eq!(operands.len(), gradients.len());
    let value = |operands: &[Tensor<f64>]| -> f64 {
        output(operands).as_slice().iter().zip(upstream.as_slice()).map(|(a, b)| a * b).sum()
    };
    let mut stream = Stream::new(9, "entries");
    for (which, gradient) in gradients.iter().enumerate() {
        assert_eq!(operands[which].shape(), gradient.shape());
        let len = u64::try_from(gradient.as_slice().len()).expect("small");
        for _ in 0..12.min(len) {
            let at = usize::try_from(stream.next_below(len)).expect("small");
            let moved = |by: f64| {
                let mut operands = operands.to_vec();
                operands[which].as_mut_slice()[at] += by;
                value(&operands)
            };
            let difference = |step: f64| (moved(step) - moved(-step)) / (2.0 * step);
            let found = gradient.as_slice()[at];
            let close = |expected: f64| (found - expected).abs() <= 1e-7 * (1.0 + expected.abs());
            let plain = difference(1e-5);
            // Where the output bends too much for it (a variance near 0 in a norm): the error in step² taken out.
            if !close(plain) {
                let expected = (4.0 * plain - difference(2e-5)) / 3.0;
                assert!(close(expected), "operand {which}, entry {at}: {found} is not {expected}");
            }
        }
    }
}

/// The output of an attention that has to succeed.
pub(crate) fn output<T: Scalar>(found: Result<Attention<T>, rankbit_attention::Error>) -> Tensor<T> {
    found.expect("good operands").output
}
