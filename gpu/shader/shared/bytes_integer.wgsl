// Integers as signed bytes. Codes of 4 bits without zero points as 16 · (code - 8), factor 1/16: moved up, the highest bit
// turned. Those with zero points as they are, 0 to 15. Codes of 8 bits less 128, and their zero points too.
//
// Header constants: UP (bits that codes are moved up), FLIP (what is turned), ZEROS, LESS (what zero points are less).
fn zero_points(group: u32) -> vec4<i32> {
    if (ZEROS == 1u) {
        return vec4<i32>(unpack4xU8(zeros[group])) - vec4<i32>(i32(LESS));
    }
    return vec4<i32>();
}

fn signed_bytes(code: vec4<u32>) -> vec4<u32> {
    return (code << vec4<u32>(UP)) ^ vec4<u32>(FLIP);
}
