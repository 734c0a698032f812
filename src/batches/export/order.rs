//! The order in which rows are written, cut into chunks whose texts fit the budget.
//!
//! The batch table is sorted already, so the order is the table's own: a chunk is a slice of it. Where a
//! trainer needs whole clusters one after the other, a chunk is a range of cluster numbers. Bytes are counted
//! row by row beforehand, so a chunk of long texts has fewer rows. A chunk may end inside a batch, so no batch is
//! too large for the budget.
//!
//! Memory: a batch's rows, 12 bytes a cluster.

use std::collections::HashMap;

use polars::prelude::*;

use super::chunks::{Cutter, Pick};
use super::engine::{self, flattened};
use super::lengths::Lengths;
use super::padding::Padding;
use super::sources::Sources;
use super::table::BatchTable;
use crate::error::Result;

/// Which rows are written, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrangement {
    /// All batches in order.
    Batches,
    /// The batches of exactly this many rows, in order: the trainer cuts the rows into batches itself.
    FullBatches(u64),
    /// The clusters of exactly this many rows, in order: the trainer unites them itself.
    FullClusters(u32),
}

impl Arrangement {
    /// The size that all batches have that are written; none where any size will do, or clusters are written.
    pub(crate) fn batch_size(self) -> Option<u64> {
        match self {
            Arrangement::FullBatches(size) => Some(size),
            Arrangement::Batches | Arrangement::FullClusters(_) => None,
        }
    }
}

/// The chunks of an export, and what they leave out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportOrder {
    pub chunks: Vec<Pick>,
    /// Rows that are written.
    pub rows: u64,
    /// Batches or clusters that are written.
    pub units: u64,
    /// Rows of the table that are left out: of short batches, or of no full cluster.
    pub left_out: u64,
}

/// Reads the numbers of batches, rows and negatives, and cuts the order into chunks.
///
/// # Errors
/// The table cannot be read, or has a row or a cluster that cannot be, or a row has no text.
pub(crate) fn read(
    table: &BatchTable,
    sources: &Arc<Sources>,
    measured: Measured,
    arrangement: Arrangement,
    limit: u64,
) -> Result<ExportOrder> {
    let counted = Counted { sources: sources.clone(), measured };
    match arrangement {
        Arrangement::Batches => batches(table, counted, None, limit),
        Arrangement::FullBatches(size) => batches(table, counted, Some(size), limit),
        Arrangement::FullClusters(size) => clusters(table, counted, size, limit),
    }
}

/// What the bytes of rows follow from.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub lengths: Arc<Lengths>,
    /// Negatives of rows that have none.
    pub padding: Arc<Padding>,
}

/// Counts the bytes of the table's rows.
struct Counted {
    sources: Arc<Sources>,
    measured: Measured,
}

impl Counted {
    /// The unit (number of the batch or cluster; -1: none) and the bytes of each row of a piece.
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
            let cut = rest.split_at_checked(count);
            let (negatives, others) = cut.ok_or_else(|| engine::damaged("lists of negatives shorter than they say"))?;
            rest = others;
            let (unit, row) = (unit.unwrap_or(-1), row.unwrap_or(-1));
            // Only batches are padded: of clusters nothing is given.
            let given: Vec<i64> = match negatives {
                [] => self.measured.padding.of(unit, row).iter().map(|given| i64::from(given.row)).collect(),
                _ => Vec::new(),
            };
            let negatives = if negatives.is_empty() { &given[..] } else { negatives };
            Ok((unit, self.measured.lengths.of(row, negatives, &self.sources)?))
        })
        .collect()
    }
}

/// The order of batches while it is cut: of all batches, or of those of exactly `size` rows.
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
    let mut cuts = engine::fold(table.rows(false)?, true, start, move |cuts, piece| {
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

/// What a table has of each cluster.
struct ClusterCounts {
    /// Rows of the run: there are no more clusters.
    limit: u64,
    /// Where rows come several times, a cluster is what one batch has of it, and those of other sizes do not count.
    size: Option<u32>,
    /// Rows and bytes of each cluster.
    clusters: Vec<(u32, u64)>,
    /// The same of the batch under way.
    batch: i64,
    of_batch: HashMap<usize, (u32, u64)>,
    /// Rows that are in no cluster.
    loose: u64,
}

impl ClusterCounts {
    fn take(&mut self, batch: i64, cluster: i64, bytes: u64) -> Result<()> {
        let Ok(cluster) = usize::try_from(cluster) else {
            self.loose += 1;
            return Ok(());
        };
        if cluster as u64 >= self.limit {
            return Err(engine::damaged(&format!("cluster {cluster} of {} rows", self.limit)));
        }
        if self.size.is_none() {
            self.add(cluster, (1, bytes));
            return Ok(());
        }
        if batch != self.batch {
            self.end_batch();
            self.batch = batch;
        }
        let counted = self.of_batch.entry(cluster).or_default();
        *counted = (counted.0 + 1, counted.1 + bytes);
        Ok(())
    }

    fn add(&mut self, cluster: usize, (rows, bytes): (u32, u64)) {
        if cluster >= self.clusters.len() {
            self.clusters.resize(cluster + 1, (0, 0));
        }
        self.clusters[cluster].0 += rows;
        self.clusters[cluster].1 += bytes;
    }

    fn end_batch(&mut self) {
        for (cluster, counted) in std::mem::take(&mut self.of_batch) {
            match Some(counted.0) == self.size {
                true => self.add(cluster, counted),
                false => self.loose += u64::from(counted.0),
            }
        }
    }
}

fn clusters(table: &BatchTable, counted: Counted, size: u32, limit: u64) -> Result<ExportOrder> {
    let start = ClusterCounts {
        limit: counted.sources.rows,
        size: table.repeats.then_some(size),
        clusters: Vec::new(),
        batch: -1,
        of_batch: HashMap::new(),
        loose: 0,
    };
    let mut counts = engine::fold(table.rows(true)?, table.repeats, start, move |counts, piece| {
        let batches: Vec<Option<i64>> =
            piece.column("batch_id").and_then(|batches| Ok(batches.i64()?.iter().collect())).map_err(engine::failed)?;
        let rows = counted.rows(&piece, "cluster_id")?;
        rows.into_iter()
            .zip(batches)
            .try_for_each(|((cluster, bytes), batch)| counts.take(batch.unwrap_or(-1), cluster, bytes))
    })?;
    counts.end_batch();
    let mut order = ExportOrder { left_out: counts.loose, ..ExportOrder::default() };
    let mut cutter = Cutter::new(limit);
    for (rows, bytes) in counts.clusters {
        // Where rows come several times, whole clusters were counted alone.
        let is_whole = if table.repeats { rows > 0 } else { rows == size };
        if is_whole {
            cutter.take(bytes);
            order.rows += u64::from(rows);
            order.units += u64::from(rows / size);
        } else {
            cutter.pass();
            order.left_out += u64::from(rows);
        }
    }
    order.chunks = cutter.ranges().into_iter().map(|range| Pick::Clusters(range, size)).collect();
    Ok(order)
}
