//! What std would have provided: a panic handler and an allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Nothing to unwind and nowhere to print: stops here, until the caller's alarm.
#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// `core` comes compiled for unwinding and its tables name this; with `panic = "abort"` nobody calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

const ARENA_BYTES: usize = 256 << 20;

/// Hands out one fixed arena from front to back and takes back only the newest block: enough for one short run.
struct Arena {
    bytes: UnsafeCell<[u8; ARENA_BYTES]>,
    used: AtomicUsize,
}

// SAFETY: the bytes are only reached through `alloc`, whose atomic update of `used` gives each caller a range
// of its own.
unsafe impl Sync for Arena {}

// SAFETY: `alloc` returns null or the start of `layout.size()` bytes that are within the arena, aligned, and
// not handed out; it does not unwind. `dealloc` gives back the newest block only, which no one else holds.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.bytes.get().cast::<u8>();
        let mut start = 0;
        let reserved = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            let address = (base as usize).checked_add(used)?.checked_next_multiple_of(layout.align())?;
            start = address - base as usize;
            start.checked_add(layout.size()).filter(|&end| end <= ARENA_BYTES)
        });
        match reserved {
            // SAFETY: `start + size ≤ ARENA_BYTES` was checked above.
            Ok(_) => unsafe { base.add(start) },
            Err(_) => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let start = block as usize - self.bytes.get() as usize;
        // Fails for all but the newest block, which then stays taken.
        let end = start + layout.size();
        let _ = self.used.compare_exchange(end, start, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[global_allocator]
static ARENA: Arena = Arena { bytes: UnsafeCell::new([0; ARENA_BYTES]), used: AtomicUsize::new(0) };
