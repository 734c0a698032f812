//! One process at a time in a run folder.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

/// An exclusive lock on a run folder, held until dropped; the kernel frees it if the process dies.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, were it not for a child that was forked a moment ago and holds the file too.
        let _ = self.0.unlock();
    }
}

impl Lock {
    /// Locks `folder/lock`.
    ///
    /// # Errors
    /// Another process holds the lock, or the file cannot be created.
    pub(crate) fn acquire(folder: &Path) -> Result<Lock> {
        Lock::acquire_file(&folder.join("lock"))
    }

    /// Locks a file, which is created where it is not there.
    ///
    /// # Errors
    /// Another process holds the lock, or the file cannot be created.
    pub(crate) fn acquire_file(path: &Path) -> Result<Lock> {
        let file = File::create(path).map_err(|e| Error::io("the lock file cannot be created", path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(Error::runtime("the folder is in use")
                .path(path)
                .expected("no other process in this folder")
                .found("another process holds its lock")
                .remedy("wait for the other job, or give this one another --out")),
            Err(TryLockError::Error(e)) => Err(Error::io("the folder cannot be locked", path, e)),
        }
    }
}
