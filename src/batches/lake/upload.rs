//! Copies a file from this machine into a store and checks its content meanwhile.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};

use super::durable::{hidden, sync_folders};
use super::location::Location;
use crate::error::{Error, Result};
use crate::run::block_hash::BlockHasher;
use crate::run::progress::Meter;
use crate::run::storage::{Disk, Storage, StorageFile};

/// Bytes of a chunk of an upload, the fewest that S3 allows; files up to this size go in one piece.
const CHUNK_BYTES: usize = 5 << 20;
/// Most chunks of a file that S3 allows.
const CHUNKS_OF_A_FILE: u64 = 10_000;
/// Chunks that are sent at the same time.
const CHUNKS_MAX: usize = 2;
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// A file to upload.
#[derive(Debug, Clone)]
pub(crate) struct LocalFile {
    pub path: PathBuf,
    pub bytes: u64,
    /// Checksum of its content, in hexadecimal.
    pub xxh3: String,
}

/// Uploads a file. Memory: three chunks. An object of the same name and length is the same file, uploaded before: the
/// name contains the checksum, and stores show objects whole or not at all. In a folder the file is always copied
/// again: after a power cut a file of the right length may have the wrong content.
///
/// # Errors
/// The file's content is not what was recorded, or the store fails.
pub(crate) async fn upload(location: &Location, path: &str, local: &LocalFile, meter: &Meter) -> Result<()> {
    let object = Path::parse(path).map_err(|e| {
        Error::input("a task's name cannot be a folder's")
            .path(path)
            .found(e.to_string())
            .remedy("leave --partition-by out")
    })?;
    if location.folder().is_none() {
        let there = location.store().head(&object).await;
        if there.is_ok_and(|meta| meta.size == local.bytes) {
            meter.skip(local.bytes);
            return Ok(());
        }
    }
    let failed = |refusal| match refusal {
        Refusal::Store(e) => location.failed("a file of the table cannot be written", path, &e),
        Refusal::Local(e) => e,
    };
    let mut to = Upload::begin(location, &object, local.bytes).await.map_err(failed)?;
    match send(&mut to, local, meter).await {
        Ok(()) => to.finish(location, &object).await.map_err(failed),
        Err(refusal) => {
            to.abort().await;
            Err(failed(refusal))
        }
    }
}

/// Why an upload failed.
enum Refusal {
    Store(object_store::Error),
    Local(Error),
}

/// Sends the whole file.
async fn send(to: &mut Upload, local: &LocalFile, meter: &Meter) -> Result<(), Refusal> {
    let read_failed = |e| Refusal::Local(Error::io("a file cannot be read", &local.path, e));
    let mut file = File::open(&local.path).map_err(read_failed)?;
    let mut hasher = BlockHasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(read_failed)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        to.write(&buffer[..count]).await?;
        meter.add(count as u64).map_err(Refusal::Local)?;
    }
    to.settle().await?;
    let found = format!("{:016x}", hasher.root());
    if found == local.xxh3 {
        return Ok(());
    }
    Err(Refusal::Local(
        Error::runtime("a file's content is not what was written")
            .path(&local.path)
            .expected(format!("xxh3 {}", local.xxh3))
            .found(format!("xxh3 {found}"))
            .remedy("the file is damaged: delete it and run the same `mine` command again"),
    ))
}

/// An upload under way.
enum Upload {
    /// Into a folder: under a hidden name first, which readers of the folder ignore if a killed job leaves the file.
    File {
        file: Box<dyn StorageFile>,
        temp: PathBuf,
        path: PathBuf,
    },
    /// In one piece.
    Whole(Vec<u8>),
    Chunks(WriteMultipart),
}

impl Upload {
    async fn begin(location: &Location, object: &Path, bytes: u64) -> Result<Upload, Refusal> {
        if let Some(folder) = location.folder() {
            let path = folder.join(object.as_ref());
            let temp = hidden(&path);
            let created = Disk.create_folder(path.parent().unwrap_or(folder)).and_then(|()| Disk.create(&temp));
            let file = created.map_err(|e| unwritten(&temp, e))?;
            return Ok(Upload::File { file, temp, path });
        }
        if bytes <= CHUNK_BYTES as u64 {
            return Ok(Upload::Whole(Vec::with_capacity(bytes as usize)));
        }
        let upload = location.store().put_multipart(object).await.map_err(Refusal::Store)?;
        let chunk_bytes = CHUNK_BYTES.max(bytes.div_ceil(CHUNKS_OF_A_FILE) as usize);
        Ok(Upload::Chunks(WriteMultipart::new_with_chunk_size(upload, chunk_bytes)))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match self {
            Upload::File { file, temp, .. } => file.write_all(bytes).map_err(|e| unwritten(temp, e))?,
            Upload::Whole(all) => all.extend(bytes),
            Upload::Chunks(chunks) => {
                chunks.wait_for_capacity(CHUNKS_MAX).await.map_err(Refusal::Store)?;
                chunks.write(bytes);
            }
        }
        Ok(())
    }

    /// Waits for all chunks, so that a failure is known while the upload can still be aborted.
    async fn settle(&mut self) -> Result<(), Refusal> {
        match self {
            Upload::Chunks(chunks) => chunks.wait_for_capacity(1).await.map_err(Refusal::Store),
            _ => Ok(()),
        }
    }

    async fn finish(self, location: &Location, object: &Path) -> Result<(), Refusal> {
        match self {
            Upload::File { file, temp, path } => {
                let folder = location.folder().unwrap_or(&path);
                let done = file.sync().and_then(|()| Disk.rename(&temp, &path));
                done.and_then(|()| sync_folders(folder, &path)).map_err(|e| {
                    drop(Disk.remove(&temp));
                    unwritten(&path, e)
                })
            }
            Upload::Whole(all) => {
                location.store().put(object, PutPayload::from(all)).await.map(drop).map_err(Refusal::Store)
            }
            Upload::Chunks(chunks) => chunks.finish().await.map(drop).map_err(Refusal::Store),
        }
    }

    /// Aborts the upload. If that fails too, the store's lifecycle rules have to remove what was sent.
    async fn abort(self) {
        match self {
            Upload::File { temp, .. } => drop(Disk.remove(&temp)),
            Upload::Whole(_) => {}
            Upload::Chunks(chunks) => drop(chunks.abort().await),
        }
    }
}

fn unwritten(path: &std::path::Path, error: std::io::Error) -> Refusal {
    Refusal::Local(Error::io("a file of the table cannot be written", path, error))
}
