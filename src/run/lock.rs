//! One process at a time in a run folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use sysinfo::System;

use crate::error::{Error, Result};
use crate::regular;

/// Name of the file that is locked.
pub(super) const LOCK: &str = "lock";
/// Attempts, and the time between them: whoever only looks whether a folder is in use holds its lock for a moment.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of the holder's name that are shown.
const HOLDER_BYTES: u64 = 300;

/// An exclusive lock on a folder, held until dropped; the kernel frees it if the process dies.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // The name stays where the process died. Closing would free the lock, were it not for a child that was forked
        // a moment ago and holds the file too.
        let _ = self.0.set_len(0);
        let _ = self.0.unlock();
    }
}

impl Lock {
    /// Locks `folder/lock`, and writes there who holds it. A lock whose holder has died is free. The file itself is
    /// locked: another path to the folder, by a link or a mount, leads to the same lock.
    ///
    /// # Errors
    /// Another process holds the lock, or the file cannot be created.
    pub(crate) fn acquire(folder: &Path) -> Result<Lock> {
        Lock::acquire_file(&folder.join(LOCK))
    }

    /// Locks a file, which is created where it is not there.
    ///
    /// # Errors
    /// Another process holds the lock, or the file cannot be created.
    pub(crate) fn acquire_file(path: &Path) -> Result<Lock> {
        let failed = |e| Error::io("the lock file cannot be created", path, e);
        // It is not truncated: what it holds is the name of the holder, until the lock is ours.
        let mut file = match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path) {
            // A finished run may be asked for where nothing can be written.
            Err(e) if matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
                File::open(path).map_err(|_| failed(e))?
            }
            file => file.map_err(failed)?,
        };
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(in_use(path, &holder(&mut file))),
                Err(TryLockError::Error(e)) => return Err(Error::io("the folder cannot be locked", path, e)),
            }
        }
        // Only a name for messages: a full disk is no reason to fail.
        let host = System::host_name().unwrap_or_default();
        let text = format!("process {} on {host}\n", std::process::id());
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        Ok(Lock(file))
    }

    /// Fails where a process holds the lock of a folder. Nothing is created.
    ///
    /// # Errors
    /// The folder is in use.
    pub(super) fn refuse_held(folder: &Path) -> Result<()> {
        let path = folder.join(LOCK);
        let Ok(mut file) = regular::open(&path) else { return Ok(()) };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(in_use(&path, &holder(&mut file))),
            // Where there are no locks, nobody holds one. Closing the file frees it.
            _ => Ok(()),
        }
    }
}

/// Who holds a lock, as far as is known.
fn holder(file: &mut File) -> String {
    let mut text = Vec::new();
    // A holder that could not write its name has left the file empty.
    let _ = file.take(HOLDER_BYTES).read_to_end(&mut text);
    match String::from_utf8_lossy(&text).trim() {
        "" => "another process".into(),
        name => name.chars().filter(|letter| !letter.is_control()).collect(),
    }
}

fn in_use(path: &Path, holder: &str) -> Error {
    Error::runtime("the folder is in use")
        .path(path)
        .expected("no other process in this folder")
        .found(format!("{holder} holds its lock"))
        .remedy("wait for the other job, or give this one another --out")
}
