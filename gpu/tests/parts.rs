//! Weights larger than a binding.

use rankbit_gpu::{Gpu, Limits, Nonlinearity, Selection};
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::{Input, Split, fit, preset};
use rankbit_quant::{Activation, FloatFormat, Group, scheme};

fn layer(activation: Activation) -> Split {
    let weight = Mat::from_fn(150, 128, |i, j| ((i * 131 + j * 37) as f32 * 0.7).sin());
    let recipe = preset::lorc(scheme::UINT4.with_group(Group::Size(64)), 5, FloatFormat::F16);
    let split = fit(weight.as_ref(), &recipe, &Input { name: "w", moments: None }).unwrap().split;
    split.with_bias(vec![0.5; 150]).unwrap().with_activation(activation).unwrap()
}

/// Ten tiles in parts of one, of two and of four: the same bits as in one, by every choice of kernels.
#[test]
fn parts_make_the_same_bits() {
    let whole = Gpu::new().unwrap();
    for activation in [Activation::Float, Activation::integer(8, Group::Size(64)), Activation::INT4] {
        let split = layer(activation);
        let linear = whole.upload(&split).unwrap().with_nonlinearity(Nonlinearity::Relu);
        let mut seen = 0;
        // A tile's codes are 1 KiB; those of x bind within the limit too.
        for tiles in [1, 2, 4] {
            let binding_bytes = (1024 * tiles).max(3 * 160 * 4);
            let limits = Limits { binding_bytes, ..Limits::WEBGPU };
            let small = Gpu::with(&Selection { limits: Some(limits), ..Selection::default() }).unwrap();
            // The right factor, 5 × 128 f32s, needs 2.5 KiB.
            let split = if binding_bytes < 5 * 128 * 4 {
                Split::new(split.shape(), None, split.base().cloned(), None)
                    .unwrap()
                    .with_activation(activation)
                    .unwrap()
            } else {
                split.clone()
            };
            let linear = if split.rank() == 0 {
                whole.upload(&split).unwrap().with_nonlinearity(Nonlinearity::Relu)
            } else {
                linear.clone()
            };
            let parted = small.upload(&split).unwrap().with_nonlinearity(Nonlinearity::Relu);
            for tokens in [1, 3] {
                let x = Mat::from_fn(tokens, 128, |t, j| ((t * 17 + j * 5) as f32 * 0.3).cos());
                for choice in parted.choices(tokens) {
                    let one = linear.workspace_with(tokens, choice).unwrap().apply(x.as_ref()).unwrap();
                    let two = parted.workspace_with(tokens, choice).unwrap().apply(x.as_ref()).unwrap();
                    assert!(one == two, "{activation} {tiles} {tokens} {choice}");
                    assert!(one.norm_l2() > 1.0);
                    seen += 1;
                }
            }
        }
        assert!(seen >= 15, "{seen}");
    }
}
