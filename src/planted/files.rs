//! The folder that `gen` fills: files that appear whole, a record of what they follow from first, `_SUCCESS` last.
//!
//! ```text
//! DIR/  _gen.json  part-00000.parquet ...  _SUCCESS
//! ```
//!
//! A file is written beside its place, made durable and renamed. A folder with `_gen.json` and without `_SUCCESS` is
//! gone on with: the files that are there are kept, for each follows from the record and its number alone. Hidden
//! files (`.lock`, `.….tmp`) and names that begin with an underscore are passed over by `mine`, as by other readers.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Planted;
use crate::error::{Error, Result};
use crate::run::json::{differences, pretty};
use crate::run::lock::Lock;
use crate::run::progress::Progress;
use crate::run::storage::{Storage, folder_of, list, replace_file};
use crate::watch::Watch;

const RECORD: &str = "_gen.json";
const SUCCESS: &str = "_SUCCESS";
const LOCK: &str = ".lock";
const FILE_ROWS: u64 = 262_144;
const ROW_GROUP_ROWS: usize = 16_384;
const BATCH_ROWS: u64 = 2048;

/// `_gen.json`: what a folder's files follow from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlantedRecord {
    /// The batchmine that made the files.
    batchmine: String,
    #[serde(flatten)]
    planted: Planted,
}

/// Writes planted data into a folder; files that are there are kept. `false`: all were there already.
///
/// # Errors
/// The folder holds something else, or other planted data; another process writes into it; or the disk fails.
pub fn write(planted: &Planted, folder: &Path, storage: &dyn Storage, progress: &Progress) -> Result<bool> {
    write_watched(planted, folder, storage, progress, Watch::silent())
}

/// [`write`], which `watch` may stop.
///
/// # Errors
/// Those of [`write`]; or the work is to stop.
pub(crate) fn write_watched(
    planted: &Planted,
    folder: &Path,
    storage: &dyn Storage,
    progress: &Progress,
    watch: Watch<'_>,
) -> Result<bool> {
    let record = PlantedRecord { batchmine: env!("CARGO_PKG_VERSION").into(), planted: planted.clone() };
    check_folder(folder, &record)?;
    storage.create_folder(folder).map_err(|e| Error::io("the folder cannot be made", folder, e))?;
    let folder = folder.canonicalize().map_err(|e| Error::io("the folder cannot be opened", folder, e))?;
    let _lock = Lock::acquire_file(&folder.join(LOCK))?;
    let is_begun = check_folder(&folder, &record)?;
    let files: Vec<PathBuf> =
        (0..planted.rows.div_ceil(FILE_ROWS)).map(|file| folder.join(format!("part-{file:05}.parquet"))).collect();
    let success = folder.join(SUCCESS);
    if success.exists() {
        if files.iter().all(|path| path.exists()) {
            return Ok(false);
        }
        storage.remove(&success).map_err(|e| Error::io("a file cannot be removed", &success, e))?;
    }
    for path in list(&folder)?.iter().filter(|path| is_temporary(path)) {
        storage.remove(path).map_err(|e| Error::io("a file cannot be removed", path, e))?;
    }
    if !is_begun {
        let text = pretty(&record)? + "\n";
        put(storage, &folder.join(RECORD), text.as_bytes())?;
        let parent = folder_of(&folder);
        storage.sync_folder(parent).map_err(|e| Error::io("a folder cannot be synced", parent, e))?;
    }
    let meter = progress.meter("gen", planted.rows, "rows");
    let listen = |rows| watch.add(rows).and_then(|()| meter.add(rows));
    files.par_iter().enumerate().try_for_each(|(file, path)| {
        let file = file as u64;
        let rows = file * FILE_ROWS..planted.rows.min((file + 1) * FILE_ROWS);
        if path.exists() {
            meter.skip(rows.end - rows.start);
            return Ok(());
        }
        write_file(planted, storage, path, rows, Watch::new(&listen))
    })?;
    storage.sync_folder(&folder).map_err(|e| Error::io("a folder cannot be synced", &folder, e))?;
    put(storage, &success, b"").inspect_err(|_| {
        // What may not be durable must not look finished.
        let _ = storage.remove(&success);
    })?;
    Ok(true)
}

/// Refuses a folder that holds anything but these data. Whether it holds their record.
fn check_folder(folder: &Path, record: &PlantedRecord) -> Result<bool> {
    let path = folder.join(RECORD);
    let remedy = "give another folder to --out";
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let is_other = |path: &PathBuf| !path.ends_with(LOCK) && !is_temporary(path);
            return match list(folder)?.into_iter().find(is_other) {
                None => Ok(false),
                Some(other) => Err(Error::input("the output folder is not empty")
                    .path(folder)
                    .expected("a folder that is new, empty, or made by `batchmine gen`")
                    .found(format!("{}, and no {RECORD}", other.display()))
                    .remedy(remedy)),
            };
        }
        Err(e) => return Err(Error::io("a file cannot be read", &path, e)),
    };
    let found: PlantedRecord = serde_json::from_slice(&bytes).map_err(|e| {
        Error::input("the output folder holds other data")
            .path(&path)
            .expected(format!("the record of `batchmine gen` {}", env!("CARGO_PKG_VERSION")))
            .found(e.to_string())
            .remedy(remedy)
    })?;
    let differing = differences(&found, record);
    if differing.is_empty() {
        return Ok(true);
    }
    Err(Error::input("the output folder holds other planted data")
        .path(folder)
        .expected("data of these settings and this version, or none")
        .found(differing.join("\n            "))
        .remedy("give another folder to --out, or repeat the first settings"))
}

/// Whether a file is one that was being written.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    inner.is_some_and(|name| name == RECORD || name == SUCCESS || name.starts_with("part-"))
}

/// The hidden name under which a file is written.
fn temporary(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.tmp", path.file_name().unwrap_or_default().to_string_lossy()))
}

/// Writes a small file, whole and durable.
fn put(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<()> {
    replace_file(storage, &temporary(path), path, bytes).map_err(|e| Error::io("a file cannot be written", path, e))
}

fn write_file(planted: &Planted, storage: &dyn Storage, path: &Path, rows: Range<u64>, watch: Watch<'_>) -> Result<()> {
    let temp = temporary(path);
    let fill = || -> parquet::errors::Result<()> {
        let schema = Arc::new(planted.schema());
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let mut writer = ArrowWriter::try_new(storage.create(&temp)?, schema.clone(), Some(properties))?;
        for start in rows.clone().step_by(BATCH_ROWS as usize) {
            let batch = start..rows.end.min(start + BATCH_ROWS);
            watch.add(batch.end - batch.start).map_err(|e| ParquetError::External(Box::new(e)))?;
            writer.write(&planted.rows(&schema, batch)?)?;
        }
        writer.into_inner()?.sync()?;
        storage.rename(&temp, path)?;
        Ok(())
    };
    fill().map_err(|e| {
        let _ = storage.remove(&temp);
        unwritten(path, e)
    })
}

/// The error of a file that cannot be written, by its cause.
fn unwritten(path: &Path, error: ParquetError) -> Error {
    let what = "a file cannot be written";
    let other = |found: String| Error::runtime(what).path(path).found(found).remedy("run the same command again");
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => Error::io(what, path, *cause),
            Err(cause) => cause.downcast::<Error>().map_or_else(|cause| other(cause.to_string()), |own| *own),
        },
        error => other(error.to_string()),
    }
}
