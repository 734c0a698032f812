//! The folder that an export fills: files that appear whole, a record of the export first, `_SUCCESS` last.
//!
//! ```text
//! DIR/  lock  _export.json  (the trainer's files)  _SUCCESS
//! ```
//!
//! A file is written beside its place, made durable and renamed. Folders are synced at the end, before
//! `_SUCCESS`. A folder with `_export.json` and without `_SUCCESS` holds an export that was interrupted: it is
//! emptied and filled anew. Both names begin with an underscore, so that loaders of whole folders skip them.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;

use super::settings::Epochs;
use crate::error::{Error, Result};
use crate::regular;
use crate::run::json::{FoundRecord, differences};
use crate::run::lock::Lock;
use crate::run::storage::{Storage, StorageFile, list};

const RECORD: &str = "_export.json";
const SUCCESS: &str = "_SUCCESS";
const LOCK: &str = "lock";
/// All that is left of an export that was stopped before its record was there.
const BEGUN: &str = "._export.json.tmp";

/// An open, locked export folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    touched: BTreeSet<PathBuf>,
    files: u64,
    bytes: u64,
    _lock: Lock,
}

/// All that determines an export's bytes. It is the folder's `_export.json`; its keys are in alphabetical order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ExportRecord {
    /// The batchmine that made the export.
    pub batchmine: String,
    pub epoch: Epochs,
    pub format: String,
    pub negatives: u32,
    /// Rows without a hard negative, which got some of their batch.
    pub negatives_filled: u64,
    /// Rows with fewer hard negatives than `negatives`; of these, rows without any.
    pub negatives_short: u64,
    pub negatives_without: u64,
    pub positive_text: String,
    pub query_text: String,
    /// Fingerprint of the run's batches.
    pub run: String,
    /// Files given in place of the mined ones.
    pub source: Vec<String>,
}

/// What a finished folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filled {
    /// Files of the trainer.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Folder {
    /// Opens a folder for the export of this record; `None`: the folder holds that export already, finished.
    ///
    /// # Errors
    /// The folder holds something else, or another finished export and `replace` is not set.
    pub(crate) fn open(
        path: &Path,
        storage: Arc<dyn Storage>,
        record: &ExportRecord,
        replace: bool,
    ) -> Result<Option<Folder>> {
        let found = read_record(path)?;
        if found.is_none()
            && let Some(other) = list(path)?.into_iter().find(|entry| !entry.ends_with(LOCK) && !entry.ends_with(BEGUN))
        {
            return Err(Error::input("the output folder is not an export")
                .path(path)
                .expected("a folder that is new, empty, or made by `batchmine export`")
                .found(format!("{}, and no {RECORD}", other.display()))
                .remedy("give another folder to --out"));
        }
        let finished = path.join(SUCCESS).exists();
        if let (Some(found), true, false) = (&found, finished, replace) {
            let differing = differences(found, record);
            if differing.is_empty() {
                return Ok(None);
            }
            return Err(Error::input("the output folder holds another export")
                .path(path)
                .expected("an export of this run with these settings, or none")
                .found(differing.join("\n            "))
                .remedy("add --replace to put this one in its place, or give another folder to --out"));
        }
        storage.create_folder(path).map_err(|e| Error::io("the output folder cannot be created", path, e))?;
        let path = path.canonicalize().map_err(|e| Error::io("the output folder cannot be opened", path, e))?;
        let lock = Lock::acquire(&path)?;
        empty(&path, storage.as_ref())?;
        let mut folder = Folder { path, storage, touched: BTreeSet::new(), files: 0, bytes: 0, _lock: lock };
        let mut text = serde_json::to_vec_pretty(record).expect("a record is plain data");
        text.push(b'\n');
        folder.put(RECORD, &text)?;
        folder.sync()?;
        Ok(Some(folder))
    }

    /// Starts a file; `name` is a path within the folder.
    ///
    /// # Errors
    /// It cannot be created.
    pub(crate) fn create(&mut self, name: &str) -> Result<OutFile> {
        let path = self.path.join(name);
        let parent = path.parent().unwrap_or(&self.path).to_owned();
        if self.touched.insert(parent.clone()) {
            self.storage.create_folder(&parent).map_err(|e| Error::io("a folder cannot be created", &parent, e))?;
            self.touched.extend(parent.ancestors().take_while(|folder| **folder != self.path).map(Path::to_owned));
        }
        let file = parent.join(format!(".{}.tmp", path.file_name().unwrap_or_default().to_string_lossy()));
        let writer = self.storage.create(&file).map_err(|e| Error::io("a file cannot be created", &file, e))?;
        let writer = BufWriter::with_capacity(256 << 10, writer);
        Ok(OutFile { state: Arc::new(Mutex::new(FileState { writer, bytes: 0 })), temp: file, path })
    }

    /// Makes a finished file durable and gives it its name.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn commit(&mut self, file: OutFile) -> Result<()> {
        let mut state = file.state();
        let done = state.writer.flush().and_then(|()| state.writer.get_ref().sync());
        done.and_then(|()| self.storage.rename(&file.temp, &file.path)).map_err(|e| file.failed(e))?;
        self.files += 1;
        self.bytes += state.bytes;
        Ok(())
    }

    /// Declares the export finished.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn succeed(mut self) -> Result<Filled> {
        let filled = Filled { files: self.files - 1, bytes: self.bytes };
        self.sync()?;
        self.put(SUCCESS, b"")?;
        self.sync()?;
        Ok(filled)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.create(name)?;
        file.write_all(bytes).map_err(|e| file.failed(e))?;
        self.commit(file)
    }

    fn sync(&mut self) -> Result<()> {
        self.touched.insert(self.path.clone());
        for folder in &self.touched {
            self.storage.sync_folder(folder).map_err(|e| Error::io("a folder cannot be synced", folder, e))?;
        }
        Ok(())
    }
}

