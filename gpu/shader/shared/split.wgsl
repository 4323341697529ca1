// What the two product kernels of split_matmul share: parameters, bindings, packing.
//
// Packing (made by operator/split_matmul/pack.rs):
//   word  u32 = 8 columns of one row: byte j holds column j (low half) and column 4 + j (high half)
//   line  64 bytes = the words of 16 consecutive rows for the same 8 columns; here vec4 = 4 rows ("quad")
//   tile  16 rows; its lines follow each other along the columns
// Every line lies in one group. Rows past `out` have scale 0, columns past `in` meet activations that are 0.
struct Params {
    tiles: u32,       // ceil(out / 16)
    lines: u32,       // lines of a tile
    groups: u32,      // groups of a row
    group_shift: u32, // line l belongs to group l >> group_shift
    tokens: u32,
    x_stride: u32,    // vec4s from one token of x to the next, at least 2 * lines
    rank: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<vec4<u32>>;    // [tiles][lines][4 quads]
@group(0) @binding(2) var<storage, read> scales: array<vec4<f32>>;   // [tiles][groups][4 quads]
@group(0) @binding(3) var<storage, read> zeros: array<u32>;          // [tiles][groups][4 quads], a byte per row
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;        // [tokens][x_stride], in the order of the lines
@group(0) @binding(5) var<storage, read> left: array<vec4<f32>>;     // L: [tiles][rank][4 quads]
@group(0) @binding(6) var<storage, read> z: array<f32>;              // X·Rᵀ: [tokens][rank]
@group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;  // [tokens][tiles][4 quads]
