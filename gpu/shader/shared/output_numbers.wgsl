// What is written: the numbers that the codes stand for.
@group(0) @binding(CODES) var<storage, read_write> codes: array<vec4<u32>>;  // [tokens][lines][2]: f32s, as bits
@group(0) @binding(SCALES) var<storage, read_write> scales: array<u32>;      // [tokens][groups]: f32s, as bits

fn store(at: u32, a: vec4<f32>, b: vec4<f32>, scale: f32, finite: bool) {
    // The bits of NaN: arithmetic with NaN need not give one.
    codes[2u * at] = select(vec4<u32>(0x7FC00000u), bitcast<vec4<u32>>(a * scale), finite);
    codes[2u * at + 1u] = select(vec4<u32>(0x7FC00000u), bitcast<vec4<u32>>(b * scale), finite);
}
