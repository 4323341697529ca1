// Inputs as integers of 4 bits, two's complement; a line of them is one word, byte j the codes of columns j (low half) and
// 4 + j. Moved to the upper half of a byte a code is 16 times itself; the scales hold the 1/16.
@group(0) @binding(6) var<storage, read> x: array<u32>;        // [tokens][x_stride]
@group(0) @binding(7) var<storage, read> x_scales: array<f32>; // [tokens][x_groups]
const Y: u32 = 8u;

fn inputs(at: u32) -> vec2<u32> {
    let word = x[at];
    return vec2<u32>((word << 4u) & 0xF0F0F0F0u, word & 0xF0F0F0F0u);
}
