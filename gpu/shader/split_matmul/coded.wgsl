// Y = (X·T)·Q̃ᵀ + Z·Lᵀ for vector codes, outliers included. Twin: rankbit_lowrank::split::matmul::reference.
//
// A thread makes one row for TOKENS tokens, all columns in order: neighbouring threads share the tokens and read
// neighbouring codes. Sums are f32; row scales are applied once, column scales to the values.
//
// Bounds: rows past the last tile and tokens past the last leave, or are read as the last and not written; columns past
// `in` meet activations and scales that are 0, rows past `out` a scale of 0 (shared/coded.wgsl).
//
// Header constants: THREADS, TOKENS.

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let id = folded(workgroup, count);
    let height = 16u * params.tiles;
    let across = (height + THREADS - 1u) / THREADS;
    let row = (id % across) * THREADS + thread;
    let first = (id / across) * TOKENS;
    if (row >= height || first >= params.tokens) {
        return;
    }
    let last = params.tokens - 1u;
    var sums = array<f32, TOKENS>();
    for (var block = 0u; block < params.blocks; block++) {
        let v = eight(row, block);
        let j = 8u * block;
        let a = v.a * bitcast<vec4<f32>>(vec4<u32>(
            columns[j].w, columns[j + 1u].w, columns[j + 2u].w, columns[j + 3u].w));
        let b = v.b * bitcast<vec4<f32>>(vec4<u32>(
            columns[j + 4u].w, columns[j + 5u].w, columns[j + 6u].w, columns[j + 7u].w));
        for (var t = 0u; t < TOKENS; t++) {
            let at = min(first + t, last) * params.x_stride + 2u * block;
            sums[t] += dot(a, x[at]) + dot(b, x[at + 1u]);
        }
    }
    let here = rows[row];
    for (var t = 0u; t < TOKENS; t++) {
        sums[t] *= bitcast<f32>(here.x);
    }
    for (var i = here.y; i < rows[row + 1u].y; i++) {
        let column = values[params.outliers + 2u * i];
        let outlier = value(params.outliers + 2u * i + 1u);
        for (var t = 0u; t < TOKENS; t++) {
            sums[t] += outlier * x[min(first + t, last) * params.x_stride + column / 4u][column % 4u];
        }
    }
    for (var i = 0u; i < params.rank; i++) {
        let l = left[((row / 16u) * params.rank + i) * 16u + row % 16u];
        for (var t = 0u; t < TOKENS; t++) {
            sums[t] += l * z[min(first + t, last) * params.rank + i];
        }
    }
    for (var t = 0u; t < TOKENS; t++) {
        if (first + t <= last) {
            y[(first + t) * height + row] = finish(vec4<f32>(sums[t])).x;
        }
    }
}
