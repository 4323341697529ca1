// The end of a kernel that keeps its sums in registers: WIDE row quads × TOKENS tokens a thread.
#part sums
    #each t TOKENS
    let token{t} = min(first + {t}u, params.tokens - 1u);
    #each q WIDE
    var sum{q}_{t} = vec4<f32>();
    #end
    #end
#part rest
    for (var i = 0u; i < params.rank; i++) {
        #each t TOKENS
        let z{t} = z[token{t} * params.rank + i];
        #end
        #each q WIDE
        let l{q} = left[(tile * params.rank + i) * 4u + quad + {q}u];
        #each t TOKENS
        sum{q}_{t} += l{q} * z{t};
        #end
        #end
    }
    #each t TOKENS
    if (first + {t}u < params.tokens) {
        #each q WIDE
        y[((first + {t}u) * params.height + params.base) * 4u + WIDE * column + {q}u] = finish(sum{q}_{t});
        #end
    }
    #end
