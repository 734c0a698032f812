//! The batches stage: every epoch packed and written, file after file.

use std::ops::Range;

use parquet::errors::ParquetError;

use super::budget::BatchesCounts;
use super::epoch::{EpochPacker, EpochRules, Mixed, PackedEpoch};
use super::mask::Masker;
use super::negatives::NegativeSampler;
use super::table::{self, EpochLayout, TableSource};
use crate::clusters::Clusters;
use crate::config::{Config, Mask, Remainder};
use crate::edges;
use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::neighbors::own_ranks::OwnRanks;
use crate::run::progress::Meter;
use crate::run::record::{BatchesFacts, ClustersFacts, VectorsFacts};
use crate::run::{Run, Stage, StageRun};
use crate::vectors::Vectors;
use crate::watch::Watch;

/// What a job has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// An earlier call had made all of it: this one did nothing, but perhaps publish the table.
    pub was_finished: bool,
    /// Rows of the input.
    pub rows: u64,
    pub tasks: usize,
    pub clusters: u32,
    /// Batches of exactly |B|, over all epochs.
    pub full_batches: u64,
    /// Smaller batches, over all epochs.
    pub short_batches: u64,
    /// Rows that are in no batch, over all epochs.
    pub dropped_rows: u64,
    /// Clusters whose rows are not all in one batch, over all epochs.
    pub divided_clusters: u64,
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
        write_all(run, vectors, neighbors, clusters, config, counts)?;
    }
    recorded(run)
}

/// Compares the files of a finished batch table with their records. O(bytes).
///
/// # Errors
/// A file is not what was written.
pub(crate) fn check(run: &Run) -> Result<()> {
    let parts = run.record(Stage::Batches).parts;
    parts.keys().try_for_each(|name| run.part(Stage::Batches, name).map(drop))
}

/// What a finished job has written, by its records.
///
/// # Errors
/// A stage is not finished, or its record is not one.
pub(crate) fn recorded(run: &Run) -> Result<Summary> {
    let (vectors, clusters) = (run.facts::<VectorsFacts>()?, run.facts::<ClustersFacts>()?);
    let facts: BatchesFacts = run.facts()?;
    Ok(Summary {
        was_finished: false,
        rows: vectors.rows,
        tasks: vectors.tasks,
        clusters: clusters.clusters,
        full_batches: facts.full_batches,
        short_batches: facts.short_batches,
        dropped_rows: facts.dropped_rows,
        divided_clusters: facts.divided_clusters,
    })
}

/// Packs every epoch and writes the files that are not there yet.
fn write_all(
    run: &Run,
    vectors: &Vectors,
    neighbors: &Neighbors,
    clusters: &Clusters,
    config: &Config,
    counts: &BatchesCounts,
) -> Result<()> {
    let stage = run.begin(Stage::Batches);
    let (count, labels) = (config.batches.hard_negatives as usize, clusters.labels());
    let windows = edges::windows(run, vectors, neighbors, config)?;
    if count > 0 || config.batches.mask == Mask::Suspects {
        vectors.check()?;
        neighbors.check_lists()?;
    }
    let (of, seed, windows) = (config.batches.negatives_of, config.seed, &windows);
    let codes = vectors.positive_codes(config.columns.positive_key.as_deref())?;
    let sampler = NegativeSampler { vectors, codes, neighbors, windows, labels, of, count, seed };
    let own_ranks = edges::own_ranks::open_of(run, vectors, config)?;
    let own_ranks = own_ranks.as_ref();
    let masker = Masker::new(vectors, neighbors, windows, config);
    let source = TableSource { vectors, labels, own_ranks, negatives: (count > 0).then_some(sampler), masker };
    let rules = EpochRules::of(config, vectors.tasks.names());
    let packer = EpochPacker::new(vectors, clusters, rules, own_ranks);
    let rows = u64::from(vectors.row_count()) - own_ranks.map_or(0, OwnRanks::left_out);
    let all_rows = counts.epoch_rows.unwrap_or(rows) * u64::from(config.batches.epochs);
    let meter = run.meter(Stage::Batches, all_rows, "rows");
    let writer = EpochWriter { run, stage: &stage, config, counts, meter: &meter };
    let mut facts = BatchesFacts::default();
    for epoch in 0..config.batches.epochs {
        meter.add(0)?;
        let packed = packer.pack(epoch)?;
        if let (0, Some(mixed)) = (epoch, &packed.mixed) {
            tell_of_mix(mixed, rows - mixed.placed, vectors, config);
        }
        let first_batch = facts.batches;
        add_epoch(&mut facts, &packed, rows);
        writer.write(&source, &EpochLayout { epoch, first_batch, order: &packed.order })?;
    }
    drop(meter);
    if facts.batches == 0 {
        let out = u64::from(vectors.row_count()) - rows;
        if facts.possible_batches > 0 && config.mix.is_some() {
            let error = Error::input("no batch can be made").expected("weights that leave a task some batches");
            let remedy = "raise a task's weight, or write more --epochs";
            return Err(error.found("weights or most batches that leave none").remedy(remedy));
        }
        let error = Error::input("no batch can be made").expected("a full batch, out of rows that share no key");
        return Err(match out {
            0 => error
                .found(format!("{} that keys seemed to allow: rows have several keys", facts.possible_batches))
                .remedy("try a smaller --batch-size, or --remainder short"),
            _ => error
                .found(format!("{rows} rows: --max-own-rank leaves out {out}"))
                .remedy("raise --max-own-rank, or try a smaller --batch-size, or --remainder short"),
        });
    }
    tell(&facts, config);
    facts.rows_short_of_negatives = if count > 0 { Some(rows_short_of_negatives(run, count)?) } else { None };
    stage.finish(&facts, |_| true)
}