/// A file being written. Clones write to the same file: a Parquet writer keeps one.
#[derive(Clone)]
pub(crate) struct OutFile {
    state: Arc<Mutex<FileState>>,
    temp: PathBuf,
    path: PathBuf,
}

struct FileState {
    writer: BufWriter<Box<dyn StorageFile>>,
    bytes: u64,
}

impl OutFile {
    /// The error of a write that failed.
    pub(crate) fn failed(&self, e: io::Error) -> Error {
        Error::io("a file of the export cannot be written", &self.path, e)
    }

    fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().expect("no thread panics while it holds the file")
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        let written = state.writer.write(bytes)?;
        state.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.state().writer.flush()
    }
}

/// The record of an export, whichever batchmine made it.
fn read_record(folder: &Path) -> Result<Option<FoundRecord>> {
    let path = folder.join(RECORD);
    let Some(bytes) = regular::read_if_there(&path, regular::TEXT_MAX)? else { return Ok(None) };
    let found: Option<FoundRecord> = serde_json::from_slice(&bytes).ok();
    Ok(found.filter(|record| record.text("batchmine").is_some()))
}

/// Removes everything but the lock. `_SUCCESS` goes first, so that a half-emptied folder is no finished export; the
/// record goes last, so that what is left is known to be an export's.
fn empty(folder: &Path, storage: &dyn Storage) -> Result<()> {
    let remove = |path: &Path| {
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        removed.map_err(|e| Error::io("a file of an earlier export cannot be removed", path, e))
    };
    let (marks, rest): (Vec<_>, Vec<_>) = list(folder)?.into_iter().partition(|path| path.ends_with(RECORD));
    let success = folder.join(SUCCESS);
    if rest.contains(&success) {
        remove(&success)?;
        storage.sync_folder(folder).map_err(|e| Error::io("a folder cannot be synced", folder, e))?;
    }
    let others = rest.iter().filter(|path| **path != success && !path.ends_with(LOCK));
    others.chain(&marks).try_for_each(|path| remove(path))
}
