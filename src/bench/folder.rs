//! The folder of a bench: made for it, and removed with all that is in it, however the bench ends.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A folder that goes when this does.
#[derive(Debug)]
pub(super) struct BenchFolder(PathBuf);

impl BenchFolder {
    /// A new folder inside `parent`.
    ///
    /// # Errors
    /// `parent` is no folder, or nothing can be made in it.
    pub(super) fn inside(parent: &Path) -> Result<BenchFolder> {
        if !parent.is_dir() {
            return Err(Error::input("the folder for measuring is not there")
                .path(parent)
                .expected("a folder, on the disk that is to be measured")
                .found(if parent.exists() { "something else" } else { "nothing" })
                .remedy("make it, or give another one to --work"));
        }
        let failed = |e| Error::io("a folder cannot be made", parent, e);
        let process = std::process::id();
        let mut number = 0;
        loop {
            let path = parent.join(format!("batchmine-bench-{process}-{number}"));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(BenchFolder(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(e) => return Err(failed(e)),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for BenchFolder {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("{} cannot be removed: {e}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_what_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let (a, b) = (BenchFolder::inside(parent.path()).unwrap(), BenchFolder::inside(parent.path()).unwrap());
        assert_ne!(a.path(), b.path());
        std::fs::create_dir(a.path().join("run")).unwrap();
        std::fs::write(a.path().join("run/file"), "x").unwrap();
        drop((a, b));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        for parent in [file, parent.path().join("none")] {
            let error = BenchFolder::inside(&parent).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("--work"), "{error}");
        }
    }
}
