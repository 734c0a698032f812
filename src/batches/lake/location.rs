//! Where a table lies: a folder, or a prefix of an object store.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use url::Url;

use crate::error::{Error, Result};

/// Folder of the table where the user names none.
const DEFAULT_FOLDER: &str = "table";
/// Name of the object that is written to see whether the store keeps its word. Readers pass names with `_` by.
const PROBE: &str = "_batchmine_probe";
/// URL schemes that name an object store.
const SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl"];
/// What the variables begin with that say how a store is reached.
const VARIABLES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// A folder, or a prefix of an object store.
#[derive(Debug)]
pub struct Location {
    url: Url,
    root: Arc<dyn ObjectStore>,
    prefix: Path,
    folder: Option<PathBuf>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.folder {
            Some(folder) => write!(f, "{}", folder.display()),
            None => write!(f, "{}", self.url),
        }
    }
}

impl Location {
    /// Parses a folder or URL; `None`: a folder in the run folder. Folders are created.
    ///
    /// # Errors
    /// The URL names no known kind of store, what is needed to reach it is not in the environment, or the folder
    /// belongs to the run.
    pub fn open(place: Option<&str>, run: &FilePath) -> Result<Location> {
        match place {
            Some(place) if place.contains("://") && !place.starts_with("file://") => Location::of_store(place),
            Some(place) => {
                let path = match place.strip_prefix("file://") {
                    Some(_) => parse(place)?.to_file_path().map_err(|()| unknown(place))?,
                    None => PathBuf::from(place),
                };
                Location::of_folder(&path, run)
            }
            None => Location::of_folder(&run.join(DEFAULT_FOLDER), run),
        }
    }

    fn of_folder(path: &FilePath, run: &FilePath) -> Result<Location> {
        let made = |e| Error::io("the table's folder cannot be created", path, e);
        std::fs::create_dir_all(path).map_err(made)?;
        let folder = path.canonicalize().map_err(made)?;
        if folder.starts_with(run) && folder != run.join(DEFAULT_FOLDER) {
            return Err(Error::input("the table cannot lie among the run's own files")
                .path(&folder)
                .expected(format!("a folder outside {}, or its folder {DEFAULT_FOLDER}", run.display()))
                .found(path.display().to_string())
                .remedy("give another place to --table-out"));
        }
        let url = Url::from_directory_path(&folder).map_err(|()| unknown(&folder.display().to_string()))?;
        let (root, prefix) = object_store::parse_url(&url).map_err(|e| unusable(&url, &e))?;
        Ok(Location { url, root: root.into(), prefix, folder: Some(folder) })
    }

