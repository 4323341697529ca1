// Y = (X·T)·Q̃ᵀ + Z·Lᵀ for many tokens. Twins as those of vector.wgsl.
//
// A thread makes WIDE row quads × TOKENS tokens in registers, without barriers; a workgroup is QUADS threads wide (lanes
// along rows: neighbouring threads read neighbouring bytes and share the tokens) and BLOCKS threads high. Sums are f32.
// Variables are numbered by the template: arrays under a loop stay loops on some drivers.
//
// Bounds: threads past the last row quad or token leave; tokens past the last are read as the last and not
// written; everything else is padded (shared/split.wgsl).
//
// Header constants: QUADS, BLOCKS, WIDE (1 or 2), TOKENS. Lines of `#`: src/pipeline/template.rs.

@compute @workgroup_size(QUADS, BLOCKS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let id = folded(workgroup, count);
    let quads = params.tiles * 4u;
    let across = (quads / WIDE + QUADS - 1u) / QUADS;
    let column = (id % across) * QUADS + local.x;
    let first = ((id / across) * BLOCKS + local.y) * TOKENS;
    if (WIDE * column >= quads || first >= params.tokens) {
        return;
    }
    let tile = WIDE * column / 4u;
    let quad = WIDE * column % 4u;
#insert sums
#insert matrix.sums
#insert rest
}
