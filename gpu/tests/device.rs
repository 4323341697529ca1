//! Selecting a device, and what it says instead of panicking.

use rankbit_gpu::{Error, Gpu, Limits, Selection, adapters, wgpu};
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::{Factor, LowRank, Split};
use rankbit_quant::{Activation, Code, FloatFormat, Floats, Group, Rounder, quantize, scheme};
use std::time::Duration;

fn int4(out: usize, features: usize) -> Split {
    let weight = Mat::from_fn(out, features, |i, j| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.5);
    let base = quantize(weight.as_ref(), &scheme::INT4, Rounder::Nearest).unwrap().quantized;
    Split::new((out, features), None, Some(base), None).unwrap()
}

#[test]
fn adapters_are_listed_and_the_best_one_opens() {
    let all = adapters();
    assert!(!all.is_empty(), "no GPU adapter; install Mesa's lavapipe (mesa-vulkan-drivers)");
    let gpu = Gpu::new().unwrap();
    assert!(all.iter().any(|info| info.name == gpu.adapter().name));
    assert!(gpu.adapter().limits.binding_bytes >= 1 << 27);
    assert!(gpu.adapter().unfit.is_none());
}

#[test]
fn selection_is_by_name_and_backend() {
    let wanted = adapters().into_iter().find(|info| info.unfit.is_none()).unwrap();
    let selection = Selection {
        name: Some(wanted.name.to_uppercase()),
        backend: Some(wanted.backend.to_uppercase()),
        limits: None,
    };
    assert_eq!(Gpu::with(&selection).unwrap().adapter().name, wanted.name);

    let none = Selection { name: Some("no such adapter".to_owned()), ..Selection::default() };
    let Err(Error::NoAdapter { wanted: text, found }) = Gpu::with(&none) else {
        panic!("an adapter was found")
    };
    assert!(text.contains("no such adapter"), "{text}");
    assert!(found.contains(&wanted.name), "{found}");
    let none = Selection { backend: Some("abacus".to_owned()), ..Selection::default() };
    assert!(matches!(Gpu::with(&none), Err(Error::NoAdapter { .. })));
}

