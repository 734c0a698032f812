//! A mapped Arrow IPC file: its record batches, decoded column by column.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};

use super::layout::has_dictionary;
use super::messages::{BatchAt, Messages, describe, messages};
use crate::error::{Error, Result};
use crate::guard::{guarded, one_line};
use crate::vectors::input_bytes::map_file;

/// Least rows of a piece of a record batch.
const PIECE_ROWS: u64 = 65_536;
/// Most pieces of a record batch: each of them checks the columns of the whole batch.
const PIECES_MAX: u64 = 16;

type Dictionaries = HashMap<i64, ArrayRef>;

/// An Arrow IPC file or stream, mapped, with its messages found.
#[derive(Debug)]
pub(crate) struct ArrowFile {
    path: PathBuf,
    bytes: Buffer,
    messages: Messages,
    /// The dictionaries after so many messages, as they were last read.
    dictionaries: Mutex<Option<(usize, Arc<Dictionaries>)>>,
}

impl ArrowFile {
    /// Maps a file and finds its messages.
    ///
    /// # Errors
    /// The file cannot be opened, is not whole, or is in a form that cannot be read.
    pub(crate) fn open(path: &Path) -> Result<ArrowFile> {
        let mapped = map_file(path)?;
        let found = guarded(path, || messages(&mapped)).flatten().map_err(|found| {
            Error::input("not a readable Arrow file")
                .path(path)
                .expected("a complete, little-endian Arrow IPC file or stream")
                .found(one_line(&found))
                .remedy("write or download the file again")
        })?;
        if !found.ended {
            tracing::warn!("{}: the stream has no mark of its end, and may be cut short", path.display());
        }
        let (path, bytes) = (path.to_owned(), Buffer::from(mapped));
        Ok(ArrowFile { path, bytes, messages: found, dictionaries: Mutex::new(None) })
    }

