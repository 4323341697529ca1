// X·T in the order of the lines: smoothing factors, and groups that are not a multiple of 8 columns wide.
//
//   out[t, p] = x[t, column[p]] * inverse[p], or 0 where column[p] is past `features` (padding)
//
// A thread makes one vec4. Bounds: the grid's tail leaves; padding is never read.
//
// Header constants: THREADS.
struct Params {
    tokens: u32,
    features: u32,
    x_stride: u32,   // f32s from one token of x to the next
    out_stride: u32, // vec4s from one token of the result to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                // [tokens][x_stride]
@group(0) @binding(2) var<storage, read> column: array<vec4<u32>>;     // [out_stride]
@group(0) @binding(3) var<storage, read> inverse: array<vec4<f32>>;    // [out_stride]: 1 / λ
@group(0) @binding(4) var<storage, read_write> gathered: array<vec4<f32>>;  // [tokens][out_stride]

fn entry(token: u32, column: u32, factor: f32) -> f32 {
    if (column >= params.features) {
        return 0.0;
    }
    return x[token * params.x_stride + column] * factor;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let across = (params.out_stride + THREADS - 1u) / THREADS;
    let id = folded(workgroup, count);
    let token = id / across;
    let p = (id % across) * THREADS + thread;
    if (token >= params.tokens || p >= params.out_stride) {
        return;
    }
    let c = column[p];
    let f = inverse[p];
    gathered[token * params.out_stride + p] = vec4<f32>(
        entry(token, c.x, f.x),
        entry(token, c.y, f.y),
        entry(token, c.z, f.z),
        entry(token, c.w, f.w),
    );
}
