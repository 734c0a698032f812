//! Which parts are known to be what was written: whoever reads a part asks here first.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use super::block_hash::{self, BLOCK_BYTES, ENTRY_BYTES};
use super::manifest::PartRecord;
use super::mapped::Mapped;
use super::sealed::{blocks_of, root_of};
use super::stage::Stage;
use crate::error::{Error, Result};

/// Paths of the parts that this process has compared with the manifest. A path for each, at most.
#[derive(Debug, Default)]
pub(super) struct CheckedParts(Mutex<BTreeSet<PathBuf>>);

impl CheckedParts {
    /// The path, if the file has the length and the hash of its record, once a process. Of an artefact this compares
    /// the hashes of its blocks, and whoever reads a block checks that; another file is read whole. O(bytes / 8,192) or
    /// O(bytes).
    ///
    /// # Errors
    /// There is no record, the file is gone, or it is not what was written.
    pub(super) fn check(&self, stage: Stage, path: PathBuf, record: Option<&PartRecord>) -> Result<PathBuf> {
        if self.0.lock().expect("no thread panics while it holds the paths").contains(&path) {
            return Ok(path);
        }
        let Some(record) = record else {
            return Err(damaged(&path, format!("a file of the {} stage", stage.name()), "none of that name".into()));
        };
        let mapped = Mapped::open(&path)?;
        let hash = hash_of(&path, mapped.bytes(), record)?;
        compare(&path, record, mapped.bytes().len() as u64, hash)?;
        self.0.lock().expect("no thread panics while it holds the paths").insert(path.clone());
        Ok(path)
    }
}

/// Reads a part whole and compares its length and hash with its record. O(bytes), on all threads.
///
/// # Errors
/// The file is gone, or it is not what was written.
pub(super) fn check_whole(path: PathBuf, record: &PartRecord) -> Result<()> {
    let mapped = Mapped::open(&path)?;
    mapped.advise_sequential();
    let bytes = mapped.bytes();
    compare(&path, record, bytes.len() as u64, hash_of(&path, bytes, record)?)?;
    let Some((blocks, recorded)) = blocks_of(bytes) else { return Ok(()) };
    let found = block_hash::table(blocks);
    let mut entries = found.chunks(ENTRY_BYTES).zip(recorded.chunks(ENTRY_BYTES));
    match entries.position(|(found, recorded)| found != recorded) {
        None => Ok(()),
        Some(block) => Err(damaged(
            &path,
            shown(record),
            format!("other bytes in the {BLOCK_BYTES} from {} on", block * BLOCK_BYTES),
        )),
    }
}

/// The hash of a part as its footer gives it, if that is sound, or of a part without such a footer.
fn hash_of(path: &PathBuf, bytes: &[u8], record: &PartRecord) -> Result<u64> {
    match root_of(bytes) {
        Some([footer, table]) if footer == table => Ok(table),
        Some(_) => Err(damaged(path, shown(record), "hashes of blocks that are not those of its footer".into())),
        None => Ok(block_hash::root(&block_hash::table(bytes))),
    }
}

fn compare(path: &PathBuf, record: &PartRecord, bytes: u64, hash: u64) -> Result<()> {
    let found = PartRecord { bytes, xxh3: format!("{hash:016x}") };
    if found == *record { Ok(()) } else { Err(damaged(path, shown(record), shown(&found))) }
}

fn shown(record: &PartRecord) -> String {
    format!("{} bytes, xxh3 {}", record.bytes, record.xxh3)
}

fn damaged(path: &PathBuf, expected: String, found: String) -> Error {
    Error::runtime("a file's content is not what was written")
        .path(path)
        .expected(expected)
        .found(found)
        .remedy("the file is damaged: delete it and run the same `mine` command again")
}
