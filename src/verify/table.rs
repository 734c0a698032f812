//! The batch table: order, sizes, tasks, keys, packing, sharding, values, hard negatives, and each row once an epoch.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int32Type, Int64Type};

use super::mix::{self, MixCheck};
use super::negatives::Asked;
use super::table_file::for_each_batch;
use super::{Opened, Outcome, crowded, mask, negatives, shown};
use crate::batches::bound::{KeyGroups, most_full};
use crate::batches::sharding::Sharding;
use crate::batches::table::{TableForm, schema};
use crate::clusters::NO_CLUSTER;
use crate::clusters::labels::members;
use crate::config::{Mask, Remainder};
use crate::error::Result;
use crate::neighbors::Windows;
use crate::neighbors::own_ranks::OwnRanks;
use crate::neighbors::topk::Candidate;
use crate::run::Stage;
use crate::run::record::{BatchesFacts, BatchesSettings, NeighborsSettings};
use crate::vectors::{PositiveCodes, RowId};

impl Opened<'_> {
    /// The table: order, sizes, tasks, keys, values, and each row once an epoch.
    pub(super) fn check_batches(&self, outcome: &mut Outcome) -> Result<String> {
        let record = self.run.stage(Stage::Batches)?;
        let settings: BatchesSettings = self.run.settings()?;
        let facts: BatchesFacts = self.run.facts()?;
        let epochs = u64::from(settings.epochs);
        let mut table = TableCheck::new(self, &settings, outcome)?;
        let folder = self.run.stage_folder(Stage::Batches);
        for name in record.parts.keys() {
            table.file(&folder.join(name))?;
        }
        table.end_batch()?;
        table.end_epoch()?;
        table.end(settings.epochs)?;
        let total = table.mix.as_ref().map(MixCheck::total);
        let divided = table.divided_clusters;
        let (full, short, asked, without) = (table.full, table.short, table.negatives, table.short_of_negatives);
        let left_out = self.own_ranks.as_ref().map_or(0, OwnRanks::left_out);
        let missing = (epochs * (table.seen.len() as u64 - left_out)).saturating_sub(table.rows);
        let [dropped, alone] = [facts.dropped_rows, facts.rows_alone];
        let all_left_are_alone = settings.remainder != Remainder::Drop && settings.mix.is_none();
        if missing != dropped || (all_left_are_alone && missing != alone) {
            outcome
                .fault(format!("{missing} rows are in no batch, {dropped} are counted as dropped, {alone} as alone"));
        }
        let mixed = mix::compare(total, &facts, outcome);
        self.check_packing(&settings, &facts, [full, divided], outcome);
        compare_counts(&settings, &facts, [full, short, without], outcome);
        Ok(format!(
            "{full} batches of {} (keys allow {}) and {short} smaller ones: sorted, one task each, {}, \
             each row once in each {of}{epochs} epochs ({dropped} left out), {divided} clusters divided{mixed}{}",
            shown(self.sizes.iter().map(|sizes| sizes.batch_size)),
            facts.possible_batches,
            self.key_rule(),
            words_on_negatives(asked, without),
            of = if settings.mix.is_some() { "round of " } else { "of " },
        ) + if settings.mask == Mask::Suspects {
            "; every suspect in a batch is masked, and nobody else"
        } else {
            ""
        })
    }

    /// Row, or document, by input row; none where it was left out.
    fn row_of_input(&self) -> Vec<Option<RowId>> {
        let table = &self.vectors.rows;
        let mut rows = vec![None; table.input_row_limit() as usize];
        (0..).zip(table.input_rows()).for_each(|(row, input)| rows[*input as usize] = Some(row));
        rows
    }

    /// Counts of full batches and divided clusters: as recorded, and no more batches than keys allow.
    fn check_packing(
        &self,
        settings: &BatchesSettings,
        facts: &BatchesFacts,
        [full, divided]: [u64; 2],
        outcome: &mut Outcome,
    ) {
        if settings.remainder == Remainder::Fill {
            // Batches of several tasks divide clusters as they come.
            return;
        }
        let keys = self.vectors.rows.parting_keys();
        let mut possible = 0;
        for (range, sizes) in self.vectors.tasks.ranges().zip(&self.sizes) {
            let is_in = |row: &RowId| self.own_ranks.as_ref().is_none_or(|ranks| !ranks.leaves_out(*row));
            let groups = KeyGroups::new(range.filter(is_in), &keys);
            possible += most_full(&groups.sizes, groups.single(), sizes.batch_size, self.rows_per_key);
        }
        possible *= u64::from(settings.epochs);
        if (full > possible && settings.mix.is_none()) || possible != facts.possible_batches {
            outcome.fault(format!(
                "{full} full batches, and {} are said to be possible, where keys allow {possible}",
                facts.possible_batches
            ));
        }
        if divided != facts.divided_clusters {
            outcome
                .fault(format!("{divided} clusters are divided, where the manifest counts {}", facts.divided_clusters));
        }
    }
}