#[test]
fn formats_without_a_kernel_are_named() {
    let gpu = Gpu::new().unwrap();
    let weight = Mat::from_fn(4, 16, |i, j| (i + j) as f32);
    for name in ["fp8-e4m3", "fp8-e5m2"] {
        let scheme = rankbit_quant::Scheme::named(name).unwrap();
        let base = quantize(weight.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
        let split = Split::new((4, 16), None, Some(base), None).unwrap();
        let error = gpu.upload(&split).unwrap_err();
        assert_eq!(error, Error::Unsupported { scheme });
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// Running it in floats, or with other groups, would be another product than the split's.
#[test]
fn quantized_inputs_without_a_kernel_are_refused() {
    let gpu = Gpu::new().unwrap();
    let fixed = Activation::calibrated(Code::Int { bits: 8, signed: true }, 3.0).unwrap();
    let odd = Activation::integer(8, Group::Size(12));
    let short = Activation::integer(3, Group::Row);
    for activation in [Activation::LLM_INT8, Activation::FP8, fixed, odd, short] {
        let split = int4(5, 12).with_activation(activation).unwrap();
        let error = gpu.upload(&split).unwrap_err();
        assert_eq!(error, Error::UnsupportedActivation { activation });
    }
    // Groups of inputs beside groups of the weight that need padding.
    let weight = Mat::from_fn(4, 40, |i, j| (i + j) as f32);
    let scheme = scheme::INT4.with_group(Group::Size(5));
    let base = quantize(weight.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
    let activation = Activation::integer(8, Group::Size(8));
    let split = Split::new((4, 40), None, Some(base), None).unwrap().with_activation(activation).unwrap();
    let error = gpu.upload(&split).unwrap_err();
    assert_eq!(error, Error::UnsupportedActivation { activation });
    assert!(error.to_string().contains("int8 per token and group of 8"), "{error}");
}

/// The least that WebGPU grants is enough for every kernel.
#[test]
fn every_kernel_compiles_under_the_least_limits() {
    let selection = Selection { limits: Some(Limits::WEBGPU), ..Selection::default() };
    let gpu = Gpu::with(&selection).unwrap();
    let least = wgpu::Limits::default();
    let limits = gpu.device().limits();
    assert!(limits.max_storage_buffers_per_shader_stage <= least.max_storage_buffers_per_shader_stage);
    assert!(limits.max_compute_workgroup_storage_size <= least.max_compute_workgroup_storage_size);
    for kernel in rankbit_gpu::pipeline::Kernel::permutations() {
        if !kernel.needs_subgroups() {
            gpu.compile(kernel).unwrap();
        }
    }
    let split = int4(300, 70).with_bias(vec![0.5; 300]).unwrap();
    let x = Mat::from_fn(21, 70, |t, j| (t * 3 + j) as f32 * 0.01);
    let (found, twin) =
        (gpu.upload(&split).unwrap().apply(x.as_ref()).unwrap(), split.apply(x.as_ref()).unwrap());
    assert!((found - twin).norm_max() < 1e-4);
}

/// A device that goes away in the middle is an error from then on, and another one opens.
#[test]
fn a_lost_device_is_an_error_and_another_one_opens() {
    let gpu = Gpu::new().unwrap();
    let (split, x) = (int4(20, 30), Mat::<f32>::from_fn(3, 30, |t, j| (t + j) as f32));
    let linear = gpu.upload(&split).unwrap();
    let workspace = linear.workspace(3).unwrap();
    let expected = workspace.apply(x.as_ref()).unwrap();
    gpu.device().destroy();
    for _ in 0..2 {
        assert!(workspace.apply(x.as_ref()).is_err());
        assert!(linear.apply(x.as_ref()).is_err());
        assert!(gpu.upload(&split).is_err());
    }
    assert!(matches!(workspace.run().unwrap_err(), Error::DeviceLost { .. }), "{:?}", workspace.run());
    let again = Gpu::new().unwrap();
    assert!(again.upload(&split).unwrap().apply(x.as_ref()).unwrap() == expected);
}

#[test]
fn waits_have_a_limit() {
    let gpu = Gpu::new().unwrap();
    assert_eq!(gpu.timeout(), Duration::from_secs(120));
    let hasty = gpu.with_timeout(Duration::ZERO);
    assert_eq!((hasty.timeout(), gpu.timeout()), (Duration::ZERO, Duration::from_secs(120)));
    // Done or not, it does not wait.
    match hasty.upload(&int4(4, 16)) {
        Ok(_) => {}
        Err(error) => assert_eq!(error, Error::TimedOut { what: "uploading", limit: Duration::ZERO }),
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let gpu = Gpu::new().unwrap();
    let linear = gpu.upload(&int4(5, 12)).unwrap();
    let x = Mat::<f32>::zeros(3, 11);
    let expected = Error::ShapeMismatch { what: "activations", expected: (3, 12), found: (3, 11) };
    assert_eq!(linear.apply(x.as_ref()).unwrap_err(), expected);
    assert_eq!(linear.apply_timed(x.as_ref(), 1).unwrap_err(), expected);
    let workspace = linear.workspace(2).unwrap();
    let x = Mat::<f32>::zeros(3, 12);
    let expected = Error::ShapeMismatch { what: "activations", expected: (2, 12), found: (3, 12) };
    assert_eq!(workspace.apply(x.as_ref()).unwrap_err(), expected);
}

#[test]
fn sizes_beyond_the_device_are_errors() {
    let small = Limits { binding_bytes: 4096, buffer_bytes: 1 << 16, groups_per_dimension: 8 };
    let gpu = Gpu::with(&Selection { limits: Some(small), ..Selection::default() }).unwrap();
    assert_eq!(gpu.adapter().limits, small);
    // 16 rows of 1024 codes are 8 KiB, and come in no smaller parts.
    assert_eq!(
        gpu.upload(&int4(32, 1024)).unwrap_err(),
        Error::LimitExceeded { what: "codes", needed: 8192, limit: 4096 }
    );
    let linear = gpu.upload(&int4(16, 64)).unwrap();
    // 16 tokens fill the binding with activations; 17 are too many.
    linear.apply(Mat::<f32>::zeros(16, 64).as_ref()).unwrap();
    assert_eq!(
        linear.apply(Mat::<f32>::zeros(17, 64).as_ref()).unwrap_err(),
        Error::LimitExceeded { what: "activations", needed: 17 * 64 * 4, limit: 4096 }
    );
    assert!(matches!(linear.workspace(usize::MAX).unwrap_err(), Error::LimitExceeded { .. }));
    // The device still works.
    assert!(linear.apply(Mat::<f32>::zeros(1, 64).as_ref()).is_ok());
}

#[test]
fn too_many_workgroups_are_an_error() {
    let few = Limits { binding_bytes: 1 << 27, buffer_bytes: 1 << 27, groups_per_dimension: 2 };
    let gpu = Gpu::with(&Selection { limits: Some(few), ..Selection::default() }).unwrap();
    // Two dimensions of 2 hold 4 tiles of 16 rows, not 5.
    assert!(gpu.upload(&int4(64, 8)).unwrap().apply(Mat::zeros(1, 8).as_ref()).is_ok());
    assert_eq!(
        gpu.upload(&int4(65, 8)).unwrap().apply(Mat::zeros(1, 8).as_ref()).unwrap_err(),
        Error::LimitExceeded { what: "workgroups of a dispatch", needed: 5, limit: 4 }
    );
}

#[test]
fn empty_products_are_empty() {
    let gpu = Gpu::new().unwrap();
    for (out, features, tokens) in [(0, 5, 3), (5, 0, 3), (5, 7, 0), (0, 0, 0), (0, 0, 2)] {
        let linear = gpu.upload(&int4(out, features)).unwrap();
        let y = linear.apply(Mat::<f32>::zeros(tokens, features).as_ref()).unwrap();
        assert_eq!((y.nrows(), y.ncols()), (tokens, out));
        assert!(y.col_iter().all(|col| col.iter().all(|&value| value == 0.0)));
    }
    // Rank 1 of a 1×1 matrix, alone.
    let factor = |value: f32| Factor::new((1, 1), Floats::encode(&[value], FloatFormat::F32)).unwrap();
    let split =
        Split::new((1, 1), None, None, Some(LowRank::new(factor(3.0), factor(-2.0)).unwrap())).unwrap();
    let y = gpu.upload(&split).unwrap().apply(Mat::from_fn(1, 1, |_, _| 0.5).as_ref()).unwrap();
    assert_eq!(y[(0, 0)], -3.0);
}
