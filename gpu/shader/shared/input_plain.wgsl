// The inputs of the quantized term as they come: x is [tokens][x_stride vec4s], padded with zeros to whole lines.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
const CODES: u32 = 2u;
const SCALES: u32 = 3u;

fn input(token: u32, place: u32) -> vec4<f32> {
    return x[token * params.x_stride + place];
}
