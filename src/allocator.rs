//! Memory that was freed goes back to the system.
//!
//! glibc keeps freed blocks for the next allocation, in an arena for each thread. What one stage has freed would stay
//! in the process while the next stage, with other threads' arenas and other sizes, asks for more.

/// Bytes of a block from which on it is a map of its own. The buffers of an import are smaller: as maps they would be
/// given back and zeroed again for each batch, which was a sixth of the import's CPU time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAP_BYTES: libc::c_int = 2 << 20;
/// Bytes at the end of an arena that may stay free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 512 << 10;

/// Keeps arenas small, for the executable as it starts. Left alone, glibc raises both bounds with the largest block
/// that was freed, up to 64 MiB for each thread: what one large buffer took would stay with every thread.
pub(crate) fn keep_arenas_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes plain numbers, and is called before threads are started. A refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAP_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Gives freed memory back to the system, where the allocator can. Some milliseconds: for between stages.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes a plain number, locks the arenas itself, and touches no block that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
