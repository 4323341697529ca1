// Workgroups are numbered in one dimension and folded into two, since one dimension ends at 65,535.
fn folded(group: vec3<u32>, count: vec3<u32>) -> u32 {
    return group.y * count.x + group.x;
}
