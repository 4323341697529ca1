// How the threads of a workgroup add their partial sums: those of a subgroup by exchanging registers, subgroups through
// workgroup memory. Threads are numbered by their subgroups, whatever the order of invocations.
#part threads
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) lanes: u32,
    @builtin(subgroup_invocation_id) lane: u32,
#part thread
    let thread = subgroup * lanes + lane;
#part meet
    let places = THREADS / lanes * 4u;
    for (var t = 0u; t < TOKENS; t++) {
        var sum = sums[t];
        for (var mask = 4u; mask < lanes; mask *= 2u) {
            sum += subgroupShuffleXor(sum, mask);
        }
        if (lane < 4u) {
            partial[t * THREADS + subgroup * 4u + lane] = sum;
        }
    }
