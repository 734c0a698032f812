//! Memory that was freed goes back to the system.
//!
//! glibc keeps freed blocks for the next allocation, in an arena for each thread. What one stage has freed would stay
//! in the process while the next stage, with other threads' arenas and other sizes, asks for more.

/// Gives freed memory back to the system, where the allocator can. Some milliseconds: for between stages.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes a plain number, locks the arenas itself, and touches no block that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
