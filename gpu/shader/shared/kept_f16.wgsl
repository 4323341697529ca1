// Kept values of a sparse term as f16, two slots a word (the even one low). Widened by arithmetic on integers, so that
// subnormal numbers come out exact on every device.
@group(0) @binding(2) var<storage, read> kept: array<vec4<u32>>;  // [tiles][ceil(slots / 2)][4 quads]

fn kept_values(tile: u32, slot: u32, quad: u32) -> vec4<f32> {
    let words = kept[(tile * ((params.slots + 1u) / 2u) + slot / 2u) * 4u + quad];
    let half = words >> vec4<u32>(16u * (slot & 1u));
    let magnitude = half & vec4<u32>(0x7FFFu);
    let normal = bitcast<vec4<f32>>((magnitude << vec4<u32>(13u)) + vec4<u32>(112u << 23u));
    let small = vec4<f32>(magnitude) * 5.9604644775390625e-8;  // 2^-24
    let value = select(normal, small, magnitude < vec4<u32>(0x0400u));
    return select(value, -value, (half & vec4<u32>(0x8000u)) != vec4<u32>(0u));
}
