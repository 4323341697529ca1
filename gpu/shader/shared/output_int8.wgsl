// What is written: the codes, a byte each, as shared/inputs_int8.wgsl reads them.
@group(0) @binding(CODES) var<storage, read_write> codes: array<vec2<u32>>;  // [tokens][lines]
@group(0) @binding(SCALES) var<storage, read_write> scales: array<u32>;      // [tokens][groups]: f32s, as bits

fn store(at: u32, a: vec4<f32>, b: vec4<f32>, scale: f32, finite: bool) {
    codes[at] = vec2<u32>(pack4xI8(vec4<i32>(a)), pack4xI8(vec4<i32>(b)));
}
