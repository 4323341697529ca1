// What is written: the codes, half a byte each, as shared/inputs_int4.wgsl reads them.
@group(0) @binding(CODES) var<storage, read_write> codes: array<u32>;    // [tokens][lines]
@group(0) @binding(SCALES) var<storage, read_write> scales: array<u32>;  // [tokens][groups]: f32s, as bits

fn store(at: u32, a: vec4<f32>, b: vec4<f32>, scale: f32, finite: bool) {
    let low = pack4xI8(vec4<i32>(a)) & 0x0F0F0F0Fu;
    codes[at] = low | ((pack4xI8(vec4<i32>(b)) & 0x0F0F0F0Fu) << 4u);
}
