// X̂ = act(X·T): inputs as signed integers of at most 8 bits with a scale for every token and group of columns.
// Twin: rankbit_quant::Activation::quantize, bit for bit.
//
//   absmax = max |x| of the group;  code = clamp(round(x · fl(most / absmax)), ±most);  scale = fl(absmax / most)
//
// Eight threads make a group: each takes every eighth line of 8 columns, twice: for the extreme, then for the codes.
// Divisions are by hand, since WGSL's may be off by 2.5 units in the last place.
//
// Bounds: groups past the last are read as the last and not written. A group with a NaN or an infinity has codes 0 and
// the scale NaN, so that it stays with its token; one whose extreme is below 2⁻¹¹⁰ is all zeros.
//
// Header constants: THREADS (a multiple of 8). The inputs are declared in shared/input_*.wgsl, the two outputs in
// shared/output_*.wgsl.
struct Params {
    tokens: u32,
    features: u32,
    x_stride: u32, // of x, in its own elements
    lines: u32,    // of a token
    span: u32,     // lines of a group; the last may be short
    groups: u32,   // of a token
    most: f32,     // the largest code
    top: f32,      // the largest scale: `most` times it is finite
    factor: f32,   // a power of two that stored scales are multiplied by
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

const LANES: u32 = 8u;
const FINITE: u32 = 0x7F800000u;
const LEAST: u32 = 0x08800000u; // 2⁻¹¹⁰

var<workgroup> partial: array<u32, THREADS>;

// The magnitudes' bits: as whole numbers they are in the order of the magnitudes, infinities and NaN above all.
fn extreme(x: vec4<f32>) -> u32 {
    let bits = bitcast<vec4<u32>>(x) & vec4<u32>(0x7FFFFFFFu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

// fl(a / b) for positive normal a, b with a normal quotient: 24 bits by long division, rounded to nearest, ties to even.
fn divided(a: f32, b: f32) -> f32 {
    let ia = bitcast<u32>(a);
    let ib = bitcast<u32>(b);
    let divisor = (ib & 0x7FFFFFu) | 0x800000u;
    var rest = (ia & 0x7FFFFFu) | 0x800000u;
    var exponent = (ia >> 23u) + 127u - (ib >> 23u);
    if (rest < divisor) {
        rest = rest << 1u;
        exponent -= 1u;
    }
    var quotient = 0u;
    for (var bit = 0u; bit < 24u; bit++) {
        quotient = quotient << 1u;
        if (rest >= divisor) {
            rest -= divisor;
            quotient |= 1u;
        }
        rest = rest << 1u;
    }
    if (rest > divisor || (rest == divisor && (quotient & 1u) == 1u)) {
        quotient += 1u;
    }
    // The leading bit of the quotient is that of the exponent; a carry out of it is the exponent's next.
    return bitcast<f32>(((exponent - 1u) << 23u) + quotient);
}

fn rounded(x: vec4<f32>, reciprocal: f32) -> vec4<f32> {
    return clamp(round(x * reciprocal), vec4<f32>(-params.most), vec4<f32>(params.most));
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = folded(workgroup, count) * (THREADS / LANES) + thread / LANES;
    let valid = item < params.tokens * params.groups;
    let token = min(item / params.groups, params.tokens - 1u);
    let group = item % params.groups;
    let first = group * params.span + thread % LANES;
    let end = min((group + 1u) * params.span, params.lines);
    var most = 0u;
    for (var line = first; line < end; line += LANES) {
        most = max(most, max(extreme(input(token, 2u * line)), extreme(input(token, 2u * line + 1u))));
    }
    partial[thread] = most;
    workgroupBarrier();
    let lane = thread - thread % LANES;
    for (var i = 0u; i < LANES; i++) {
        most = max(most, partial[lane + i]);
    }
    if (!valid) {
        return;
    }
    var scale = 0.0;
    var reciprocal = 0.0;
    let finite = most < FINITE;
    if (finite && most >= LEAST) {
        let absmax = bitcast<f32>(most);
        scale = min(divided(absmax, params.most), params.top);
        reciprocal = divided(params.most, absmax);
    }
    for (var line = first; line < end; line += LANES) {
        var a = vec4<f32>();
        var b = vec4<f32>();
        if (finite) {
            a = rounded(input(token, 2u * line), reciprocal);
            b = rounded(input(token, 2u * line + 1u), reciprocal);
        }
        store(token * params.lines + line, a, b, scale, finite);
    }
    if (thread % LANES == 0u) {
        scales[item] = select(0x7FC00000u, bitcast<u32>(scale * params.factor), finite);
    }
}
