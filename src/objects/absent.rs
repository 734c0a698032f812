//! Stands in for stores in builds without the feature `lake`: there is no file in one.

use std::convert::Infallible;
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use super::StoreListing;
use super::place::StorePlace;
use super::span::Span;
use crate::error::{Error, Result};

/// There is none.
#[derive(Debug, Clone)]
pub(crate) struct StoredFile(Infallible);

/// As in builds with the feature; every URL is refused.
pub(crate) struct Stores;

impl Stores {
    pub(crate) fn new() -> Result<Stores> {
        Ok(Stores)
    }

    pub(crate) fn file(&mut self, place: &StorePlace) -> Result<Option<StoredFile>> {
        Err(refused(place))
    }

    pub(crate) fn list(&mut self, place: &StorePlace, _: &str, _: bool) -> Result<StoreListing> {
        Err(refused(place))
    }
}

fn refused(place: &StorePlace) -> Error {
    Error::input("the input is in a store, and this build reads files of this machine only")
        .path(place.url())
        .expected("a build with object stores in it, or local files")
        .found("a URL")
        .remedy(
            "build it with `cargo build --release --features lake`, or install the package from a wheel that has it; \
             or copy the files to a local disk",
        )
}

impl StoredFile {
    pub(crate) fn url(&self) -> &str {
        match self.0 {}
    }

    pub(crate) fn whole_name(&self) -> PathBuf {
        match self.0 {}
    }

    pub(crate) fn bytes(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn version(&self) -> Option<&str> {
        match self.0 {}
    }

    pub(crate) fn modified_ns(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn tail(&self) -> Span {
        match self.0 {}
    }

    pub(crate) fn hold(&self, _: u64) {
        match self.0 {}
    }

    pub(crate) fn ahead(&self, _: &Span) {
        match self.0 {}
    }

    pub(crate) fn read(&self, _: Range<u64>, _: &Span) -> Result<Bytes> {
        match self.0 {}
    }

    pub(crate) fn block_hash(&self, _: usize) -> Result<u128> {
        match self.0 {}
    }

    pub(crate) fn fault(&self) -> Option<Error> {
        match self.0 {}
    }

    pub(crate) fn refuse_changed(&self) -> Result<()> {
        match self.0 {}
    }
}
