// A table of 16 values (consts T0 ... T15 in the header): a tree of selects, exact in f32, free of memory.
fn zero_points(group: u32) -> vec4<f32> {
    return vec4<f32>(0.0);
}

fn pick(bit: vec4<bool>, zero: f32, one: f32) -> vec4<f32> {
    return select(vec4<f32>(zero), vec4<f32>(one), bit);
}

fn values(code: vec4<u32>, zero: vec4<f32>) -> vec4<f32> {
    let none = vec4<u32>(0u);
    let b0 = (code & vec4<u32>(1u)) != none;
    let b1 = (code & vec4<u32>(2u)) != none;
    let b2 = (code & vec4<u32>(4u)) != none;
    let b3 = (code & vec4<u32>(8u)) != none;
    let c0 = select(pick(b0, T0, T1), pick(b0, T2, T3), b1);
    let c1 = select(pick(b0, T4, T5), pick(b0, T6, T7), b1);
    let c2 = select(pick(b0, T8, T9), pick(b0, T10, T11), b1);
    let c3 = select(pick(b0, T12, T13), pick(b0, T14, T15), b1);
    return select(select(c0, c1, b2), select(c2, c3, b2), b3);
}
