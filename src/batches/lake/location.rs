//! Where a table lies: a folder, or a prefix of an object store.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use url::Url;

use super::durable::{FolderStore, sync_folders, unique};
use crate::error::{Error, Result};
use crate::objects::{causes, names_store, reach, shown};

/// Folder of the table where the user names none.
const DEFAULT_FOLDER: &str = "table";
/// Prefix of the name of an object that is written to test the store. Readers ignore names that begin with `_`.
pub(crate) const PROBE: &str = "_batchmine_probe";

/// A folder, or a prefix of an object store.
#[derive(Debug)]
pub(crate) struct Location {
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
    /// Parses a folder or URL; `None`: a folder in the run folder. Folders are created. `work`: the folder of the run's
    /// other files, which may be the run folder or another one.
    ///
    /// # Errors
    /// The URL names no known kind of store, the environment lacks what is needed to reach it, or the folder contains
    /// the run's files or lies among them.
    pub(crate) fn open(place: Option<&str>, run: &FilePath, work: &FilePath) -> Result<Location> {
        match place {
            Some(place) if place.contains("://") && !place.starts_with("file://") => Location::of_store(place),
            Some(place) => {
                let path = match place.strip_prefix("file://") {
                    Some(_) => parse(place)?.to_file_path().map_err(|()| unknown(place))?,
                    None => PathBuf::from(place),
                };
                Location::of_folder(&path, run, work)
            }
            None => Location::of_folder(&run.join(DEFAULT_FOLDER), run, work),
        }
    }

    fn of_folder(path: &FilePath, run: &FilePath, work: &FilePath) -> Result<Location> {
        let made = |e| Error::io("the table's folder cannot be created", path, e);
        // Checked before anything is created: a folder among a stage's parts would disturb the next call on this run.
        refuse_among(&resolved(path).map_err(made)?, run, work)?;
        std::fs::create_dir_all(path).map_err(made)?;
        let folder = path.canonicalize().map_err(made)?;
        refuse_among(&folder, run, work)?;
        let unnamed = || {
            Error::input("the table's folder cannot be named in a table")
                .path(&folder)
                .expected("a path in UTF-8")
                .found("other bytes")
                .remedy("give another folder to --table-out")
        };
        let prefix = Path::from_absolute_path(&folder).map_err(|_| unnamed())?;
        let url = Url::from_directory_path(&folder).map_err(|()| unnamed())?;
        Ok(Location { url, root: Arc::new(FolderStore::new(&folder)), prefix, folder: Some(folder) })
    }

