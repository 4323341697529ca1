// A line's products for float inputs, in f32; put into the kernels at their `#insert` lines.
#part vector.decode
        let zero = zero_points(group);
        #each i 4
        let a{i} = values(unpack4xU8(code.low[{i}]), vec4<f32>(zero[{i}]));
        let b{i} = values(unpack4xU8(code.high[{i}]), vec4<f32>(zero[{i}]));
        #end
#part vector.term
            let at = token * params.x_stride + 2u * line;
            let xa = x[at];
            let xb = x[at + 1u];
            sums[t] += scale * vec4<f32>(
                #each i 4
                dot(a{i}, xa) + dot(b{i}, xb),
                #end
            );
#part matrix.sums
    // Within a group the products are summed unscaled, and scaled once at its end.
    for (var g = 0u; g < params.groups; g++) {
        let group = (tile * params.groups + g) * 4u + quad;
        #each q WIDE
        let zero{q} = zero_points(group + {q}u);
        #each t TOKENS
        var d{q}_{t} = vec4<f32>();
        #end
        #end
        let end = min((g + 1u) << params.group_shift, params.lines);
        for (var line = g << params.group_shift; line < end; line++) {
            #each t TOKENS
            let at{t} = token{t} * params.x_stride + 2u * line;
            let low{t} = x[at{t}];
            let high{t} = x[at{t} + 1u];
            #end
            #each q WIDE
            let code{q} = halves(tile, line, quad + {q}u);
            let a{q} = mat4x4<f32>(
                #each j 4
                values((code{q}.low >> vec4<u32>(8u * {j}u)) & vec4<u32>(255u), zero{q}),
                #end
            );
            let b{q} = mat4x4<f32>(
                #each j 4
                values((code{q}.high >> vec4<u32>(8u * {j}u)) & vec4<u32>(255u), zero{q}),
                #end
            );
            #each t TOKENS
            d{q}_{t} += a{q} * low{t};
            d{q}_{t} += b{q} * high{t};
            #end
            #end
        }
        #each q WIDE
        let scale{q} = scales[group + {q}u];
        #each t TOKENS
        sum{q}_{t} += scale{q} * d{q}_{t};
        #end
        #end
    }
#part tile.memory
// A step: 2 lines, 16 columns.
const LINES: u32 = 2u;

var<workgroup> weights: array<vec4<f32>, 256>; // [16 columns][16 quads], scaled
var<workgroup> rows: array<vec4<f32>, 256>;    // [16 columns][16 token quads]
#part tile.begin
#part tile.load
        if (thread < 32u) {
            let line = start + thread / 16u;
            let here = base_quad + thread % 16u;
            var a = mat4x4<f32>();
            var b = mat4x4<f32>();
            if (line < params.lines && here < quads) {
                let group = ((here / 4u) * params.groups + (line >> params.group_shift)) * 4u + here % 4u;
                let code = halves(here / 4u, line, here % 4u);
                let zero = zero_points(group);
                let scale = scales[group];
                a = mat4x4<f32>(
                    #each j 4
                    scale * values((code.low >> vec4<u32>(8u * {j}u)) & vec4<u32>(255u), zero),
                    #end
                );
                b = mat4x4<f32>(
                    #each j 4
                    scale * values((code.high >> vec4<u32>(8u * {j}u)) & vec4<u32>(255u), zero),
                    #end
                );
            }
            let to = (thread / 16u) * 128u + thread % 16u;
            #each j 4
            weights[to + 16u * {j}u] = a[{j}];
            weights[to + 16u * (4u + {j}u)] = b[{j}];
            #end
        }
        {
            // Four columns of four tokens, transposed.
            let column4 = thread / 16u;
            let origin = base_token + 4u * (thread % 16u);
            let valid = start + column4 / 2u < params.lines;
            let at = select(0u, 2u * start + column4, valid);
            #each t 4
            let row{t} = select(vec4<f32>(), x[min(origin + {t}u, params.tokens - 1u) * params.x_stride + at], valid);
            #end
            #each j 4
            rows[(4u * column4 + {j}u) * 16u + thread % 16u] = vec4<f32>(row0[{j}], row1[{j}], row2[{j}], row3[{j}]);
            #end
        }
#part tile.multiply
        for (var column = 0u; column < 16u; column++) {
            #each q WIDE
            let w{q} = weights[column * 16u + WIDE * local.x + {q}u];
            #end
            #each h 2
            let x{h} = rows[column * 16u + 2u * local.y + {h}u];
            #end
            #each q WIDE
            #each h 2
            #each t 4
            sum{q}_{4h+t} += w{q} * x{h}[{t}];
            #end
            #end
            #end
        }
#part tile.scale
