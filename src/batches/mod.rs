//! batches: random clusters of one task united into batches of exactly |B|, written as Parquet.
//!
//! Memory: 8 bytes a row (members by cluster, the epoch's order), 8 bytes a cluster, one row group of the table, and
//! the rank windows of the batches whose hard negatives are being drawn.

pub(crate) mod budget;
#[cfg(feature = "export")]
pub mod export;
#[cfg(feature = "lake")]
pub(crate) mod lake;
#[cfg(not(feature = "lake"))]
#[path = "lake_absent.rs"]
pub(crate) mod lake;
pub(crate) mod negatives;
pub(crate) mod pack;
pub(crate) mod sharding;
pub(crate) mod table;

use std::ops::Range;

use crate::clusters::labels::members;
use crate::clusters::{Clusters, NO_CLUSTER};
use crate::config::{Config, Remainder, Sizes};
use crate::error::{Error, Result};
use crate::neighbors::{Neighbors, Windows};
use crate::random::{Purpose, stream};
use crate::run::progress::Meter;
use crate::run::record::BatchesFacts;
use crate::run::{Run, Stage, StageRun};
use crate::vectors::{RowId, Vectors};
use budget::BatchesCounts;
use negatives::NegativeSampler;
use pack::{BatchOrder, PackingSizes, pack_task};
use sharding::Sharding;
use table::{EpochLayout, TableSource};

/// What a job made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Rows of the input.
    pub rows: u64,
    /// Tasks.
    pub tasks: usize,
    /// Clusters.
    pub clusters: u32,
    /// Batches of exactly |B|, over all epochs.
    pub full_batches: u64,
    /// Smaller batches, over all epochs.
    pub short_batches: u64,
    /// Rows that `--remainder drop` left out, over all epochs.
    pub dropped_rows: u64,
}

/// Rows of one file, in row groups.
const FILE_ROW_GROUPS: usize = 8;

/// Packs and writes every epoch's batches, or counts those that are there.
///
/// # Errors
/// The user interrupts, or the disk fails.
pub(crate) fn write(
    run: &Run,
    vectors: &Vectors,
    neighbors: &Neighbors,
    clusters: &Clusters,
    config: &Config,
    counts: &BatchesCounts,
) -> Result<Summary> {
    if !run.is_complete(Stage::Batches) {
        let stage = run.begin(Stage::Batches);
        let (starts, rows) = members(clusters.labels(), clusters.count());
        let (seed, count) = (config.seed, config.batches.hard_negatives as usize);
        let windows = Windows::new(vectors, neighbors, config);
        let negatives = (count > 0).then_some(NegativeSampler { vectors, neighbors, windows: &windows, count, seed });
        let source = TableSource { vectors, labels: clusters.labels(), negatives };
        let all_rows = u64::from(vectors.row_count()) * u64::from(config.batches.epochs);
        let meter = run.meter(Stage::Batches, all_rows, "rows");
        let (mut first_batch, mut dropped, mut full, mut short) = (0u64, 0u64, 0u64, 0u64);
        for epoch in 0..config.batches.epochs {
            run.check_interrupt()?;
            let (order, whole) = pack_epoch(vectors, clusters, &starts, &rows, config, epoch)?;
            full += whole as u64;
            short += (order.count() - whole) as u64;
            dropped += u64::from(vectors.row_count()) - order.rows.len() as u64;
            let writer = EpochWriter { run, stage: &stage, config, counts, meter: &meter };
            writer.write(&source, &EpochLayout { epoch, first_batch, order: &order })?;
            first_batch += order.count() as u64;
        }
        drop(meter);
        if dropped > 0 {
            tracing::info!("{dropped} rows left out by --remainder drop");
        }
        let short_rows = if count > 0 { Some(rows_short_of_negatives(run, count)?) } else { None };
        let facts = BatchesFacts {
            batches: full + short,
            full_batches: full,
            short_batches: short,
            dropped_rows: dropped,
            rows_short_of_negatives: short_rows,
        };
        stage.finish(&facts, |_| true)?;
    }
    let facts: BatchesFacts = run.facts()?;
    Ok(Summary {
        rows: u64::from(vectors.row_count()),
        tasks: vectors.tasks.len(),
        clusters: clusters.count(),
        full_batches: facts.full_batches,
        short_batches: facts.short_batches,
        dropped_rows: facts.dropped_rows,
    })
}

/// What writes an epoch's files.
struct EpochWriter<'a> {
    run: &'a Run,
    stage: &'a StageRun<'a>,
    config: &'a Config,
    counts: &'a BatchesCounts,
    meter: &'a Meter,
}

