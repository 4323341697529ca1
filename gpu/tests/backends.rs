//! Every permutation in the languages of all backends, without an adapter.

use naga::back::pipeline_constants::process_overrides;
use naga::back::{PipelineConstants, glsl, hlsl, msl, spv};
use naga::valid::ModuleInfo;
use naga::{Module, ShaderStage};
use rankbit_gpu::pipeline::Kernel;

fn each(check: impl Fn(Kernel, &Module, &ModuleInfo)) {
    for kernel in Kernel::permutations() {
        let module = naga::front::wgsl::parse_str(&kernel.source()).unwrap();
        let info = crate::shaders::validator(kernel).validate(&module).unwrap();
        // Every choice of the override, resolved as a pipeline does it.
        let choices = if kernel.makes_results() { 0..4 } else { 0..1 };
        for choice in choices {
            let mut constants = PipelineConstants::default();
            if kernel.makes_results() {
                constants.insert("NONLINEARITY".to_owned(), f64::from(choice));
            }
            let entry = Some((ShaderStage::Compute, "main"));
            let (module, info) = process_overrides(&module, &info, entry, &constants).unwrap();
            check(kernel, &module, &info);
        }
    }
}

#[test]
fn every_permutation_is_spir_v() {
    each(|kernel, module, info| {
        let options = spv::Options { lang_version: (1, 3), ..Default::default() };
        let words =
            spv::write_vec(module, info, &options, None).unwrap_or_else(|e| panic!("{kernel:?}: {e}"));
        assert_eq!(words.first(), Some(&0x0723_0203), "{kernel:?}");
    });
}

#[test]
fn every_permutation_is_hlsl() {
    each(|kernel, module, info| {
        let mut text = String::new();
        let options = hlsl::Options {
            fake_missing_bindings: true,
            shader_model: hlsl::ShaderModel::V6_0,
            ..Default::default()
        };
        let pipeline = hlsl::PipelineOptions::default();
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(module, info, None)
            .unwrap_or_else(|e| panic!("{kernel:?}: {e}"));
        assert!(text.contains("numthreads"), "{kernel:?}");
    });
}

#[test]
fn every_permutation_is_msl() {
    each(|kernel, module, info| {
        let options =
            msl::Options { fake_missing_bindings: true, lang_version: (2, 1), ..Default::default() };
        let (text, _) = msl::write_string(module, info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|e| panic!("{kernel:?}: {e}"));
        assert!(text.contains("kernel void"), "{kernel:?}");
    });
}

#[test]
fn every_permutation_is_glsl() {
    each(|kernel, module, info| {
        let mut text = String::new();
        let options = glsl::Options { version: glsl::Version::Desktop(450), ..Default::default() };
        let pipeline = glsl::PipelineOptions {
            shader_stage: ShaderStage::Compute,
            entry_point: "main".to_owned(),
            multiview: None,
        };
        glsl::Writer::new(
            &mut text,
            module,
            info,
            &options,
            &pipeline,
            naga::proc::BoundsCheckPolicies::default(),
        )
        .and_then(|mut writer| writer.write())
        .unwrap_or_else(|e| panic!("{kernel:?}: {e}"));
        assert!(text.contains("layout(local_size_x"), "{kernel:?}");
    });
}
