//! A publication as plain Parquet files, with a record of whose they are, and `_SUCCESS` at the end.
//!
//! ```text
//! PLACE/  _batchmine.json  part-*.parquet or task=NAME/part-*.parquet  _SUCCESS
//! ```
//!
//! The record names the publication: a place that another job filled, or fills, is refused; with `replace` it is taken
//! over. Before `_SUCCESS` is written, all files of these patterns that are not this publication's are deleted, so that
//! killed jobs leave nothing to read. Readers that list the folder before must wait for `_SUCCESS`.

use object_store::path::Path;
use object_store::{Error as StoreError, ListResult, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use super::location::{Location, PROBE};
use super::placed::PlacedFile;
use crate::error::{Error, Result};

const RECORD: &str = "_batchmine.json";
const SUCCESS: &str = "_SUCCESS";
const LOG: &str = "_delta_log";
const ELSEWHERE: &str = "give another place to --table-out";

/// `_batchmine.json`: whose files lie in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicationRecord {
    /// The batchmine that published.
    batchmine: String,
    id: String,
}

/// Refuses a place that holds anything but a publication of ours.
///
/// # Errors
/// It does, or the store fails.
pub(crate) async fn check_target(location: &Location) -> Result<()> {
    let listed = list(location, None).await?;
    if listed.common_prefixes.iter().any(|folder| folder.as_ref() == LOG) {
        return Err(refused(location, "a Delta table", ELSEWHERE));
    }
    if read(location).await?.is_some() {
        return Ok(());
    }
    let objects = listed.objects.iter().map(|object| object.location.to_string());
    let folders = listed.common_prefixes.iter().map(|folder| format!("{folder}/"));
    match objects.chain(folders).find(|name| !is_ignored(name)) {
        Some(other) => Err(refused(location, &format!("{other}, and no {RECORD}"), ELSEWHERE)),
        None => Ok(()),
    }
}

/// Whether a place that holds this counts as empty: what a killed job leaves, and the object without a name that a
/// store's console creates as a folder.
fn is_ignored(name: &str) -> bool {
    name.is_empty() || name.starts_with(PROBE) || (name.starts_with('.') && name.ends_with(".tmp"))
}

/// Whether a name is that of a published file: `part-…-HASH.parquet`, with 16 hex digits.
fn is_part(name: &str) -> bool {
    let stem = name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(".parquet"));
    let hash = stem.and_then(|stem| stem.rsplit_once('-')).map_or("", |(_, hash)| hash);
    hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Refuses a place that holds plain Parquet of ours.
///
/// # Errors
/// It does, or the store fails.
pub(crate) async fn refuse_plain(location: &Location) -> Result<()> {
    match read(location).await? {
        Some(_) => Err(refused(location, "a batch table in plain Parquet", ELSEWHERE)),
        None => Ok(()),
    }
}

/// Takes a place for a publication; true: the publication is there already, finished.
///
/// # Errors
/// The place holds other files, or the store fails.
pub(crate) async fn claim(location: &Location, id: &str, replace: bool) -> Result<bool> {
    check_target(location).await?;
    let own = PublicationRecord { batchmine: env!("CARGO_PKG_VERSION").into(), id: id.into() };
    match read(location).await? {
        Some(found) if found.id == id => return finished(location).await,
        Some(found) if !replace => {
            let remedy = "add --replace to put this table in its place, or give another place to --table-out";
            return Err(refused(location, &format!("the batches of another run (publication {})", found.id), remedy));
        }
        Some(_) => {
            remove(location, &Path::from(SUCCESS)).await?;
            write(location, &own, PutMode::Overwrite).await.map_err(|e| unwritten(location, RECORD, &e))?;
        }
        None => match write(location, &own, PutMode::Create).await {
            Ok(()) => {}
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                // It may be the same publication's: of a job on the same batches, or of an attempt whose answer was
                // lost.
                if read(location).await?.is_none_or(|found| found.id != id) {
                    let remedy = "wait for the other job, or give another place to --table-out";
                    return Err(refused(location, "another job's record, written just now", remedy));
                }
            }
            // Not every store and file system can create without overwriting.
            Err(_) => {
                let written = write(location, &own, PutMode::Overwrite).await;
                written.map_err(|e| unwritten(location, RECORD, &e))?;
            }
        },
    }
    Ok(false)
}

