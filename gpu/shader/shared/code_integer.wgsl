// Integers: value = code - z, exact before any rounding.
//
// Header constants: ZEROS (1: a zero point per group and row; 0: MIDDLE), MIDDLE.
fn zero_points(group: u32) -> vec4<f32> {
    if (ZEROS == 1u) {
        return vec4<f32>(unpack4xU8(zeros[group]));
    }
    return vec4<f32>(f32(MIDDLE));
}

fn values(code: vec4<u32>, zero: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(code) - zero;
}
