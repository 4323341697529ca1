// What the last kernel of a product applies to its result before it stores it. One override for all, so that a pipeline is
// built for each without another text. Twin: rankbit_gpu::Nonlinearity::apply.
override NONLINEARITY: u32 = 0u; // 0 none, 1 ReLU, 2 SiLU, 3 GELU by tanh

fn finish(x: vec4<f32>) -> vec4<f32> {
    switch (NONLINEARITY) {
        case 1u: {
            // Not max: NaN stays NaN.
            return select(x, vec4<f32>(), x < vec4<f32>());
        }
        case 2u: {
            return x / (vec4<f32>(1.0) + exp(-x));
        }
        case 3u: {
            // Past 10 the tangent is 1, and some drivers' own leaves f32.
            let u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
            return 0.5 * x * (vec4<f32>(1.0) + tanh(clamp(u, vec4<f32>(-10.0), vec4<f32>(10.0))));
        }
        default: {
            return x;
        }
    }
}
