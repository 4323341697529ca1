// Kept values of a sparse term as f32.
@group(0) @binding(2) var<storage, read> kept: array<vec4<f32>>;  // [tiles][slots][4 quads]

fn kept_values(tile: u32, slot: u32, quad: u32) -> vec4<f32> {
    return kept[(tile * params.slots + slot) * 4u + quad];
}
