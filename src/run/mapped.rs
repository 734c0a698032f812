//! Read-only memory maps: the only place where files are mapped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, Result};
use crate::regular;

/// A whole file, mapped read-only. Cloning shares the map.
#[derive(Debug, Clone)]
pub struct Mapped {
    path: Arc<Path>,
    map: Arc<Mmap>,
}

impl Mapped {
    /// Maps `path`.
    ///
    /// # Errors
    /// It is no regular file, or cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Mapped> {
        let file = regular::open(path)?;
        // SAFETY: The map is read-only and private to this process. Its one hazard is that somebody
        // changes or truncates the file while it is mapped. The run's own files are written under
        // another name, renamed when complete and never changed afterwards, and the run's lock keeps
        // a second process out. Input shards belong to the user: the manual says that they must stay
        // as they are while a job reads them, and their size and time are checked before and after. A file that
        // becomes shorter all the same ends the process with its name (`bus_error`).
        let map =
            unsafe { MmapOptions::new().map(&file) }.map_err(|e| Error::io("a file cannot be mapped", path, e))?;
        Ok(Mapped { path: path.into(), map: Arc::new(map) })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the kernel that the file will be read from front to back.
    pub fn advise_sequential(&self) {
        // Advice only: a kernel that refuses it reads the file all the same.
        let _ = self.map.advise(memmap2::Advice::Sequential);
    }

    pub fn path_buf(&self) -> PathBuf {
        self.path.to_path_buf()
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}
