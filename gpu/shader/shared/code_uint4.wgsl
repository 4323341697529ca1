// 4-bit integers with a zero point per group and row: value = code - z, exact before any rounding.
fn zero_points(group: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(zeros[group]));
}

fn values(code: vec4<u32>, zero: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(code) - zero;
}
