// Y = (X·T)·Q̃ᵀ + Z·Lᵀ for many tokens. Twin: rankbit_lowrank::split::matmul::reference.
//
// A thread makes 4 rows × 4 tokens in registers, without barriers; a workgroup is QUADS row quads wide (lanes
// along rows: neighbouring threads read neighbouring 16 bytes and share the tokens) and BLOCKS blocks of 4
// tokens high. Within a group the products are summed unscaled, and scaled once at its end. Sums are f32.
//
// Bounds: threads past the last row quad or token leave; tokens past the last are read as the last and not
// written; everything else is padded (shared/split.wgsl).
//
// Header constants: QUADS, BLOCKS.

@compute @workgroup_size(QUADS, BLOCKS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let id = folded(workgroup, count);
    let quads = params.tiles * 4u;
    let across = (quads + QUADS - 1u) / QUADS;
    let column = (id % across) * QUADS + local.x;
    let first = ((id / across) * BLOCKS + local.y) * 4u;
    if (column >= quads || first >= params.tokens) {
        return;
    }
    let tile = column / 4u;
    let quad = column % 4u;
    let token = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.tokens - 1u));
    let at = token * params.x_stride;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var g = 0u; g < params.groups; g++) {
        let group = (tile * params.groups + g) * 4u + quad;
        let zero = zero_points(group);
        let end = min((g + 1u) << params.group_shift, params.lines);
        var d0 = vec4<f32>();
        var d1 = vec4<f32>();
        var d2 = vec4<f32>();
        var d3 = vec4<f32>();
        for (var line = g << params.group_shift; line < end; line++) {
            let word = codes[(tile * params.lines + line) * 4u + quad];
            let here = at + vec4<u32>(2u * line);
            let mask = vec4<u32>(15u);
            // Columns 0 to 3 of the line: the low halves.
            var q0 = values(word & mask, zero);
            var q1 = values((word >> vec4<u32>(8u)) & mask, zero);
            var q2 = values((word >> vec4<u32>(16u)) & mask, zero);
            var q3 = values((word >> vec4<u32>(24u)) & mask, zero);
            let m = mat4x4<f32>(q0, q1, q2, q3);
            d0 += m * x[here.x];
            d1 += m * x[here.y];
            d2 += m * x[here.z];
            d3 += m * x[here.w];
            // Columns 4 to 7: the high halves.
            q0 = values((word >> vec4<u32>(4u)) & mask, zero);
            q1 = values((word >> vec4<u32>(12u)) & mask, zero);
            q2 = values((word >> vec4<u32>(20u)) & mask, zero);
            q3 = values(word >> vec4<u32>(28u), zero);
            let n = mat4x4<f32>(q0, q1, q2, q3);
            d0 += n * x[here.x + 1u];
            d1 += n * x[here.y + 1u];
            d2 += n * x[here.z + 1u];
            d3 += n * x[here.w + 1u];
        }
        let scale = scales[group];
        sum0 += scale * d0;
        sum1 += scale * d1;
        sum2 += scale * d2;
        sum3 += scale * d3;
    }
    let base = token * params.rank;
    for (var i = 0u; i < params.rank; i++) {
        let l = left[(tile * params.rank + i) * 4u + quad];
        sum0 += l * z[base.x + i];
        sum1 += l * z[base.y + i];
        sum2 += l * z[base.z + i];
        sum3 += l * z[base.w + i];
    }
    let row = params.tiles * 4u;
    y[first * row + column] = finish(sum0);
    if (first + 1u < params.tokens) {
        y[(first + 1u) * row + column] = finish(sum1);
    }
    if (first + 2u < params.tokens) {
        y[(first + 2u) * row + column] = finish(sum2);
    }
    if (first + 3u < params.tokens) {
        y[(first + 3u) * row + column] = finish(sum3);
    }
}
