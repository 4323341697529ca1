// Y = (X·T)·Q̃ᵀ + Z·Lᵀ for very many tokens, through workgroup memory. Twins as those of vector.wgsl.
//
// A workgroup of 8 × 8 threads makes 64 rows × 64 tokens, a thread 2 row quads × 8 tokens in registers. In steps along
// the columns it decodes its weights once and lays its tokens transposed beside them, so that either is read once for 64
// of the other. Sums are f32; those of integers exact along a segment, which is whole steps.
//
// Bounds: rows and tokens past the last are read as the last, or as 0, and not written; so are lines in a last, short step.
//
// Header constants: WIDE (2), TOKENS (8). Lines of `#`: src/pipeline/template.rs.

#insert tile.memory

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let id = folded(workgroup, count);
    let quads = params.tiles * 4u;
    let across = (params.tiles + 3u) / 4u;
    let base_quad = (id % across) * 16u;
    let base_token = (id / across) * 64u;
    if (base_token >= params.tokens) {
        return;
    }
    let column = base_quad / WIDE + local.x;
    let first = base_token + local.y * TOKENS;
    let tile = min(WIDE * column / 4u, params.tiles - 1u);
    let quad = WIDE * column % 4u;
#insert sums
#insert tile.begin
    for (var start = 0u; start < params.lines; start += LINES) {
        workgroupBarrier();
#insert tile.load
        workgroupBarrier();
#insert tile.multiply
#insert tile.scale
    }
    if (WIDE * column >= quads) {
        return;
    }
#insert rest
}