/// What was found of hard negatives.
fn words_on_negatives(asked: Asked, without: u64) -> String {
    match asked.count {
        0 => String::new(),
        h => format!(
            "; {h} hard negatives a row ({without} rows have fewer), all out of {}, none in the batch, of the row's \
             key or its suspect, with true scores",
            asked.source()
        ),
    }
}

/// Compares what the manifest counts of batches with what the table holds: full ones, smaller ones, and rows that are
/// short of hard negatives.
fn compare_counts(
    settings: &BatchesSettings,
    facts: &BatchesFacts,
    [full, short, without]: [u64; 3],
    outcome: &mut Outcome,
) {
    if full + short != facts.batches {
        outcome.fault(format!("{} batches, where the manifest counts {}", full + short, facts.batches));
    }
    let counted = [facts.full_batches, facts.short_batches];
    if settings.remainder == Remainder::Short && counted != [full, short] {
        outcome.fault(format!("{full} full and {short} smaller batches, where the manifest counts {counted:?}"));
    }
    let counted = facts.rows_short_of_negatives.unwrap_or(0);
    if counted != without {
        outcome.fault(format!("{without} rows are short of hard negatives, where the manifest counts {counted}"));
    }
}

/// The masked positions of a row of the table.
fn masked_positions(batch: &RecordBatch, index: usize) -> Option<Vec<i32>> {
    let list = batch.column_by_name("masked")?.as_list_opt::<i32>().filter(|list| list.is_valid(index))?.value(index);
    let positions = list.as_primitive_opt::<Int32Type>().filter(|positions| positions.null_count() == 0)?;
    Some(positions.values().to_vec())
}

/// Reads the batch table in order.
struct TableCheck<'a, 'r> {
    opened: &'a Opened<'r>,
    outcome: &'a mut Outcome,
    windows: Windows<'a>,
    /// |B| of batches that `fill` unites.
    size: usize,
    /// Batches may have rows of several tasks.
    filled: bool,
    /// Tasks have weights: rows may be in an epoch several times.
    has_mix: bool,
    /// Follows tasks by weight, where they have any.
    mix: Option<MixCheck<'a>>,
    row_of_input: Vec<Option<RowId>>,
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
    negatives: Asked,
    /// Which rows and documents have the same positive.
    codes: PositiveCodes<'a>,
    /// The hard negatives of the batch's rows.
    drawn: Vec<Vec<Candidate>>,
    /// The masked positions of the batch's rows, where the table has them; none of a row where they are not readable.
    masked: Option<Vec<Option<Vec<i32>>>>,
    short_of_negatives: u64,
    /// Clusters that some batch of this epoch holds a part of.
    divided: Vec<bool>,
    /// Over all epochs.
    divided_clusters: u64,
}

