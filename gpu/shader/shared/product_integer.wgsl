// A line's products for inputs of integers; put into the kernels at their `#insert` lines. They are summed as integers
// along a segment, scaled at its end, and added in f32.
#part functions
fn products(low: vec4<u32>, high: vec4<u32>, x: vec2<u32>) -> vec4<i32> {
    return vec4<i32>(
        #each i 4
        dot4I8Packed(low[{i}], x.x) + dot4I8Packed(high[{i}], x.y),
        #end
    );
}

// Sum of the inputs' codes.
fn total(x: vec2<u32>) -> i32 {
    return dot4I8Packed(x.x, 0x01010101u) + dot4I8Packed(x.y, 0x01010101u);
}
#part vector.decode
        let zero = zero_points(group);
        let a = signed_bytes(code.low);
        let b = signed_bytes(code.high);
#part vector.term
            let here = inputs(token * params.x_stride + line);
            var sum = products(a, b, here);
            if (ZEROS == 1u) {
                sum -= zero * total(here);
            }
            sums[t] += (scale * x_scales[token * params.x_groups + (line >> params.x_shift)]) * vec4<f32>(sum);
#part matrix.sums
    for (var start = 0u; start < params.lines; start += 1u << params.segment_shift) {
        let end = min(start + (1u << params.segment_shift), params.lines);
        #each t TOKENS
        var total{t} = 0;
        #each q WIDE
        var d{q}_{t} = vec4<i32>();
        #end
        #end
        for (var line = start; line < end; line++) {
            #each t TOKENS
            let x{t} = inputs(token{t} * params.x_stride + line);
            if (ZEROS == 1u) {
                total{t} += total(x{t});
            }
            #end
            #each q WIDE
            let code{q} = halves(tile, line, quad + {q}u);
            let a{q} = signed_bytes(code{q}.low);
            let b{q} = signed_bytes(code{q}.high);
            #each t TOKENS
            d{q}_{t} += products(a{q}, b{q}, x{t});
            #end
            #end
        }
        let group = (tile * params.groups + (start >> params.group_shift)) * 4u + quad;
        #each t TOKENS
        let factor{t} = x_scales[token{t} * params.x_groups + (start >> params.x_shift)];
        #end
        #each q WIDE
        let scale{q} = scales[group + {q}u];
        let zero{q} = zero_points(group + {q}u);
        #each t TOKENS
        if (ZEROS == 1u) {
            d{q}_{t} -= zero{q} * total{t};
        }
        sum{q}_{t} += (scale{q} * factor{t}) * vec4<f32>(d{q}_{t});
        #end
        #end
    }
#part tile.memory
// A step: 8 lines, 64 columns; a segment is whole steps.
const LINES: u32 = 8u;

var<workgroup> weights: array<vec4<u32>, 256>; // [16 words][16 quads]
var<workgroup> rows: array<vec4<u32>, 256>;    // [16 words][16 token quads]
#part tile.begin
    #each t TOKENS
    var total{t} = 0;
    #each q WIDE
    var d{q}_{t} = vec4<i32>();
    #end
    #end
#part tile.load
        for (var item = thread; item < 128u; item += 64u) {
            let line = start + item / 16u;
            let valid = line < params.lines;
            let here = base_quad + item % 16u;
            let to = (item / 16u) * 32u + item % 16u;
            var a = vec4<u32>();
            var b = vec4<u32>();
            if (valid && here < quads) {
                let code = halves(here / 4u, line, here % 4u);
                a = signed_bytes(code.low);
                b = signed_bytes(code.high);
            }
            weights[to] = a;
            weights[to + 16u] = b;
            let origin = base_token + 4u * (item % 16u);
            let at = select(0u, line, valid);
            #each t 4
            let row{t} = select(vec2<u32>(), inputs(min(origin + {t}u, params.tokens - 1u) * params.x_stride + at), valid);
            #end
            rows[to] = vec4<u32>(row0.x, row1.x, row2.x, row3.x);
            rows[to + 16u] = vec4<u32>(row0.y, row1.y, row2.y, row3.y);
        }
#part tile.multiply
        for (var word = 0u; word < 16u; word++) {
            #each q WIDE
            let w{q} = weights[word * 16u + WIDE * local.x + {q}u];
            #end
            #each h 2
            let x{h} = rows[word * 16u + 2u * local.y + {h}u];
            #each t 4
            if (ZEROS == 1u) {
                total{4h+t} += dot4I8Packed(x{h}[{t}], 0x01010101u);
            }
            #each q WIDE
            d{q}_{4h+t} += vec4<i32>(
                #each i 4
                dot4I8Packed(w{q}[{i}], x{h}[{t}]),
                #end
            );
            #end
            #end
            #end
        }
#part tile.scale
        let next = start + LINES;
        if ((next & ((1u << params.segment_shift) - 1u)) == 0u || next >= params.lines) {
            let group = (tile * params.groups + (start >> params.group_shift)) * 4u + quad;
            #each t TOKENS
            let factor{t} = x_scales[token{t} * params.x_groups + (start >> params.x_shift)];
            #end
            #each q WIDE
            let scale{q} = scales[group + {q}u];
            let zero{q} = zero_points(group + {q}u);
            #each t TOKENS
            if (ZEROS == 1u) {
                d{q}_{t} -= zero{q} * total{t};
            }
            sum{q}_{t} += (scale{q} * factor{t}) * vec4<f32>(d{q}_{t});
            d{q}_{t} = vec4<i32>();
            #end
            #end
            #each t TOKENS
            total{t} = 0;
            #end
        }
