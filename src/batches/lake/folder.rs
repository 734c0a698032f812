//! A publication as plain Parquet files, described by one more and ended by `_SUCCESS`.
//!
//! ```text
//! PLACE/  _batchmine.json  part-*.parquet or task=NAME/part-*.parquet  _SUCCESS
//! ```
//!
//! The description says whose files lie here: a place that another job filled, or fills, is refused. With `replace` it
//! is taken over. Before `_SUCCESS` is written, files of those patterns that are not this publication's are deleted,
//! whoever left them, so that killed jobs leave nothing to read. Readers that list the folder see files come and go:
//! they wait for `_SUCCESS`.

use object_store::path::Path;
use object_store::{Error as StoreError, ListResult, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use super::Placed;
use super::location::{Location, PROBE};
use crate::error::{Error, Result};

const DESCRIPTION: &str = "_batchmine.json";
const SUCCESS: &str = "_SUCCESS";
const LOG: &str = "_delta_log";
const ELSEWHERE: &str = "give another place to --table-out";

/// Whose files lie in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
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
    match objects.chain(folders).find(|name| !passes(name)) {
        Some(other) => Err(refused(location, &format!("{other}, and no {DESCRIPTION}"), ELSEWHERE)),
        None => Ok(()),
    }
}

/// Whether an empty place may hold it: what a killed job leaves, and the empty name of a folder that a store's console
/// has made.
fn passes(name: &str) -> bool {
    name.is_empty() || name.starts_with(PROBE) || (name.starts_with('.') && name.ends_with(".tmp"))
}

/// Whether it is a file of a batch table that we have published: `part-…-HASH.parquet`, of 16 hex digits.
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

/// Takes a place for a publication; true: it is there already, finished.
///
/// # Errors
/// The place holds other files, or the store fails.
pub(crate) async fn claim(location: &Location, id: &str, replace: bool) -> Result<bool> {
    check_target(location).await?;
    let own = Description { batchmine: env!("CARGO_PKG_VERSION").into(), id: id.into() };
    match read(location).await? {
        Some(found) if found.id == id => return finished(location).await,
        Some(found) if !replace => {
            let remedy = "add --replace to put this table in its place, or give another place to --table-out";
            return Err(refused(location, &format!("the batches of another run (publication {})", found.id), remedy));
        }
        Some(_) => {
            remove(location, &Path::from(SUCCESS)).await?;
            write(location, &own, PutMode::Overwrite).await.map_err(|e| unwritten(location, DESCRIPTION, &e))?;
        }
        None => match write(location, &own, PutMode::Create).await {
            Ok(()) => {}
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                // It may be our own: a twin's, or that of a first try whose answer was lost.
                if read(location).await?.is_none_or(|found| found.id != id) {
                    let remedy = "wait for the other job, or give another place to --table-out";
                    return Err(refused(location, "another job's description, written just now", remedy));
                }
            }
            // Not every store and file system can create without overwriting.
            Err(_) => {
                let written = write(location, &own, PutMode::Overwrite).await;
                written.map_err(|e| unwritten(location, DESCRIPTION, &e))?;
            }
        },
    }
    Ok(false)
}

/// Declares a publication finished.
///
/// # Errors
/// The store fails, or another job has taken the place.
pub(crate) async fn finish(location: &Location, id: &str, placed: &[Placed]) -> Result<()> {
    if read(location).await?.is_none_or(|found| found.id != id) {
        let found = "the description of another job, which took the place meanwhile";
        return Err(refused(
            location,
            found,
            "run one job at a time with --replace, or give another place to --table-out",
        ));
    }
    for path in parts(location).await? {
        // Where names differ by case alone, one file may go by two of them.
        if !placed.iter().any(|file| file.path.eq_ignore_ascii_case(path.as_ref())) {
            remove(location, &path).await?;
        }
    }
    let success = location.store().put(&Path::from(SUCCESS), PutPayload::new()).await;
    success.map(drop).map_err(|e| unwritten(location, SUCCESS, &e))
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

async fn read(location: &Location) -> Result<Option<Description>> {
    let failed = |e| location.failed("a file of the table cannot be read", DESCRIPTION, &e);
    let bytes = match location.store().get(&Path::from(DESCRIPTION)).await {
        Ok(found) => found.bytes().await.map_err(failed)?,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let foreign = |e: serde_json::Error| refused(location, &format!("a {DESCRIPTION} of another kind: {e}"), ELSEWHERE);
    serde_json::from_slice(&bytes).map(Some).map_err(foreign)
}

async fn write(location: &Location, description: &Description, mode: PutMode) -> object_store::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(description).expect("a description is plain data");
    bytes.push(b'\n');
    let object = Path::from(DESCRIPTION);
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
    fn what_killed_jobs_leave_is_nobodys() {
        for name in ["", "_batchmine_probe-7-1f", "._batchmine.json.7-1f.tmp", "._batchmine_probe-7-1f.7-20.tmp"] {
            assert!(passes(name), "{name}");
        }
        assert!(!passes("mine.txt") && !passes(".git"));
    }
}
