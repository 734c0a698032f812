//! One epoch: the clusters of all tasks packed into batches, in random order, or in that of a
//! mix of tasks.

use super::mixed::{self, MixedEpoch};
use super::order::BatchOrder;
use super::pack::{self, PackRules, Packed, pack_task};
use super::sharding::{self, Sharding};
use super::units::Units;
use crate::clusters::labels::members;
use crate::clusters::{Clusters, NO_CLUSTER};
use crate::config::{ByTask, Config, MixRule, MixRules, Remainder, Sizes};
use crate::error::{Error, Result};
use crate::neighbors::own_ranks::OwnRanks;
use crate::random::{Purpose, stream};
use crate::run::record::{BatchesSettings, MixFacts};
use crate::vectors::{Keys, RowId, Vectors};

/// One epoch's batches.
pub(crate) struct PackedEpoch {
    /// Full batches first.
    pub order: BatchOrder,
    /// Batches of exactly |B|.
    pub full: usize,
    /// The most full batches that keys allow.
    pub possible: u64,
    /// Clusters whose rows are not all in one batch; of `fill`'s batches none is counted.
    pub divided: u32,
    /// Rows left out because no other row could join them.
    pub alone: u64,
    /// What came of tasks by weight, where they have any.
    pub mixed: Option<Mixed>,
}

/// What came of tasks by weight in an epoch.
pub(crate) struct Mixed {
    pub counts: MixFacts,
    /// Full batches of each task.
    pub batches: Vec<u64>,
    /// Of each task the full batches that every round made.
    pub rounds: Vec<Vec<u64>>,
    /// Rows that are in a batch.
    pub placed: u64,
}

/// What an epoch goes by.
#[derive(Debug, Clone)]
pub(crate) struct EpochRules<'a> {
    pub seed: u64,
    pub remainder: Remainder,
    /// R.
    pub rows_per_key: u32,
    /// Tasks by weight, where they have any.
    pub mix: Option<&'a MixRules>,
    pub sharding: Sharding,
    /// K and |B| of batches that `fill` unites.
    pub job_sizes: Sizes,
    /// K and |B| of each task.
    pub sizes: Vec<Sizes>,
}

impl<'a> EpochRules<'a> {
    /// Those of a job with tasks of these names.
    pub(super) fn of<'n>(config: &'a Config, tasks: impl Iterator<Item = &'n str>) -> EpochRules<'a> {
        let sizes = config.sizes();
        EpochRules {
            seed: config.seed,
            remainder: config.batches.remainder,
            rows_per_key: config.batches.rows_per_key,
            mix: config.mix.as_ref(),
            sharding: Sharding::from(config.batches),
            job_sizes: sizes.job,
            sizes: sizes.all(tasks),
        }
    }

    /// Those that a run recorded.
    pub(crate) fn recorded<'n>(
        settings: &'a BatchesSettings,
        sizes: &ByTask<Sizes>,
        tasks: impl Iterator<Item = &'n str>,
    ) -> EpochRules<'a> {
        EpochRules {
            seed: settings.seed,
            remainder: settings.remainder,
            rows_per_key: settings.rows_per_key,
            mix: settings.mix.as_ref(),
            sharding: Sharding { world: settings.world_size as usize, layout: settings.rank_layout },
            job_sizes: sizes.job,
            sizes: sizes.all(tasks),
        }
    }
}

/// Packs epochs of one run.
pub(crate) struct EpochPacker<'a> {
    vectors: &'a Vectors,
    clusters: &'a Clusters,
    rules: EpochRules<'a>,
    /// Where each cluster's rows start in `members`; rows without a cluster come last.
    starts: Vec<u32>,
    members: Vec<RowId>,
}

