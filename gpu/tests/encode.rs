//! Products inside a caller's own device, buffers and command encoder.

use rankbit_gpu::{Error, Gpu, wgpu};
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::Split;
use rankbit_quant::{Rounder, quantize, scheme};

const USAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST).union(wgpu::BufferUsages::COPY_SRC);

fn layer(out: usize, features: usize) -> Split {
    let weight = Mat::from_fn(out, features, |i, j| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.5);
    let base = quantize(weight.as_ref(), &scheme::INT4, Rounder::Nearest).unwrap().quantized;
    Split::new((out, features), None, Some(base), None).unwrap().with_bias(vec![0.25; out]).unwrap()
}

fn buffer(device: &wgpu::Device, words: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let descriptor =
        wgpu::BufferDescriptor { label: None, size: words * 4, usage, mapped_at_creation: false };
    device.create_buffer(&descriptor)
}

/// Two layers in one encoder, the first's result the second's input, no copy between.
#[test]
fn layers_chain_in_the_callers_encoder() {
    let opened = Gpu::new().unwrap();
    let gpu = Gpu::from_device(opened.device().clone(), opened.queue().clone()).unwrap();
    assert_eq!(gpu.adapter().name, opened.adapter().name);
    let (first, second) = (layer(48, 40), layer(21, 48));
    let x = Mat::from_fn(5, 40, |t, j| ((t * 17 + j * 5) as f32 * 0.3).cos());
    let (one, two) = (gpu.upload(&first).unwrap(), gpu.upload(&second).unwrap());
    let expected = two.apply(one.apply(x.as_ref()).unwrap().as_ref()).unwrap();

    // 48 is a multiple of 16: the result has no padding, and is an input as it lies.
    let [inputs, between, result] = [5 * 40, 5 * 48, 5 * 32].map(|words| buffer(gpu.device(), words, USAGE));
    let (first, second) =
        (one.workspace_on(5, &inputs, &between).unwrap(), two.workspace_on(5, &between, &result).unwrap());
    first.write(x.as_ref()).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    first.encode(&mut encoder);
    second.encode(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    assert!(second.read().unwrap() == expected);
    assert!(expected.norm_l2() > 0.1);
}

#[test]
fn buffers_that_do_not_fit_are_errors() {
    let gpu = Gpu::new().unwrap();
    let linear = gpu.upload(&layer(48, 40)).unwrap();
    let [x, y, short] = [5 * 40, 5 * 48, 5 * 40 - 1].map(|words| buffer(gpu.device(), words, USAGE));
    let plain = buffer(gpu.device(), 5 * 48, wgpu::BufferUsages::COPY_SRC);
    assert!(linear.workspace_on(5, &x, &y).is_ok());
    for (x, y, what) in [(&short, &y, "activations"), (&x, &short, "result"), (&x, &plain, "result")] {
        let error = linear.workspace_on(5, x, y).unwrap_err();
        assert!(matches!(error, Error::Buffer { what: found, .. } if found == what), "{error}");
    }
    assert!(linear.workspace_on(6, &x, &y).is_err());
    // The same buffer for both is refused by the driver's rules, as a value.
    let both = buffer(gpu.device(), 5 * 48, USAGE);
    let refused = linear.workspace_on(5, &both, &both).and_then(|workspace| workspace.run());
    assert!(refused.is_err(), "{refused:?}");
    assert!(linear.workspace_on(5, &x, &y).unwrap().run().is_ok());
}
