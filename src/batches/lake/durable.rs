//! Files of a folder that are durable before any reader sees them.
//!
//! The local store of `object_store` writes a file beside its place and renames it, but never waits for the disk: after
//! a power cut a commit could exist and be empty. [`FolderStore`] is the same store with writes that wait. Each file is
//! written under a hidden name first, which readers of the folder ignore if a killed job leaves the file.

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

use crate::run::storage::{Disk, Storage, folder_of};

/// The whole file system as a store, with durable writes.
#[derive(Debug)]
pub(crate) struct FolderStore {
    files: LocalFileSystem,
    folder: PathBuf,
}

impl FolderStore {
    /// `folder`: the place of the table, which is durable itself with all folders above it.
    pub(crate) fn new(folder: &FilePath) -> FolderStore {
        FolderStore { files: LocalFileSystem::new(), folder: folder.to_owned() }
    }
}

/// A hidden name beside `path`, for a file that is renamed to it later. No two writers use the same name, on no two
/// machines either.
pub(crate) fn hidden(path: &FilePath) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", unique()))
}

/// Process id and time: no other process has both.
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

/// Writes a small file, durable before readers see it. With `create` an existing file is left as it is, and the error
/// is of kind `AlreadyExists`.
fn write(folder: &FilePath, path: &FilePath, bytes: &PutPayload, create: bool) -> io::Result<()> {
    let temp = hidden(path);
    Disk.create_folder(folder_of(path))?;
    let fill = || {
        let mut file = Disk.create(&temp)?;
        bytes.iter().try_for_each(|piece| file.write_all(piece))?;
        file.sync()?;
        // A link fails where a file exists; a rename replaces it.
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
        let payload = |text: &'static str| PutPayload::from_static(text.as_bytes());
        write(folder.path(), &path, &payload("one"), true).unwrap();
        let refused = write(folder.path(), &path, &payload("two"), true).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(folder.path(), &path, &payload("three"), false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing hidden is left");
    }
}