    fn of_store(place: &str) -> Result<Location> {
        let mut url = parse(place)?;
        if !names_store(&url) {
            return Err(unknown(place));
        }
        let folder = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&folder);
        let (root, prefix) = reach(&url).map_err(|e| unusable(&url, &e))?;
        Ok(Location { url, root: root.into(), prefix, folder: None })
    }

    /// Refuses a place that Delta's readers would not find: they decode its path twice.
    ///
    /// # Errors
    /// The path has a percent sign or a backslash.
    pub(crate) fn refuse_escapes(&self) -> Result<()> {
        if !self.prefix.as_ref().contains(['%', '\\']) {
            return Ok(());
        }
        Err(Error::input("a Delta table cannot lie in a place of this name")
            .path(self.to_string())
            .expected("a path without % and \\")
            .found(self.prefix.to_string())
            .remedy("give another place to --table-out"))
    }

    /// The place as a URL that ends in `/`.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The store that contains the place.
    pub(crate) fn root(&self) -> Arc<dyn ObjectStore> {
        self.root.clone()
    }

    /// The place as a store of its own.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.root.clone(), self.prefix.clone()))
    }

    /// The folder, if the place is one.
    pub(crate) fn folder(&self) -> Option<&FilePath> {
        self.folder.as_deref()
    }

    /// Makes the entries of a folder in the place, and of the place, durable. A store's objects are durable.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn make_durable(&self, name: &str) -> Result<()> {
        let Some(place) = &self.folder else { return Ok(()) };
        let inside = place.join(name);
        sync_folders(place, &inside.join("any"))
            .map_err(|e| Error::io("a folder of the table cannot be synced", &inside, e))
    }

    /// Writes an object and removes it. With `exclusive` it is created twice, and the second creation must fail.
    ///
    /// # Errors
    /// The store cannot be written, or the second creation succeeds.
    pub(crate) async fn probe(&self, exclusive: bool) -> Result<()> {
        let store = self.store();
        let name = format!("{PROBE}-{}", unique());
        let probe = Path::from(name.as_str());
        let mode = if exclusive { PutMode::Create } else { PutMode::Overwrite };
        let put = || store.put_opts(&probe, PutPayload::from_static(b"may be deleted"), mode.clone().into());
        let unwritable = |e: StoreError| self.failed("the table's place cannot be written", &name, &e);
        match put().await {
            Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) if exclusive => {
                return Err(self.creates_twice("no way to create an object only if it is not there"));
            }
            first => first.map_err(unwritable)?,
        };
        let second = if exclusive { Some(put().await) } else { None };
        store.delete(&probe).await.map_err(|e| self.failed("a file cannot be deleted", &name, &e))?;
        match second {
            None | Some(Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. })) => Ok(()),
            Some(Err(e)) => Err(unwritable(e)),
            Some(Ok(_)) => Err(self.creates_twice("the second one overwrote the first")),
        }
    }

    fn creates_twice(&self, found: &str) -> Error {
        Error::input("the object store lets an object be created twice")
            .path(self.to_string())
            .expected("a second creation of an object refused: If-None-Match, as S3, GCS, Azure and current MinIO do")
            .found(format!("{found}: of two jobs that commit at once one would be lost"))
            .remedy("use a store that has conditional writes, publish into a folder, or publish plain Parquet")
    }

    /// The error of a store. `what`: what failed; `path`: of the object, within the place.
    pub(crate) fn failed(&self, what: &str, path: &str, error: &StoreError) -> Error {
        let remedy = match error {
            StoreError::NotFound { .. } if self.folder.is_some() => "check the folder that --table-out names",
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

/// The path that a folder will have once it is created: its deepest existing ancestor, without links, and the rest.
fn resolved(path: &FilePath) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for folder in path.ancestors() {
        if let Ok(there) = folder.canonicalize() {
            return Ok(there.join(path.strip_prefix(folder).unwrap_or(FilePath::new(""))));
        }
    }
    Ok(path)
}

/// Refuses a folder that the run cleans up, and one whose cleaning (a vacuum) would delete the run.
fn refuse_among(folder: &FilePath, run: &FilePath, work: &FilePath) -> Result<()> {
    let inside = [run, work].into_iter().any(|own| folder.starts_with(own)) && folder != run.join(DEFAULT_FOLDER);
    let around = [run, work].into_iter().any(|own| own.starts_with(folder));
    if !inside && !around {
        return Ok(());
    }
    Err(Error::input("the table cannot lie among the run's own files, nor they in the table")
        .path(folder)
        .expected(format!("a folder apart from {}, or its folder {DEFAULT_FOLDER}", run.display()))
        .found(folder.display().to_string())
        .remedy("give another place to --table-out"))
}

fn parse(place: &str) -> Result<Url> {
    Url::parse(place).map_err(|_| unknown(place))
}

fn unknown(place: &str) -> Error {
    Error::input("the table's place is not understood")
        .expected("a folder, or a URL such as s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH")
        .found(shown(place))
        .remedy("correct --table-out")
}

fn unusable(url: &Url, error: &StoreError) -> Error {
    Error::input("the object store cannot be used")
        .path(shown(url.as_str()))
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
        let inside = Location::open(None, &root, &root).unwrap();
        assert_eq!(inside.to_string(), root.join("table").display().to_string());
        assert!(inside.url().path().ends_with("/table/"));
        let around = root.parent().unwrap().display().to_string();
        for own in [root.join("batches/new").display().to_string(), root.display().to_string(), around] {
            assert!(Location::open(Some(&own), &root, &root).unwrap_err().to_string().contains("own files"), "{own}");
        }
        assert!(!root.join("batches").exists(), "what is refused is not created");
        let store = Location::open(Some("s3://bucket/a/b"), &root, &root).unwrap();
        assert_eq!((store.to_string().as_str(), store.prefix.as_ref()), ("s3://bucket/a/b/", "a/b"));
        for wrong in ["http://example.com/x", "ftp://x/y", "s3://", "s3:///x"] {
            assert!(Location::open(Some(wrong), &root, &root).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_folder_refuses_a_second_creation() {
        let folder = tempfile::tempdir().unwrap();
        let run = tempfile::tempdir().unwrap();
        let location = Location::open(Some(&folder.path().display().to_string()), run.path(), run.path()).unwrap();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(location.probe(true)).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the probe is gone");
    }
}