impl<'a, 'r> TableCheck<'a, 'r> {
    fn new(
        opened: &'a Opened<'r>,
        settings: &'a BatchesSettings,
        outcome: &'a mut Outcome,
    ) -> Result<TableCheck<'a, 'r>> {
        let rules = opened.run.settings::<NeighborsSettings>()?.candidates;
        let mix = MixCheck::new(opened, settings, outcome)?;
        Ok(TableCheck {
            opened,
            outcome,
            windows: opened.windows()?,
            size: opened.job_sizes.batch_size as usize,
            filled: settings.remainder == Remainder::Fill,
            mix,
            has_mix: settings.mix.is_some(),
            row_of_input: opened.row_of_input(),
            seen: vec![false; opened.vectors.row_count() as usize],
            rows: 0,
            last: None,
            batch: Vec::new(),
            cluster_sizes: {
                let (starts, _) = members(opened.clusters.labels(), opened.clusters.count());
                starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
            },
            task: None,
            full: 0,
            short: 0,
            sharding: Sharding { world: settings.world_size as usize, layout: settings.rank_layout },
            negatives: Asked { count: settings.hard_negatives as usize, of: settings.negatives_of },
            codes: opened.vectors.positive_codes(rules.positive_key.as_deref())?,
            drawn: Vec::new(),
            masked: (settings.mask == Mask::Suspects).then(Vec::new),
            short_of_negatives: 0,
            divided: vec![false; opened.clusters.count() as usize],
            divided_clusters: 0,
        })
    }

    fn file(&mut self, path: &std::path::Path) -> Result<()> {
        let wanted = schema(TableForm {
            text_ids: self.opened.vectors.ids.are_text(),
            negatives: self.negatives.count > 0,
            own_ranks: self.opened.own_ranks.is_some(),
            masked: self.masked.is_some(),
        });
        let mut read = Ok(());
        for_each_batch(path, &wanted, |batch| {
            read = std::mem::replace(&mut read, Ok(())).and_then(|()| self.rows(batch))
        })?;
        read
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<()> {
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
                self.end_batch()?;
            }
            if place.2 as usize != self.batch.len() {
                self.outcome.fault(format!("batch {}: position {} follows {}", place.1, place.2, self.batch.len()));
            }
            if self.last.is_some_and(|(epoch, ..)| epoch != place.0) {
                self.end_epoch()?;
            }
            self.last = Some(place);
            let input = inputs.value(index);
            let known = usize::try_from(input).ok().and_then(|input| *self.row_of_input.get(input)?);
            let Some(row) = known.filter(|row| *row < vectors.row_count()) else {
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
            if !self.has_its_rank(batch, index, row) {
                self.outcome.fault(format!("batch {}: the own rank of input row {input} is another", place.1));
            }
            if !self.filled && *self.task.get_or_insert(task) != task {
                self.outcome.fault(format!("batch {} holds rows of several tasks", place.1));
            }
            self.batch.push(row);
            self.take_drawn(batch, index, (place.1, input));
            if let Some(masked) = &mut self.masked {
                masked.push(masked_positions(batch, index));
            }
            let seen = std::mem::replace(&mut self.seen[row as usize], true);
            self.rows += u64::from(!seen);
            if seen && !self.has_mix {
                self.outcome.fault(format!("batch {}: input row {input} is in epoch {} twice", place.1, place.0));
            }
        }
        Ok(())
    }

    /// Takes a row's hard negatives, where there are any.
    fn take_drawn(&mut self, rows: &RecordBatch, index: usize, (batch, input): (i64, i64)) {
        if self.negatives.count == 0 {
            return;
        }
        let drawn = self.drawn(rows, index).unwrap_or_else(|| {
            let what = "are no lists of known rows with their ids";
            self.outcome.fault(format!("batch {batch}: the hard negatives of input row {input} {what}"));
            Vec::new()
        });
        self.drawn.push(drawn);
    }

