// A table of 16 whole numbers, each in all four bytes of the header constants T0 ... T15: a tree of choices by the codes'
// bits, four codes of a word at once.
const ZEROS: u32 = 0u;

fn zero_points(group: u32) -> vec4<i32> {
    return vec4<i32>();
}

fn pick(mask: vec4<u32>, zero: u32, one: u32) -> vec4<u32> {
    return vec4<u32>(zero) ^ (mask & vec4<u32>(zero ^ one));
}

fn either(mask: vec4<u32>, zero: vec4<u32>, one: vec4<u32>) -> vec4<u32> {
    return zero ^ (mask & (zero ^ one));
}

// Each byte of `code` is a code.
fn signed_bytes(code: vec4<u32>) -> vec4<u32> {
    let ones = vec4<u32>(0x01010101u);
    let full = vec4<u32>(255u);
    let b0 = (code & ones) * full;
    let b1 = ((code >> vec4<u32>(1u)) & ones) * full;
    let b2 = ((code >> vec4<u32>(2u)) & ones) * full;
    let b3 = ((code >> vec4<u32>(3u)) & ones) * full;
    let c0 = either(b1, pick(b0, T0, T1), pick(b0, T2, T3));
    let c1 = either(b1, pick(b0, T4, T5), pick(b0, T6, T7));
    let c2 = either(b1, pick(b0, T8, T9), pick(b0, T10, T11));
    let c3 = either(b1, pick(b0, T12, T13), pick(b0, T14, T15));
    return either(b3, either(b2, c0, c1), either(b2, c2, c3));
}
