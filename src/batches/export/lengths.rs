//! How many bytes the texts of each source row have.
//!
//! Memory: 8 bytes a source row.

use polars::prelude::*;

use super::budget::{NEGATIVE_BYTES, ROW_BYTES};
use super::engine;
use super::sources::{POSITIVE, QUERY, ROW, Sources};
use crate::error::{Error, Result};

/// The length of a text that is null.
const NULL: u32 = u32::MAX;

/// Bytes of each source row's texts, by row number.
#[derive(Debug, Default)]
pub(crate) struct Lengths {
    query: Vec<u32>,
    positive: Vec<u32>,
}

impl Lengths {
    /// Measures all texts in one scan of the sources.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn measure(sources: &Sources) -> Result<Lengths> {
        // The engine would reserve what damaged pages claim, and could not say which file they are in.
        if let Some(error) = sources.has_deltas.then(|| sources.first_fault()).flatten() {
            return Err(error);
        }
        let rows = sources.rows as usize;
        let empty = Lengths { query: vec![NULL; rows], positive: vec![NULL; rows] };
        let frame = sources.scan(sources.texts()).map_err(engine::failed)?;
        let measured = engine::fold(frame, false, empty, |lengths, piece| lengths.take(&piece).map_err(engine::failed));
        // The engine does not say which file it could not read.
        measured.map_err(|error| sources.first_fault().unwrap_or(error))
    }

    fn take(&mut self, piece: &DataFrame) -> PolarsResult<()> {
        let rows = piece.column(ROW)?.idx()?;
        for (name, lengths) in [(QUERY, &mut self.query), (POSITIVE, &mut self.positive)] {
            let texts = piece.column(name)?.str()?;
            for (row, text) in rows.iter().zip(texts.iter()) {
                let (Some(row), Some(text)) = (row, text) else { continue };
                let rows = lengths.len();
                let Some(length) = lengths.get_mut(row as usize) else {
                    polars_bail!(ComputeError: "a file holds more rows than its footer says: row {row} of {rows}");
                };
                *length = text.len().min(NULL as usize - 1) as u32;
            }
        }
        Ok(())
    }

    /// Bytes that a row takes in a chunk: its texts, those of its negatives, and what is held beside them.
    ///
    /// # Errors
    /// The sources do not have a row, or its text is null.
    pub(crate) fn of(&self, row: i64, negatives: &[i64], sources: &Sources) -> Result<u64> {
        let length = |lengths: &[u32], column: &str, row: i64| {
            let known = usize::try_from(row).ok().and_then(|row| lengths.get(row));
            let Some(length) = known else {
                return Err(Error::runtime("the batch table has a row that the sources do not have")
                    .expected(format!("rows below {}", sources.rows))
                    .found(row.to_string())
                    .remedy("`batchmine verify RUN` checks the batch tables"));
            };
            if *length != NULL {
                return Ok(u64::from(*length));
            }
            Err(Error::input("a row of a batch has no text")
                .path(&sources.paths[0])
                .column(column)
                .row(row as u64)
                .expected("a text in every row that was mined")
                .found("a null (rows are counted through all files)")
                .remedy("fill it or drop the row, and mine again; or give files with all texts to --source"))
        };
        let positive = |row: i64| length(&self.positive, &sources.positive, row);
        let own = length(&self.query, &sources.query, row)? + positive(row)? + ROW_BYTES;
        negatives.iter().try_fold(own, |sum, row| Ok(sum + positive(*row)? + NEGATIVE_BYTES))
    }

    /// Mean bytes of a row's texts.
    pub(crate) fn mean(&self) -> u64 {
        let sum = |lengths: &[u32]| lengths.iter().filter(|n| **n != NULL).map(|n| u64::from(*n)).sum::<u64>();
        (sum(&self.query) + sum(&self.positive)) / (self.query.len() as u64).max(1)
    }
}
