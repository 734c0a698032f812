//! A Parquet file whose bytes depend on its rows alone, not on the chunks in which they came.
//!
//! Rows go to the Parquet writer in pieces of [`PIECE_ROWS`], counted from the file's first row, or fewer where their
//! texts are long, so that pages and row groups end at the same rows under any budget.
//!
//! Memory: a piece, and one encoded row group; both end with the row that takes them over their bytes.

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
/// Bytes of texts after which a piece ends.
pub(crate) const PIECE_BYTES: u64 = 2 << 20;
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
    waiting_bytes: u64,
    /// Most rows of a row group; rows and bytes of the one that is being written.
    group_rows: usize,
    open_rows: usize,
    open_bytes: u64,
}

/// How many of the next rows go into the first piece of a file, by their bytes; at least one.
pub(crate) fn first_room(bytes: impl Iterator<Item = u64>) -> usize {
    room([0, 0], bytes)
}

/// How many of the next rows go into a piece that has some rows and bytes.
fn room([rows, mut filled]: [u64; 2], bytes: impl Iterator<Item = u64>) -> usize {
    let free = PIECE_ROWS.saturating_sub(rows as usize);
    let fits = |row: &u64| {
        let open = filled < PIECE_BYTES;
        filled += row;
        open
    };
    bytes.take(free).take_while(fits).count()
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
                .build();
            ArrowWriter::try_new(file.clone(), schema.clone(), Some(properties))
        };
        let writer = start().map_err(|e| file.failed(e.into()))?;
        Ok(TableFile {
            writer,
            file,
            schema,
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            group_rows,
            open_rows: 0,
            open_bytes: 0,
        })
    }

    /// How many of the next rows, by their bytes, go into the current piece: give them to [`Self::write`] together.
    pub(crate) fn room(&self, bytes: impl Iterator<Item = u64>) -> usize {
        room([self.waiting_rows as u64, self.waiting_bytes], bytes)
    }

    /// Takes the next rows, at most as many as there is room for, and the bytes of their texts.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn write(&mut self, rows: RecordBatch, bytes: u64) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.waiting_rows += rows.num_rows();
        self.waiting_bytes += bytes;
        self.waiting.push(rows);
        if self.waiting_rows < PIECE_ROWS && self.waiting_bytes < PIECE_BYTES { Ok(()) } else { self.encode() }
    }

    fn encode(&mut self) -> Result<()> {
        let piece = match &self.waiting[..] {
            [_] => Ok(self.waiting.remove(0)),
            several => concat_batches(&self.schema, several).map_err(ParquetError::from),
        };
        self.waiting.clear();
        self.open_rows += std::mem::take(&mut self.waiting_rows);
        self.open_bytes += std::mem::take(&mut self.waiting_bytes);
        let ends = self.open_rows >= self.group_rows || self.open_bytes >= GROUP_TEXT_BYTES;
        let written = piece.and_then(|piece| self.writer.write(&piece));
        let flushed = if ends { written.and_then(|()| self.writer.flush()) } else { written };
        if ends {
            (self.open_rows, self.open_bytes) = (0, 0);
        }
        flushed.map_err(|e| self.file.failed(e.into()))
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
    fn a_piece_ends_with_the_row_that_fills_it() {
        let of = |bytes: u64, rows| room([0, 0], std::iter::repeat_n(bytes, rows));
        assert_eq!((of(10, 1000), of(10, 7)), (PIECE_ROWS, 7));
        assert_eq!((of(PIECE_BYTES, 9), of(PIECE_BYTES * 9, 9), of(PIECE_BYTES / 2 + 1, 9)), (1, 1, 2));
        assert_eq!(room([250, PIECE_BYTES - 1], [5, 5].into_iter()), 1);
        assert_eq!(room([250, 0], [5; 10].into_iter()), 6);
    }

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
