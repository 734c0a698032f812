//! The batch table of a run whose vectors, lists or clusters were cleaned: what its own columns and the records tell.
//!
//! Memory: 16 bytes a row of an epoch.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};

use super::outcome::Outcome;
use super::table_file::for_each_batch;
use crate::batches::table::{TableForm, schema};
use crate::config::{ByTask, Mask, Remainder, Sizes};
use crate::error::Result;
use crate::run::record::{BatchesFacts, BatchesSettings, ClustersSettings, EdgesFacts, IdKind, VectorsFacts};
use crate::run::{RunReader, Stage};

/// Checks order, sizes, tasks, each row once an epoch, and counts. O(rows of the table).
///
/// # Errors
/// A file cannot be read.
pub(super) fn check(run: &RunReader, outcome: &mut Outcome) -> Result<String> {
    let (settings, facts) = (run.settings::<BatchesSettings>()?, run.facts::<BatchesFacts>()?);
    let vectors = run.facts::<VectorsFacts>()?;
    let left_out = run.facts::<EdgesFacts>()?.rows_left_out;
    let mut reading = TableAlone {
        outcome,
        rows: vectors.rows,
        text_ids: vectors.ids == IdKind::String,
        own_ranks: left_out.is_some(),
        sizes: run.settings::<ClustersSettings>()?.sizes,
        settings: &settings,
        last: None,
        batch: 0,
        tasks: HashSet::new(),
        seen: HashMap::new(),
        counts: [0; 3],
    };
    let folder = run.stage_folder(Stage::Batches);
    for name in run.stage(Stage::Batches)?.parts.keys() {
        reading.file(&folder.join(name))?;
    }
    reading.end_batch();
    let [all, batches, full] = reading.counts;
    let rows = vectors.rows.saturating_sub(left_out.unwrap_or(0));
    let missing = (u64::from(settings.epochs) * rows).saturating_sub(all);
    if (batches, missing) != (facts.batches, facts.dropped_rows) {
        outcome.fault(format!(
            "{batches} batches, and {missing} rows in none, where the manifest counts {} and {}",
            facts.batches, facts.dropped_rows
        ));
    }
    if settings.remainder == Remainder::Short && full != facts.full_batches {
        outcome.fault(format!("{full} full batches, where the manifest counts {}", facts.full_batches));
    }
    if settings.mix.is_some() {
        outcome.unchecked.push("the tasks' shares, and whether a row comes twice in a round".into());
    }
    let rows = if settings.mix.is_some() { "rows as often as they come" } else { "each row once in an epoch" };
    Ok(format!("{batches} batches by themselves: sorted, of their tasks' sizes, {rows}"))
}

/// Reads the batch table in order.
struct TableAlone<'a> {
    outcome: &'a mut Outcome,
    /// Rows of the input.
    rows: u64,
    text_ids: bool,
    own_ranks: bool,
    sizes: ByTask<Sizes>,
    settings: &'a BatchesSettings,
    /// (epoch, batch, position) of the row before.
    last: Option<(i32, i64, i32)>,
    /// Rows of the batch so far.
    batch: u32,
    tasks: HashSet<Option<String>>,
    /// The last epoch in which a row was, by input row.
    seen: HashMap<i64, i32>,
    /// Rows, batches, full batches.
    counts: [u64; 3],
}

impl TableAlone<'_> {
    fn file(&mut self, path: &std::path::Path) -> Result<()> {
        let wanted = schema(TableForm {
            text_ids: self.text_ids,
            negatives: self.settings.hard_negatives > 0,
            own_ranks: self.own_ranks,
            masked: self.settings.mask == Mask::Suspects,
        });
        for_each_batch(path, &wanted, |batch| self.batch(batch))
    }

    fn batch(&mut self, batch: &RecordBatch) {
        let epochs = batch.column(0).as_primitive::<Int32Type>();
        let batches = batch.column(1).as_primitive::<Int64Type>();
        let positions = batch.column(2).as_primitive::<Int32Type>();
        let (tasks, inputs) = (batch.column(4).as_string::<i32>(), batch.column(6).as_primitive::<Int64Type>());
        for index in 0..batch.num_rows() {
            let place = (epochs.value(index), batches.value(index), positions.value(index));
            if self.last.is_some_and(|last| last >= place) {
                self.outcome.fault(format!("the table is not sorted at (epoch, batch, position) {place:?}"));
            }
            if self.last.is_some_and(|(_, batch, _)| batch != place.1) {
                self.end_batch();
            }
            self.last = Some(place);
            if u32::try_from(place.2) != Ok(self.batch) {
                self.outcome.fault(format!("batch {}: position {} follows {} rows", place.1, place.2, self.batch));
            }
            self.batch += 1;
            self.tasks.insert(tasks.is_valid(index).then(|| tasks.value(index).to_owned()));
            let input = inputs.value(index);
            if !u64::try_from(input).is_ok_and(|input| input < self.rows) {
                self.outcome.fault(format!("batch {}: there is no input row {input}", place.1));
            }
            let twice = self.seen.insert(input, place.0) == Some(place.0);
            self.counts[0] += u64::from(!twice);
            if twice && self.settings.mix.is_none() {
                self.outcome.fault(format!("batch {}: input row {input} is in epoch {} twice", place.1, place.0));
            }
        }
    }

    fn end_batch(&mut self) {
        let Some((_, number, _)) = self.last else { return };
        let own = |task: &Option<String>| self.sizes.of(task.as_deref().unwrap_or_default()).batch_size;
        let most = self.tasks.iter().map(own).max().unwrap_or(0);
        let mixed = self.settings.remainder == Remainder::Fill;
        // Batches that `fill` unites have the job's size.
        let most = if mixed { most.max(self.sizes.job.batch_size) } else { most };
        if self.tasks.len() > 1 && !mixed {
            self.outcome.fault(format!("batch {number} holds rows of several tasks"));
        }
        if self.batch > most || self.batch == 1 {
            self.outcome.fault(format!("batch {number} holds {} rows, where 2 to {most} may be", self.batch));
        }
        self.counts[1] += 1;
        self.counts[2] += u64::from(self.batch == most);
        self.batch = 0;
        self.tasks.clear();
    }
}
