//! A file from this machine into a store, checked on its way.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use xxhash_rust::xxh3::Xxh3;

use super::location::Location;
use crate::error::{Error, Result};
use crate::run::progress::Meter;

/// Bytes of a part of an upload; files up to this size go in one piece.
const CHUNK_BYTES: usize = 8 << 20;
/// Parts on their way at once.
const CHUNKS_MAX: usize = 2;
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// A file to upload.
#[derive(Debug, Clone)]
pub struct Local {
    /// Where it lies.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its checksum, in hexadecimal.
    pub xxh3: String,
}

/// Uploads a file. Memory: three chunks. An object of that name and length is the file, by an earlier attempt: the
/// name holds the checksum, and stores show objects whole or not at all.
///
/// # Errors
/// The file is not what was recorded, or the store fails.
pub async fn upload(location: &Location, path: &str, local: &Local, meter: &Meter) -> Result<()> {
    let store = location.store();
    let object = Path::parse(path).map_err(|e| {
        Error::input("a task's name cannot be a folder's")
            .path(path)
            .found(e.to_string())
            .remedy("leave --partition-by out")
    })?;
    if !location.is_folder() && store.head(&object).await.is_ok_and(|meta| meta.size == local.bytes) {
        meter.skip(local.bytes);
        return Ok(());
    }
    let failed = |e| location.failed("a file of the table cannot be written", path, &e);
    let mut target = Target::begin(store.as_ref(), &object, local.bytes).await.map_err(failed)?;
    let sent = send(&mut target, local, meter).await;
    match sent {
        Ok(()) => target.finish(store.as_ref(), &object).await.map_err(failed)?,
        Err(why) => {
            target.abort().await;
            return Err(match why {
                Refusal::Store(e) => failed(e),
                Refusal::Local(e) => e,
            });
        }
    }
    location.settle(path)
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
        target.write(&buffer[..count]).await.map_err(Refusal::Store)?;
        meter.add(count as u64);
    }
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
    Whole(Vec<u8>),
    Chunks(WriteMultipart),
}

impl Target {
    async fn begin(store: &dyn ObjectStore, path: &Path, bytes: u64) -> object_store::Result<Target> {
        if bytes <= CHUNK_BYTES as u64 {
            return Ok(Target::Whole(Vec::with_capacity(bytes as usize)));
        }
        let upload = store.put_multipart(path).await?;
        Ok(Target::Chunks(WriteMultipart::new_with_chunk_size(upload, CHUNK_BYTES)))
    }

    async fn write(&mut self, bytes: &[u8]) -> object_store::Result<()> {
        match self {
            Target::Whole(all) => all.extend(bytes),
            Target::Chunks(chunks) => {
                chunks.wait_for_capacity(CHUNKS_MAX).await?;
                chunks.write(bytes);
            }
        }
        Ok(())
    }

    async fn finish(self, store: &dyn ObjectStore, path: &Path) -> object_store::Result<()> {
        match self {
            Target::Whole(all) => store.put(path, PutPayload::from(all)).await.map(drop),
            Target::Chunks(chunks) => chunks.finish().await.map(drop),
        }
    }

    /// Gives an upload up. What the store keeps of it if even that fails is its lifecycle rules' to remove.
    async fn abort(self) {
        if let Target::Chunks(chunks) = self {
            let _ = chunks.abort().await;
        }
    }
}
