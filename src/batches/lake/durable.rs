//! Files of a folder that are durable before anyone sees them.
//!
//! A local store of `object_store` writes a file beside its place and renames it, but never waits for the disk: after
//! a power cut a commit could be there and be empty. [`FolderStore`] is the same store with writes that wait. Each goes
//! by way of a hidden file, which readers of the folder pass by if a killed job leaves it.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use crate::run::storage::{Disk, Storage};

/// The file system from its root on, with durable writes.
#[derive(Debug)]
pub(crate) struct FolderStore {
    files: LocalFileSystem,
    folder: PathBuf,
}

impl FolderStore {
    /// A store of a folder: what lies above it is durable already.
    pub(crate) fn new(folder: &FilePath) -> FolderStore {
        FolderStore { files: LocalFileSystem::new(), folder: folder.to_owned() }
    }
}

/// A name beside a file, of a file that becomes it. No two writers share it, be they of several machines.
pub(crate) fn hidden(path: &FilePath) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", unique()))
}

/// A word that no other process has at any time.
pub(crate) fn unique() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    format!("{}-{now:x}", std::process::id())
}

/// Makes the entries of a file, and of the folders that it lies in, durable, up to `folder`.
///
/// # Errors
/// The disk fails.
pub(crate) fn sync_folders(folder: &FilePath, path: &FilePath) -> io::Result<()> {
    let folders = path.ancestors().skip(1).take_while(|parent| parent.starts_with(folder));
    folders.into_iter().try_for_each(|parent| Disk.sync_folder(parent))
}

/// Writes a small file, durable before it is seen. With `create` one that is there already is left alone, and the
/// error is of kind `AlreadyExists`.
fn write(folder: &FilePath, path: &FilePath, bytes: &PutPayload, create: bool) -> io::Result<()> {
    let temp = hidden(path);
    Disk.create_folder(path.parent().unwrap_or(folder))?;
    let fill = || {
        let mut file = Disk.create(&temp)?;
        bytes.iter().try_for_each(|piece| file.write_all(piece))?;
        file.sync()?;
        // A link refuses what is there; a rename replaces it.
        if create { fs::hard_link(&temp, path) } else { Disk.rename(&temp, path) }
    };
    let filled = fill();
    if create || filled.is_err() {
        let _ = Disk.remove(&temp);
    }
    filled.and_then(|()| sync_folders(folder, path))
}

impl fmt::Display for FolderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.folder.display())
    }
}

#[async_trait]
impl ObjectStore for FolderStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.files.put_opts(location, payload, options).await,
        };
        let path = self.files.path_to_filesystem(location)?;
        write(&self.folder, &path, &payload, create).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::AlreadyExists { path: location.to_string(), source: e.into() },
            _ => Error::Generic { store: "folder", source: e.into() },
        })?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_leaves_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c.json");
        let words = |text: &'static str| PutPayload::from_static(text.as_bytes());
        write(folder.path(), &path, &words("one"), true).unwrap();
        let refused = write(folder.path(), &path, &words("two"), true).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(folder.path(), &path, &words("three"), false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing hidden is left");
    }
}
