//! The input's files as later steps see them: mapped, with their number of rows and their identity.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::datatypes::Schema;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use xxhash_rust::xxh3::xxh3_64;

use super::row::ROWS_MAX;
use super::shape::StoreType;
use crate::error::{Error, Result};
use crate::run::mapped::Mapped;
use crate::run::record::{FileIdentity, FilePlace};

/// An input file: what it is, and where.
#[derive(Debug, Clone)]
pub(crate) struct InputFile {
    /// Path as it was found.
    path: PathBuf,
    pub(crate) identity: FileIdentity,
    pub(crate) place: FilePlace,
}

/// One input file, or the two that hold both sides of the same rows; mapped.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    /// Path as it was found.
    pub(crate) path: PathBuf,
    /// Ordinal of its first row in the whole input.
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    pub(crate) source: Source,
    /// The file; of `.npy` files of both sides, first that of the queries.
    pub(crate) files: Vec<InputFile>,
    /// Ordinal of its first file among all files of the input.
    pub(crate) first_file: usize,
}

/// The kinds of input files.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Parquet {
        bytes: Bytes,
        /// Its footer. The row groups' numbers of rows add up to the shard's.
        metadata: ArrowReaderMetadata,
    },
    /// A `.npy` array of [rows, dim] or [rows, 2, dim].
    Npy(NpyArray),
}

/// A mapped `.npy` array of little-endian f16 or f32 in C order. The files hold all rows that the shard has.
#[derive(Debug, Clone)]
pub(crate) struct NpyArray {
    /// The mapped file of the queries, or of both sides.
    pub(crate) queries: Mapped,
    /// The mapped file of the positives, where they lie in a file of their own.
    pub(crate) positives: Option<Mapped>,
    /// Where the values begin, in each file.
    pub(crate) data_start: [usize; 2],
    /// Number type, in each file.
    pub(crate) precision: [StoreType; 2],
    /// Each row holds a query and then a positive.
    pub(crate) paired: bool,
    /// Dimensions of one vector.
    pub(crate) dim: usize,
}

impl Shard {
    /// The Arrow schema; `None` for `.npy`.
    pub(crate) fn schema(&self) -> Option<&Arc<Schema>> {
        match &self.source {
            Source::Parquet { metadata, .. } => Some(metadata.schema()),
            Source::Npy(_) => None,
        }
    }

    /// The bytes of each of its files.
    pub(crate) fn contents(&self) -> Vec<&[u8]> {
        match &self.source {
            Source::Parquet { bytes, .. } => vec![bytes],
            Source::Npy(array) => {
                std::iter::once(&array.queries).chain(&array.positives).map(|file| file.bytes()).collect()
            }
        }
    }

    /// Fails if a file has changed since it was opened: what was read would be of no one version.
    ///
    /// # Errors
    /// The size or the time is another, or a file cannot be examined.
    pub(super) fn refuse_changed(&self) -> Result<()> {
        self.files.iter().try_for_each(InputFile::refuse_changed)
    }
}

impl InputFile {
    /// Examines a file; `footer`: the bytes of its footer or header.
    ///
    /// # Errors
    /// The file cannot be examined.
    pub(super) fn new(path: &Path, footer: &[u8]) -> Result<InputFile> {
        let failed = |e| Error::io("a file cannot be examined", path, e);
        let meta = path.metadata().map_err(failed)?;
        let modified = meta.modified().map_err(failed)?;
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let real = path.canonicalize().map_err(failed)?;
        let footer = format!("{:016x}", xxh3_64(footer));
        Ok(InputFile {
            path: path.to_owned(),
            identity: FileIdentity { bytes: meta.len(), footer, content: None },
            place: FilePlace { path: real.display().to_string(), modified_ns: since.as_nanos() as u64 },
        })
    }

    fn refuse_changed(&self) -> Result<()> {
        let meta = self.path.metadata().map_err(|e| Error::io("a file cannot be examined", &self.path, e))?;
        let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.map_or(0, |since| since.as_nanos() as u64);
        if (meta.len(), modified) == (self.identity.bytes, self.place.modified_ns) {
            return Ok(());
        }
        Err(Error::input("an input file changed while it was read")
            .path(&self.path)
            .expected("files that stay as they are")
            .found("another size or time")
            .remedy("run again when the file is complete"))
    }
}

/// The error for an input that no job can take; `path`: its first file.
pub(super) fn rows_out_of_range(path: &Path, rows: u64, files: usize) -> Error {
    Error::input("the number of rows is out of range")
        .path(path)
        .expected(format!("from 1 to {ROWS_MAX} rows"))
        .found(format!("{rows} rows in {files} files"))
        .remedy("check that these are the files you mean")
}
