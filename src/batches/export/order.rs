//! The order in which rows are written, cut into chunks whose texts fit the budget.
//!
//! The batch table is sorted already, so the order is the table's own: a chunk is a slice of it. Where a
//! trainer wants whole clusters one after the other, a chunk is a range of cluster numbers. Bytes are counted
//! row by row beforehand, so a chunk of long texts has fewer rows. A chunk may end inside a batch: no batch is
//! too large.
//!
//! Memory: 8 bytes a source row (lengths), a batch's rows, 12 bytes a cluster.

use std::ops::Range;

use polars::prelude::*;

use super::budget::{NEGATIVE_BYTES, ROW_BYTES};
use super::engine;
use super::sources::{POSITIVE, QUERY, ROW, Sources};
use super::table::BatchTable;
use crate::error::{Error, Result};

/// No text.
const NULL: u32 = u32::MAX;

/// Bytes of each source row's texts.
#[derive(Debug, Default)]
pub struct Lengths {
    query: Vec<u32>,
    positive: Vec<u32>,
}

impl Lengths {
    /// Measures all texts in one scan of the sources.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn measure(sources: &Sources) -> Result<Lengths> {
        let rows = sources.rows as usize;
        let empty = Lengths { query: vec![NULL; rows], positive: vec![NULL; rows] };
        let frame = sources.scan(sources.texts()).map_err(engine::failed)?;
        engine::fold(frame, false, empty, |lengths, piece| lengths.take(&piece).map_err(engine::failed))
    }

    fn take(&mut self, piece: &DataFrame) -> PolarsResult<()> {
        let rows = piece.column(ROW)?.idx()?;
        for (name, lengths) in [(QUERY, &mut self.query), (POSITIVE, &mut self.positive)] {
            let texts = piece.column(name)?.str()?;
            for (row, text) in rows.iter().zip(texts.iter()) {
                if let (Some(row), Some(text)) = (row, text) {
                    lengths[row as usize] = text.len().min(NULL as usize - 1) as u32;
                }
            }
        }
        Ok(())
    }

    /// Bytes of a row in a chunk: its texts, and those of its negatives.
    fn of(&self, row: i64, negatives: &[i64], sources: &Sources) -> Result<u64> {
        let length = |lengths: &[u32], column: &str, row: i64| {
            let known = usize::try_from(row).ok().and_then(|row| lengths.get(row));
            let Some(length) = known else {
                return Err(Error::runtime("the batch table names a row that the sources do not have")
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
    pub fn mean(&self) -> u64 {
        let sum = |lengths: &[u32]| lengths.iter().filter(|n| **n != NULL).map(|n| u64::from(*n)).sum::<u64>();
        (sum(&self.query) + sum(&self.positive)) / (self.query.len() as u64).max(1)
    }
}

/// Which rows are written, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// All batches in order.
    Batches,
    /// The batches of exactly so many rows in order: the trainer cuts the rows into batches itself.
    FullBatches(u64),
    /// The clusters of exactly so many rows in order: the trainer unites them itself.
    FullClusters(u32),
}

/// A chunk: rows of the table, or clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// A slice of the table.
    Rows(Range<u64>),
    /// Clusters; those of another size than K are passed over.
    Clusters(Range<u64>, u32),
}

/// The whole order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ExportOrder {
    /// Chunks, in order.
    pub chunks: Vec<Pick>,
    /// Rows that are written.
    pub rows: u64,
    /// Batches or clusters that are written.
    pub units: u64,
    /// Rows of the table that are left out: of short batches, or of no full cluster.
    pub left_out: u64,
}

/// Cuts units of known bytes into ranges of at most `limit` bytes. Units are counted from 0.
#[derive(Debug)]
struct Cutter {
    limit: u64,
    at: u64,
    open: Option<(u64, u64)>,
    ranges: Vec<Range<u64>>,
}

impl Cutter {
    fn new(limit: u64) -> Cutter {
        Cutter { limit, at: 0, open: None, ranges: Vec::new() }
    }

    /// The next unit is in.
    fn take(&mut self, bytes: u64) {
        match &mut self.open {
            Some((_, filled)) if *filled + bytes <= self.limit => *filled += bytes,
            _ => {
                self.close();
                self.open = Some((self.at, bytes));
            }
        }
        self.at += 1;
    }

    /// The next units are not in.
    fn skip(&mut self, units: u64) {
        self.close();
        self.at += units;
    }

    /// The next unit has no rows, and may lie inside a range.
    fn pass(&mut self) {
        self.at += 1;
    }

    fn close(&mut self) {
        if let Some((start, _)) = self.open.take() {
            self.ranges.push(start..self.at);
        }
    }

    fn ranges(mut self) -> Vec<Range<u64>> {
        self.close();
        self.ranges
    }
}

/// Reads the numbers of batches, rows and negatives, and cuts the order into chunks.
///
/// # Errors
/// The table cannot be read, names a row that the sources do not have, or a row without a text.
pub fn read(
    table: &BatchTable,
    sources: &Arc<Sources>,
    lengths: Arc<Lengths>,
    arrangement: Arrangement,
    limit: u64,
) -> Result<ExportOrder> {
    let counted = Counted { sources: sources.clone(), lengths };
    match arrangement {
        Arrangement::Batches => batches(table, counted, None, limit),
        Arrangement::FullBatches(size) => batches(table, counted, Some(size), limit),
        Arrangement::FullClusters(size) => clusters(table, counted, size, limit),
    }
}

/// Counts the bytes of the table's rows.
struct Counted {
    sources: Arc<Sources>,
    lengths: Arc<Lengths>,
}

