//! Decoding Parquet with panics of the decoder caught: what every reader of Parquet files goes through.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;

use super::input_bytes::{FileBytes, map_file};
use super::parquet_footer::footer_of;
use super::parquet_pages::check_pages;
use crate::error::Error;
use crate::guard::guarded;

/// A file's footer, parsed.
///
/// # Errors
/// What is wrong with the footer.
pub(crate) fn read_metadata(path: &Path, file: &(impl ChunkReader + 'static)) -> Result<ArrowReaderMetadata, String> {
    guarded(path, || {
        footer_of(file)?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        ArrowReaderMetadata::load(file, options).map_err(|e| e.to_string())
    })?
}

/// A table that is no input, such as one of batches: its footer parsed, and the headers of all its pages looked at.
/// Memory: the file's bytes are mapped. O(pages).
///
/// # Errors
/// The file cannot be opened; or what is wrong with it, in the words of `damaged`.
pub(crate) fn open_table(
    path: &Path,
    damaged: impl Fn(String) -> Error,
) -> Result<ParquetRecordBatchReaderBuilder<Bytes>, Error> {
    let bytes = map_file(path)?;
    let metadata = read_metadata(path, &bytes).map_err(&damaged)?;
    refuse_negative_chunks(metadata.metadata()).map_err(&damaged)?;
    for chunk in metadata.metadata().row_groups().iter().flat_map(RowGroupMetaData::columns) {
        check_mapped(&bytes, chunk).map_err(|found| damaged(format!("{found}, in {}", chunk.column_path())))?;
    }
    Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata))
}

/// Fails where a page of a column chunk claims more than the chunk has: whoever decodes it would reserve that. In a
/// store each page is looked at as it is read.
///
/// # Errors
/// What is wrong.
pub(super) fn check_chunk(bytes: &FileBytes, chunk: &ColumnChunkMetaData) -> Result<(), String> {
    match bytes {
        FileBytes::Mapped(bytes) => check_mapped(bytes, chunk),
        FileBytes::Stored(_) => Ok(()),
    }
}

fn check_mapped(bytes: &Bytes, chunk: &ColumnChunkMetaData) -> Result<(), String> {
    let (start, length) = chunk.byte_range();
    let pages = usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
    check_pages(pages, usize::try_from(length).unwrap_or(usize::MAX), chunk.uncompressed_size())
}

/// Fails where the reader would panic: on column data that begins before the file or has a negative length.
pub(super) fn refuse_negative_chunks(metadata: &ParquetMetaData) -> Result<(), String> {
    for (row_group, meta) in metadata.row_groups().iter().enumerate() {
        for column in meta.columns() {
            let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            let bytes = column.compressed_size();
            if start < 0 || bytes < 0 || column.num_values() < 0 {
                let name = column.column_path();
                let values = column.num_values();
                return Err(format!(
                    "{values} values in {bytes} bytes at offset {start} for {name} in row group {row_group}"
                ));
            }
        }
    }
    Ok(())
}

/// What a builder reads, batch by batch. Behind the first error nothing comes.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn guarded_batches<T: ChunkReader + 'static>(
    path: &Path,
    builder: ParquetRecordBatchReaderBuilder<T>,
) -> Result<GuardedBatches, String> {
    let reader = guarded(path, || builder.build())?.map_err(|e| e.to_string())?;
    Ok(GuardedBatches { path: path.to_owned(), reader: Some(reader) })
}

/// The batches of a Parquet file, or what is wrong with it.
pub(crate) struct GuardedBatches {
    path: PathBuf,
    /// None behind an error: after a panic the reader's state is unknown.
    reader: Option<ParquetRecordBatchReader>,
}

impl Iterator for GuardedBatches {
    type Item = Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let batch = match guarded(&self.path, || reader.next()) {
            Ok(batch) => batch?.map_err(|e| e.to_string()),
            Err(panic) => Err(panic),
        };
        if batch.is_err() {
            self.reader = None;
        }
        Some(batch)
    }
}
