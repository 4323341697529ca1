// Y = X̂·Q̃ᵀ + Z·Lᵀ for few tokens of 8-bit integers. Twin: rankbit_quant::matmul::quantized, the sums of a line exact.
//
// Threads as in vector.wgsl: a workgroup makes one tile of 16 rows for TOKENS tokens. A line's products are summed as
// integers, scaled, and added in f32.
//
// Bounds: as in vector.wgsl.
//
// Header constants: THREADS (a multiple of 4), TOKENS.

var<workgroup> partial: array<vec4<f32>, THREADS * TOKENS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let id = folded(workgroup, count);
    let tile = id % params.tiles;
    let first = (id / params.tiles) * TOKENS;
    if (first >= params.tokens) {
        return;
    }
    let quad = thread % 4u;
    let last = params.tokens - 1u;
    var sums = array<vec4<f32>, TOKENS>();
    for (var line = thread / 4u; line < params.lines; line += THREADS / 4u) {
        let word = codes[(tile * params.lines + line) * 4u + quad];
        let group = (tile * params.groups + (line >> params.group_shift)) * 4u + quad;
        let scale = scales[group];
        let zero = zero_points(group);
        let a = low(word);
        let b = high(word);
        for (var t = 0u; t < TOKENS; t++) {
            let token = min(first + t, last);
            let inputs = x[token * params.lines + line];
            var sum = products(a, b, inputs);
            if (ZEROS) {
                sum -= zero * total(inputs);
            }
            sums[t] += (scale * x_scales[token * params.x_groups + (line >> params.x_shift)]) * vec4<f32>(sum);
        }
    }
    for (var i = thread / 4u; i < params.rank; i += THREADS / 4u) {
        let l = left[(tile * params.rank + i) * 4u + quad];
        for (var t = 0u; t < TOKENS; t++) {
            sums[t] += l * z[min(first + t, last) * params.rank + i];
        }
    }
    for (var t = 0u; t < TOKENS; t++) {
        partial[t * THREADS + thread] = sums[t];
    }
    workgroupBarrier();
    for (var item = thread; item < 4u * TOKENS; item += THREADS) {
        let token = first + item / 4u;
        if (token <= last) {
            let start = (item / 4u) * THREADS + item % 4u;
            var sum = partial[start];
            for (var i = 4u; i < THREADS; i += 4u) {
                sum += partial[start + i];
            }
            y[(token * params.tiles + tile) * 4u + item % 4u] = finish(sum);
        }
    }
}
