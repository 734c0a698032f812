//! A Parquet file in a store, as its decoder reads it: column by column, page by page.
//!
//! The headers of a mapped file's pages are looked at before any page is decoded. Here that would fetch every column
//! twice, so each header is looked at just before the decoder gets it.

use std::io::{Error as IoError, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::page_sizes::{PageSizes, first_page_sizes};
use super::parquet_pages::check_pages;
use crate::error::Result;
use crate::objects::{Span, StoredFile};

/// Bytes of a page's beginning in which its header is looked for, at first and at last.
const HEADER_BYTES: [u64; 2] = [8 << 10, 4 << 20];
/// Columns of a row group that are this part of it are fetched in the file's blocks, others by themselves.
const MOST_OF_ROW_GROUP: u64 = 4;
/// A page that writers do not go far beyond, if they are not told to.
const USUAL_PAGE_BYTES: u64 = 1 << 20;

/// The bytes of a file, for a reader of some of its columns.
#[derive(Debug, Clone)]
pub(crate) struct StoredBytes {
    file: StoredFile,
    columns: Arc<[StoredColumn]>,
}

/// A column of a row group.
#[derive(Debug)]
struct StoredColumn {
    span: Span,
    /// What its pages have by the footer, once decompressed.
    decompressed: i64,
}

impl StoredBytes {
    /// For a reader of the footer.
    pub(super) fn new(file: StoredFile) -> StoredBytes {
        StoredBytes { file, columns: Arc::new([]) }
    }

    pub(crate) fn file(&self) -> &StoredFile {
        &self.file
    }

    /// For a reader of some columns of a row group.
    pub(super) fn of_columns(&self, columns: Vec<ColumnChunkMetaData>, row_group_bytes: u64) -> StoredBytes {
        let bytes = columns.iter().map(|column| column.byte_range().1).fold(0, u64::saturating_add);
        let exact = bytes < row_group_bytes / MOST_OF_ROW_GROUP;
        let column = |column: &ColumnChunkMetaData| StoredColumn {
            span: Span { range: range_of(column), exact },
            decompressed: column.uncompressed_size(),
        };
        StoredBytes { file: self.file.clone(), columns: columns.iter().map(column).collect() }
    }

    fn column_at(&self, at: u64) -> Option<&StoredColumn> {
        self.columns.iter().find(|column| column.span.range.contains(&at))
    }

    /// The stretch that is read where a byte is read.
    fn span_at(&self, at: u64, length: u64) -> Span {
        let tail = self.file.tail();
        match self.column_at(at) {
            Some(column) => column.span.clone(),
            None if tail.range.contains(&at) => tail,
            None => Span { range: at..at.saturating_add(length), exact: true },
        }
    }

    /// Reads from a byte on.
    pub(super) fn read_from(&self, start: u64) -> StoredRead {
        StoredRead { bytes: self.clone(), at: start, window: Bytes::new(), is_begun: false }
    }

    /// The bytes of a range.
    pub(super) fn bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.file.bytes());
        let Some(end) = end else {
            return Err(ParquetError::EOF(format!("{length} bytes from byte {start} on in {}", self.file.bytes())));
        };
        if length == 0 {
            return Ok(Bytes::new());
        }
        let read = self.file.read(start..end, &self.span_at(start, length as u64));
        read.map_err(|e| ParquetError::External(Box::new(e)))
    }

    /// The sizes of a column's pages, by the headers at its beginning: the others are taken to be like them. Small
    /// columns are not looked at.
    pub(super) fn page_sizes(&self, column: &ColumnChunkMetaData, values: u64) -> PageSizes {
        let all = u64::try_from(column.uncompressed_size()).unwrap_or(0);
        let one = PageSizes::of_one_page(all, values);
        if all <= USUAL_PAGE_BYTES {
            return one;
        }
        let range = range_of(column);
        let end = range.end.min(range.start.saturating_add(2 * USUAL_PAGE_BYTES)).min(self.file.bytes());
        let Some(length) = end.checked_sub(range.start).filter(|length| *length > 0) else { return one };
        let own = self.of_columns(vec![column.clone()], length);
        let Some(sizes) = own.bytes(range.start, length as usize).ok().and_then(|bytes| first_page_sizes(&bytes))
        else {
            return one;
        };
        sizes.max(PageSizes { dictionary: 0, largest: USUAL_PAGE_BYTES.min(all), value: 0 })
    }
}

/// The bytes of a column of a row group.
pub(super) fn range_of(column: &ColumnChunkMetaData) -> Range<u64> {
    let (start, length) = column.byte_range();
    start..start.saturating_add(length)
}

/// Reads from a byte on. The decoder reads headers of pages in this way.
pub(crate) struct StoredRead {
    bytes: StoredBytes,
    at: u64,
    window: Bytes,
    is_begun: bool,
}

impl StoredRead {
    /// The first bytes, in which there is a header of a page that the decoder can take, where a column is read.
    fn begin(&mut self) -> Result<Bytes, String> {
        let column = self.bytes.column_at(self.at);
        let rest = self.bytes.file.bytes().saturating_sub(self.at);
        let in_column = column.map_or(rest, |column| column.span.range.end - self.at);
        let window = |length: u64| self.bytes.bytes(self.at, length.min(rest) as usize).map_err(|e| e.to_string());
        let first = window(HEADER_BYTES[0].min(in_column))?;
        match column {
            Some(column) if check_pages(&first, 1, column.decompressed).is_err() => {
                // The header may be longer than what was looked at.
                let more = window(HEADER_BYTES[1])?;
                check_pages(&more, 1, column.decompressed).map(|()| more)
            }
            _ => Ok(first),
        }
    }
}

impl Read for StoredRead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.window.is_empty() {
            let failed = |found: String| IoError::other(found);
            self.window = if self.is_begun {
                let length = HEADER_BYTES[0].min(self.bytes.file.bytes().saturating_sub(self.at));
                self.bytes.bytes(self.at, length as usize).map_err(|e| failed(e.to_string()))?
            } else {
                self.is_begun = true;
                self.begin().map_err(failed)?
            };
            self.at += self.window.len() as u64;
        }
        let length = buffer.len().min(self.window.len());
        self.window.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
