//! Memory that a job shares with a worker process: a file without a name, mapped by both.
//!
//! It is a memfd, which counts as memory of the job's control group and not against the size of /dev/shm (64 MiB
//! in a container by default). A worker inherits it and opens it anew.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::{MmapMut, MmapOptions};

use crate::error::{Error, Result};

/// Offsets of maps are multiples of this, on any machine.
pub(crate) const PAGE_BYTES: usize = 64 << 10;

/// Shared memory.
#[derive(Debug)]
pub(crate) struct Shared {
    file: File,
}

impl Shared {
    /// Reserves memory.
    ///
    /// # Errors
    /// There is not as much.
    #[cfg(target_os = "linux")]
    pub(crate) fn new(bytes: usize) -> Result<Shared> {
        use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
        use rustix::io::Errno;
        let make = || {
            // Without CLOEXEC: workers inherit it.
            let file = memfd_create("batchmine-tiles", MemfdFlags::empty())?;
            // Reserved at once: a page that is missing later would be a signal, not an error.
            match fallocate(&file, FallocateFlags::empty(), 0, bytes as u64) {
                // Some sandboxes cannot reserve.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => ftruncate(&file, bytes as u64)?,
                reserved => reserved?,
            }
            Ok(Shared { file: File::from(file) })
        };
        make().map_err(|e: Errno| {
            Error::runtime("there is no memory to share with a GPU worker")
                .expected(format!("{bytes} bytes"))
                .found(e.to_string())
                .remedy("free some memory, or mine with --backend cpu")
        })
    }

    /// Refuses: workers are known to work on Linux only.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn new(_: usize) -> Result<Shared> {
        Err(Error::runtime("GPU workers need Linux").remedy("mine with --backend cpu"))
    }

    /// The path by which a child process opens it.
    #[cfg(target_os = "linux")]
    pub(crate) fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// No path: there is no such memory.
    #[cfg(not(target_os = "linux"))]
    pub fn path(&self) -> PathBuf {
        PathBuf::new()
    }

    /// Maps a part; `offset` is a multiple of [`PAGE_BYTES`]. Parts that are mapped at a time must not overlap.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub(crate) fn map(&self, offset: usize, bytes: usize) -> Result<MmapMut> {
        map(&self.file, Path::new("shared memory"), offset as u64, Some(bytes))
    }
}

/// Maps a parent's shared memory as a whole.
///
/// # Errors
/// It cannot be opened or mapped.
pub(crate) fn open(path: &Path) -> Result<MmapMut> {
    let opened = File::options().read(true).write(true).open(path);
    let file = opened.map_err(|e| Error::io("shared memory cannot be opened", path, e))?;
    map(&file, path, 0, None)
}

fn map(file: &File, path: &Path, offset: u64, bytes: Option<usize>) -> Result<MmapMut> {
    let mut options = MmapOptions::new();
    options.offset(offset);
    bytes.map(|bytes| options.len(bytes));
    // SAFETY: the file has no name and is never cut, so no page of it goes away. Only a job and its worker have
    // it, and they take turns: the job writes queries, sends a command, and touches that part of the memory
    // again when the worker has answered, or was killed; the worker touches it only between command and answer. All
    // bytes are valid as what they are read as: numbers.
    unsafe { options.map_mut(file) }.map_err(|e| Error::io("shared memory cannot be mapped", path, e))
}
