// What the two product kernels for inputs of 8-bit integers share: parameters and bindings. Packing of the weight as in
// shared/split.wgsl; a line of inputs is two words, the codes of columns 0 to 3 and 4 to 7.
//
// Each of the files code8_*.wgsl gives a line's weights as signed bytes, `low` and `high`, whose sums are whole numbers
// of the scheme's steps times 1/factor (the inputs' scales hold the factor), and whether zero points are taken off.
struct Params {
    tiles: u32,         // ceil(out / 16)
    lines: u32,         // lines of a tile
    groups: u32,        // groups of a row
    group_shift: u32,   // line l belongs to group l >> group_shift
    tokens: u32,
    x_groups: u32,      // groups of a token
    x_shift: u32,       // line l belongs to the inputs' group l >> x_shift
    rank: u32,
    segment_shift: u32, // the smaller of the two: lines whose products are summed as integers
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<vec4<u32>>;    // [tiles][lines][4 quads]
@group(0) @binding(2) var<storage, read> scales: array<vec4<f32>>;   // [tiles][groups][4 quads]
@group(0) @binding(3) var<storage, read> zeros: array<u32>;          // [tiles][groups][4 quads], a byte per row
@group(0) @binding(4) var<storage, read> x: array<vec2<u32>>;        // [tokens][lines]
@group(0) @binding(5) var<storage, read> x_scales: array<f32>;       // [tokens][x_groups]
@group(0) @binding(6) var<storage, read> left: array<vec4<f32>>;     // L: [tiles][rank][4 quads]
@group(0) @binding(7) var<storage, read> z: array<f32>;              // X·Rᵀ: [tokens][rank]
@group(0) @binding(8) var<storage, read_write> y: array<vec4<f32>>;  // [tokens][tiles][4 quads]

fn products(low: vec4<u32>, high: vec4<u32>, x: vec2<u32>) -> vec4<i32> {
    return vec4<i32>(
        dot4I8Packed(low.x, x.x) + dot4I8Packed(high.x, x.y),
        dot4I8Packed(low.y, x.x) + dot4I8Packed(high.y, x.y),
        dot4I8Packed(low.z, x.x) + dot4I8Packed(high.z, x.y),
        dot4I8Packed(low.w, x.x) + dot4I8Packed(high.w, x.y),
    );
}

// Sum of the inputs' codes.
fn total(x: vec2<u32>) -> i32 {
    return dot4I8Packed(x.x, 0x01010101u) + dot4I8Packed(x.y, 0x01010101u);
}
