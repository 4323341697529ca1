// What the product kernels of split_matmul share: parameters, bindings, packing.
//
// Packing (made by operator/split_matmul/pack.rs):
//   word  u32 = 4 or 8 columns of one row. Codes of 4 bits: byte j holds column j (low half) and column 4 + j (high
//         half). Codes of 8 bits: two words, of columns 0 to 3 and of columns 4 to 7
//   line  the words of 16 consecutive rows for the same 8 columns, 64 bytes for each word of a row; here vec4 = 4
//         rows ("quad"); with codes of 8 bits all first words come before the second ones
//   tile  16 rows; its lines follow each other along the columns
// Every line lies in one group. Rows past `out` have scale 0, columns past `in` meet activations that are 0.
//
// The inputs and the place Y of the result are declared in shared/inputs_*.wgsl.
struct Params {
    tiles: u32,         // of 16 rows
    lines: u32,         // lines of a tile
    groups: u32,        // groups of a row
    group_shift: u32,   // line l belongs to group l >> group_shift
    tokens: u32,
    x_stride: u32,      // elements from one token of x to the next, at least all lines'
    rank: u32,
    x_groups: u32,      // groups of a token of quantized inputs
    x_shift: u32,       // line l belongs to the inputs' group l >> x_shift
    segment_shift: u32, // the smaller of the two shifts: lines whose products are summed as integers
    height: u32,        // tiles of the result; a weight larger than a binding comes in parts of whole tiles
    base: u32,          // the first tile of this part
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<vec4<u32>>;    // [tiles][lines][words][4 quads]
@group(0) @binding(2) var<storage, read> scales: array<vec4<f32>>;   // [tiles][groups][4 quads]
@group(0) @binding(3) var<storage, read> zeros: array<u32>;          // [tiles][groups][4 quads], a byte per row
@group(0) @binding(4) var<storage, read> left: array<vec4<f32>>;     // L: [tiles][rank][4 quads]
@group(0) @binding(5) var<storage, read> z: array<f32>;              // X·Rᵀ: [tokens][rank]
@group(0) @binding(Y) var<storage, read_write> y: array<vec4<f32>>;  // [tokens][height][4 quads]

// A line's codes of four rows, one to a byte: columns 0 to 3, columns 4 to 7.
struct Halves {
    low: vec4<u32>,
    high: vec4<u32>,
}
