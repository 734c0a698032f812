//! How many bytes the texts of each source row have.
//!
//! Memory: 12 bytes a source row, and on each thread what reading a column takes.

use arrow::array::Array;
use rayon::prelude::*;

use super::budget::{NEGATIVE_BYTES, ROW_BYTES};
use super::sources::Sources;
use crate::error::{Error, Result};
use crate::vectors::{Unit, for_each_label_array, lengths};

/// The length of a text that is null.
const NULL: u32 = u32::MAX;

/// Bytes of each source row's texts, by row number.
#[derive(Debug, Default)]
pub(crate) struct Lengths {
    query: Vec<u32>,
    /// And of documents behind them.
    positive: Vec<u32>,
    /// Of all strings that are kept beside the texts.
    kept: Vec<u32>,
}

impl Lengths {
    /// Measures all texts in one pass over the sources.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn measure(sources: &Sources) -> Result<Lengths> {
        let units = Unit::all(&sources.shards);
        let of_units = |units: &[Unit<'_>], columns: &[&str]| -> Result<Vec<u32>> {
            let pieces = units.par_iter().map(|unit| of_unit(unit, columns)).collect::<Result<Vec<_>>>()?;
            Ok(pieces.concat())
        };
        let of = |columns: &[&str]| of_units(&units, columns);
        let query = of(&[&sources.query])?;
        let mut positive = if sources.query == sources.positive { query.clone() } else { of(&[&sources.positive])? };
        if let Some(corpus) = &sources.corpus {
            positive.extend(of_units(&Unit::all(&corpus.shards), &[&corpus.text])?);
        }
        let kept: Vec<&str> = sources.kept.iter().map(String::as_str).collect();
        Ok(Lengths { query, positive, kept: if kept.is_empty() { Vec::new() } else { of(&kept)? } })
    }

    /// Most bytes that any row can take in a chunk, with so many negatives.
    pub(crate) fn longest(&self, negatives: u32) -> u64 {
        let most = |lengths: &[u32]| lengths.iter().filter(|n| **n != NULL).max().map_or(0, |n| u64::from(*n));
        let kept = most(&self.kept);
        let of_negatives = (most(&self.positive) + kept + NEGATIVE_BYTES).saturating_mul(negatives.into());
        (most(&self.query) + most(&self.positive) + kept + ROW_BYTES).saturating_add(of_negatives)
    }

    /// Bytes that a row takes in a chunk: its texts, those of its negatives, and what is held beside them.
    ///
    /// # Errors
    /// The sources do not have a row, or its text is null.
    pub(crate) fn of(&self, row: i64, negatives: &[i64], sources: &Sources) -> Result<u64> {
        let kept = |row: i64| usize::try_from(row).ok().and_then(|row| self.kept.get(row)).map_or(0, |n| u64::from(*n));
        let positive = |row: i64| length(&self.positive, &sources.positive, row, sources);
        let own = length(&self.query, &sources.query, row, sources)? + positive(row)? + kept(row) + ROW_BYTES;
        negatives.iter().try_fold(own, |sum, row| Ok(sum + positive(*row)? + kept(*row) + NEGATIVE_BYTES))
    }

    /// Bytes that a document takes in a chunk of documents.
    ///
    /// # Errors
    /// There is no such document, or its text is null.
    pub(crate) fn of_document(&self, document: i64, sources: &Sources) -> Result<u64> {
        Ok(length(&self.positive, &sources.positive, document, sources)? + ROW_BYTES)
    }

    /// Mean bytes of a row's texts.
    pub(crate) fn mean(&self) -> u64 {
        let sum = |lengths: &[u32]| lengths.iter().filter(|n| **n != NULL).map(|n| u64::from(*n)).sum::<u64>();
        let rows = self.query.len();
        (sum(&self.query) + sum(&self.positive[..rows])) / (rows as u64).max(1)
    }
}

/// The length of the text of a row or document.
fn length(lengths: &[u32], column: &str, row: i64, sources: &Sources) -> Result<u64> {
    let known = usize::try_from(row).ok().and_then(|row| lengths.get(row));
    let Some(length) = known else {
        return Err(Error::runtime("the batch table has a row that the sources do not have")
            .path(sources.first_path())
            .expected(format!("rows below {}", lengths.len()))
            .found(row.to_string())
            .remedy("`batchmine verify RUN` checks the batch tables"));
    };
    if *length != NULL {
        return Ok(u64::from(*length));
    }
    if let Some(corpus) = sources.corpus.as_ref().filter(|_| row as u64 >= sources.rows) {
        return Err(Error::input("a document has no text")
            .path(&corpus.shards[0].path)
            .column(&corpus.text)
            .row(row as u64 - sources.rows)
            .expected("a text in every document that is a negative, or in a list")
            .found("a null (documents are counted through all files)")
            .remedy("fill it or drop the document, and mine again; or give files to --corpus-source"));
    }
    Err(Error::input("a row of a batch has no text")
        .path(sources.first_path())
        .column(column)
        .row(row as u64)
        .expected("a text in every row that was mined")
        .found("a null (rows are counted through all files)")
        .remedy("fill it or drop the row, and mine again; or give files with all texts to --source"))
}

/// The lengths of a unit's rows, summed over the columns; null where the only column is.
fn of_unit(unit: &Unit<'_>, columns: &[&str]) -> Result<Vec<u32>> {
    let mut sums = vec![0u32; usize::try_from(unit.rows).unwrap_or(0)];
    for column in columns {
        for_each_label_array(unit, column, 1, |first, array| {
            let Some(lengths) = lengths(array) else { return Ok(()) };
            for (at, length) in lengths.into_iter().enumerate() {
                let sum = &mut sums[first as usize + at];
                let length = u32::try_from(length).unwrap_or(NULL - 1);
                *sum = if columns.len() == 1 && array.is_null(at) {
                    NULL
                } else {
                    sum.saturating_add(length).min(NULL - 1)
                };
            }
            Ok(())
        })?;
    }
    Ok(sums)
}
