// The inputs of the quantized term as they come: x is [tokens][x_stride vec4s], padded with zeros to whole lines.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> codes: array<vec2<u32>>;  // [tokens][lines], or four times as many
@group(0) @binding(3) var<storage, read_write> scales: array<u32>;       // [tokens][groups]: f32s, as bits

fn input(token: u32, place: u32) -> vec4<f32> {
    return x[token * params.x_stride + place];
}