/// Declares a publication finished.
///
/// # Errors
/// The store fails, or another job has taken the place.
pub(crate) async fn finish(location: &Location, id: &str, placed: &[PlacedFile]) -> Result<()> {
    if read(location).await?.is_none_or(|found| found.id != id) {
        let found = "the record of another job, which took the place meanwhile";
        return Err(refused(
            location,
            found,
            "run one job at a time with --replace, or give another place to --table-out",
        ));
    }
    for path in parts(location).await? {
        // In a file system that ignores case, one file may have two such names.
        if !placed.iter().any(|file| file.path.eq_ignore_ascii_case(path.as_ref())) {
            remove(location, &path).await?;
        }
    }
    let success = Path::from(SUCCESS);
    if let Err(e) = location.store().put(&success, PutPayload::new()).await {
        // What may not be durable must not look finished.
        let _ = location.store().delete(&success).await;
        return Err(unwritten(location, SUCCESS, &e));
    }
    Ok(())
}

/// All files of batch tables that lie in a place.
async fn parts(location: &Location) -> Result<Vec<Path>> {
    let part = |path: &Path| path.filename().is_some_and(is_part);
    let whole = list(location, None).await?;
    if whole.common_prefixes.iter().any(|folder| folder.as_ref() == LOG) {
        return Err(refused(location, "a Delta table, made meanwhile", ELSEWHERE));
    }
    let mut found: Vec<Path> = whole.objects.into_iter().map(|object| object.location).filter(part).collect();
    for folder in whole.common_prefixes.iter().filter(|folder| folder.as_ref().starts_with("task=")) {
        let inside = list(location, Some(folder)).await?;
        found.extend(inside.objects.into_iter().map(|object| object.location).filter(part));
    }
    Ok(found)
}

async fn list(location: &Location, folder: Option<&Path>) -> Result<ListResult> {
    let listed = location.store().list_with_delimiter(folder).await;
    listed.map_err(|e| location.failed("the table's place cannot be listed", "", &e))
}

async fn finished(location: &Location) -> Result<bool> {
    match location.store().head(&Path::from(SUCCESS)).await {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(e) => Err(location.failed("a file of the table cannot be read", SUCCESS, &e)),
    }
}

async fn read(location: &Location) -> Result<Option<PublicationRecord>> {
    let failed = |e| location.failed("a file of the table cannot be read", RECORD, &e);
    let bytes = match location.store().get(&Path::from(RECORD)).await {
        Ok(found) => found.bytes().await.map_err(failed)?,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let foreign = |e: serde_json::Error| refused(location, &format!("a {RECORD} of another kind: {e}"), ELSEWHERE);
    serde_json::from_slice(&bytes).map(Some).map_err(foreign)
}

async fn write(location: &Location, record: &PublicationRecord, mode: PutMode) -> object_store::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(record).expect("a record is plain data");
    bytes.push(b'\n');
    let object = Path::from(RECORD);
    location.store().put_opts(&object, PutPayload::from(bytes), mode.into()).await.map(drop)
}

async fn remove(location: &Location, path: &Path) -> Result<()> {
    match location.store().delete(path).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(e) => Err(location.failed("a file of the table cannot be deleted", path.as_ref(), &e)),
    }
}

fn unwritten(location: &Location, path: &str, error: &StoreError) -> Error {
    location.failed("a file of the table cannot be written", path, error)
}

fn refused(location: &Location, found: &str, remedy: &str) -> Error {
    Error::input("the table's place is taken")
        .path(location.to_string())
        .expected("an empty place, or this run's own table")
        .found(found)
        .remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_parts_are_parts() {
        assert!(is_part("part-00000-00001-5713a62f6cd38e44.parquet") && is_part("part-00002-d665e7a1de0d798e.parquet"));
        for name in ["part-00000-00000.parquet", "part-00000-0a1b2c3d-c000.snappy.parquet", "5713a62f6cd38e44.parquet"]
        {
            assert!(!is_part(name), "{name}");
        }
    }

    #[test]
    fn what_killed_jobs_leave_is_ignored() {
        for name in ["", "_batchmine_probe-7-1f", "._batchmine.json.7-1f.tmp", "._batchmine_probe-7-1f.7-20.tmp"] {
            assert!(is_ignored(name), "{name}");
        }
        assert!(!is_ignored("mine.txt") && !is_ignored(".git"));
    }
}