impl EpochWriter<'_> {
    /// Writes the files that are not there yet.
    fn write(&self, source: &TableSource<'_>, layout: &EpochLayout<'_>) -> Result<()> {
        let files = layout.cut(0..layout.order.count(), self.counts.row_group_rows * FILE_ROW_GROUPS);
        for (index, batches) in files.into_iter().enumerate() {
            let name = format!("part-{:05}-{index:05}.parquet", layout.epoch);
            if self.run.has(Stage::Batches, &name) {
                self.meter.skip(layout.order.rows_of(&batches));
            } else {
                self.write_file(&name, source, layout, batches)?;
            }
        }
        Ok(())
    }

    fn write_file(
        &self,
        name: &str,
        source: &TableSource<'_>,
        layout: &EpochLayout<'_>,
        batches: Range<usize>,
    ) -> Result<()> {
        self.run.check_interrupt()?;
        let form = table::Form {
            row_group_rows: self.counts.row_group_rows,
            group_rows: self.counts.group_rows,
            footer: table::footer(self.run, self.config),
        };
        let mut going = Ok(());
        let written = self.stage.commit(name, |out| {
            let mut watch = |rows| {
                self.meter.add(rows);
                going = self.run.check_interrupt();
                going.is_ok()
            };
            table::write_file(out, source, layout, batches, form, &mut watch)
                .map_err(|e| std::io::Error::other(e.to_string()))
        });
        // A part that could not be written because the user stopped the job is no fault of the disk.
        going.and(written)
    }
}

/// Rows of all files that have fewer hard negatives than asked for; says so.
fn rows_short_of_negatives(run: &Run, count: usize) -> Result<u64> {
    let mut rows = 0;
    for name in run.parts(Stage::Batches, "") {
        let path = run.part_path(Stage::Batches, &name);
        rows += table::short_rows(&path).map_err(|e| {
            Error::runtime("the footer of a batch table cannot be read")
                .path(&path)
                .found(e.to_string())
                .remedy("delete the file and run the same `mine` command again")
        })?;
    }
    if rows > 0 {
        tracing::warn!(
            "{rows} rows have fewer than {count} hard negatives: the rank windows of their batches hold no more rows \
             that are neither in the batch, nor of their key, nor their suspects"
        );
    }
    Ok(rows)
}

/// One epoch: full batches of all tasks in random order, then the short ones in task order; and how many are full.
fn pack_epoch(
    vectors: &Vectors,
    clusters: &Clusters,
    starts: &[u32],
    members: &[RowId],
    config: &Config,
    epoch: u32,
) -> Result<(BatchOrder, usize)> {
    let keys = vectors.rows.keys();
    let labels = clusters.labels();
    let sizes = config.sizes().all(vectors.tasks.names());
    let (mut full, mut short) = (BatchOrder::default(), BatchOrder::default());
    // Clusters are numbered in task order, each task's together; loose rows come last, in row order.
    let loose = &members[starts[clusters.count() as usize] as usize..];
    let (mut cluster, mut loose_at) = (0u32, 0);
    for (task, (range, sizes)) in vectors.tasks.ranges().zip(sizes).enumerate() {
        let Sizes { batch_size, cluster_size } = sizes;
        let rules = PackingSizes { batch_size: batch_size as usize, cluster_size: cluster_size as usize };
        let first = cluster;
        while cluster < clusters.count() && range.contains(&members[starts[cluster as usize] as usize]) {
            cluster += 1;
        }
        let mut units: Vec<&[RowId]> = (first..cluster)
            .map(|cluster| &members[starts[cluster as usize] as usize..starts[cluster as usize + 1] as usize])
            .collect();
        while loose_at < loose.len() && range.contains(&loose[loose_at]) {
            units.push(&loose[loose_at..=loose_at]);
            loose_at += 1;
        }
        let mut random = stream(Purpose::Packing { seed: config.seed, epoch, task });
        let packed = pack_task(&units, rules, &keys, &mut random);
        for batch in packed {
            let rows: usize = batch.iter().map(|unit| units[*unit].len()).sum();
            let order = if rows == rules.batch_size { &mut full } else { &mut short };
            batch.iter().for_each(|unit| order.rows.extend(units[*unit]));
            order.end_batch();
        }
    }
    if cluster != clusters.count() || loose_at != loose.len() {
        return Err(Error::runtime("the labels do not follow the tasks")
            .path(clusters.sealed().path())
            .expected("clusters numbered in task order, each of one task")
            .found(format!("cluster {cluster} out of order"))
            .remedy("run `mine` again with --replace"));
    }
    let mut order = full.shuffled(&mut stream(Purpose::BatchOrder { seed: config.seed, epoch }));
    let (short_rows, mut whole) = (short.rows.len(), full.count());
    match config.batches.remainder {
        Remainder::Short => order.append(short),
        Remainder::Drop => tracing::debug!("epoch {epoch}: {short_rows} rows dropped"),
        Remainder::Fill => {
            // Rows of any task: the job's own size, whatever the tasks' are.
            let size = config.batches.size as usize;
            let filled = pack::fill(short.rows, size, &keys);
            whole += filled.batches().filter(|batch| batch.len() == size).count();
            order.append(filled);
        }
    }
    let ranks = Sharding::from(config.batches);
    if ranks.world > 1 {
        let label = |row: &RowId| labels[*row as usize];
        let same = |a: &RowId, b: &RowId| label(a) == label(b) && label(a) != NO_CLUSTER;
        order.arrange(|rows| {
            let units: Vec<&[RowId]> = rows.chunk_by(same).collect();
            let arranged = sharding::arrange(&units, ranks);
            rows.copy_from_slice(&arranged);
        });
    }
    debug_assert!(order.rows.iter().all(|row| (*row as usize) < labels.len()));
    Ok((order, whole))
}