    /// Whether a row's own rank, where there are any, is that of the run, and leaves it in.
    fn has_its_rank(&self, batch: &RecordBatch, index: usize, row: RowId) -> bool {
        let Some(ranks) = &self.opened.own_ranks else { return true };
        let found = batch.column_by_name("own_rank").map(|own| own.as_primitive::<Int32Type>());
        let found = found.and_then(|own| own.is_valid(index).then(|| own.value(index)));
        !ranks.leaves_out(row) && found == ranks.of(row).map(|rank| rank as i32)
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
            let row = usize::try_from(input).ok().and_then(|input| *self.row_of_input.get(input)?)?;
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
            true if self.filled => own.max(self.size),
            true => own,
            false => self.size,
        }
    }

    /// Behind the last batch: epochs that have none.
    fn end(&mut self, epochs: u32) -> Result<()> {
        match &mut self.mix {
            Some(mix) => mix.end_until(self.opened, epochs, self.outcome),
            None => Ok(()),
        }
    }

    fn end_epoch(&mut self) -> Result<()> {
        let ended = self.last.map_or(0, |(epoch, ..)| epoch).cast_unsigned() + 1;
        if let Some(mix) = &mut self.mix {
            mix.end_until(self.opened, ended, self.outcome)?;
        }
        self.seen.fill(false);
        self.divided_clusters += self.divided.iter().filter(|divided| **divided).count() as u64;
        self.divided.fill(false);
        Ok(())
    }

    fn end_batch(&mut self) -> Result<()> {
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
        if let Some(fault) = crowded(&self.batch, &self.opened.vectors.rows.parting_keys(), self.opened.rows_per_key) {
            self.outcome.fault(format!("batch {number} {fault}"));
        }
        if self.batch.len() == 1 {
            self.outcome.fault(format!("batch {number} holds one row: it has no negative"));
        }
        self.check_clusters(number, size);
        if let Some(mix) = &mut self.mix {
            let epoch = self.last.map_or(0, |(epoch, ..)| epoch).cast_unsigned();
            let batch = (&self.batch[..], self.batch.len() == size);
            mix.take(self.opened, (epoch, number), batch, self.outcome)?;
        }
        if self.negatives.count > 0 {
            let faults =
                negatives::faults(self.opened, &self.windows, &self.batch, &self.drawn, self.negatives, self.codes);
            faults.into_iter().for_each(|fault| self.outcome.fault(format!("batch {number}: {fault}")));
            self.short_of_negatives +=
                self.drawn.iter().filter(|drawn| drawn.len() < self.negatives.count).count() as u64;
            self.drawn.clear();
        }
        if let Some(masked) = &mut self.masked {
            let faults = mask::faults(self.opened, &self.windows, &self.batch, masked);
            faults.into_iter().for_each(|fault| self.outcome.fault(format!("batch {number}: {fault}")));
            masked.clear();
        }
        self.batch.clear();
        self.task = None;
        Ok(())
    }

    /// Counts the clusters of which the batch holds a part, and checks that no process of a trainer reads a part of a
    /// cluster where that was promised: in full batches that hold clusters of K rows and nothing else.
    fn check_clusters(&mut self, number: i64, size: usize) {
        if self.filled || self.batch.is_empty() {
            return;
        }
        let own = self.opened.sizes[self.opened.vectors.tasks.of(self.batch[0])];
        let clusters = &self.opened.clusters;
        let labels: Vec<u32> = self.batch.iter().map(|row| clusters.labels()[*row as usize]).collect();
        let mut sorted = labels.clone();
        sorted.sort_unstable();
        let mut promised = labels.len() == size;
        for group in sorted.chunk_by(|a, b| a == b) {
            let whole = group[0] != NO_CLUSTER && group.len() as u32 == self.cluster_sizes[group[0] as usize];
            promised &= whole && group.len() == own.cluster_size as usize;
            if !whole && group[0] != NO_CLUSTER {
                self.divided[group[0] as usize] = true;
            }
        }
        if !promised && self.sharding.world > 1 {
            return;
        }
        for process in 0..self.sharding.world {
            let share: Vec<u32> =
                self.sharding.positions(process, labels.len()).map(|position| labels[position]).collect();
            let mut met = HashSet::new();
            let mut runs = share.chunk_by(|a, b| a == b).map(|group| &group[0]).filter(|label| **label != NO_CLUSTER);
            let parted = runs.find(|label| !met.insert(**label));
            let torn = share
                .chunk_by(|a, b| a == b)
                .find(|group| promised && group.len() as u32 != self.cluster_sizes[group[0] as usize]);
            if let Some(label) = parted.or(torn.map(|group| &group[0])) {
                self.outcome.fault(format!(
                    "batch {number}, process {process}: the rows of cluster {label} are not side by side"
                ));
            }
        }
    }
}
