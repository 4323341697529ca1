//! The tests' allocator: counts what a thread allocates, or puts a forbidden page behind it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

std::thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Allocations of this thread while `work` runs.
pub(crate) fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// Runs `work` with a page behind everything that this thread allocates that may not be touched.
pub(crate) fn guarded<R>(work: impl FnOnce() -> R) -> R {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            GUARDED.set(false);
        }
    }
    GUARDED.set(cfg!(unix));
    let _off = Off;
    work()
}

struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

// SAFETY: what is not guarded comes from the system's allocator, as it is; guarded allocations have their size, end on
// the last address of their alignment before the forbidden page, and no address is handed out twice.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        #[cfg(unix)]
        if GUARDED.get() {
            return pages::alloc(layout);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        #[cfg(unix)]
        if pages::owns(at) {
            pages::dealloc(at, layout);
            return;
        }
        // SAFETY: the caller's promise, and it is the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Pages that are taken one after another; their addresses are never given out again.
#[cfg(unix)]
mod pages {
    use std::alloc::Layout;
    use std::ptr::null_mut;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const PAGE: usize = 1 << 16;
    const ALL: usize = 1 << 36;
    static BASE: OnceLock<usize> = OnceLock::new();
    static NEXT: AtomicUsize = AtomicUsize::new(0);

    fn base() -> usize {
        *BASE.get_or_init(|| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            // SAFETY: new addresses, which nothing may touch yet.
            unsafe { libc::mmap(null_mut(), ALL, libc::PROT_NONE, flags, -1, 0) as usize }
        })
    }

    pub(super) fn owns(at: *mut u8) -> bool {
        BASE.get().is_some_and(|&base| (base..base + ALL).contains(&(at as usize)))
    }

    pub(super) fn alloc(layout: Layout) -> *mut u8 {
        let room = layout.size().next_multiple_of(PAGE);
        let from = NEXT.fetch_add(room + PAGE, Ordering::Relaxed);
        let base = base();
        if base == usize::MAX || from + room + PAGE > ALL || layout.align() > PAGE {
            return null_mut();
        }
        // SAFETY: whole pages of the reserved addresses, which no one else has.
        let done = unsafe {
            libc::mprotect((base + from) as *mut libc::c_void, room, libc::PROT_READ | libc::PROT_WRITE)
        };
        if done != 0 {
            return null_mut();
        }
        ((base + from + room - layout.size()) & !(layout.align() - 1)) as *mut u8
    }

    pub(super) fn dealloc(at: *mut u8, layout: Layout) {
        let room = layout.size().next_multiple_of(PAGE);
        let from = (at as usize + layout.size()).next_multiple_of(PAGE) - room;
        // SAFETY: the pages of this allocation, which no one uses any more.
        unsafe {
            libc::madvise(from as *mut libc::c_void, room, libc::MADV_DONTNEED);
            libc::mprotect(from as *mut libc::c_void, room, libc::PROT_NONE);
        }
    }
}
