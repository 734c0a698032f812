//! Copies of a run's files on a disk of this machine: what a worker reads often is read once over the network.
//!
//! A copy is named after its content, so several runs and workers share a folder. It is whole or absent (temp, rename),
//! and each worker compares it with the manifest as it would the file itself. Nothing is ever deleted there. Memory:
//! one buffer of the system's copy.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::checked_parts::check_whole;
use super::manifest::PartRecord;
use crate::error::{Error, Result};

/// A folder of copies.
#[derive(Debug)]
pub(super) struct LocalCopies {
    folder: PathBuf,
    /// Names of the parts that are copied.
    names: &'static [&'static str],
}

impl LocalCopies {
    pub(super) fn new(folder: PathBuf, names: &'static [&'static str]) -> LocalCopies {
        LocalCopies { folder, names }
    }

    /// The path of a part's copy, which is made where it is not there; the part's own where it is not to be copied.
    ///
    /// # Errors
    /// The copy cannot be written.
    pub(super) fn copy_of(&self, part: PathBuf, name: &str, record: &PartRecord) -> Result<PathBuf> {
        if !self.names.contains(&name) {
            return Ok(part);
        }
        let copy = self.folder.join(format!("batchmine-{}-{}-{name}", record.xxh3, record.bytes));
        let has_all = |path: &Path| path.metadata().is_ok_and(|found| found.is_file() && found.len() == record.bytes);
        if has_all(&copy) {
            if check_whole(copy.clone(), record).is_ok() {
                return Ok(copy);
            }
            tracing::warn!("a copy in the scratch folder is damaged, and is made again: {}", copy.display());
            let _ = std::fs::remove_file(&copy);
        }
        let made = self.make(&part, &copy, &has_all);
        made.map(|()| copy).map_err(|e| {
            Error::io("a copy cannot be made in the scratch folder", &self.folder, e)
                .expected(format!("room for {} bytes of {name}", record.bytes))
        })
    }

    /// Copies a file. Of several workers one copies, and the others wait for it.
    fn make(&self, part: &Path, copy: &Path, has_all: &dyn Fn(&Path) -> bool) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let beside = |suffix: &str| copy.with_added_extension(suffix);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(beside("lock"))?;
        lock.lock()?;
        if has_all(copy) {
            return Ok(());
        }
        let temp = beside("tmp");
        let copied = std::fs::copy(part, &temp).and_then(|_| File::open(&temp)?.sync_all());
        copied.and_then(|()| std::fs::rename(&temp, copy)).inspect_err(|_| {
            let _ = std::fs::remove_file(&temp);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::block_hash;

    #[test]
    fn a_part_is_copied_once_and_others_are_read_where_they_lie() {
        let place = tempfile::tempdir().unwrap();
        let (part, folder) = (place.path().join("base.pak"), place.path().join("scratch"));
        std::fs::write(&part, b"content").unwrap();
        let scratch = LocalCopies::new(folder.clone(), &["base.pak"]);
        let hash = block_hash::root(&block_hash::table(b"content"));
        let record = PartRecord { bytes: 7, xxh3: format!("{hash:016x}") };
        let copy = scratch.copy_of(part.clone(), "base.pak", &record).unwrap();
        assert_eq!((copy.parent(), std::fs::read(&copy).unwrap()), (Some(folder.as_path()), b"content".to_vec()));
        // The second time it is there; a copy that is not whole, or damaged, is made again.
        std::fs::write(&part, b"changed").unwrap();
        assert_eq!(scratch.copy_of(part.clone(), "base.pak", &record).unwrap(), copy);
        assert_eq!(std::fs::read(&copy).unwrap(), b"content");
        std::fs::write(&part, b"content").unwrap();
        for damaged in [&b"con"[..], b"cantent"] {
            std::fs::write(&copy, damaged).unwrap();
            scratch.copy_of(part.clone(), "base.pak", &record).unwrap();
            assert_eq!(std::fs::read(&copy).unwrap(), b"content");
        }
        assert_eq!(scratch.copy_of(part.clone(), "rows.col", &record).unwrap(), part);
        // A file stands where the folder should be.
        let scratch = LocalCopies::new(part.clone(), &["base.pak"]);
        assert!(scratch.copy_of(part, "base.pak", &record).unwrap_err().to_string().contains("scratch folder"));
    }
}
