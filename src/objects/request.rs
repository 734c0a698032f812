//! One range of one file, fetched.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore};
use tokio::time::timeout;

use super::faults::{changed, silent, unreadable};
use crate::error::Result;

/// How long a range is waited for in all, over all attempts. The store's client tries again by itself in this time.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How often a range is asked for anew where its bytes stop coming.
const ATTEMPTS: usize = 4;
/// The pause before a range is asked for anew.
const PAUSE: Duration = Duration::from_millis(500);

/// A file in a store, in the version that was found.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: Path,
    /// As it may be shown.
    pub(super) url: String,
    /// What the store's words may contain and nobody may see.
    pub(super) secret: Option<String>,
    pub(super) bytes: u64,
    /// The store's name of this version (ETag), if it has one.
    pub(super) version: Option<String>,
    pub(super) modified_ns: u64,
}

impl Object {
    pub(super) fn new(
        (store, path): (Arc<dyn ObjectStore>, Path),
        url: String,
        secret: Option<String>,
        meta: &ObjectMeta,
    ) -> Object {
        let modified_ns = meta.last_modified.timestamp_nanos_opt().and_then(|ns| u64::try_from(ns).ok()).unwrap_or(0);
        Object { store, path, url, secret, bytes: meta.size, version: meta.e_tag.clone(), modified_ns }
    }

    /// The bytes of a range, which lies in the file.
    ///
    /// # Errors
    /// The store cannot be read or does not answer in time, or the file is another one by now.
    pub(super) async fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        match timeout(PATIENCE, self.fetch_at_last(range)).await {
            Ok(done) => done,
            Err(_) => Err(silent(&self.url, PATIENCE.as_secs())),
        }
    }

    async fn fetch_at_last(&self, range: Range<u64>) -> Result<Bytes> {
        let mut attempt = 1;
        loop {
            let found = self.get(range.clone()).await.map_err(|e| self.failed(&e))?;
            self.refuse_other(&found.meta)?;
            match collected(found, (range.end - range.start) as usize).await {
                Ok(bytes) => return Ok(bytes),
                Err(e) if attempt == ATTEMPTS => return Err(self.failed(&e)),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
            attempt += 1;
        }
    }

    async fn get(&self, range: Range<u64>) -> Result<GetResult, StoreError> {
        // Some servers answer a request for all bytes as if it were for no range.
        let range = (range != (0..self.bytes)).then_some(GetRange::Bounded(range));
        // A weak tag is equal to none by the rules of HTTP: it is compared here instead.
        let if_match = self.version.clone().filter(|tag| !tag.starts_with("W/"));
        self.store.get_opts(&self.path, GetOptions { range, if_match, ..GetOptions::default() }).await
    }

    /// Fails where an answer is about another version.
    fn refuse_other(&self, meta: &ObjectMeta) -> Result<()> {
        let other_tag = matches!((&self.version, &meta.e_tag), (Some(was), Some(is)) if was != is);
        if meta.size != self.bytes {
            return Err(changed(&self.url, &format!("{} bytes, and {} at the beginning", meta.size, self.bytes)));
        }
        if other_tag { Err(changed(&self.url, "another version than at the beginning")) } else { Ok(()) }
    }

    pub(super) fn failed(&self, error: &StoreError) -> crate::error::Error {
        unreadable(&self.url, self.secret.as_deref(), error)
    }
}

/// The bytes of an answer, which has so many.
pub(super) async fn collected(found: GetResult, length: usize) -> Result<Bytes, StoreError> {
    let mut bytes = BytesMut::with_capacity(length);
    let mut parts = found.into_stream();
    while let Some(part) = parts.next().await {
        let part = part?;
        if bytes.len() + part.len() > length {
            break;
        }
        bytes.extend_from_slice(&part);
    }
    if bytes.len() == length {
        return Ok(bytes.freeze());
    }
    let source = format!("{} of {length} bytes came", bytes.len()).into();
    Err(StoreError::Generic { store: "the store", source })
}
