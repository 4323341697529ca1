// Symmetric 4-bit integers as 16 · (code - 8), factor 1/16: a nibble in the upper half of a byte, its highest bit turned.
const ZEROS: bool = false;

fn zero_points(group: u32) -> vec4<i32> {
    return vec4<i32>();
}

fn low(word: vec4<u32>) -> vec4<u32> {
    return ((word << vec4<u32>(4u)) & vec4<u32>(0xF0F0F0F0u)) ^ vec4<u32>(0x80808080u);
}

fn high(word: vec4<u32>) -> vec4<u32> {
    return (word & vec4<u32>(0xF0F0F0F0u)) ^ vec4<u32>(0x80808080u);
}
