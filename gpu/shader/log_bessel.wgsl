// ln I_v(x) (KIND 1) or ln K_v(x) (KIND 0) in f32, one pair a thread. Twins: rankbit_linalg::special::{log_bessel_i,
// log_bessel_k}, whose formulas these are, with fewer terms; sources there.
//
//   where                  ln I                     ln K
//   s = hypot(v, x) >= 16  uniform expansion of five terms in 1/s
//   else, x <= 1           power series             Temme's series, recurrence upwards in the order
//   else                   power series             trapezoidal rule of step 1/4 at the order's fraction, recurrence
//
// Pairs are ordinary: 0 <= v <= 1e35, 1e-37 <= x <= 1e35; the host computes the others. Neighbours of one region do not
// wait for each other: sorted pairs run fastest.
//
// Bounds: threads past `count` leave.
//
// Header constants: THREADS, KIND.
struct Params {
    count: u32,
    stride: u32,   // from one order to the next: 0 for one order, else 1
    unused: u32,
    reserved: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> orders: array<f32>;       // [count], or one
@group(0) @binding(2) var<storage, read> xs: array<f32>;           // [count]
@group(0) @binding(3) var<storage, read_write> values: array<f32>; // [count]

const LN_2: f32 = 0.6931471805599453f;
const TAU: f32 = 6.283185307179586f;
const HALF_PI: f32 = 1.5707963267948966f;

// I: e + v·ln(x/(v + s)) - ln(2·pi·s)/2 + ln(1 + sum);  K: the same with -e, -v and pi/(2·s).
fn uniform_expansion(v: f32, x: f32) -> f32 {
    let largest = max(v, x);
    let r = min(v, x) / largest;
    let s = largest * sqrt(1.0f + r * r);
    let ratio = x / (v + s);
    var log_ratio = log(max(ratio, 1e-30f));
    if (ratio < 1e-30f) {
        log_ratio = log(x) - log(v + s);
    }
    let eta = s + v * log_ratio;
    let p = v / s;
    let q = p * p;
    let step = select(-1.0f, 1.0f, KIND == 1u) / s;
    let u1 = 0.125f - 0.20833333f * q;
    let u2 = 0.0703125f + q * (-0.40104167f + q * 0.33420139f);
    let u3 = 0.073242188f + q * (-0.89121094f + q * (1.8464627f - q * 1.0258126f));
    let u4 = 0.1121521f + q * (-2.3640869f + q * (8.7891235f + q * (-11.207003f + q * 4.6695844f)));
    let u5 = 0.22710800f
        + q * (-7.3687944f + q * (42.534999f + q * (-91.818242f + q * (84.636218f - q * 28.212072f))));
    let sum = step * (u1 + step * (u2 + step * (u3 + step * (u4 + step * u5))));
    // ln(1 + sum) of |sum| < 1/64.
    let log_sum = sum * (1.0f - sum * (0.5f - sum * (0.33333333f - sum * 0.25f)));
    if (KIND == 1u) {
        return (eta - 0.5f * log(TAU * s)) + log_sum;
    }
    return (0.5f * log(HALF_PI / s) - eta) + log_sum;
}

// Even part and odd part over z of 1/gamma(1 + z) - 1 for |z| <= 1/2.
fn reciprocal_gamma(z: f32) -> vec2<f32> {
    let q = z * z;
    let even = q * (-0.65587807f + q * (0.16653861f + q * (-0.0096219715f + q * (-0.0011651676f + q * 0.00012805f))));
    let odd = 0.57721566f + q * (-0.042002635f + q * (-0.042197734f + q * (0.0072189432f - q * 0.00021524f)));
    return vec2<f32>(even, odd);
}

// I = (x/2)^v / gamma(v + 1) · (1 + y/(1·(v+1))·(1 + y/(2·(v+2))·(…))), y = x²/4.
fn series(v: f32, x: f32) -> f32 {
    let y = 0.25f * x * x;
    var sum = 1.0f;
    for (var k = 28u; k > 0u; k--) {
        let j = f32(k);
        sum = 1.0f + sum * (y / (j * (v + j)));
    }
    let n = floor(v + 0.5f);
    let mu = v - n;
    let part = reciprocal_gamma(mu);
    var product = 1.0f;
    for (var j = 1.0f; j <= n; j += 1.0f) {
        product *= mu + j;
    }
    let factor = sum * (1.0f + (part.x + mu * part.y)) / product;
    return v * (log(x) - LN_2) + log(factor);
}

// Temme's series: (x/2)^n·K_v by K_mu, x/2·K_(mu+1) and the recurrence.
fn origin(v: f32, x: f32) -> f32 {
    let n = floor(v + 0.5f);
    let mu = v - n;
    let y = 0.25f * x * x;
    let log_half = log(x) - LN_2;
    let part = reciprocal_gamma(mu);
    let mean = 1.0f + part.x;
    let plus = mean + mu * part.y;
    let minus = mean - mu * part.y;
    let sigma = -mu * log_half;
    let up = exp(sigma);
    let down = 1.0f / up;
    let q = sigma * sigma;
    var sinh_over = 1.0f + q * (0.16666667f + q * (0.0083333333f + q * (0.0001984127f + q * 2.7557319e-6f)));
    if (q >= 1.0f) {
        sinh_over = 0.5f * (up - down) / sigma;
    }
    let cosh = 0.5f * (up + down);
    var f = (-part.y * cosh - sinh_over * log_half * mean) / (plus * minus);
    var a = 0.5f * up / plus;
    var b = 0.5f * down / minus;
    var low = f;
    var high = a;
    var c = 1.0f;
    for (var i = 1u; i <= 6u; i++) {
        let k = f32(i);
        f = (k * f + (a + b)) / (k * k - mu * mu);
        a = a / (k - mu);
        b = b / (k + mu);
        c = c * y / k;
        low += c * f;
        high += c * (a - k * f);
    }
    for (var j = 1.0f; j <= n; j += 1.0f) {
        let next = (mu + j) * high + y * low;
        low = high;
        high = next;
    }
    return log(low) - n * log_half;
}

// cosh(j/4) - 1 for j = 1 … 16.
const NODES: array<f32, 16> = array<f32, 16>(
    0.0314131f, 0.127625965f, 0.294683285f, 0.543080635f, 0.888423877f, 1.352409615f, 1.96418831f, 2.762195691f,
    3.79656753f, 5.13228948f, 6.853279873f, 9.067661996f, 11.914557063f, 15.572824671f, 20.272299873f, 26.308232836f);

fn cosh_less_one(t: f32) -> f32 {
    let q = t * t;
    return q * (0.5f + q * (0.041666667f + q * (0.0013888889f + q * 2.4801587e-5f)));
}

// e^x·K_mu = 1/4·(1/2 + sum_j exp(-x·(cosh(j/4) - 1))·cosh(j·mu/4)), the same for mu + 1, and the recurrence.
fn quadrature(v: f32, x: f32) -> f32 {
    let n = floor(v + 0.5f);
    let mu = v - n;
    let slow = cosh_less_one(0.25f * mu);
    let fast = cosh_less_one(0.25f * (mu + 1.0f));
    // cosh(j·t) - 1 by its recurrence in differences: at j - 1 and at j.
    var before = vec2<f32>(0.0f, 0.0f);
    var now = vec2<f32>(slow, fast);
    let first = now;
    var sums = vec2<f32>(0.5f, 0.5f);
    var nodes = NODES;
    for (var j = 0u; j < 16u; j++) {
        sums += exp(-x * nodes[j]) * (1.0f + now);
        let next = 2.0f * first * (now + 1.0f) + (2.0f * now - before);
        before = now;
        now = next;
    }
    var low = 0.25f * sums.x;
    var high = 0.25f * sums.y;
    let double = 2.0f / x;
    for (var j = 1.0f; j <= n; j += 1.0f) {
        let next = (mu + j) * double * high + low;
        low = high;
        high = next;
    }
    return log(low) - x;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = folded(workgroup, count) * THREADS + thread;
    if (at >= params.count) {
        return;
    }
    let v = orders[at * params.stride];
    let x = xs[at];
    var value = 0.0f;
    if (v >= 16.0f || x >= 16.0f || v * v + x * x >= 256.0f) {
        value = uniform_expansion(v, x);
    } else if (KIND == 1u) {
        value = series(v, x);
    } else if (x <= 1.0f) {
        value = origin(v, x);
    } else {
        value = quadrature(v, x);
    }
    values[at] = value;
}
