// Y += X·Sᵀ for a sparse term with N of every M entries kept, in original coordinates. Runs after the kernel that writes
// Y. Twin: rankbit_sparse::matmul::reference.
//
// A workgroup makes one tile of 16 rows for TOKENS tokens. Thread t takes row quad t % 4 and every (THREADS / 4)-th
// chunk of kept entries from t / 4 on; partial sums meet once, in workgroup memory. Sums are f32.
//
// Packing (made by operator/split_matmul/sparse.rs):
//   slot   the place of a kept entry in its row; its column is span * (slot / keep) + its index
//   chunk  32 / bits slots, whose indices are one u32 per row, the first lowest
//   tile   16 rows; here vec4 = 4 rows ("quad")
//
// Bounds: tokens past the last are read as the last and not written; the grid's tail leaves as a whole workgroup; rows
// past `out` keep zeros of column 0.
//
// Header constants: THREADS (a multiple of 4), TOKENS.
struct Params {
    tiles: u32,
    chunks: u32,   // chunks of a row
    slots: u32,    // kept entries of a row
    keep: u32,     // N
    span: u32,     // M
    bits: u32,     // of an index
    tokens: u32,
    x_stride: u32, // f32s from one token of x to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> indices: array<vec4<u32>>;  // [tiles][chunks][4 quads]
@group(0) @binding(3) var<storage, read> x: array<f32>;              // [tokens][x_stride]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;  // [tokens][tiles][4 quads]

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
    let width = 32u / params.bits;
    let mask = vec4<u32>((1u << params.bits) - 1u);
    var sums = array<vec4<f32>, TOKENS>();
    for (var chunk = thread / 4u; chunk < params.chunks; chunk += THREADS / 4u) {
        var word = indices[(tile * params.chunks + chunk) * 4u + quad];
        let end = min((chunk + 1u) * width, params.slots);
        var base = chunk * width / params.keep * params.span;
        var place = chunk * width % params.keep;
        for (var slot = chunk * width; slot < end; slot++) {
            let column = vec4<u32>(base) + (word & mask);
            let value = kept_values(tile, slot, quad);
            for (var t = 0u; t < TOKENS; t++) {
                let at = vec4<u32>(min(first + t, last) * params.x_stride) + column;
                sums[t] += value * vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]);
            }
            word = word >> vec4<u32>(params.bits);
            place += 1u;
            if (place == params.keep) {
                place = 0u;
                base += params.span;
            }
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
            let at = (token * params.tiles + tile) * 4u + item % 4u;
            y[at] = finish(y[at] + sum);
        }
    }
}
