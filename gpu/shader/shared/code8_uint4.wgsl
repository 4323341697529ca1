// 4-bit integers as their codes, 0 to 15; the zero point is taken off a segment's sum.
const ZEROS: bool = true;

fn zero_points(group: u32) -> vec4<i32> {
    return vec4<i32>(unpack4xU8(zeros[group]));
}

fn low(word: vec4<u32>) -> vec4<u32> {
    return word & vec4<u32>(0x0F0F0F0Fu);
}

fn high(word: vec4<u32>) -> vec4<u32> {
    return (word >> vec4<u32>(4u)) & vec4<u32>(0x0F0F0F0Fu);
}
