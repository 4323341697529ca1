// Trellis codes: a circular bit string a column, down the rows; see rankbit_quant::trellis. Neighbouring rows read
// neighbouring bits. Tables are in the order of windows, so that no bits are reversed.
fn one(row: u32, column: u32) -> f32 {
    let c = columns[column];
    let bits = c.y;
    if (bits == 0u) {
        return 0.0;
    }
    let end = bits * (row + 1u);
    // The first windows begin at the end of the ring.
    let first = select(end - params.window, end + bits * params.rows - params.window, end < params.window);
    let word = first >> 5u;
    let shift = first & 31u;
    let next = select(word + 1u, 0u, (word + 1u) * 32u == bits * params.rows);
    let low = codes[c.x + word] >> shift;
    let high = select(codes[c.x + next] << ((32u - shift) & 31u), 0u, shift == 0u);
    return value(c.z + ((low | high) & ((1u << params.window) - 1u)));
}

fn eight(row: u32, block: u32) -> Eight {
    let j = 8u * block;
    return Eight(
        vec4<f32>(one(row, j), one(row, j + 1u), one(row, j + 2u), one(row, j + 3u)),
        vec4<f32>(one(row, j + 4u), one(row, j + 5u), one(row, j + 6u), one(row, j + 7u)),
    );
}
