//! The batch table: order, sizes, tasks, keys, sharding, values, hard negatives, and each row once an epoch.

use std::fs::File;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int32Type, Int64Type, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Opened, Outcome, conflict, negatives, shown};
use crate::batches::sharding::Sharding;
use crate::batches::table::schema;
use crate::clusters::NO_CLUSTER;
use crate::clusters::labels::members;
use crate::config::Remainder;
use crate::error::{Error, Result};
use crate::neighbors::Windows;
use crate::neighbors::topk::Candidate;
use crate::run::Stage;
use crate::run::record::{BatchesFacts, BatchesSettings};
use crate::vectors::RowId;

impl Opened<'_> {
    /// The table: order, sizes, tasks, keys, values, and each row once an epoch.
    pub(super) fn check_batches(&self, outcome: &mut Outcome) -> Result<String> {
        let record = self.run.stage(Stage::Batches)?;
        let settings: BatchesSettings = self.run.settings()?;
        let facts: BatchesFacts = self.run.facts()?;
        let size = self.job_sizes.batch_size as usize;
        let epochs = u64::from(settings.epochs);
        let mut table = TableCheck {
            opened: self,
            outcome,
            windows: self.windows()?,
            size,
            mixed: settings.remainder == Remainder::Fill,
            row_of_input: inverse(self.vectors.rows.input_rows()),
            seen: vec![false; self.vectors.row_count() as usize],
            rows: 0,
            last: None,
            batch: Vec::new(),
            cluster_sizes: {
                let (starts, _) = members(self.clusters.labels(), self.clusters.count());
                starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
            },
            task: None,
            full: 0,
            short: 0,
            sharding: Sharding { world: settings.world_size as usize, layout: settings.rank_layout },
            negatives: settings.hard_negatives as usize,
            drawn: Vec::new(),
            short_of_negatives: 0,
        };
        let folder = self.run.stage_folder(Stage::Batches);
        for name in record.parts.keys() {
            table.file(&folder.join(name))?;
        }
        table.end_batch();
        let (full, short, negatives, without) = (table.full, table.short, table.negatives, table.short_of_negatives);
        let missing = (epochs * table.seen.len() as u64).saturating_sub(table.rows);
        let dropped = facts.dropped_rows;
        if missing != dropped || (settings.remainder != Remainder::Drop && missing > 0) {
            outcome.fault(format!("{missing} rows are in no batch, {dropped} are counted as dropped"));
        }
        let counted = [facts.full_batches, facts.short_batches];
        if settings.remainder == Remainder::Short && counted != [full, short] {
            outcome.fault(format!("{full} full and {short} smaller batches, where the manifest counts {counted:?}"));
        }
        let counted = facts.rows_short_of_negatives.unwrap_or(0);
        if counted != without {
            outcome.fault(format!("{without} rows are short of hard negatives, where the manifest counts {counted}"));
        }
        let drawn = match negatives {
            0 => String::new(),
            h => format!(
                "; {h} hard negatives a row ({without} rows have fewer), all out of their batch's rank windows, none \
                 in the batch, of the row's key or its suspect, with true scores"
            ),
        };
        Ok(format!(
            "{full} batches of {} and {short} smaller ones: sorted, one task each, no key twice, \
             each row once in each of {epochs} epochs ({dropped} dropped){drawn}",
            shown(self.sizes.iter().map(|sizes| sizes.batch_size)),
        ))
    }
}

/// Row by input row.
fn inverse(input_rows: &[u32]) -> Vec<RowId> {
    let mut rows = vec![0; input_rows.len()];
    input_rows.iter().enumerate().for_each(|(row, input)| rows[*input as usize] = row as RowId);
    rows
}

/// Reads the batch table in order.
struct TableCheck<'a, 'r> {
    opened: &'a Opened<'r>,
    outcome: &'a mut Outcome,
    windows: Windows<'a>,
    /// |B| of batches that `fill` unites.
    size: usize,
    mixed: bool,
    row_of_input: Vec<RowId>,
    /// By row, whether it was in this epoch already.
    seen: Vec<bool>,
    /// Rows of all epochs, each once an epoch.
    rows: u64,
    last: Option<(i32, i64, i32)>,
    batch: Vec<RowId>,
    cluster_sizes: Vec<u32>,
    task: Option<usize>,
    full: u64,
    short: u64,
    sharding: Sharding,
    /// h.
    negatives: usize,
    /// The hard negatives of the batch's rows.
    drawn: Vec<Vec<Candidate>>,
    short_of_negatives: u64,
}

