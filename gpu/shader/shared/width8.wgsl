// Codes of 8 bits.
fn halves(tile: u32, line: u32, quad: u32) -> Halves {
    let at = (tile * params.lines + line) * 8u + quad;
    return Halves(codes[at], codes[at + 4u]);
}