/// Counts an epoch of a job of so many rows that are not left out.
fn add_epoch(facts: &mut BatchesFacts, packed: &PackedEpoch, rows: u64) {
    let batches = packed.order.count() as u64;
    facts.batches += batches;
    facts.full_batches += packed.full as u64;
    facts.short_batches += batches - packed.full as u64;
    facts.possible_batches += packed.possible;
    facts.divided_clusters += u64::from(packed.divided);
    facts.dropped_rows += rows - packed.mixed.as_ref().map_or(packed.order.rows.len() as u64, |mixed| mixed.placed);
    facts.rows_alone += packed.alone;
    if let Some(Mixed { counts, .. }) = &packed.mixed {
        let all = facts.mix.get_or_insert_default();
        all.first_round_batches += counts.first_round_batches;
        all.repeated_batches += counts.repeated_batches;
        all.skipped_batches += counts.skipped_batches;
    }
}

/// Says what is not as one would like it.
fn tell(facts: &BatchesFacts, config: &Config) {
    let BatchesFacts { divided_clusters, dropped_rows, rows_alone, .. } = facts;
    if *divided_clusters > 0 {
        tracing::info!(
            "{divided_clusters} clusters are divided: their rows are in several batches, as keys allow no other full \
             batches"
        );
    }
    let packed = facts.mix.map_or(facts.full_batches, |mix| mix.first_round_batches);
    if packed < facts.possible_batches {
        let [why, help] = match config.verdicts.files.is_empty() {
            true => ["rows have several keys", "a smaller --batch-size or fewer --key-column help"],
            false => ["rows are parted by several keys and verdicts", "a smaller --batch-size helps"],
        };
        tracing::warn!(
            "{packed} full batches came out, of {} that keys allow: {why}, and not all of them could be met; {help}",
            facts.possible_batches
        );
    }
    if config.batches.remainder == Remainder::Drop && *dropped_rows > 0 {
        tracing::info!("{dropped_rows} rows left out by --remainder drop");
    }
    if *rows_alone > 0 {
        tracing::warn!(
            "{rows_alone} rows left out{}: they would be alone in a batch, and a batch of one row has no negative",
            if config.mix.is_some() { " of first rounds" } else { "" }
        );
    }
}

/// Tasks that are named in a message.
const TASKS_NAMED: usize = 8;

/// Says what weights make of the first epoch, and for which tasks they do nothing; `missing` rows are in no batch.
fn tell_of_mix(mixed: &Mixed, missing: u64, vectors: &Vectors, config: &Config) {
    let Mixed { counts, batches, rounds, .. } = mixed;
    let named = |tasks: Vec<String>| {
        let more = tasks.len().saturating_sub(TASKS_NAMED);
        let first = tasks.into_iter().take(TASKS_NAMED).collect::<Vec<_>>().join(", ");
        if more > 0 { format!("{first} and {more} more") } else { first }
    };
    let name = |task: usize| format!("{:?}", vectors.tasks.name(task));
    let changed = (0..batches.len()).filter(|task| batches[*task] != rounds[*task][0]);
    let changed: Vec<String> =
        changed.map(|task| format!("{} has {} instead of {}", name(task), batches[task], rounds[task][0])).collect();
    tracing::info!(
        "by the tasks' weights the first epoch has {} full batches: {} repeat rows of a task, {} of {} are left out; \
         {missing} rows are in none{}{}",
        batches.iter().sum::<u64>(),
        counts.repeated_batches,
        counts.skipped_batches,
        counts.first_round_batches,
        if changed.is_empty() { "" } else { "; task " },
        named(changed),
    );
    let Some(mix) = &config.mix else { return };
    let is_asked =
        |task: usize| mix.task_temperature.is_some() || mix.tasks.of(vectors.tasks.name(task)).weight.is_some();
    let without: Vec<String> =
        (0..rounds.len()).filter(|task| rounds[*task][0] == 0 && is_asked(*task)).map(name).collect();
    if !without.is_empty() {
        tracing::warn!(
            "weights do nothing for tasks without a full batch: {}; a smaller batch-size in the task's table helps",
            named(without)
        );
    }
}

/// Writes the files of an epoch.
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
        self.meter.add(0)?;
        let form = table::Form {
            row_group_rows: self.counts.row_group_rows,
            group_rows: self.counts.group_rows,
            footer: table::footer(self.run, source.vectors, self.config),
        };
        let listen = |rows| self.meter.add(rows);
        self.stage.commit(name, |out| {
            table::write_file(out, source, layout, batches, form, Watch::new(&listen)).map_err(|e| match e {
                // Not the disk's error, but that of the watch: the user has stopped the job.
                ParquetError::External(own) if own.is::<Error>() => std::io::Error::other(own),
                e => std::io::Error::other(e.to_string()),
            })
        })
    }
}

/// Rows of all files that have fewer hard negatives than asked for; warns if there are any.
fn rows_short_of_negatives(run: &Run, count: usize) -> Result<u64> {
    let mut rows = 0;
    for name in run.parts(Stage::Batches, "") {
        let path = run.part(Stage::Batches, &name)?;
        rows += table::short_rows(&path).map_err(|e| {
            Error::runtime("the footer of a batch table cannot be read")
                .path(&path)
                .found(e.to_string())
                .remedy("delete the file and run the same `mine` command again")
        })?;
    }
    if rows > 0 {
        tracing::warn!(
            "{rows} rows have fewer than {count} hard negatives: the rank windows that they come from hold no more \
             rows that are neither in the batch, nor of their key, nor their suspects"
        );
    }
    Ok(rows)
}
