//! A publication as plain Parquet files, described by one more and ended by `_SUCCESS`.
//!
//! ```text
//! PLACE/  _batchmine.json  part-*.parquet or task=NAME/part-*.parquet  _SUCCESS
//! ```
//!
//! The description says whose files lie here and which ones: a place that another job filled, or fills, is refused.
//! With `replace` the other job's files are written down as to be deleted before the first of them goes, so that a
//! job killed in between leaves nothing that the next one does not know of.

use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use super::Placed;
use super::location::Location;
use crate::error::{Error, Result};

const DESCRIPTION: &str = "_batchmine.json";
const SUCCESS: &str = "_SUCCESS";

/// Whose files lie in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    batchmine: String,
    id: String,
    /// Files of a finished publication.
    files: Vec<String>,
    /// Files of another one that this one is put in the place of.
    superseded: Vec<String>,
}

/// Takes a place for a publication; true: it is there already, finished.
///
/// # Errors
/// The place holds other files, or the store fails.
pub async fn claim(location: &Location, id: &str, replace: bool) -> Result<bool> {
    let own = |superseded| Description {
        batchmine: env!("CARGO_PKG_VERSION").into(),
        id: id.into(),
        files: Vec::new(),
        superseded,
    };
    let Some(found) = read(location).await? else {
        refuse_foreign(location).await?;
        return match write(location, &own(Vec::new()), PutMode::Create).await {
            Ok(()) => Ok(false),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                Err(refused(location, "another job's description, written just now"))
            }
            Err(e) => Err(location.failed("a file of the table cannot be written", DESCRIPTION, &e)),
        };
    };
    if found.id == id {
        return finished(location).await;
    }
    if !replace {
        return Err(refused(location, &format!("the batches of another run (publication {})", found.id)));
    }
    remove(location, SUCCESS).await?;
    let mut superseded = found.superseded;
    superseded.extend(found.files);
    let written = write(location, &own(superseded), PutMode::Overwrite).await;
    written.map_err(|e| location.failed("a file of the table cannot be written", DESCRIPTION, &e))?;
    Ok(false)
}

/// Declares a publication finished.
///
/// # Errors
/// The store fails.
pub async fn finish(location: &Location, id: &str, placed: &[Placed]) -> Result<()> {
    let failed = |e| location.failed("a file of the table cannot be written", DESCRIPTION, &e);
    let files: Vec<String> = placed.iter().map(|file| file.path.clone()).collect();
    let found = read(location).await?.filter(|found| found.id == id);
    let Some(mut description) = found else {
        return Err(refused(location, "the description of another job, which took the place meanwhile"));
    };
    for path in description.superseded.iter().filter(|path| !files.contains(path)) {
        remove(location, path).await?;
    }
    (description.files, description.superseded) = (files, Vec::new());
    write(location, &description, PutMode::Overwrite).await.map_err(failed)?;
    location.settle(DESCRIPTION)?;
    let success = location.store().put(&Path::from(SUCCESS), PutPayload::new()).await;
    success.map_err(|e| location.failed("a file of the table cannot be written", SUCCESS, &e))?;
    location.settle(SUCCESS)
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
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::input("the table's place holds something else")
            .path(location.to_string())
            .expected(format!("a {DESCRIPTION} that an earlier job wrote, or none"))
            .found(e.to_string())
            .remedy("give another place to --table-out")
    })
}

async fn write(location: &Location, description: &Description, mode: PutMode) -> object_store::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(description).expect("a description is plain data");
    bytes.push(b'\n');
    let object = Path::from(DESCRIPTION);
    location.store().put_opts(&object, PutPayload::from(bytes), mode.into()).await.map(drop)
}

async fn remove(location: &Location, path: &str) -> Result<()> {
    let object = Path::parse(path).map_err(|e| {
        Error::input("the table's description names no file")
            .path(location.to_string())
            .found(e.to_string())
            .remedy("give another place to --table-out")
    })?;
    match location.store().delete(&object).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(e) => Err(location.failed("a file of the table cannot be deleted", path, &e)),
    }
}

/// Refuses a place that holds anything, and no description.
async fn refuse_foreign(location: &Location) -> Result<()> {
    let listed = location.store().list_with_delimiter(None).await;
    let listed = listed.map_err(|e| location.failed("the table's place cannot be listed", "", &e))?;
    let first = listed.objects.first().map(|object| object.location.to_string());
    match first.or_else(|| listed.common_prefixes.first().map(|folder| format!("{folder}/"))) {
        Some(other) => Err(refused(location, &format!("{other}, and no {DESCRIPTION}"))),
        None => Ok(()),
    }
}

fn refused(location: &Location, found: &str) -> Error {
    Error::input("the table's place is taken")
        .path(location.to_string())
        .expected("an empty place, or this run's own table")
        .found(found)
        .remedy("give another place to --table-out, add --replace to put this table in the place of another run's, or publish with --table delta, which keeps both")
}
