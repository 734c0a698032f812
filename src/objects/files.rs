//! A file in a store, read in pieces by many threads.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_128;

use super::blocks::{Blocks, FetchedPiece, FileFault};
use super::request::Object;
use super::span::{BLOCK_BYTES, Span};
use super::stop::Stop;
use super::waiting::StoreThreads;
use crate::error::Result;

/// The end of a file that is fetched with its footer.
const TAIL_BYTES: u64 = 64 << 10;
/// After so long the user is told what is waited for.
const SLOW: Duration = Duration::from_secs(10);

/// What the files of one search have in common.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) threads: Arc<StoreThreads>,
    pub(super) blocks: Arc<Blocks>,
    pub(super) stop: Stop,
}

/// A file in a store, in the version that was found. Cloning shares it.
#[derive(Clone)]
pub(crate) struct StoredFile(Arc<State>);

struct State {
    object: Arc<Object>,
    shared: Shared,
    number: u64,
    fault: FileFault,
    /// Of each block that came whole.
    hashes: Arc<[OnceLock<u128>]>,
    was_slow: AtomicBool,
}

impl fmt::Debug for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoredFile").field(&self.0.object.url).finish()
    }
}

impl StoredFile {
    pub(super) fn new(object: Object, shared: Shared) -> StoredFile {
        let blocks = object.bytes.div_ceil(BLOCK_BYTES) as usize;
        let hashes = (0..blocks).map(|_| OnceLock::new()).collect();
        let number = shared.blocks.number();
        let (fault, was_slow) = (FileFault::default(), AtomicBool::new(false));
        StoredFile(Arc::new(State { object: Arc::new(object), shared, number, fault, hashes, was_slow }))
    }

    /// As it may be shown and recorded.
    pub(crate) fn url(&self) -> &str {
        &self.0.object.url
    }

    /// What it is known by among others; may hold a secret.
    pub(crate) fn whole_name(&self) -> PathBuf {
        PathBuf::from(format!("{}{}", self.url(), self.0.object.secret.as_deref().unwrap_or_default()))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.object.bytes
    }

    /// The store's name of the version, if it has one.
    pub(crate) fn version(&self) -> Option<&str> {
        self.0.object.version.as_deref()
    }

    pub(crate) fn modified_ns(&self) -> u64 {
        self.0.object.modified_ns
    }

    /// The end of the file, in which its footer lies.
    pub(crate) fn tail(&self) -> Span {
        Span { range: self.bytes().saturating_sub(TAIL_BYTES)..self.bytes(), exact: true }
    }

    /// How many bytes of this file, and of all that were found with it, may be held.
    pub(crate) fn hold(&self, bytes: u64) {
        self.0.shared.blocks.hold(bytes);
    }

    /// Begins to fetch the first piece of a stretch.
    pub(crate) fn ahead(&self, span: &Span) {
        let range = span.piece(span.range.start, self.bytes());
        self.0.shared.blocks.ahead(self.0.number, range.clone(), |piece| self.begin(range, piece));
    }

    /// The bytes of a range of a stretch.
    ///
    /// # Errors
    /// The file cannot be read or has changed; or the user interrupts.
    pub(crate) fn read(&self, range: Range<u64>, span: &Span) -> Result<Bytes> {
        let (first, end) = self.part(&range, span)?;
        if end >= range.end {
            // A copy: the piece is not held by what the bytes become.
            return Ok(Bytes::copy_from_slice(&first));
        }
        let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
        bytes.extend_from_slice(&first);
        let mut at = end;
        while at < range.end {
            let (part, end) = self.part(&(at..range.end), span)?;
            bytes.extend_from_slice(&part);
            at = end;
        }
        Ok(bytes.freeze())
    }

    /// Those bytes of a range that lie in one piece with its first one, and where they end.
    fn part(&self, range: &Range<u64>, span: &Span) -> Result<(Bytes, u64)> {
        if let Some(fault) = self.0.fault.get() {
            return Err(fault);
        }
        let at = range.start;
        let (held, piece) = self.piece_at(at, span.piece(at, self.bytes()));
        if let Some(next) = span.ahead(at, self.bytes()) {
            self.0.shared.blocks.ahead(self.0.number, next.clone(), |piece| self.begin(next, piece));
        }
        let bytes = self.wait(&piece)?;
        let end = held.end.min(range.end);
        Ok((bytes.slice((at - held.start) as usize..(end - held.start) as usize), end))
    }

    /// The hash of a block.
    ///
    /// # Errors
    /// As of [`StoredFile::read`].
    pub(crate) fn block_hash(&self, block: usize) -> Result<u128> {
        if let Some(hash) = self.0.hashes[block].get() {
            return Ok(*hash);
        }
        let range = block_range(block, self.bytes());
        let (held, piece) = self.piece_at(range.start, range.clone());
        let mut bytes = self.wait(&piece)?;
        if held != range {
            // A piece of another cut is there: it has the first byte, and not all.
            bytes = self.read(range.clone(), &Span { range, exact: true })?;
        }
        Ok(*self.0.hashes[block].get_or_init(|| xxh3_128(&bytes)))
    }

    /// The first error of its readers.
    pub(crate) fn fault(&self) -> Option<crate::error::Error> {
        self.0.fault.get()
    }

    /// Fails if the file is another one by now.
    ///
    /// # Errors
    /// It is, or it cannot be looked at.
    pub(crate) fn refuse_changed(&self) -> Result<()> {
        let object = self.0.object.clone();
        let look = async move { object.fetch(object.bytes.saturating_sub(1)..object.bytes).await.map(drop) };
        self.0.shared.threads.wait(|| self.0.shared.stop.check(self.url()), look)
    }

    fn piece_at(&self, at: u64, range: Range<u64>) -> (Range<u64>, Arc<FetchedPiece>) {
        self.0.shared.blocks.piece((self.0.number, at), range.clone(), |piece| self.begin(range, piece))
    }

    fn begin(&self, range: Range<u64>, piece: Arc<FetchedPiece>) {
        let (object, hashes) = (self.0.object.clone(), self.0.hashes.clone());
        self.0.shared.threads.begin(async move {
            let come = object.fetch(range.clone()).await;
            let block = (range.start / BLOCK_BYTES) as usize;
            if let Ok(bytes) = &come
                && range == block_range(block, object.bytes)
            {
                hashes[block].get_or_init(|| xxh3_128(bytes));
            }
            piece.put(come);
        });
    }

    fn wait(&self, piece: &FetchedPiece) -> Result<Bytes> {
        let begun = Instant::now();
        let stopped = || {
            if begun.elapsed() >= SLOW && !self.0.was_slow.swap(true, Ordering::Relaxed) {
                tracing::warn!("{}: the store has not answered for {} seconds", self.url(), SLOW.as_secs());
            }
            self.0.shared.stop.check(self.url())
        };
        piece.wait(stopped).map_err(|error| self.0.fault.keep(error))
    }
}

/// The bytes of a block in a file of so many bytes.
fn block_range(block: usize, bytes: u64) -> Range<u64> {
    let start = block as u64 * BLOCK_BYTES;
    start..bytes.min(start + BLOCK_BYTES)
}