impl<'a> EpochPacker<'a> {
    /// `own_ranks` say which rows are left out, where any are.
    pub(crate) fn new(
        vectors: &'a Vectors,
        clusters: &'a Clusters,
        rules: EpochRules<'a>,
        own_ranks: Option<&OwnRanks>,
    ) -> EpochPacker<'a> {
        let (starts, mut members) = members(clusters.labels(), clusters.count());
        if let Some(ranks) = own_ranks {
            // They are in no cluster, so they are among the last.
            let loose = members.split_off(starts[clusters.count() as usize] as usize);
            members.extend(loose.into_iter().filter(|row| !ranks.leaves_out(*row)));
        }
        EpochPacker { vectors, clusters, rules, starts, members }
    }

    /// The batches of an epoch: full ones of all tasks in random order, or in that of a mix, then the short ones in
    /// task order. Expected O(rows log rows).
    ///
    /// # Errors
    /// The clusters are not numbered in task order: the labels are damaged. Or weights make too many rows.
    pub(crate) fn pack(&self, epoch: u32) -> Result<PackedEpoch> {
        if let Some(rules) = self.rules.mix {
            return self.pack_mixed(epoch, rules);
        }
        let packed = self.pack_tasks(epoch)?;
        let (seed, keys) = (self.rules.seed, self.vectors.rows.parting_keys());
        let mut order = packed.full.shuffled(&mut stream(Purpose::BatchOrder { seed, epoch }));
        let mut full = packed.full.count();
        let mut possible = packed.possible;
        drop(packed.full);
        let remainder = self.rules.remainder;
        let (filled, short) = match remainder {
            Remainder::Short => (BatchOrder::default(), packed.short),
            Remainder::Drop => Default::default(),
            Remainder::Fill => {
                // Rows of any task: the job's own size, whatever the tasks' are.
                let rules = self.pack_rules(self.rules.job_sizes, &keys);
                let filled = pack::fill(&packed.short.rows, &rules);
                full += filled.full.count();
                possible += filled.possible;
                (filled.full, filled.short)
            }
        };
        let (short, alone) = short.without_single_rows();
        // Batches that `fill` unites divide clusters as they come.
        let counted = short.batches().filter(|_| remainder == Remainder::Short);
        let divided = self.divided(order.batches().chain(counted));
        order.append(filled);
        order.append(short);
        self.shard(&mut order);
        Ok(PackedEpoch { order, full, possible, divided, alone, mixed: None })
    }

    /// The batches of an epoch of tasks by weight.
    fn pack_mixed(&self, epoch: u32, rules: &MixRules) -> Result<PackedEpoch> {
        let (seed, keys) = (self.rules.seed, self.vectors.rows.parting_keys());
        let units = self.task_units()?;
        let rule = |(name, sizes): (&str, &Sizes)| (rules.tasks.of(name), sizes.batch_size);
        let tasks: Vec<(MixRule, u32)> = self.vectors.tasks.names().zip(&self.rules.sizes).map(rule).collect();
        let pack = |task: usize, round: u32| {
            let purpose = match round {
                0 => Purpose::Packing { seed, epoch, task },
                _ => Purpose::Round { seed, epoch, task, round },
            };
            pack_task(units[task], &self.pack_rules(self.rules.sizes[task], &keys), &mut stream(purpose))
        };
        let MixedEpoch { full: mut order, short, possible, counts, batches, rounds } =
            mixed::mix(rules, &tasks, (seed, epoch), pack)?;
        let full = order.count();
        let (short, alone) = match self.rules.remainder {
            Remainder::Drop | Remainder::Fill => (BatchOrder::default(), 0),
            Remainder::Short => short.without_single_rows(),
        };
        order.append(short);
        let divided = self.divided(order.batches());
        self.shard(&mut order);
        let mut is_placed = vec![false; self.vectors.row_count() as usize];
        order.rows.iter().for_each(|row| is_placed[*row as usize] = true);
        let placed = is_placed.into_iter().filter(|placed| *placed).count() as u64;
        Ok(PackedEpoch {
            order,
            full,
            possible,
            divided,
            alone,
            mixed: Some(Mixed { counts, batches, rounds, placed }),
        })
    }

    /// Full and short batches of all tasks, in task order.
    fn pack_tasks(&self, epoch: u32) -> Result<Packed> {
        let (seed, keys) = (self.rules.seed, self.vectors.rows.parting_keys());
        let mut all = Packed::default();
        for (task, (units, sizes)) in self.task_units()?.into_iter().zip(&self.rules.sizes).enumerate() {
            let mut random = stream(Purpose::Packing { seed, epoch, task });
            all.append(pack_task(units, &self.pack_rules(*sizes, &keys), &mut random));
        }
        Ok(all)
    }

    /// What is packed of each task.
    fn task_units(&self) -> Result<Vec<Units<'_>>> {
        let count = self.clusters.count();
        // Clusters are numbered in task order, each task's together; loose rows come last, in row order.
        let loose = &self.members[self.starts[count as usize] as usize..];
        let (mut cluster, mut loose_at) = (0u32, 0);
        let mut all = Vec::with_capacity(self.rules.sizes.len());
        for range in self.vectors.tasks.ranges() {
            let (first, loose_first) = (cluster, loose_at);
            while cluster < count && self.rows_of(cluster).first().is_some_and(|row| range.contains(row)) {
                cluster += 1;
            }
            while loose_at < loose.len() && range.contains(&loose[loose_at]) {
                loose_at += 1;
            }
            let starts = &self.starts[first as usize..=cluster as usize];
            let clustered = &self.members[starts[0] as usize..self.starts[cluster as usize] as usize];
            all.push(Units::new(clustered, starts, &loose[loose_first..loose_at]));
        }
        if cluster != count || loose_at != loose.len() {
            return Err(Error::runtime("the labels do not follow the tasks")
                .path(self.clusters.sealed().path())
                .expected("clusters numbered in task order, each of one task")
                .found(format!("cluster {cluster} out of order"))
                .remedy("run `mine` again with --replace"));
        }
        Ok(all)
    }

    /// Clusters of which a batch holds a part. O(rows log |B|).
    fn divided<'b>(&self, batches: impl Iterator<Item = &'b [RowId]>) -> u32 {
        let labels = self.clusters.labels();
        let mut divided = vec![false; self.clusters.count() as usize];
        let mut own = Vec::new();
        for batch in batches {
            own.clear();
            own.extend(batch.iter().map(|row| labels[*row as usize]).filter(|label| *label != NO_CLUSTER));
            own.sort_unstable();
            for rows in own.chunk_by(|a, b| a == b) {
                divided[rows[0] as usize] |= rows.len() < self.rows_of(rows[0]).len();
            }
        }
        divided.into_iter().filter(|divided| *divided).count() as u32
    }

    fn pack_rules<'k>(&self, sizes: Sizes, keys: &'k Keys<'k>) -> PackRules<'k> {
        PackRules { sizes, per_key: self.rules.rows_per_key, keys }
    }

    fn rows_of(&self, cluster: u32) -> &[RowId] {
        &self.members[self.starts[cluster as usize] as usize..self.starts[cluster as usize + 1] as usize]
    }

    /// Brings the rows of each batch into the order in which the trainer's processes read whole clusters.
    fn shard(&self, order: &mut BatchOrder) {
        let sharding = self.rules.sharding;
        if sharding.world == 1 {
            return;
        }
        let labels = self.clusters.labels();
        let label = |row: &RowId| labels[*row as usize];
        let same = |a: &RowId, b: &RowId| label(a) == label(b) && label(a) != NO_CLUSTER;
        order.arrange(|rows| {
            let units: Vec<&[RowId]> = rows.chunk_by(same).collect();
            let arranged = sharding::arrange(&units, sharding);
            rows.copy_from_slice(&arranged);
        });
    }
}
