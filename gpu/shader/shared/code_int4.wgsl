// Symmetric 4-bit integers: value = code - 8.
fn zero_points(group: u32) -> vec4<f32> {
    return vec4<f32>(8.0);
}

fn values(code: vec4<u32>, zero: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(code) - zero;
}
