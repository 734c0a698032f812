//! What the machine has: threads and memory.

use crate::error::{Error, Result};

/// More than any machine has; each has a stack and buffers.
const THREADS_MAX: usize = 1024;

/// The threads that were asked for; all that the machine has by default.
pub(super) fn threads(asked: Option<usize>) -> Result<usize> {
    let threads = asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    if threads == 0 || threads > THREADS_MAX {
        return Err(Error::input("the number of threads is out of range")
            .expected(format!("--threads from 1 to {THREADS_MAX}"))
            .found(threads.to_string())
            .remedy("leave --threads out to use every core"));
    }
    Ok(threads)
}

/// Half of the machine's memory in bytes, or of its cgroup's limit where that is lower.
pub fn half_of_memory() -> u64 {
    let known = sysinfo::System::new().ok().map(|mut system| {
        system.refresh_memory();
        let machine = system.total_memory();
        system.cgroup_limits().map_or(machine, |limits| limits.total_memory.min(machine))
    });
    known.unwrap_or(0).max(1 << 30) / 2
}
