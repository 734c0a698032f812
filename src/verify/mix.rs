//! Tasks by weight: as many full batches of each as its share says, evenly mixed, no row twice in a round, and in each
//! batch the rows that packing puts there.
//!
//! What a round makes is found by packing again. Memory: 5 bytes a row, 4 a row of an epoch, and what packing takes.

use super::{Opened, Outcome};
use crate::batches::epoch::{EpochPacker, EpochRules, Mixed};
use crate::batches::mix::{TaskBatches, batches_of_epoch, shares};
use crate::batches::order::BatchOrder;
use crate::error::Result;
use crate::run::Stage;
use crate::run::record::{BatchesFacts, BatchesSettings, ClustersSettings, EdgesSettings, MixFacts};
use crate::vectors::RowId;

/// Follows the batches of a table in order.
pub(super) struct MixCheck<'a> {
    packer: EpochPacker<'a>,
    settings: &'a BatchesSettings,
    /// Epochs that ended.
    ended: u32,
    /// Of the epoch under way.
    wanted: Mixed,
    /// Its batches.
    order: BatchOrder,
    /// Batches of it that came.
    index: usize,
    /// Full batches of the epoch that each task should have.
    counts: Vec<u64>,
    /// Full batches of each task, and of all, that came.
    came: Vec<u64>,
    steps: u64,
    /// The last round in which a row was, and 1; 0: none.
    round_of: Vec<u32>,
    /// Rows of full batches of first rounds, and of short batches.
    in_first: Vec<bool>,
    /// Over all epochs.
    total: MixFacts,
}

