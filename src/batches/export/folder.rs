//! The folder that an export fills: files that appear whole, a record of the export first, `_SUCCESS` last.
//!
//! ```text
//! DIR/  lock  _export.json  (the trainer's files)  _SUCCESS
//! ```
//!
//! A file is written beside its place, made durable and renamed. Folders are synced at the end, before
//! `_SUCCESS`, which has the length and checksum of every file: an export that is found finished is compared with them.
//! A folder with `_export.json` and without `_SUCCESS` holds an export that was interrupted: it is emptied and filled
//! anew. Both names begin with an underscore, so that loaders of whole folders skip them. Memory: a name and a checksum
//! for each file, and a buffer for each that is being written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::settings::Epochs;
use crate::error::{Error, Result};
use crate::regular;
use crate::run::PartRecord;
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
    contents: Contents,
    _lock: Lock,
}

/// All that determines an export's bytes. It is the folder's `_export.json`; its keys are in alphabetical order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ExportRecord {
    /// The batchmine that made the export.
    pub batchmine: String,
    /// Files given in place of the corpus, where it is read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corpus_source: Vec<String>,
    /// The documents' texts, where a corpus is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_text: Option<String>,
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

/// Every file of an export but `_SUCCESS`, whose content this is: path within the folder, length and checksum.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    files: BTreeMap<String, PartRecord>,
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
                check(path)?;
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
        let mut folder = Folder { path, storage, touched: BTreeSet::new(), contents: Contents::default(), _lock: lock };
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
        Ok(OutFile {
            state: Arc::new(Mutex::new(FileState { writer, bytes: 0, hash: Box::new(Xxh3::new()) })),
            temp: file,
            path,
        })
    }

    /// Makes a finished file durable and gives it its name.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn commit(&mut self, file: OutFile) -> Result<()> {
        let mut state = file.state();
        let done = state.writer.flush().and_then(|()| state.writer.get_ref().sync());
        done.and_then(|()| self.storage.rename(&file.temp, &file.path)).map_err(|e| file.failed(e))?;
        let name = file.path.strip_prefix(&self.path).unwrap_or(&file.path).display().to_string();
        let record = PartRecord { bytes: state.bytes, xxh3: format!("{:016x}", state.hash.digest()) };
        self.contents.files.insert(name, record);
        Ok(())
    }

    /// Declares the export finished.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn succeed(mut self) -> Result<Filled> {
        let files = &self.contents.files;
        let filled = Filled { files: files.len() as u64 - 1, bytes: files.values().map(|file| file.bytes).sum() };
        let mut contents = serde_json::to_vec_pretty(&self.contents).expect("a record is plain data");
        contents.push(b'\n');
        self.sync()?;
        let done = self.put(SUCCESS, &contents).and_then(|()| self.sync());
        done.inspect_err(|_| {
            // What may not be durable must not look finished.
            let _ = self.storage.remove(&self.path.join(SUCCESS));
        })?;
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
    hash: Box<Xxh3>,
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
        state.hash.update(&bytes[..written]);
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

/// Compares the files of a finished export with what `_SUCCESS` says of them. O(bytes).
///
/// # Errors
/// A file is gone, or is not what was written; or `_SUCCESS` does not say what was written.
fn check(folder: &Path) -> Result<()> {
    let damaged = |path: &Path, expected: String, found: String| {
        Error::runtime("the output folder holds this export, and it is damaged")
            .path(path)
            .expected(expected)
            .found(found)
            .remedy("add --replace to write it again")
    };
    let success = folder.join(SUCCESS);
    let text = std::fs::read(&success).map_err(|e| Error::io("a file cannot be read", &success, e))?;
    let contents: Contents = serde_json::from_slice(&text)
        .map_err(|e| damaged(&success, "the length and checksum of every file".into(), e.to_string()))?;
    if !contents.files.contains_key(RECORD) {
        return Err(damaged(&success, format!("{RECORD} among the files"), "no such file".into()));
    }
    for (name, record) in &contents.files {
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(damaged(&success, "paths within the folder".into(), format!("{name:?}")));
        }
        let path = folder.join(name);
        let found = content(&path).map_err(|e| damaged(&path, "a file".into(), e.to_string()))?;
        if found != *record {
            let said = |file: &PartRecord| format!("{} bytes, xxh3 {}", file.bytes, file.xxh3);
            return Err(damaged(&path, said(record), said(&found)));
        }
    }
    Ok(())
}

/// A file's length and checksum.
fn content(path: &Path) -> io::Result<PartRecord> {
    // Anything else could be read without an end.
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let (mut file, mut hash, mut bytes) = (std::fs::File::open(path)?, Xxh3::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(PartRecord { bytes, xxh3: format!("{:016x}", hash.digest()) }),
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
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