impl Counted {
    /// The unit (batch or cluster; -1: none) and the bytes of each row of a piece.
    fn rows(&self, piece: &DataFrame, unit: &str) -> Result<Vec<(i64, u64)>> {
        let read = || -> PolarsResult<_> {
            let (mut flat, mut counts) = (Vec::new(), vec![0; piece.height()]);
            if let Ok(lists) = piece.column("negative_rows") {
                (flat, counts) = flattened(lists.list()?)?;
            }
            Ok((piece.column(unit)?.i64()?, piece.column("row")?.i64()?, flat, counts))
        };
        let (units, rows, flat, counts) = read().map_err(engine::failed)?;
        let mut rest = &flat[..];
        let all = units.iter().zip(rows.iter()).zip(counts);
        all.map(|((unit, row), count)| {
            let (negatives, others) = rest.split_at(count);
            rest = others;
            Ok((unit.unwrap_or(-1), self.lengths.of(row.unwrap_or(-1), negatives, &self.sources)?))
        })
        .collect()
    }
}

/// The elements of all lists, and how many each has.
pub fn flattened(lists: &ListChunked) -> PolarsResult<(Vec<i64>, Vec<usize>)> {
    // Empty and null lists have no elements.
    let options = ExplodeOptions { empty_as_null: false, keep_nulls: false };
    let flat = lists.explode(options)?.i64()?.iter().map(|row| row.unwrap_or(-1)).collect();
    Ok((flat, lists.lst_lengths().iter().map(|count| count.unwrap_or(0) as usize).collect()))
}

/// The order of the batches, all of them or those of exactly `size` rows.
struct BatchCuts {
    cutter: Cutter,
    size: Option<u64>,
    batch: i64,
    bytes: Vec<u64>,
    order: ExportOrder,
}

impl BatchCuts {
    fn end_batch(&mut self) {
        let rows = self.bytes.len() as u64;
        if rows == 0 {
            return;
        }
        if self.size.is_none_or(|size| size == rows) {
            self.bytes.drain(..).for_each(|bytes| self.cutter.take(bytes));
            self.order.rows += rows;
            self.order.units += 1;
        } else {
            self.bytes.clear();
            self.cutter.skip(rows);
            self.order.left_out += rows;
        }
    }
}

fn batches(table: &BatchTable, counted: Counted, size: Option<u64>, limit: u64) -> Result<ExportOrder> {
    let start =
        BatchCuts { cutter: Cutter::new(limit), size, batch: -1, bytes: Vec::new(), order: ExportOrder::default() };
    let mut cuts = engine::fold(table.rows("batch_id")?, true, start, move |cuts, piece| {
        for (batch, bytes) in counted.rows(&piece, "batch_id")? {
            if batch != cuts.batch {
                cuts.end_batch();
                cuts.batch = batch;
            }
            cuts.bytes.push(bytes);
        }
        Ok(())
    })?;
    cuts.end_batch();
    let chunks = cuts.cutter.ranges().into_iter().map(Pick::Rows).collect();
    Ok(ExportOrder { chunks, ..cuts.order })
}

fn clusters(table: &BatchTable, counted: Counted, size: u32, limit: u64) -> Result<ExportOrder> {
    // Rows and bytes of each cluster, and rows of none.
    let start: (Vec<(u32, u64)>, u64) = Default::default();
    let (clusters, loose) = engine::fold(table.rows("cluster_id")?, false, start, move |(clusters, loose), piece| {
        for (cluster, bytes) in counted.rows(&piece, "cluster_id")? {
            let Ok(cluster) = usize::try_from(cluster) else {
                *loose += 1;
                continue;
            };
            if cluster >= clusters.len() {
                clusters.resize(cluster + 1, (0, 0));
            }
            clusters[cluster].0 += 1;
            clusters[cluster].1 += bytes;
        }
        Ok(())
    })?;
    let mut order = ExportOrder { left_out: loose, ..ExportOrder::default() };
    let mut cutter = Cutter::new(limit);
    for (rows, bytes) in clusters {
        if rows == size {
            cutter.take(bytes);
            order.rows += u64::from(rows);
            order.units += 1;
        } else {
            cutter.pass();
            order.left_out += u64::from(rows);
        }
    }
    order.chunks = cutter.ranges().into_iter().map(|range| Pick::Clusters(range, size)).collect();
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_unit_larger_than_the_limit_stands_alone() {
        let mut cutter = Cutter::new(10);
        [4, 4, 4, 25, 1].into_iter().for_each(|bytes| cutter.take(bytes));
        cutter.skip(3);
        cutter.take(2);
        cutter.pass();
        cutter.take(3);
        assert_eq!(cutter.ranges(), [0..2, 2..3, 3..4, 4..5, 8..11]);
    }

    proptest! {
        #[test]
        fn ranges_follow_each_other_and_keep_to_the_limit(
            units in prop::collection::vec(prop::option::of(0u64..30), 0..60),
            limit in 1u64..50,
        ) {
            let mut cutter = Cutter::new(limit);
            units.iter().for_each(|unit| match unit {
                Some(bytes) => cutter.take(*bytes),
                None => cutter.skip(1),
            });
            let ranges = cutter.ranges();
            let inside: Vec<u64> = ranges.iter().cloned().flatten().collect();
            let wanted: Vec<u64> = (0..units.len() as u64).filter(|at| units[*at as usize].is_some()).collect();
            prop_assert_eq!(inside, wanted);
            for range in ranges {
                let bytes: u64 = range.clone().filter_map(|at| units[at as usize]).sum();
                prop_assert!(bytes <= limit || range.end - range.start == 1);
            }
        }
    }
}
