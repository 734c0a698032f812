//! Memory that a job shares with a worker process: a file without a name, mapped by both.
//!
//! It is a memfd, which counts as memory of the job's control group and not against the size of /dev/shm (64 MiB
//! in a container by default). A worker inherits the open file and opens it anew by its path in /proc.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::{MmapMut, MmapOptions};

use crate::error::{Error, Result};

/// Offsets of maps are multiples of this, on any machine.
pub(crate) const PAGE_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct SharedMemory {
    file: File,
}

impl SharedMemory {
    /// Reserves memory.
    ///
    /// # Errors
    /// The system does not have that much memory.
    #[cfg(target_os = "linux")]
    pub(crate) fn new(bytes: usize) -> Result<SharedMemory> {
        use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
        use rustix::io::Errno;
        let make = || {
            // Without CLOEXEC: workers inherit it.
            let file = memfd_create("batchmine-tiles", MemfdFlags::empty())?;
            // All pages are reserved now: a page that is missing later raises a signal, not an error.
            match fallocate(&file, FallocateFlags::empty(), 0, bytes as u64) {
                // Some sandboxes cannot reserve.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => ftruncate(&file, bytes as u64)?,
                reserved => reserved?,
            }
            Ok(SharedMemory { file: File::from(file) })
        };
        make().map_err(|e: Errno| {
            Error::runtime("memory to share with a GPU worker cannot be reserved")
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
    pub(crate) fn new(_: usize) -> Result<SharedMemory> {
        Err(Error::runtime("GPU workers need Linux").remedy("mine with --backend cpu"))
    }

    /// The path by which a child process opens it.
    #[cfg(target_os = "linux")]
    pub(crate) fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// An empty path: [`SharedMemory::new`] has failed.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::new()
    }

    /// Maps a part; `offset` is a multiple of [`PAGE_BYTES`]. Parts that are mapped at the same time must not overlap.
    ///
    /// # Errors
    /// The system refuses the map.
    pub(crate) fn map(&self, offset: usize, bytes: usize) -> Result<MmapMut> {
        map(&self.file, Path::new("shared memory"), offset as u64, Some(bytes))
    }
}

/// Maps all of the parent's shared memory.
///
/// # Errors
/// The file cannot be opened or mapped.
pub(crate) fn open(path: &Path) -> Result<MmapMut> {
    let opened = File::options().read(true).write(true).open(path);
    let file = opened.map_err(|e| Error::io("shared memory cannot be opened", path, e))?;
    map(&file, path, 0, None)
}

fn map(file: &File, path: &Path, offset: u64, bytes: Option<usize>) -> Result<MmapMut> {
    let mut options = MmapOptions::new();
    options.offset(offset);
    bytes.map(|bytes| options.len(bytes));
    // SAFETY: the file has no name and is never truncated, so no page of it goes away. Only a job and its worker have
    // the file, and they take turns: the job writes queries, sends a request, and touches that part of the memory
    // again when the worker has answered or was killed; the worker touches it only between request and reply. The
    // memory is read as numbers, for which all bytes are valid.
    unsafe { options.map_mut(file) }.map_err(|e| Error::io("shared memory cannot be mapped", path, e))
}
