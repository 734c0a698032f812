//! The bytes of an input file: mapped, or read from a store in pieces.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use bytes::buf::Reader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::stored_bytes::{StoredBytes, StoredRead};
use crate::error::{Error, Result};
use crate::regular;
use crate::run::mapped::Mapped;

/// A regular file's bytes, mapped; of an empty file none.
///
/// # Errors
/// The file is no regular one, or cannot be opened.
pub(super) fn map_file(path: &Path) -> Result<Bytes> {
    let file = regular::open(path)?;
    let length = file.metadata().map_err(|e| Error::io("a file cannot be examined", path, e))?.len();
    if length == 0 {
        return Ok(Bytes::new());
    }
    Ok(Bytes::from_owner(Mapped::open(path)?))
}

/// The bytes of a Parquet file.
#[derive(Debug, Clone)]
pub(crate) enum FileBytes {
    Mapped(Bytes),
    Stored(StoredBytes),
}

/// What reads them from a place on.
pub(crate) enum FileRead {
    Mapped(Reader<Bytes>),
    Stored(Box<StoredRead>),
}

impl FileBytes {
    /// The same for a reader of some columns of a row group that has so many bytes in all.
    pub(super) fn of_columns(&self, columns: Vec<ColumnChunkMetaData>, row_group_bytes: u64) -> FileBytes {
        match self {
            FileBytes::Mapped(bytes) => FileBytes::Mapped(bytes.clone()),
            FileBytes::Stored(stored) => FileBytes::Stored(stored.of_columns(columns, row_group_bytes)),
        }
    }

    /// Why a store's file cannot be read, once that is so.
    pub(super) fn fault(&self) -> Option<Error> {
        match self {
            FileBytes::Mapped(_) => None,
            FileBytes::Stored(stored) => stored.file().fault(),
        }
    }
}

impl Length for FileBytes {
    fn len(&self) -> u64 {
        match self {
            FileBytes::Mapped(bytes) => bytes.len() as u64,
            FileBytes::Stored(stored) => stored.file().bytes(),
        }
    }
}

impl ChunkReader for FileBytes {
    type T = FileRead;

    fn get_read(&self, start: u64) -> Result<FileRead, ParquetError> {
        match self {
            FileBytes::Mapped(bytes) => bytes.get_read(start).map(|bytes: Reader<Bytes>| FileRead::Mapped(bytes)),
            FileBytes::Stored(stored) => Ok(FileRead::Stored(Box::new(stored.read_from(start)))),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        match self {
            FileBytes::Mapped(bytes) => bytes.get_bytes(start, length),
            FileBytes::Stored(stored) => stored.bytes(start, length),
        }
    }
}

impl Read for FileRead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            FileRead::Mapped(bytes) => bytes.read(buffer),
            FileRead::Stored(stored) => stored.read(buffer),
        }
    }
}
