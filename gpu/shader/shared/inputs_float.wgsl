// Inputs as f32, in the order of the lines.
@group(0) @binding(6) var<storage, read> x: array<vec4<f32>>;  // [tokens][x_stride]
const Y: u32 = 7u;
