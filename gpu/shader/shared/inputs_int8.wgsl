// Inputs as integers of 8 bits; a line of them is two words, the codes of columns 0 to 3 and 4 to 7.
@group(0) @binding(6) var<storage, read> x: array<vec2<u32>>;  // [tokens][x_stride]
@group(0) @binding(7) var<storage, read> x_scales: array<f32>; // [tokens][x_groups]
const Y: u32 = 8u;

fn inputs(at: u32) -> vec2<u32> {
    return x[at];
}
