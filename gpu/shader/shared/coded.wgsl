// What the product kernel for vector codes and its decoders share: parameters and bindings
// (made by operator/split_matmul/coded.rs).
struct Params {
    tiles: u32,     // ceil(out / 16)
    rows: u32,      // trellis: rows of a stream, out rounded up to 32; lattices: 16 * tiles
    blocks: u32,    // ceil(in / 8)
    window: u32,    // trellis: bits of a state
    outliers: u32,  // where they start in `values`: column and value of each, row after row
    tokens: u32,
    x_stride: u32,  // vec4s from one token of x to the next, at least 2 * blocks
    rank: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> columns: array<vec4<u32>>;  // first word, bits, table; column scale (f32)
@group(0) @binding(3) var<storage, read> values: array<u32>;         // tables, then outliers
@group(0) @binding(4) var<storage, read> rows: array<vec2<u32>>;     // row scale (f32); its first outlier
@group(0) @binding(5) var<storage, read> x: array<vec4<f32>>;        // [tokens][x_stride]
@group(0) @binding(6) var<storage, read> left: array<f32>;           // L: [tiles][rank][16]
@group(0) @binding(7) var<storage, read> z: array<f32>;              // X·Rᵀ: [tokens][rank]
@group(0) @binding(8) var<storage, read_write> y: array<f32>;        // [tokens][tiles][16]

// Eight columns of a row.
struct Eight {
    a: vec4<f32>,
    b: vec4<f32>,
}

fn value(at: u32) -> f32 {
    return bitcast<f32>(values[at]);
}
