// The inputs of the quantized term, smoothed and in the order of the lines, as in gather.wgsl:
// x[t, column[p]] * inverse[p], or 0 where column[p] is past `features` (padding).
@group(0) @binding(1) var<storage, read> x: array<f32>;                // [tokens][x_stride f32s]
@group(0) @binding(2) var<storage, read> column: array<vec4<u32>>;     // [2 * lines]
@group(0) @binding(3) var<storage, read> inverse: array<vec4<f32>>;    // [2 * lines]: 1 / λ
const CODES: u32 = 4u;
const SCALES: u32 = 5u;

fn entry(token: u32, column: u32, factor: f32) -> f32 {
    if (column >= params.features) {
        return 0.0;
    }
    return x[token * params.x_stride + column] * factor;
}

fn input(token: u32, place: u32) -> vec4<f32> {
    let c = column[place];
    let f = inverse[place];
    return vec4<f32>(
        entry(token, c.x, f.x),
        entry(token, c.y, f.y),
        entry(token, c.z, f.z),
        entry(token, c.w, f.w),
    );
}
