//! A Parquet file whose bytes depend on its rows alone, not on the chunks in which they came.
//!
//! Rows go to the Parquet writer in pieces of [`PIECE_ROWS`], counted from the file's first row, so that pages
//! and row groups end at the same rows under any budget.
//!
//! Memory: a piece, and one encoded row group.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::budget::GROUP_TEXT_BYTES;
use super::folder::{Folder, OutFile};
use crate::error::Result;

/// Rows that are encoded at a time.
pub(crate) const PIECE_ROWS: usize = 256;
/// Pieces of a row group at most.
const GROUP_PIECES: u64 = 64;

/// Rows of a row group, from the mean bytes of a row. Depends on the sources alone.
pub(crate) fn group_rows(mean_bytes: u64) -> usize {
    (GROUP_TEXT_BYTES / mean_bytes.max(1) / PIECE_ROWS as u64).clamp(1, GROUP_PIECES) as usize * PIECE_ROWS
}

/// A Parquet file while it is written.
pub(crate) struct TableFile {
    writer: ArrowWriter<OutFile>,
    file: OutFile,
    schema: Arc<Schema>,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
}

impl TableFile {
    /// # Errors
    /// It cannot be created.
    pub(crate) fn create(folder: &mut Folder, name: &str, schema: Arc<Schema>, group_rows: usize) -> Result<TableFile> {
        let file = folder.create(name)?;
        let start = || -> Result<_, ParquetError> {
            let properties = WriterProperties::builder()
                .set_created_by(format!("batchmine {}", env!("CARGO_PKG_VERSION")))
                .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
                .set_max_row_group_row_count(Some(group_rows))
                .build();
            ArrowWriter::try_new(file.clone(), schema.clone(), Some(properties))
        };
        let writer = start().map_err(|e| file.failed(e.into()))?;
        Ok(TableFile { writer, file, schema, waiting: Vec::new(), waiting_rows: 0 })
    }

    /// How many of the next `rows` rows go into the current piece: give them to [`Self::write`] together.
    pub(crate) fn room(&self, rows: usize) -> usize {
        rows.min(PIECE_ROWS - self.waiting_rows)
    }

    /// Takes the next rows, at most as many as there is room for.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn write(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.waiting_rows += rows.num_rows();
        self.waiting.push(rows);
        if self.waiting_rows < PIECE_ROWS { Ok(()) } else { self.encode() }
    }

    fn encode(&mut self) -> Result<()> {
        let piece = concat_batches(&self.schema, &self.waiting).map_err(ParquetError::from);
        self.waiting.clear();
        self.waiting_rows = 0;
        piece.and_then(|piece| self.writer.write(&piece)).map_err(|e| self.file.failed(e.into()))
    }

    /// # Errors
    /// The disk fails.
    pub(crate) fn finish(mut self, folder: &mut Folder) -> Result<()> {
        if self.waiting_rows > 0 {
            self.encode()?;
        }
        self.writer.close().map_err(|e| self.file.failed(e.into()))?;
        folder.commit(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_whole_pieces_of_about_the_same_bytes() {
        assert_eq!(group_rows(0), PIECE_ROWS * 64);
        assert_eq!(group_rows(u64::MAX), PIECE_ROWS);
        for mean in [10, 700, 5_000, 40_000] {
            let rows = group_rows(mean);
            assert!(rows.is_multiple_of(PIECE_ROWS));
            assert!(rows == PIECE_ROWS || rows as u64 * mean <= GROUP_TEXT_BYTES);
        }
    }
}
