//! A libFuzzer target for each decoder of batchmine's `fuzzing`: the name of the binary is that of the decoder.
//!
//! libFuzzer's crate ends the process at every panic. Here a panic counts in two cases: it leaves the decoder, or its
//! place is in batchmine's own code. A panic in a library that batchmine catches and reports is as it should be. So is
//! a file that asks a library for more memory than the budget has: the executable ends with a message about it, and
//! here it is a panic in the library.

#![no_main]
#![feature(alloc_error_hook)]

use std::alloc::{GlobalAlloc, Layout, System, set_alloc_error_hook};
use std::panic::{PanicHookInfo, catch_unwind, panic_any, set_hook};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use libfuzzer_sys::fuzz_target;

/// Most bytes in one piece: a small budget.
const PIECE_MAX: usize = 256 << 20;

/// Where the decoder's file lies.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("batchmine-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for temporary files can be made");
    folder
});

/// The last panic, in words.
static LAST: Mutex<String> = Mutex::new(String::new());

/// The system's allocator, which refuses pieces that are larger than the budget.
struct Bounded;

// SAFETY: Each call is passed on to the system's allocator as it came, or is answered with a null pointer.
unsafe impl GlobalAlloc for Bounded {
    // SAFETY: The caller's promise is the one that the system's allocator asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: See above.
        if layout.size() > PIECE_MAX { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    // SAFETY: As above.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: See above.
        if layout.size() > PIECE_MAX { std::ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    // SAFETY: As above.
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: See above.
        if bytes > PIECE_MAX { std::ptr::null_mut() } else { unsafe { System.realloc(memory, layout, bytes) } }
    }

    // SAFETY: As above.
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: See above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

/// A request that was refused.
struct Refused(usize);

fn refuse(layout: Layout) {
    panic_any(Refused(layout.size()))
}

/// Whether the place of a panic is neither in the standard library nor in a crate from a registry.
fn is_ours(panic: &PanicHookInfo<'_>) -> bool {
    let others = ["/registry/src/", "/rustc/", "/rustlib/"];
    panic.location().is_some_and(|at| !others.iter().any(|folder| at.file().contains(folder)))
}

fn note(panic: &PanicHookInfo<'_>) {
    let refused = panic.payload().downcast_ref::<Refused>();
    if refused.is_none() && is_ours(panic) {
        eprintln!("{panic}");
        std::process::abort();
    }
    let words = refused.map_or_else(|| panic.to_string(), |Refused(bytes)| format!("{bytes} bytes were asked for"));
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = words;
}

fn watch() {
    set_alloc_error_hook(refuse);
    set_hook(Box::new(note));
}

fuzz_target!(init: watch(), |bytes: &[u8]| {
    let done = catch_unwind(|| batchmine::fuzzing::decode(env!("CARGO_BIN_NAME"), bytes, &FOLDER));
    if done.is_err() {
        eprintln!("{}", LAST.lock().unwrap_or_else(PoisonError::into_inner));
        std::process::abort();
    }
});
