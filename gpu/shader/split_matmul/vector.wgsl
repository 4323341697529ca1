// Y = (X·T)·Q̃ᵀ + Z·Lᵀ for few tokens. Twin: rankbit_lowrank::split::matmul::reference.
//
// A workgroup makes one tile of 16 rows for TOKENS tokens. Thread t takes row quad t % 4 and every
// (THREADS / 4)-th line from t / 4 on, so that neighbouring threads read neighbouring 16 bytes; partial sums
// meet once, in workgroup memory. Sums are f32.
//
// Bounds: tokens past the last are read as the last and not written; the grid's tail leaves as a whole
// workgroup; everything else is padded (shared/split.wgsl).
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
        let low = word & vec4<u32>(0x0F0F0F0Fu);
        let high = (word >> vec4<u32>(4u)) & vec4<u32>(0x0F0F0F0Fu);
        let a0 = values(unpack4xU8(low.x), vec4<f32>(zero.x));
        let a1 = values(unpack4xU8(low.y), vec4<f32>(zero.y));
        let a2 = values(unpack4xU8(low.z), vec4<f32>(zero.z));
        let a3 = values(unpack4xU8(low.w), vec4<f32>(zero.w));
        let b0 = values(unpack4xU8(high.x), vec4<f32>(zero.x));
        let b1 = values(unpack4xU8(high.y), vec4<f32>(zero.y));
        let b2 = values(unpack4xU8(high.z), vec4<f32>(zero.z));
        let b3 = values(unpack4xU8(high.w), vec4<f32>(zero.w));
        for (var t = 0u; t < TOKENS; t++) {
            let at = min(first + t, last) * params.x_stride + 2u * line;
            let xa = x[at];
            let xb = x[at + 1u];
            sums[t] += scale * vec4<f32>(
                dot(a0, xa) + dot(b0, xb),
                dot(a1, xa) + dot(b1, xb),
                dot(a2, xa) + dot(b2, xb),
                dot(a3, xa) + dot(b3, xb),
            );
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
