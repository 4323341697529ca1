// Y = (X·T)·Q̃ᵀ + Z·Lᵀ for few tokens. Twins: rankbit_lowrank::split::matmul::reference; for inputs of integers
// rankbit_quant::matmul::quantized, the sums of a line exact.
//
// A workgroup makes one tile of 16 rows for TOKENS tokens. Thread t takes row quad t % 4 and every
// (THREADS / 4)-th line from t / 4 on, so that neighbouring threads read neighbouring 16 bytes; partial sums
// meet once, in workgroup memory, those of a subgroup before that in registers where SUBGROUP is 1 (a subgroup has at
// least 4 threads and THREADS is a multiple of it). Sums are f32.
//
// Bounds: tokens past the last are read as the last and not written; the grid's tail leaves as a whole
// workgroup; everything else is padded (shared/split.wgsl).
//
// Header constants: THREADS (a multiple of 4), TOKENS. Lines of `#`: src/pipeline/template.rs.

var<workgroup> partial: array<vec4<f32>, THREADS * TOKENS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
#insert threads
) {
#insert thread
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
        let code = halves(tile, line, quad);
        let group = (tile * params.groups + (line >> params.group_shift)) * 4u + quad;
        let scale = scales[group];
#insert vector.decode
        for (var t = 0u; t < TOKENS; t++) {
            let token = min(first + t, last);
#insert vector.term
        }
    }
    for (var i = thread / 4u; i < params.rank; i += THREADS / 4u) {
        let l = left[(tile * params.rank + i) * 4u + quad];
        for (var t = 0u; t < TOKENS; t++) {
            sums[t] += l * z[min(first + t, last) * params.rank + i];
        }
    }
#insert meet
    workgroupBarrier();
    for (var item = thread; item < 4u * TOKENS; item += THREADS) {
        let token = first + item / 4u;
        if (token <= last) {
            let start = (item / 4u) * THREADS + item % 4u;
            var sum = partial[start];
            for (var i = 4u; i < places; i += 4u) {
                sum += partial[start + i];
            }
            y[(token * params.height + params.base + tile) * 4u + item % 4u] = finish(sum);
        }
    }
}
