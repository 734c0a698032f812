//! One epoch: the clusters of all tasks packed into batches, in random order.

use super::order::BatchOrder;
use super::pack::{self, PackRules, Packed, pack_task};
use super::sharding::{self, Sharding};
use super::units::Units;
use crate::clusters::labels::members;
use crate::clusters::{Clusters, NO_CLUSTER};
use crate::config::{Config, Remainder, Sizes};
use crate::error::{Error, Result};
use crate::neighbors::own_ranks::OwnRanks;
use crate::random::{Purpose, stream};
use crate::vectors::{Keys, RowId, Vectors};

/// One epoch's batches.
pub(super) struct PackedEpoch {
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
}

/// Packs epochs of one run.
pub(super) struct EpochPacker<'a> {
    vectors: &'a Vectors,
    clusters: &'a Clusters,
    config: &'a Config,
    /// Where each cluster's rows start in `members`; rows without a cluster come last.
    starts: Vec<u32>,
    members: Vec<RowId>,
    /// K and |B| of each task.
    sizes: Vec<Sizes>,
}

impl<'a> EpochPacker<'a> {
    /// `own_ranks` say which rows are left out, where any are.
    pub(super) fn new(
        vectors: &'a Vectors,
        clusters: &'a Clusters,
        config: &'a Config,
        own_ranks: Option<&OwnRanks>,
    ) -> EpochPacker<'a> {
        let (starts, mut members) = members(clusters.labels(), clusters.count());
        if let Some(ranks) = own_ranks {
            // They are in no cluster, so they are among the last.
            let loose = members.split_off(starts[clusters.count() as usize] as usize);
            members.extend(loose.into_iter().filter(|row| !ranks.leaves_out(*row)));
        }
        let sizes = config.sizes().all(vectors.tasks.names());
        EpochPacker { vectors, clusters, config, starts, members, sizes }
    }

    /// The batches of an epoch: full ones of all tasks in random order, then the short ones in task order. Expected
    /// O(rows log rows).
    ///
    /// # Errors
    /// The clusters are not numbered in task order: the labels are damaged.
    pub(super) fn pack(&self, epoch: u32) -> Result<PackedEpoch> {
        let packed = self.pack_tasks(epoch)?;
        let (seed, keys) = (self.config.seed, self.vectors.rows.parting_keys());
        let mut order = packed.full.shuffled(&mut stream(Purpose::BatchOrder { seed, epoch }));
        let mut full = packed.full.count();
        let mut possible = packed.possible;
        drop(packed.full);
        let remainder = self.config.batches.remainder;
        let (filled, short) = match remainder {
            Remainder::Short => (BatchOrder::default(), packed.short),
            Remainder::Drop => Default::default(),
            Remainder::Fill => {
                // Rows of any task: the job's own size, whatever the tasks' are.
                let rules = self.rules(self.config.sizes().job, &keys);
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
        Ok(PackedEpoch { order, full, possible, divided, alone })
    }

    /// Full and short batches of all tasks, in task order.
    fn pack_tasks(&self, epoch: u32) -> Result<Packed> {
        let (seed, count) = (self.config.seed, self.clusters.count());
        let keys = self.vectors.rows.parting_keys();
        let mut all = Packed::default();
        // Clusters are numbered in task order, each task's together; loose rows come last, in row order.
        let loose = &self.members[self.starts[count as usize] as usize..];
        let (mut cluster, mut loose_at) = (0u32, 0);
        for (task, (range, sizes)) in self.vectors.tasks.ranges().zip(&self.sizes).enumerate() {
            let (first, loose_first) = (cluster, loose_at);
            while cluster < count && self.rows_of(cluster).first().is_some_and(|row| range.contains(row)) {
                cluster += 1;
            }
            while loose_at < loose.len() && range.contains(&loose[loose_at]) {
                loose_at += 1;
            }
            let starts = &self.starts[first as usize..=cluster as usize];
            let clustered = &self.members[starts[0] as usize..self.starts[cluster as usize] as usize];
            let units = Units::new(clustered, starts, &loose[loose_first..loose_at]);
            let rules = self.rules(*sizes, &keys);
            let mut random = stream(Purpose::Packing { seed, epoch, task });
            all.append(pack_task(units, &rules, &mut random));
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

    fn rules<'k>(&self, sizes: Sizes, keys: &'k Keys<'k>) -> PackRules<'k> {
        PackRules { sizes, per_key: self.config.batches.rows_per_key, keys }
    }

    fn rows_of(&self, cluster: u32) -> &[RowId] {
        &self.members[self.starts[cluster as usize] as usize..self.starts[cluster as usize + 1] as usize]
    }

    /// Brings the rows of each batch into the order in which the trainer's processes read whole clusters.
    fn shard(&self, order: &mut BatchOrder) {
        let sharding = Sharding::from(self.config.batches);
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
