// Y ← Y + Z·Lᵀ: the low-rank term's way up as a dispatch of its own, for devices where it slows the product down.
//
// Threads and bounds as in matrix.wgsl.
//
// Header constants: QUADS, BLOCKS, WIDE, TOKENS. Lines of `#`: src/pipeline/template.rs.
struct Params {
    tiles: u32,  // of 16 rows
    height: u32, // as in shared/split.wgsl
    base: u32,
    tokens: u32,
    rank: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> left: array<vec4<f32>>;     // L: [tiles][rank][4 quads]
@group(0) @binding(2) var<storage, read> z: array<f32>;              // X·Rᵀ: [tokens][rank]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // [tokens][height][4 quads]

@compute @workgroup_size(QUADS, BLOCKS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let id = folded(workgroup, count);
    let quads = params.tiles * 4u;
    let across = (quads / WIDE + QUADS - 1u) / QUADS;
    let column = (id % across) * QUADS + local.x;
    let first = ((id / across) * BLOCKS + local.y) * TOKENS;
    if (WIDE * column >= quads || first >= params.tokens) {
        return;
    }
    let tile = WIDE * column / 4u;
    let quad = WIDE * column % 4u;
#insert sums
    #each t TOKENS
    #each q WIDE
    sum{q}_{t} = y[(token{t} * params.height + params.base) * 4u + WIDE * column + {q}u];
    #end
    #end
#insert rest
}