    fn of_store(place: &str) -> Result<Location> {
        let mut url = parse(place)?;
        if !SCHEMES.contains(&url.scheme()) {
            return Err(unknown(place));
        }
        let folder = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&folder);
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let ours = |(name, _): &(String, String)| VARIABLES.iter().any(|start| name.starts_with(start));
        let options = std::env::vars_os().filter_map(text).filter(ours);
        let (root, prefix) = object_store::parse_url_opts(&url, options).map_err(|e| unusable(&url, &e))?;
        Ok(Location { url, root: root.into(), prefix, folder: None })
    }

    /// The place as a URL that ends in `/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The store that the place is in.
    pub fn root(&self) -> Arc<dyn ObjectStore> {
        self.root.clone()
    }

    /// The place as a store of its own.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.root.clone(), self.prefix.clone()))
    }

    /// The folder, if it is one of this machine.
    pub fn folder(&self) -> Option<&FilePath> {
        self.folder.as_deref()
    }

    /// Makes a file, and its entry in its folder, durable. An object store has seen to that by itself.
    ///
    /// # Errors
    /// The disk fails.
    pub fn settle(&self, path: &str) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let file = folder.join(path);
        let sync = |path: &FilePath| std::fs::File::open(path)?.sync_all();
        let folders = file.ancestors().skip(1).take_while(|parent| parent.starts_with(folder));
        let synced = std::iter::once(file.as_path()).chain(folders).try_for_each(sync);
        synced.map_err(|e| Error::io("a file of the table cannot be made durable", &file, e))
    }

    /// Writes an object, reads the answer to a second creation of it, and removes it. With `exclusive` the second
    /// one must be refused.
    ///
    /// # Errors
    /// The store cannot be written, or does not refuse the second creation.
    pub async fn prove(&self, exclusive: bool) -> Result<()> {
        let store = self.store();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let name = format!("{PROBE}-{}-{now:x}", std::process::id());
        let probe = Path::from(name.as_str());
        let create = || store.put_opts(&probe, PutPayload::from_static(b"may be deleted"), PutMode::Create.into());
        let first = create().await;
        let second = if first.is_ok() { Some(create().await) } else { None };
        if first.is_ok() {
            store.delete(&probe).await.map_err(|e| self.failed("a file cannot be deleted", &name, &e))?;
        }
        first.map_err(|e| self.failed("the table's place cannot be written", &name, &e))?;
        match second {
            Some(Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. })) => Ok(()),
            Some(Err(e)) => Err(self.failed("the table's place cannot be written", &name, &e)),
            _ if !exclusive => {
                tracing::warn!(
                    "{self} does not refuse to create a file twice: two jobs must not publish there at once"
                );
                Ok(())
            }
            _ => Err(Error::input("the object store lets an object be created twice")
                .path(self.to_string())
                .expected(
                    "a second creation of an object refused: If-None-Match, as S3, GCS, Azure and current MinIO do",
                )
                .found("the second one overwrote the first: two jobs that commit at once would lose one table")
                .remedy("use a store that has conditional writes, publish into a folder, or publish plain Parquet")),
        }
    }

    /// The error of a store.
    pub fn failed(&self, what: &str, path: &str, error: &StoreError) -> Error {
        let remedy = match error {
            StoreError::NotFound { .. } => "check the place that --table-out names: is there such a bucket?",
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                "check the credentials in the environment (AWS_…, GOOGLE_…, AZURE_…) and what they may do"
            }
            _ => "fix the cause and run the same command again: the batches are kept, and what is uploaded is used",
        };
        let place =
            self.folder.as_ref().map_or_else(|| format!("{}{path}", self.url), |f| f.join(path).display().to_string());
        Error::runtime(what).path(place).found(causes(error)).remedy(remedy)
    }
}

/// An error and all that lies under it: a store's own words come last.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut under = error.source();
    while let Some(cause) = under {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        under = cause.source();
    }
    text
}

fn parse(place: &str) -> Result<Url> {
    Url::parse(place).map_err(|_| unknown(place))
}

fn unknown(place: &str) -> Error {
    Error::input("the table's place is not understood")
        .expected("a folder, or a URL such as s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH")
        .found(place)
        .remedy("correct --table-out")
}

fn unusable(url: &Url, error: &StoreError) -> Error {
    Error::input("the object store cannot be used")
        .path(url.as_str())
        .expected("an endpoint and credentials in the environment (AWS_…, GOOGLE_…, AZURE_…)")
        .found(causes(error))
        .remedy("set the variables that the store's own tools read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_folders_or_urls() {
        let run = tempfile::tempdir().unwrap();
        let root = run.path().canonicalize().unwrap();
        let inside = Location::open(None, &root).unwrap();
        assert_eq!(inside.to_string(), root.join("table").display().to_string());
        assert!(inside.url().path().ends_with("/table/"));
        let own = root.join("batches").display().to_string();
        assert!(Location::open(Some(&own), &root).unwrap_err().to_string().contains("own files"));
        let store = Location::open(Some("s3://bucket/a/b"), &root).unwrap();
        assert_eq!((store.to_string().as_str(), store.prefix.as_ref()), ("s3://bucket/a/b/", "a/b"));
        for wrong in ["http://example.com/x", "ftp://x/y", "s3://", "s3:///x"] {
            assert!(Location::open(Some(wrong), &root).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_folder_keeps_its_word() {
        let folder = tempfile::tempdir().unwrap();
        let run = tempfile::tempdir().unwrap();
        let location = Location::open(Some(&folder.path().display().to_string()), run.path()).unwrap();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(location.prove(true)).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the probe is gone");
    }
}
