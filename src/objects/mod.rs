//! objects: object stores, and files that are read from them in pieces.
//!
//! `place` knows URLs, `span` in which pieces a file is fetched, and `stop` the flag that ends the waiting for a store;
//! these are pure. The others need the feature `lake`: `reach` opens a store as the environment says, `faults` puts its
//! errors into words, `waiting` are the threads that talk to it, `request` fetches one range, `blocks` keeps the ranges
//! that were fetched, `files` is a file in a store, `stores` finds files. `absent` stands in for them in other builds.
//!
//! Memory: the bytes that `blocks` may hold, which the reader's plan says.

#[cfg(not(feature = "lake"))]
mod absent;
#[cfg(feature = "lake")]
mod blocks;
#[cfg(feature = "lake")]
mod faults;
#[cfg(feature = "lake")]
mod files;
mod place;
#[cfg(feature = "lake")]
mod reach;
#[cfg(feature = "lake")]
mod request;
mod span;
mod stop;
#[cfg(feature = "lake")]
mod stores;
#[cfg(feature = "lake")]
mod waiting;

#[cfg(not(feature = "lake"))]
pub(crate) use absent::{StoredFile, Stores};
#[cfg(feature = "lake")]
pub(crate) use faults::causes;
#[cfg(feature = "lake")]
pub(crate) use files::StoredFile;
#[cfg(feature = "lake")]
pub(crate) use place::shown;
pub(crate) use place::{StorePlace, is_url};
#[cfg(feature = "lake")]
pub(crate) use reach::{names_store, reach};
pub(crate) use span::{BLOCK_BYTES, Span};
pub use stop::stopped_by;
#[cfg(feature = "lake")]
pub(crate) use stores::Stores;
#[cfg(feature = "lake")]
pub(crate) use waiting::StoreThreads;

/// What a place holds: files, and the prefixes that go on.
#[derive(Debug, Default)]
pub(crate) struct StoreListing {
    /// Sorted by key.
    pub(crate) files: Vec<StoredFile>,
    /// Keys that end in no `/`, sorted.
    pub(crate) folders: Vec<String>,
}
