// Y = X̂·Q̃ᵀ + Z·Lᵀ for many tokens of 8-bit integers. Twin: rankbit_quant::matmul::quantized, the sums of a segment exact.
//
// A thread makes 4 rows × TOKENS tokens in registers, without barriers; a workgroup is QUADS row quads wide and BLOCKS
// blocks of tokens high. Products are summed as integers along a segment, scaled at its end, and added in f32.
//
// Bounds: as in matrix.wgsl.
//
// Header constants: QUADS, BLOCKS, TOKENS.

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
    let first = ((id / across) * BLOCKS + local.y) * TOKENS;
    if (column >= quads || first >= params.tokens) {
        return;
    }
    let tile = column / 4u;
    let quad = column % 4u;
    let last = params.tokens - 1u;
    var sums = array<vec4<f32>, TOKENS>();
    for (var start = 0u; start < params.lines; start += 1u << params.segment_shift) {
        let group = (tile * params.groups + (start >> params.group_shift)) * 4u + quad;
        let end = min(start + (1u << params.segment_shift), params.lines);
        var whole = array<vec4<i32>, TOKENS>();
        var inputs_total = array<i32, TOKENS>();
        for (var line = start; line < end; line++) {
            let word = codes[(tile * params.lines + line) * 4u + quad];
            let a = low(word);
            let b = high(word);
            for (var t = 0u; t < TOKENS; t++) {
                let inputs = x[min(first + t, last) * params.lines + line];
                whole[t] += products(a, b, inputs);
                if (ZEROS) {
                    inputs_total[t] += total(inputs);
                }
            }
        }
        let scale = scales[group];
        let zero = zero_points(group);
        for (var t = 0u; t < TOKENS; t++) {
            var sum = whole[t];
            if (ZEROS) {
                sum -= zero * inputs_total[t];
            }
            let x_scale = x_scales[min(first + t, last) * params.x_groups + (start >> params.x_shift)];
            sums[t] += (scale * x_scale) * vec4<f32>(sum);
        }
    }
    for (var i = 0u; i < params.rank; i++) {
        let l = left[(tile * params.rank + i) * 4u + quad];
        for (var t = 0u; t < TOKENS; t++) {
            sums[t] += l * z[min(first + t, last) * params.rank + i];
        }
    }
    for (var t = 0u; t < TOKENS; t++) {
        if (first + t <= last) {
            y[(first + t) * quads + column] = sums[t];
        }
    }
}
