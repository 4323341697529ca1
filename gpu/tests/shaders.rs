//! Every permutation of every kernel, without an adapter: it parses, validates, and agrees with the Rust side.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, StorageAccess, TypeInner};
use rankbit_gpu::pipeline::Kernel;

/// No capability beyond plain WebGPU, but for subgroups where the kernel says so.
pub(crate) fn validator(kernel: Kernel) -> Validator {
    if !kernel.needs_subgroups() {
        return Validator::new(ValidationFlags::all(), Capabilities::empty());
    }
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP);
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    validator
}

fn parsed(kernel: Kernel) -> naga::Module {
    let source = kernel.source();
    naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{kernel:?}: {}", error.emit_to_string(&source)))
}

#[test]
fn every_permutation_is_valid_wgsl() {
    let all = Kernel::permutations();
    assert!(all.len() >= 20, "only {} permutations", all.len());
    for kernel in all {
        let mut validator = validator(kernel);
        if let Err(error) = validator.validate(&parsed(kernel)) {
            panic!("{kernel:?}: {}", error.emit_to_string(&kernel.source()));
        }
    }
}

#[test]
fn bindings_parameters_and_workgroups_are_those_of_the_module() {
    for kernel in Kernel::permutations() {
        let module = parsed(kernel);
        let [entry] = module.entry_points.as_slice() else { panic!("{kernel:?}: one entry point expected") };
        assert_eq!((entry.name.as_str(), entry.workgroup_size), ("main", kernel.workgroup_size()));

        let mut bindings = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(place) = variable.binding else { continue };
            assert_eq!(place.group, 0);
            bindings.push(place.binding);
            let expected = if place.binding == 0 {
                AddressSpace::Uniform
            } else if place.binding + kernel.written_bindings() > kernel.storage_bindings() {
                AddressSpace::Storage { access: StorageAccess::LOAD | StorageAccess::STORE }
            } else {
                AddressSpace::Storage { access: StorageAccess::LOAD }
            };
            assert_eq!(variable.space, expected, "{kernel:?} binding {}", place.binding);
            if place.binding == 0 {
                let TypeInner::Struct { members, span } = &module.types[variable.ty].inner else {
                    panic!("{kernel:?}: parameters are not a struct")
                };
                let found: Vec<_> = members
                    .iter()
                    .map(|member| (member.name.clone().unwrap_or_default(), member.offset as usize))
                    .collect();
                let (size, fields) = kernel.parameters();
                let fields: Vec<_> =
                    fields.into_iter().map(|(name, offset)| (name.to_owned(), offset)).collect();
                assert_eq!((found, *span as usize), (fields, size), "{kernel:?}");
            }
        }
        bindings.sort_unstable();
        assert_eq!(bindings, (0..=kernel.storage_bindings()).collect::<Vec<_>>(), "{kernel:?}");
        assert!(kernel.storage_bindings() <= 8, "{kernel:?}: WebGPU grants eight storage buffers");
    }
}

#[test]
fn workgroup_memory_is_within_every_device() {
    for kernel in Kernel::permutations() {
        let module = parsed(kernel);
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let used: u32 = module
            .global_variables
            .iter()
            .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
            .map(|(_, variable)| layouter[variable.ty].size)
            .sum();
        assert!(used <= 8192, "{kernel:?} uses {used} bytes of workgroup memory");
    }
}

/// Other compilers want extensions named; naga refuses the line.
#[test]
fn extensions_are_named_where_they_are_used() {
    let with = Kernel::permutations().into_iter().filter(|kernel| kernel.needs_subgroups()).count();
    assert!(with >= 20, "{with}");
    for kernel in Kernel::permutations() {
        let (plain, named) = (kernel.source(), kernel.source_with_extensions());
        let line = if kernel.needs_subgroups() { "enable subgroups;\n" } else { "" };
        assert_eq!(named, format!("{line}{plain}"));
        assert_eq!(kernel.needs_subgroups(), plain.contains("subgroupShuffle"), "{kernel:?}");
    }
}
