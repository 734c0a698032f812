//! A file from this machine into a store, checked on its way.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};
use xxhash_rust::xxh3::Xxh3;

use super::durable::{hidden, sync_folders};
use super::location::Location;
use crate::error::{Error, Result};
use crate::run::progress::Meter;
use crate::run::storage::{Disk, Storage, StorageFile};

/// Bytes of a part of an upload; files up to this size go in one piece.
const CHUNK_BYTES: usize = 5 << 20; // S3 takes no smaller ones, and no more than:
const CHUNKS_OF_A_FILE: u64 = 10_000;
/// Parts on their way at once.
const CHUNKS_MAX: usize = 2;
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// A file to upload.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// Where it lies.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its checksum, in hexadecimal.
    pub xxh3: String,
}

/// Uploads a file. Memory: three chunks. An object of that name and length is the file, by an earlier attempt: the
/// name holds the checksum, and stores show objects whole or not at all. Into a folder it is always copied anew: a
/// machine that lost power may have left a file of the right length.
///
/// # Errors
/// The file is not what was recorded, or the store fails.
pub(crate) async fn upload(location: &Location, path: &str, local: &Local, meter: &Meter) -> Result<()> {
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
    let mut target = Target::begin(location, &object, local.bytes).await.map_err(failed)?;
    match send(&mut target, local, meter).await {
        Ok(()) => target.finish(location, &object).await.map_err(failed),
        Err(refusal) => {
            target.abort().await;
            Err(failed(refusal))
        }
    }
}

/// Why a file was not sent.
enum Refusal {
    Store(object_store::Error),
    Local(Error),
}

/// Sends all of a file.
async fn send(target: &mut Target, local: &Local, meter: &Meter) -> Result<(), Refusal> {
    let read_failed = |e| Refusal::Local(Error::io("a file cannot be read", &local.path, e));
    let mut file = File::open(&local.path).map_err(read_failed)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(read_failed)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        target.write(&buffer[..count]).await?;
        meter.add(count as u64).map_err(Refusal::Local)?;
    }
    target.settle().await?;
    let found = format!("{:016x}", hash.digest());
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
enum Target {
    /// Into a folder: by way of a hidden file, which readers of the folder pass by if a killed job leaves it.
    File {
        file: Box<dyn StorageFile>,
        temp: PathBuf,
        path: PathBuf,
    },
    Whole(Vec<u8>),
    Chunks(WriteMultipart),
}

impl Target {
    async fn begin(location: &Location, object: &Path, bytes: u64) -> Result<Target, Refusal> {
        if let Some(folder) = location.folder() {
            let path = folder.join(object.as_ref());
            let temp = hidden(&path);
            let created = Disk.create_folder(path.parent().unwrap_or(folder)).and_then(|()| Disk.create(&temp));
            let file = created.map_err(|e| written(&temp, e))?;
            return Ok(Target::File { file, temp, path });
        }
        if bytes <= CHUNK_BYTES as u64 {
            return Ok(Target::Whole(Vec::with_capacity(bytes as usize)));
        }
        let upload = location.store().put_multipart(object).await.map_err(Refusal::Store)?;
        let chunk_bytes = CHUNK_BYTES.max(bytes.div_ceil(CHUNKS_OF_A_FILE) as usize);
        Ok(Target::Chunks(WriteMultipart::new_with_chunk_size(upload, chunk_bytes)))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match self {
            Target::File { file, temp, .. } => file.write_all(bytes).map_err(|e| written(temp, e))?,
            Target::Whole(all) => all.extend(bytes),
            Target::Chunks(chunks) => {
                chunks.wait_for_capacity(CHUNKS_MAX).await.map_err(Refusal::Store)?;
                chunks.write(bytes);
            }
        }
        Ok(())
    }

    /// Waits for all parts: those that fail are known while the upload can still be given up.
    async fn settle(&mut self) -> Result<(), Refusal> {
        match self {
            Target::Chunks(chunks) => chunks.wait_for_capacity(1).await.map_err(Refusal::Store),
            _ => Ok(()),
        }
    }

    async fn finish(self, location: &Location, object: &Path) -> Result<(), Refusal> {
        match self {
            Target::File { file, temp, path } => {
                let folder = location.folder().unwrap_or(&path);
                let done = file.sync().and_then(|()| Disk.rename(&temp, &path));
                done.and_then(|()| sync_folders(folder, &path)).map_err(|e| {
                    drop(Disk.remove(&temp));
                    written(&path, e)
                })
            }
            Target::Whole(all) => {
                location.store().put(object, PutPayload::from(all)).await.map(drop).map_err(Refusal::Store)
            }
            Target::Chunks(chunks) => chunks.finish().await.map(drop).map_err(Refusal::Store),
        }
    }

    /// Gives an upload up. What the store keeps of it if even that fails is its lifecycle rules' to remove.
    async fn abort(self) {
        match self {
            Target::File { temp, .. } => drop(Disk.remove(&temp)),
            Target::Whole(_) => {}
            Target::Chunks(chunks) => drop(chunks.abort().await),
        }
    }
}

fn written(path: &std::path::Path, error: std::io::Error) -> Refusal {
    Refusal::Local(Error::io("a file of the table cannot be written", path, error))
}
