//! The interface through which every byte of a run folder is written.
//!
//! [`Disk`] is the file system. The tests use another one in its place, which at the n-th call fails, writes half, or
//! loses what was not synced, and then check that no work is lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a run's files. Reads do not use it: they map files that are complete.
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// Creates a folder and its parents; an existing one is left as it is.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Creates an empty file, replacing one that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;
    /// Moves a file, replacing the target atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder's entries durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// Replaces a small file atomically and durably, by way of `temp` on the same disk.
///
/// # Errors
/// The disk fails; then the file is as it was.
pub(crate) fn replace_file(storage: &dyn Storage, temp: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = storage.create(temp)?;
    file.write_all(bytes)?;
    file.sync()?;
    drop(file);
    storage.rename(temp, path)?;
    storage.sync_folder(folder_of(path))
}

/// The folder that a path's last name is in: of a bare name the current one. `Path::parent` says "" then, which no call
/// can open.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The entries of a folder, in order of name; none where there is no folder.
///
/// # Errors
/// The folder cannot be listed.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io("a folder cannot be listed", folder, e);
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut paths = entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// A file being written.
pub trait StorageFile: Write + Send + Sync {
    /// Writes all of `bytes` at `offset`, wherever the cursor is.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Sets the file's length; new bytes read as zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Makes the file's content durable.
    fn sync(&self) -> io::Result<()>;
}

/// The file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Storage for Disk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl StorageFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
