//! Decoding Parquet with panics of the decoder caught: what every reader of Parquet files goes through.

use std::path::Path;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::ChunkReader;

use super::parquet_footer::footer_of;
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

/// What a builder reads, batch by batch. Behind the first error nothing comes.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn guarded_batches<T: ChunkReader + 'static>(
    path: &Path,
    builder: ParquetRecordBatchReaderBuilder<T>,
) -> Result<GuardedBatches<'_>, String> {
    let reader = guarded(path, || builder.build())?.map_err(|e| e.to_string())?;
    Ok(GuardedBatches { path, reader: Some(reader) })
}

/// The batches of a Parquet file, or what is wrong with it.
pub(crate) struct GuardedBatches<'p> {
    path: &'p Path,
    /// None behind an error: after a panic the reader's state is unknown.
    reader: Option<ParquetRecordBatchReader>,
}

impl Iterator for GuardedBatches<'_> {
    type Item = Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let batch = match guarded(self.path, || reader.next()) {
            Ok(batch) => batch?.map_err(|e| e.to_string()),
            Err(panic) => Err(panic),
        };
        if batch.is_err() {
            self.reader = None;
        }
        Some(batch)
    }
}