impl<'a> MixCheck<'a> {
    /// `None`: tasks have no weight, or what parts rows was cleaned.
    pub(super) fn new(
        opened: &'a Opened<'_>,
        settings: &'a BatchesSettings,
        outcome: &mut Outcome,
    ) -> Result<Option<MixCheck<'a>>> {
        if settings.mix.is_none() {
            return Ok(None);
        }
        if opened.run.is_cleaned(Stage::Edges) && opened.run.settings::<EdgesSettings>()?.verdicts.is_some() {
            outcome.unchecked.push("the tasks' shares: the edges were cleaned, which say whom verdicts part".into());
            return Ok(None);
        }
        let sizes = opened.run.settings::<ClustersSettings>()?.sizes;
        let rules = EpochRules::recorded(settings, &sizes, opened.vectors.tasks.names());
        let packer = EpochPacker::new(&opened.vectors, &opened.clusters, rules, opened.own_ranks.as_ref());
        let rows = opened.vectors.row_count() as usize;
        Ok(Some(MixCheck {
            packer,
            settings,
            ended: 0,
            wanted: Mixed { counts: MixFacts::default(), batches: Vec::new(), rounds: Vec::new(), placed: 0 },
            order: BatchOrder::default(),
            index: 0,
            counts: Vec::new(),
            came: Vec::new(),
            steps: 0,
            round_of: vec![0; rows],
            in_first: vec![false; rows],
            total: MixFacts::default(),
        }))
    }

    /// Begins an epoch.
    ///
    /// # Errors
    /// The labels are damaged.
    fn begin(&mut self, opened: &Opened<'_>, epoch: u32) -> Result<()> {
        let Some(rules) = &self.settings.mix else { return Ok(()) };
        let packed = self.packer.pack(epoch)?;
        (self.order, self.index) = (packed.order, 0);
        if let Some(mixed) = packed.mixed {
            self.wanted = mixed;
        }
        let rounds = &self.wanted.rounds;
        let tasks: Vec<TaskBatches> = opened
            .vectors
            .tasks
            .names()
            .zip(rounds)
            .map(|(name, rounds)| TaskBatches { rule: rules.tasks.of(name), of_round: rounds[0] })
            .collect();
        let counts = batches_of_epoch(&shares(rules, &tasks), epoch);
        // A task whose rows fill no batch in some round has no more.
        let most = rounds.iter().map(|rounds| if rounds.last() == Some(&0) { rounds.iter().sum() } else { u64::MAX });
        self.counts = counts.into_iter().zip(most).map(|(count, most)| count.min(most)).collect();
        self.came = vec![0; self.counts.len()];
        self.steps = 0;
        self.round_of.fill(0);
        self.in_first.fill(false);
        Ok(())
    }

    /// Takes the next batch, of one task.
    pub(super) fn take(
        &mut self,
        opened: &Opened<'_>,
        (epoch, number): (u32, i64),
        (rows, is_full): (&[RowId], bool),
        outcome: &mut Outcome,
    ) -> Result<()> {
        if self.came.is_empty() {
            self.end_until(opened, epoch, outcome)?;
            self.begin(opened, epoch)?;
        }
        let Some(first) = rows.first() else { return Ok(()) };
        if self.index < self.order.count() && self.order.batch(self.index) != rows {
            outcome.fault(format!("batch {number} is not the one that packing makes"));
        }
        self.index += 1;
        let task = opened.vectors.tasks.of(*first);
        if !is_full {
            let twice = rows.iter().filter(|row| std::mem::replace(&mut self.in_first[**row as usize], true)).count();
            if twice > 0 {
                outcome.fault(format!("batch {number}: {twice} rows of it are in another batch of round 0, too"));
            }
            return Ok(());
        }
        let came = self.came[task];
        let mut until = 0;
        let ends = self.wanted.rounds[task].iter().map(|batches| {
            until += batches;
            until
        });
        let round = ends.take_while(|end| *end <= came).count() as u32;
        // As it is kept: 0 stands for no round.
        let mark = round + 1;
        let marked = rows.iter().filter(|row| std::mem::replace(&mut self.round_of[**row as usize], mark) == mark);
        let twice = marked.count();
        if twice > 0 {
            outcome.fault(format!("batch {number}: {twice} rows of it are in round {round} of their task twice"));
        }
        rows.iter().for_each(|row| self.in_first[*row as usize] |= round == 0);
        self.came[task] += 1;
        self.steps += 1;
        let all: u128 = self.counts.iter().map(|count| u128::from(*count)).sum();
        let [count, came, steps] = [self.counts[task], came, self.steps].map(u128::from);
        // Less than one batch ahead of its share behind this batch, and less than one late before it.
        if (came + 1) * all >= steps * count + all || (came + 1) * all <= (steps - 1) * count {
            outcome.fault(format!(
                "batch {number}: it is batch {came} of its task, of {count}, and batch {} of {all} of the epoch: \
                 tasks are not evenly mixed",
                steps - 1
            ));
        }
        Ok(())
    }

    /// Ends the epoch under way, and those before `epoch` that have no batch.
    ///
    /// # Errors
    /// The labels are damaged.
    pub(super) fn end_until(&mut self, opened: &Opened<'_>, epoch: u32, outcome: &mut Outcome) -> Result<()> {
        if !self.came.is_empty() {
            self.end_epoch(opened, outcome);
        }
        while self.ended < epoch {
            self.begin(opened, self.ended)?;
            self.end_epoch(opened, outcome);
        }
        Ok(())
    }

    /// Ends an epoch. O(tasks).
    fn end_epoch(&mut self, opened: &Opened<'_>, outcome: &mut Outcome) {
        for (task, (came, wanted)) in self.came.iter().zip(&self.counts).enumerate() {
            if came != wanted {
                let (epoch, name) = (self.ended, opened.vectors.tasks.name(task));
                outcome
                    .fault(format!("epoch {epoch}: {came} full batches of task {name:?}, where its share is {wanted}"));
            }
            self.total.add(self.wanted.rounds[task][0], *came);
        }
        self.came.clear();
        self.ended += 1;
    }

    /// What was counted in all epochs.
    pub(super) fn total(&self) -> MixFacts {
        self.total
    }
}

/// Compares what was counted in all epochs with what the manifest counts, and says it.
pub(super) fn compare(total: Option<MixFacts>, facts: &BatchesFacts, outcome: &mut Outcome) -> String {
    let Some(total) = total else { return String::new() };
    if facts.mix != Some(total) {
        let shown = |facts: MixFacts| {
            let MixFacts { first_round_batches, repeated_batches, skipped_batches } = facts;
            format!(
                "{first_round_batches} full batches of first rounds, {repeated_batches} more, {skipped_batches} \
                 left out"
            )
        };
        let counted = facts.mix.map_or_else(|| "none".to_owned(), shown);
        outcome.fault(format!("the mix of tasks is {}, where the manifest counts {counted}", shown(total)));
    }
    let MixFacts { first_round_batches, repeated_batches, skipped_batches } = total;
    if first_round_batches > facts.possible_batches {
        outcome.fault("tasks packed once have more full batches than keys allow".into());
    }
    format!(
        "; tasks have their shares, evenly mixed: {repeated_batches} batches repeat rows, {skipped_batches} of \
         {first_round_batches} are left out"
    )
}