impl TableCheck<'_, '_> {
    fn file(&mut self, path: &std::path::Path) -> Result<()> {
        let unreadable = |found: String| {
            Error::runtime("a batch table cannot be read")
                .path(path)
                .found(found)
                .remedy("delete it and run the same `mine` command again")
        };
        let file = File::open(path).map_err(|e| Error::io("a file cannot be opened", path, e))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(8192).build())
            .map_err(|e| unreadable(e.to_string()))?;
        for batch in reader {
            let batch = batch.map_err(|e| unreadable(e.to_string()))?;
            let columns = |schema: &Schema| -> Vec<_> {
                schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
            };
            let found = columns(batch.schema_ref());
            if found != columns(&schema(&self.opened.vectors.ids, self.negatives > 0)) {
                return Err(unreadable(format!("columns {found:?}")));
            }
            self.rows(&batch);
        }
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) {
        let vectors = &self.opened.vectors;
        let column = |index: usize| batch.column(index);
        let epochs = column(0).as_primitive::<Int32Type>();
        let (batches, positions) = (column(1).as_primitive::<Int64Type>(), column(2).as_primitive::<Int32Type>());
        let (clusters, tasks) = (column(3).as_primitive::<Int64Type>(), column(4).as_string::<i32>());
        let (inputs, scores) = (column(6).as_primitive::<Int64Type>(), column(7).as_primitive::<Float32Type>());
        for index in 0..batch.num_rows() {
            let place = (epochs.value(index), batches.value(index), positions.value(index));
            if self.last.is_some_and(|last| last >= place) {
                self.outcome.fault(format!("the table is not sorted at (epoch, batch, position) {place:?}"));
            }
            if self.last.is_some_and(|(_, batch, _)| batch != place.1) {
                self.end_batch();
            }
            if place.2 as usize != self.batch.len() {
                self.outcome.fault(format!("batch {}: position {} follows {}", place.1, place.2, self.batch.len()));
            }
            if self.last.is_some_and(|(epoch, ..)| epoch != place.0) {
                self.seen.fill(false);
            }
            self.last = Some(place);
            let input = inputs.value(index);
            let known = usize::try_from(input).ok().and_then(|input| self.row_of_input.get(input));
            let Some(row) = known.copied() else {
                self.outcome.fault(format!("batch {}: there is no input row {input}", place.1));
                continue;
            };
            let label = self.opened.clusters.labels()[row as usize];
            let wanted = (label != NO_CLUSTER).then_some(i64::from(label));
            let found = clusters.is_valid(index).then(|| clusters.value(index));
            let task = vectors.tasks.of(row);
            let name = tasks.is_valid(index).then(|| tasks.value(index));
            let named = vectors.named_tasks.then(|| vectors.tasks.name(task));
            let score = vectors.rows.scores()[row as usize];
            if wanted != found
                || named != name
                || scores.value(index).to_bits() != score.to_bits()
                || !self.same_id(column(5), index, input)
            {
                self.outcome.fault(format!("batch {}: the values of input row {input} are not its own", place.1));
            }
            if !self.mixed && *self.task.get_or_insert(task) != task {
                self.outcome.fault(format!("batch {} holds rows of several tasks", place.1));
            }
            self.batch.push(row);
            if self.negatives > 0 {
                let drawn = self.drawn(batch, index);
                self.drawn.push(drawn.unwrap_or_else(|| {
                    self.outcome.fault(format!(
                        "batch {}: the hard negatives of input row {input} are no lists of \
                        known rows with their ids",
                        place.1
                    ));
                    Vec::new()
                }));
            }
            if std::mem::replace(&mut self.seen[row as usize], true) {
                self.outcome.fault(format!("batch {}: input row {input} is in epoch {} twice", place.1, place.0));
            } else {
                self.rows += 1;
            }
        }
    }

    fn same_id(&self, ids: &ArrayRef, index: usize, input: i64) -> bool {
        let known = &self.opened.vectors.ids;
        match known.text(input as u32) {
            Some(text) => ids.as_string_opt::<i32>().is_some_and(|ids| ids.value(index) == text),
            None => {
                let id = known.int(input as u32);
                ids.as_primitive_opt::<Int64Type>().map(|ids| ids.value(index)) == id
            }
        }
    }

    /// A row's hard negatives; `None` where the three lists do not belong together.
    fn drawn(&self, batch: &RecordBatch, index: usize) -> Option<Vec<Candidate>> {
        let [ids, inputs, scores] = [8, 9, 10].map(|column| batch.column(column).as_list::<i32>().value(index));
        let (inputs, scores) = (inputs.as_primitive::<Int64Type>(), scores.as_primitive::<Float32Type>());
        if [ids.len(), scores.len()] != [inputs.len(); 2] {
            return None;
        }
        let known = |index: usize| {
            let input = inputs.value(index);
            let row = *usize::try_from(input).ok().and_then(|input| self.row_of_input.get(input))?;
            self.same_id(&ids, index, input).then(|| Candidate { row, score: scores.value(index) })
        };
        (0..inputs.len()).map(known).collect()
    }

    /// Rows of a full batch of this batch's task. Batches that `fill` made have the job's size; where such a batch has
    /// rows of one task only, it cannot be told from that task's own batches, and the larger size counts.
    fn size_of_batch(&self) -> usize {
        let task = |row: &RowId| self.opened.vectors.tasks.of(*row);
        let Some(first) = self.batch.first().map(task) else { return self.size };
        let own = self.opened.sizes[first].batch_size as usize;
        match self.batch.iter().all(|row| task(row) == first) {
            true if self.mixed => own.max(self.size),
            true => own,
            false => self.size,
        }
    }

    fn end_batch(&mut self) {
        let number = self.last.map_or(0, |(_, batch, _)| batch);
        let size = self.size_of_batch();
        if self.batch.len() > size {
            self.outcome.fault(format!("batch {number} holds {} rows, more than {size}", self.batch.len()));
        }
        if self.batch.len() == size {
            self.full += 1;
        } else {
            self.short += 1;
        }
        if let Some((a, b)) = conflict(&self.batch, &self.opened.vectors.rows.keys()) {
            self.outcome.fault(format!("batch {number} holds rows {a} and {b}, which share a key or a vector"));
        }
        self.check_clusters(number, size);
        if self.negatives > 0 {
            let faults = negatives::faults(self.opened, &self.windows, &self.batch, &self.drawn, self.negatives);
            faults.into_iter().for_each(|fault| self.outcome.fault(format!("batch {number}: {fault}")));
            self.short_of_negatives += self.drawn.iter().filter(|drawn| drawn.len() < self.negatives).count() as u64;
            self.drawn.clear();
        }
        self.batch.clear();
        self.task = None;
    }

    /// Checks that clusters are whole: of a full batch in whole clusters within each process's rows, in its order; of
    /// others within the batch.
    fn check_clusters(&mut self, number: i64, size: usize) {
        if self.mixed || self.batch.is_empty() {
            return;
        }
        let own = self.opened.sizes[self.opened.vectors.tasks.of(self.batch[0])];
        let clusters = &self.opened.clusters;
        let mut labels: Vec<u32> = self.batch.iter().map(|row| clusters.labels()[*row as usize]).collect();
        let whole = |label: &u32| *label != NO_CLUSTER && self.cluster_sizes[*label as usize] == own.cluster_size;
        let promised = labels.len() == size && labels.iter().all(whole);
        let shares: Vec<Vec<u32>> = if self.sharding.world == 1 || promised {
            let rows = labels.len();
            let share = |process| self.sharding.positions(process, rows).map(|position| labels[position]).collect();
            (0..self.sharding.world).map(share).collect()
        } else {
            // Other batches may have clusters divided between processes, but not between batches.
            labels.sort_unstable();
            vec![labels]
        };
        for (process, share) in shares.iter().enumerate() {
            for group in share.chunk_by(|a, b| a == b).filter(|group| group[0] != NO_CLUSTER) {
                let (label, found) = (group[0], group.len());
                let size = self.cluster_sizes[label as usize];
                if found as u32 != size {
                    let text =
                        format!("batch {number}, process {process}: {found} rows of cluster {label}, which has {size}");
                    self.outcome.fault(text);
                }
            }
        }
    }
}
