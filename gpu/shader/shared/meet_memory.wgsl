// How the threads of a workgroup add their partial sums: all through workgroup memory.
#part threads
    @builtin(local_invocation_index) thread: u32,
#part thread
#part meet
    let places = THREADS;
    for (var t = 0u; t < TOKENS; t++) {
        partial[t * THREADS + thread] = sums[t];
    }
