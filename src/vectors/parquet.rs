//! Opening Parquet files: only footers are read here; the values are decoded by [`super::decode`].

use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use super::shard::{Shard, Source, identity};
use crate::error::{Error, Result};
use crate::run::mapped::Mapped;
use crate::run::sealed::u32_at;

/// Bytes at the end of a file: the footer's length, and the magic.
const TRAILER_BYTES: usize = 8;
/// A magic at each end, and the footer's length.
const LEAST_BYTES: u64 = 12;

/// Maps files and reads their footers.
///
/// # Errors
/// A file cannot be opened or is not a whole Parquet file.
pub(crate) fn open_parquet(paths: &[PathBuf]) -> Result<Vec<Shard>> {
    paths.iter().map(|path| open_one(path)).collect()
}

fn open_one(path: &Path) -> Result<Shard> {
    let wrong = |found: String| {
        Error::input("not a readable Parquet file")
            .path(path)
            .expected("a complete Parquet file")
            .found(found)
            .remedy("write or download the file again")
    };
    let meta = File::open(path).and_then(|file| file.metadata());
    let length = meta.map_err(|e| Error::io("a file cannot be opened", path, e))?.len();
    if length < LEAST_BYTES {
        return Err(wrong(format!("{length} bytes")));
    }
    let bytes = Bytes::from_owner(Mapped::open(path)?);
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
    let metadata = ArrowReaderMetadata::load(&bytes, options).map_err(|e| wrong(e.to_string()))?;
    let rows = rows_of(metadata.metadata()).map_err(wrong)?;
    let trailer = bytes.len() - TRAILER_BYTES;
    let footer_start = trailer.saturating_sub(u32_at(&bytes, trailer) as usize);
    let identity = identity(path, &bytes[footer_start..])?;
    Ok(Shard { path: path.to_owned(), first_row: 0, rows, source: Source::Parquet { bytes, metadata }, identity })
}

/// Rows of the file; else what its footer says instead.
fn rows_of(metadata: &ParquetMetaData) -> Result<u64, String> {
    let mut sum = 0u64;
    for (row_group, meta) in metadata.row_groups().iter().enumerate() {
        let rows = meta.num_rows();
        let total = u64::try_from(rows).ok().and_then(|rows| sum.checked_add(rows));
        sum = total.ok_or_else(|| format!("{rows} rows in row group {row_group}"))?;
    }
    let rows = metadata.file_metadata().num_rows();
    if u64::try_from(rows) != Ok(sum) {
        return Err(format!("a footer of {rows} rows whose row groups have {sum}"));
    }
    Ok(sum)
}
