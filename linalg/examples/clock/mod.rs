//! The thread's own time, which other programs on the machine do not lengthen.

/// Seconds of CPU time that `run` takes on this thread; wall clock where the system does not tell.
pub(crate) fn time(run: impl FnOnce()) -> f64 {
    let start = now();
    run();
    now() - start
}

#[cfg(target_os = "linux")]
fn now() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to one writable `timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[cfg(not(target_os = "linux"))]
fn now() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64()
}
