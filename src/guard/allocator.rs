//! The system's allocator, which names the file whose damaged numbers ask for more memory than there is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::reading::{ENGINES, READING};

/// Most bytes that a guarded call may ask for in one piece.
static MOST: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The exit code of bad input.
const INPUT: i32 = 2;

/// Allocates as the system does. Inside a guarded call a request that cannot be granted, or that is beyond the limit,
/// ends the process with an error; elsewhere it fails as always.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

pub(super) fn limit(bytes: u64) {
    MOST.store(usize::try_from(bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
}

// SAFETY: Each call is passed on to the system's allocator as it came, and its answer is given back.
unsafe impl GlobalAlloc for Allocator {
    // SAFETY: The caller's promise is the one that the system's allocator asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: See above.
        granted(layout.size(), || unsafe { System.alloc(layout) })
    }

    // SAFETY: As above.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: See above.
        granted(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    // SAFETY: As above.
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: See above.
        granted(bytes, || unsafe { System.realloc(memory, layout, bytes) })
    }

    // SAFETY: As above.
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: See above.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn granted(bytes: usize, ask: impl FnOnce() -> *mut u8) -> *mut u8 {
    if bytes > MOST.load(Ordering::Relaxed) {
        refuse(bytes);
    }
    let memory = ask();
    if memory.is_null() {
        refuse(bytes);
    }
    memory
}

/// Ends the process if a guarded call asks. Allocates nothing.
#[cold]
fn refuse(bytes: usize) {
    let end = |place: &dyn std::fmt::Display| -> ! {
        eprintln!(
            "error: a file asks for more memory than there is: it is damaged, or this machine is too small for it\n  \
             where:    {place}\n  expected: at most {} bytes in one piece\n  found:    {bytes} bytes\n  remedy:   \
             write or download the file again",
            MOST.load(Ordering::Relaxed),
        );
        std::process::exit(INPUT)
    };
    let reading = READING.try_with(|path| {
        if let Some(path) = path.try_borrow().ok().as_ref().and_then(|path| path.as_ref()) {
            end(&path.display());
        }
    });
    if reading.is_ok() && ENGINES.load(Ordering::Relaxed) > 0 {
        end(&"the files that are joined to their texts");
    }
}
