// Y = X̂·Q̃ᵀ + Z·Lᵀ for many tokens of 8-bit integers. Twin: rankbit_quant::matmul::quantized, the sums of a segment exact.
//
// A thread makes 4 rows × 4 tokens in registers, without barriers; a workgroup is QUADS row quads wide and BLOCKS blocks of
// tokens high. Products are summed as integers along a segment, scaled at its end, and added in f32. Variables by hand:
// arrays under a loop stay loops on some drivers.
//
// Bounds: as in matrix.wgsl.
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
    let at = token * params.lines;
    let scale_at = token * params.x_groups;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var start = 0u; start < params.lines; start += 1u << params.segment_shift) {
        let end = min(start + (1u << params.segment_shift), params.lines);
        var d0 = vec4<i32>();
        var d1 = vec4<i32>();
        var d2 = vec4<i32>();
        var d3 = vec4<i32>();
        var totals = vec4<i32>();
        for (var line = start; line < end; line++) {
            let word = codes[(tile * params.lines + line) * 4u + quad];
            let a = low(word);
            let b = high(word);
            let x0 = x[at.x + line];
            let x1 = x[at.y + line];
            let x2 = x[at.z + line];
            let x3 = x[at.w + line];
            d0 += products(a, b, x0);
            d1 += products(a, b, x1);
            d2 += products(a, b, x2);
            d3 += products(a, b, x3);
            if (ZEROS) {
                totals += vec4<i32>(total(x0), total(x1), total(x2), total(x3));
            }
        }
        let group = (tile * params.groups + (start >> params.group_shift)) * 4u + quad;
        let scale = scales[group];
        if (ZEROS) {
            let zero = zero_points(group);
            d0 -= zero * totals.x;
            d1 -= zero * totals.y;
            d2 -= zero * totals.z;
            d3 -= zero * totals.w;
        }
        let from_scales = scale_at + vec4<u32>(start >> params.x_shift);
        sum0 += (scale * x_scales[from_scales.x]) * vec4<f32>(d0);
        sum1 += (scale * x_scales[from_scales.y]) * vec4<f32>(d1);
        sum2 += (scale * x_scales[from_scales.z]) * vec4<f32>(d2);
        sum3 += (scale * x_scales[from_scales.w]) * vec4<f32>(d3);
    }
    let base = token * params.rank;
    for (var i = 0u; i < params.rank; i++) {
        let l = left[(tile * params.rank + i) * 4u + quad];
        sum0 += l * z[base.x + i];
        sum1 += l * z[base.y + i];
        sum2 += l * z[base.z + i];
        sum3 += l * z[base.w + i];
    }
    y[first * quads + column] = finish(sum0);
    if (first + 1u < params.tokens) {
        y[(first + 1u) * quads + column] = finish(sum1);
    }
    if (first + 2u < params.tokens) {
        y[(first + 2u) * quads + column] = finish(sum2);
    }
    if (first + 3u < params.tokens) {
        y[(first + 3u) * quads + column] = finish(sum3);
    }
}