    pub(crate) fn rows(&self) -> u64 {
        self.messages.rows
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of the record batch that a row is in.
    pub(crate) fn byte_range(&self, row: u64) -> Range<usize> {
        self.batch_of(row).map_or(0..0, |batch| batch.message.description.start..batch.message.body.end)
    }

    /// The bytes that describe the file: its footer, or the schema of a stream.
    pub(crate) fn head(&self) -> &[u8] {
        &self.bytes[self.messages.head.clone()]
    }

    pub(crate) fn schema(&self) -> &Arc<Schema> {
        &self.messages.schema
    }

    /// The pieces that threads decode by themselves: first row and number of rows of each. None crosses the end of a
    /// record batch. A batch that is decompressed is one piece.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.messages.batches.iter().flat_map(|batch| {
            let whole = batch.heap_bytes.iter().any(|bytes| *bytes > 0);
            let pieces = if whole { 1 } else { batch.rows.div_ceil(PIECE_ROWS).clamp(1, PIECES_MAX) };
            let rows = batch.rows.div_ceil(pieces).max(1);
            let starts = (0..batch.rows).step_by(usize::try_from(rows).unwrap_or(usize::MAX));
            starts.map(move |start| (batch.first_row + start, rows.min(batch.rows - start)))
        })
    }

    /// The record batch of a row.
    fn batch_of(&self, row: u64) -> Option<&BatchAt> {
        let batches = &self.messages.batches;
        batches.get(batches.partition_point(|batch| batch.first_row + batch.rows <= row))
    }

    /// Values of a column in a piece, as the file counts them: rows, or about the items of its lists.
    pub(crate) fn values_of(&self, column: &str, first: u64, rows: u64) -> u64 {
        let (Ok(column), Some(batch)) = (self.schema().index_of(column), self.batch_of(first)) else { return rows };
        let values = batch.values.get(column).copied().unwrap_or(batch.rows);
        let share = u128::from(values) * u128::from(rows);
        u64::try_from(share.div_ceil(u128::from(batch.rows.max(1)))).unwrap_or(u64::MAX)
    }

    /// Most bytes that some columns of a record batch take on the heap.
    pub(crate) fn heap_bytes(&self, columns: &[&str]) -> u64 {
        let columns: BTreeSet<usize> =
            columns.iter().filter_map(|column| self.schema().index_of(column).ok()).collect();
        let of =
            |batch: &BatchAt| columns.iter().fold(0u64, |sum, column| sum.saturating_add(batch.heap_bytes[*column]));
        self.messages.batches.iter().map(of).max().unwrap_or(0)
    }

    /// Some columns of the rows of a piece, in the order asked for.
    ///
    /// # Errors
    /// What is wrong with the data.
    pub(crate) fn columns(&self, columns: &[&str], first: u64, rows: u64) -> Result<Vec<ArrayRef>, String> {
        let batch = self.batch_of(first).ok_or_else(|| format!("no row {first}"))?;
        let index = |column: &&str| self.schema().index_of(column).map_err(|_| format!("no column {column}"));
        let indices = columns.iter().map(index).collect::<Result<Vec<_>, _>>()?;
        let arrays = guarded(&self.path, || self.decode(batch, &indices)).flatten()?;
        let start = (first - batch.first_row) as usize;
        Ok(arrays.iter().map(|array| array.slice(start, rows as usize)).collect())
    }

    /// Some columns of a record batch.
    fn decode(&self, batch: &BatchAt, columns: &[usize]) -> Result<Vec<ArrayRef>, String> {
        let has = |column: &usize| has_dictionary(self.schema().field(*column).data_type());
        let dictionaries = match columns.iter().any(has) {
            true => self.dictionaries(batch.dictionaries)?,
            false => Arc::default(),
        };
        let fb = describe(&self.bytes, &batch.message)?;
        let data = fb.header_as_record_batch().ok_or("a record batch that is not there")?;
        let body = self.bytes.slice_with_length(batch.message.body.start, batch.message.body.len());
        let (schema, version) = (self.schema().clone(), &self.messages.version);
        let decoded = read_record_batch(&body, data, schema, &dictionaries, Some(columns), version);
        let decoded = decoded.map_err(|e| e.to_string())?;
        if decoded.num_rows() as u64 != batch.rows {
            return Err(format!("{} rows where the file promises {}", decoded.num_rows(), batch.rows));
        }
        Ok(decoded.columns().to_vec())
    }

    /// The dictionaries after so many of their messages: a message replaces a dictionary, or goes on with it.
    fn dictionaries(&self, count: usize) -> Result<Arc<Dictionaries>, String> {
        let mut last = self.dictionaries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, dictionaries)) = last.as_ref().filter(|(known, _)| *known == count) {
            return Ok(dictionaries.clone());
        }
        let mut live: BTreeMap<i64, usize> = BTreeMap::new();
        let messages = &self.messages.dictionaries[..count];
        for (number, dictionary) in messages.iter().enumerate().filter(|(_, dictionary)| !dictionary.delta) {
            live.insert(dictionary.id, number);
        }
        let mut dictionaries = Dictionaries::new();
        let replaced = |number: usize, id: &i64| live.get(id).is_some_and(|first| number < *first);
        for (number, dictionary) in messages.iter().enumerate() {
            if replaced(number, &dictionary.id) {
                continue;
            }
            let fb = describe(&self.bytes, &dictionary.message)?;
            let data = fb.header_as_dictionary_batch().ok_or("a dictionary that is not there")?;
            let body = &dictionary.message.body;
            let body = self.bytes.slice_with_length(body.start, body.len());
            let version = &self.messages.version;
            read_dictionary(&body, data, self.schema(), &mut dictionaries, version).map_err(|e| e.to_string())?;
        }
        let dictionaries = Arc::new(dictionaries);
        *last = Some((count, dictionaries.clone()));
        Ok(dictionaries)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
