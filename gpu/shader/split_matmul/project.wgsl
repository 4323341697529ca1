// Z = X·Rᵀ, the low-rank term's way down, in original coordinates.
//
// A workgroup makes TOKENS × RANKS entries: its threads share out the columns, each with all the sums in
// registers, so that what is read serves TOKENS (or RANKS) products; partial sums meet once. Sums are f32.
//
// Bounds: tokens and ranks past the last are read as the last and not written; columns are padded with zeros
// in both operands.
//
// Header constants: THREADS, TOKENS, RANKS.
struct Params {
    tokens: u32,
    rank: u32,
    stride: u32,   // vec4s of a row of x and of a row of R
    z_stride: u32, // f32s from one token of z to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;      // [tokens][stride]
@group(0) @binding(2) var<storage, read> right: array<vec4<f32>>;  // R: [rank][stride]
@group(0) @binding(3) var<storage, read_write> z: array<f32>;      // [tokens][z_stride]

const CELLS: u32 = TOKENS * RANKS;

var<workgroup> partial: array<f32, THREADS * CELLS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let id = folded(workgroup, count);
    let across = (params.rank + RANKS - 1u) / RANKS;
    let first_rank = (id % across) * RANKS;
    let first_token = (id / across) * TOKENS;
    if (first_token >= params.tokens) {
        return;
    }
    var sums = array<f32, CELLS>();
    for (var k = thread; k < params.stride; k += THREADS) {
        var r = array<vec4<f32>, RANKS>();
        for (var i = 0u; i < RANKS; i++) {
            r[i] = right[min(first_rank + i, params.rank - 1u) * params.stride + k];
        }
        for (var t = 0u; t < TOKENS; t++) {
            let a = x[min(first_token + t, params.tokens - 1u) * params.stride + k];
            for (var i = 0u; i < RANKS; i++) {
                sums[t * RANKS + i] += dot(a, r[i]);
            }
        }
    }
    for (var cell = 0u; cell < CELLS; cell++) {
        partial[cell * THREADS + thread] = sums[cell];
    }
    workgroupBarrier();
    for (var cell = thread; cell < CELLS; cell += THREADS) {
        let token = first_token + cell / RANKS;
        let rank = first_rank + cell % RANKS;
        if (token < params.tokens && rank < params.rank) {
            var sum = 0.0;
            for (var i = 0u; i < THREADS; i++) {
                sum += partial[cell * THREADS + i];
            }
            z[token * params.z_stride + rank] = sum;
        }
    }
}
