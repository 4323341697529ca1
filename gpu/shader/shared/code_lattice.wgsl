// Lattice codes: blocks of eight columns; see rankbit_quant::lattice. A word holds a block of a row, or two with E8P
// alone: [words][16 * tiles]. Values come from tables of products, so that they are those of the CPU to the bit.
//
// Header constants: STAGES (1: E8P; 2: and E8P; 3: and a short point), FIRST, SECOND, PATTERNS, POINTS (places in
// `values`).
fn four_values(table: u32, at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(value(table + at.x), value(table + at.y), value(table + at.z), value(table + at.w));
}

// A point of E8P times its factor: `table` begins with that of -11 quarters.
fn point(code: u32, table: u32) -> Eight {
    let at = PATTERNS + 2u * ((code >> 8u) & 255u);
    let low = values[at];
    let high = values[at + 1u];
    // The pattern's parity is the top bit; the eighth sign makes the number of minuses fit it.
    let seven = code & 127u;
    let minuses = seven | (((countOneBits(seven) + (high >> 31u)) & 1u) << 7u);
    let shift = vec4<i32>(select(12, 10, (code & 128u) != 0u));
    let a = vec4<i32>(unpack4xU8(low));
    let b = vec4<i32>(unpack4xU8(high & 0x7FFFFFFFu));
    let bits = vec4<u32>(1u, 2u, 4u, 8u);
    let none = vec4<u32>(0u);
    let p = select(a, -a, (vec4<u32>(minuses) & bits) != none) + shift;
    let q = select(b, -b, (vec4<u32>(minuses >> 4u) & bits) != none) + shift;
    return Eight(four_values(table, vec4<u32>(p)), four_values(table, vec4<u32>(q)));
}

fn eight(row: u32, block: u32) -> Eight {
    if (STAGES == 1u) {
        let word = codes[(block >> 1u) * params.rows + row];
        return point((word >> (16u * (block & 1u))) & 0xFFFFu, FIRST);
    }
    let word = codes[block * params.rows + row];
    let first = point(word & 0xFFFFu, FIRST);
    if (STAGES == 2u) {
        let second = point(word >> 16u, SECOND);
        return Eight(first.a + second.a, first.b + second.b);
    }
    let at = POINTS + 2u * ((word >> 16u) & 255u);
    let a = four_values(SECOND, unpack4xU8(values[at]));
    let b = four_values(SECOND, unpack4xU8(values[at + 1u]));
    return Eight(first.a + a, first.b + b);
}
