//! A Delta table's folder: the log says which files are in the table, and what their partition columns are.

use std::path::{Path, PathBuf};

use deltalake::kernel::transaction::PROTOCOL;
use deltalake::table::state::DeltaTableState;
use deltalake::{DeltaTableBuilder, DeltaTableError};
use url::Url;

use super::content::FileKind;
use super::hive::PartitionValue;
use super::kinds::InputFile;
use super::tables::TableFolder;
use crate::error::{Error, Result};
use crate::guard::{guarded, guarded_engine};
use crate::regular;
use crate::vectors::parquet_footer::footer_of;

/// Threads that read the log.
const LOG_THREADS: usize = 2;
/// Folder of the log.
const LOG: &str = "_delta_log";
/// Longest file of the log that is read: each is parsed as a whole.
const LOG_FILE_MAX: u64 = 1 << 30;
/// The table's property that says whether columns have other names in its files.
const MAPPING: &str = "delta.columnMapping.mode";

/// The files of a Delta table's newest version, sorted by path.
///
/// # Errors
/// The log cannot be read; or a file has rows that are deleted, or columns that have other names there.
pub(super) fn table_files(folder: &Path) -> Result<Vec<InputFile>> {
    refuse_long_log(&folder.join(LOG))?;
    let state = newest(folder)?;
    let mapping = state.metadata().configuration().get(MAPPING).map_or("none", String::as_str);
    if mapping != "none" {
        return Err(unreadable(folder, format!("columns mapped by {mapping}")));
    }
    let mut files = Vec::new();
    for file in state.log_data().iter() {
        let path = file.path();
        if file.deletion_vector_descriptor().is_some() {
            return Err(unreadable(folder, format!("a deletion vector: rows of {path} are deleted")));
        }
        if path.contains("://") || path.starts_with('/') {
            return Err(unreadable(folder, format!("a file outside the folder: {path}")));
        }
        let mut partitions: Vec<PartitionValue> = file
            .partition_values_map()
            .into_iter()
            .map(|(name, value)| PartitionValue { name, value: value.filter(|text| !text.is_empty()) })
            .collect();
        partitions.sort_by(|a, b| a.name.cmp(&b.name));
        files.push(InputFile { path: existing(folder, &path)?, kind: FileKind::Parquet, partitions, stored: None });
    }
    if files.is_empty() {
        return Err(Error::input("the Delta table is empty")
            .path(folder)
            .expected("a table of rows")
            .found(format!("no files in version {}", state.version()))
            .remedy("check that this is the table you mean"));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    tracing::info!("{}: a Delta table at version {}, {} files", folder.display(), state.version(), files.len());
    Ok(files)
}

/// Fails where the log has what would be read without an end, or without a bound.
fn refuse_long_log(log: &Path) -> Result<()> {
    let failed = |e| Error::io("the folder cannot be listed", log, e);
    for entry in std::fs::read_dir(log).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            continue;
        }
        let file = regular::open(&path)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if path.extension().is_some_and(|ending| ending == "parquet") {
            let found = |found| damaged(log, format!("{}: {found}", path.display()));
            guarded(&path, || footer_of(&file)).flatten().map_err(found)?;
        }
        if bytes > LOG_FILE_MAX {
            return Err(damaged(
                log,
                format!("{} of {bytes} bytes, where at most {LOG_FILE_MAX} are read", path.display()),
            ));
        }
    }
    Ok(())
}

/// What the log says of the newest version.
fn newest(folder: &Path) -> Result<DeltaTableState> {
    let failed = |e| Error::io("the folder cannot be examined", folder, e);
    let real = folder.canonicalize().map_err(failed)?;
    let url = Url::from_directory_path(&real).map_err(|()| damaged(folder, "a path that is no URL".into()))?;
    let builder = tokio::runtime::Builder::new_multi_thread().worker_threads(LOG_THREADS).enable_all().build();
    let runtime = builder.map_err(|e| {
        Error::runtime("the threads that read a Delta table's log cannot be started")
            .found(e.to_string())
            .remedy("raise the limit of processes and threads")
    })?;
    let load = async {
        let table = DeltaTableBuilder::from_url(url)?.load().await?;
        Ok::<_, DeltaTableError>(table.snapshot()?.clone())
    };
    let state = guarded_engine(|| runtime.block_on(load)).map_err(|found| damaged(folder, found))?;
    // Behind the first line there may be a backtrace.
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let state = state.map_err(|e| damaged(folder, first_line(e.to_string())))?;
    PROTOCOL.can_read_from(state.snapshot()).map_err(|e| unreadable(folder, e.to_string()))?;
    Ok(state)
}

fn existing(folder: &Path, path: &str) -> Result<PathBuf> {
    let path = folder.join(path);
    if path.is_file() {
        return Ok(path);
    }
    Err(damaged(folder, format!("no file {}, which the log lists", path.display())))
}

/// The error for a table whose files are not its rows.
fn unreadable(folder: &Path, found: String) -> Error {
    Error::input("the Delta table cannot be read as it is")
        .path(folder)
        .expected("a table without deletion vectors, mapped columns or newer features of readers")
        .found(found)
        .remedy(TableFolder::Delta.conversion(folder))
}

fn damaged(folder: &Path, found: String) -> Error {
    Error::input("the Delta table's log cannot be read")
        .path(folder)
        .expected("a whole table")
        .found(found)
        .remedy("restore the table, or name a folder of plain Parquet files")
}
