// Codes of 4 bits.
fn halves(tile: u32, line: u32, quad: u32) -> Halves {
    let word = codes[(tile * params.lines + line) * 4u + quad];
    return Halves(word & vec4<u32>(0x0F0F0F0Fu), (word >> vec4<u32>(4u)) & vec4<u32>(0x0F0F0F0Fu));
}
