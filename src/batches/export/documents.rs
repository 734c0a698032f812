//! Columns of some rows of the sources.
//!
//! Only the row groups that hold such rows are read, and of these the rows asked for are kept: as they were decoded,
//! piece by piece, so that no text is copied again.
//!
//! Memory: the values asked for, and on each thread the pages of a row group's columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, interleave};
use arrow::datatypes::DataType;
use rayon::prelude::*;

use super::sources::Sources;
use crate::batches::texts::columns::is_text;
use crate::error::{Error, Result};
use crate::vectors::Unit;

/// Rows of a row group that are decoded at a time: their texts have offsets of 32 bits.
const DECODED_BYTES_MAX: u64 = 1 << 30;

/// Rows of the sources, by their numbers.
#[derive(Debug)]
pub(crate) struct Documents {
    columns: Vec<String>,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    /// Rising numbers.
    rows: Vec<u32>,
    /// One for each column; strings are LargeUtf8.
    arrays: Vec<ArrayRef>,
}

impl Documents {
    /// Reads some columns of some rows; `bytes`: most that a row's texts have.
    ///
    /// # Errors
    /// A file cannot be decoded, or there is no such row.
    pub(crate) fn read(sources: &Sources, columns: &[&str], mut rows: Vec<u32>, bytes: u64) -> Result<Documents> {
        rows.sort_unstable();
        rows.dedup();
        // Documents of a corpus have one column, in the place of the first: their text.
        let corpus = sources.corpus.as_ref();
        let of_corpus: Vec<&str> = corpus.iter().map(|corpus| &corpus.text[..]).collect();
        let mut units = Unit::all(&sources.shards);
        units.extend(corpus.iter().flat_map(|corpus| Unit::all(&corpus.shards)));
        let most = usize::try_from(DECODED_BYTES_MAX / bytes.max(1)).unwrap_or(usize::MAX).max(1);
        let (mut work, mut rest) = (Vec::new(), &rows[..]);
        for unit in &units {
            let end = unit.first_input_row().saturating_add(unit.rows);
            let (own, others) = rest.split_at(rest.partition_point(|row| u64::from(*row) < end));
            work.extend(own.chunks(most).map(|rows| (unit, rows)));
            rest = others;
        }
        if let Some(row) = rest.first() {
            return Err(lacking(sources, *row));
        }
        let columns_of = |unit: &Unit<'_>| if unit.first_input_row() < sources.rows { columns } else { &of_corpus[..] };
        let read = |(unit, rows): (&Unit<'_>, &[u32])| Piece::read(unit, columns_of(unit), rows);
        let pieces = work.into_par_iter().map(read).collect::<Result<_>>()?;
        Ok(Documents { columns: columns.iter().map(|name| (*name).to_owned()).collect(), pieces })
    }

    /// The index of a column.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// A row's text in a column of strings; none where it is null, or the row was not read.
    pub(crate) fn text(&self, column: usize, row: u32) -> Option<&str> {
        let (piece, at) = self.place(row)?;
        let texts = self.pieces[piece].arrays.get(column)?.as_string_opt::<i64>()?;
        texts.is_valid(at).then(|| texts.value(at))
    }

    /// A column of some rows, in their order.
    ///
    /// # Errors
    /// A row was not read, or files have other types than the first.
    pub(crate) fn values(&self, column: usize, rows: &[u32]) -> Result<ArrayRef> {
        let arrays: Vec<&dyn Array> = self.pieces.iter().map(|piece| piece.arrays[column].as_ref()).collect();
        let places: Option<Vec<(usize, usize)>> = rows.iter().map(|row| self.place(*row)).collect();
        let impossible = |found: String| {
            Error::runtime("a column cannot be kept")
                .column(&self.columns[column])
                .expected("values of one type in all files")
                .found(found)
                .remedy("export with --format of another trainer, or write the column in one type")
        };
        let places = places.ok_or_else(|| impossible("rows that were not read".into()))?;
        let values = interleave(&arrays, &places).map_err(|e| impossible(e.to_string()))?;
        match values.data_type() {
            DataType::LargeUtf8 => cast(&values, &DataType::Utf8).map_err(|e| impossible(e.to_string())),
            _ => Ok(values),
        }
    }

    fn place(&self, row: u32) -> Option<(usize, usize)> {
        let piece = self.pieces.partition_point(|piece| piece.rows.last().is_some_and(|last| *last < row));
        Some((piece, self.pieces.get(piece)?.rows.binary_search(&row).ok()?))
    }
}

impl Piece {
    fn read(unit: &Unit<'_>, columns: &[&str], rows: &[u32]) -> Result<Piece> {
        let within: Vec<u64> = rows.iter().map(|row| u64::from(*row) - unit.first_input_row()).collect();
        let arrays = unit.some_rows(columns, &within)?;
        let arrays = arrays.into_iter().zip(columns).map(|(array, column)| match array.data_type() {
            DataType::LargeUtf8 => Ok(array),
            kind if is_text(kind) => cast(&array, &DataType::LargeUtf8).map_err(|e| {
                let error = Error::input("a column of texts cannot be read as strings").found(e.to_string());
                unit.place(error.remedy("cast the column to strings"), column, None)
            }),
            _ => Ok(array),
        });
        Ok(Piece { rows: rows.to_vec(), arrays: arrays.collect::<Result<_>>()? })
    }
}

fn lacking(sources: &Sources, row: u32) -> Error {
    Error::runtime("the sources lack rows of the batch table")
        .path(sources.first_path())
        .expected(format!("rows below {}", sources.rows + sources.documents()))
        .found(format!("row {row}"))
        .remedy("`batchmine verify RUN` checks the batch table")
}

/// A pool of so many threads, on which sources are read.
///
/// # Errors
/// The threads cannot be started.
pub(crate) fn readers(threads: usize) -> Result<Arc<rayon::ThreadPool>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let failed = |e: rayon::ThreadPoolBuildError| {
        Error::runtime("the threads cannot be started")
            .found(e.to_string())
            .remedy("raise the limit of processes and threads")
    };
    pool.map(Arc::new).map_err(failed)
}
