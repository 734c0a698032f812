//! One epoch: the clusters of all tasks packed into batches, in random order.

use super::pack::{self, BatchOrder, pack_task};
use super::sharding::{self, Sharding};
use crate::clusters::labels::members;
use crate::clusters::{Clusters, NO_CLUSTER};
use crate::config::{Config, Remainder, Sizes};
use crate::error::{Error, Result};
use crate::random::{Purpose, stream};
use crate::vectors::{RowId, Vectors};

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
    pub(super) fn new(vectors: &'a Vectors, clusters: &'a Clusters, config: &'a Config) -> EpochPacker<'a> {
        let (starts, members) = members(clusters.labels(), clusters.count());
        let sizes = config.sizes().all(vectors.tasks.names());
        EpochPacker { vectors, clusters, config, starts, members, sizes }
    }

    /// The batches of an epoch: full ones of all tasks in random order, then the short ones in task order; and how many
    /// are full. Expected O(rows).
    ///
    /// # Errors
    /// The clusters are not numbered in task order: the labels are damaged.
    pub(super) fn pack(&self, epoch: u32) -> Result<(BatchOrder, usize)> {
        let [full, short] = self.pack_tasks(epoch)?;
        let seed = self.config.seed;
        let mut order = full.shuffled(&mut stream(Purpose::BatchOrder { seed, epoch }));
        let (short_rows, mut whole) = (short.rows.len(), full.count());
        match self.config.batches.remainder {
            Remainder::Short => order.append(short),
            Remainder::Drop => tracing::debug!("epoch {epoch}: {short_rows} rows dropped"),
            Remainder::Fill => {
                // Rows of any task: the job's own size, whatever the tasks' are.
                let size = self.config.batches.size as usize;
                let filled = pack::fill(short.rows, size, &self.vectors.rows.keys());
                whole += filled.batches().filter(|batch| batch.len() == size).count();
                order.append(filled);
            }
        }
        self.shard(&mut order);
        Ok((order, whole))
    }

    /// Full and short batches of all tasks, in task order.
    fn pack_tasks(&self, epoch: u32) -> Result<[BatchOrder; 2]> {
        let (seed, count) = (self.config.seed, self.clusters.count());
        let keys = self.vectors.rows.keys();
        let (mut full, mut short) = (BatchOrder::default(), BatchOrder::default());
        // Clusters are numbered in task order, each task's together; loose rows come last, in row order.
        let loose = &self.members[self.starts[count as usize] as usize..];
        let (mut cluster, mut loose_at) = (0u32, 0);
        for (task, (range, sizes)) in self.vectors.tasks.ranges().zip(&self.sizes).enumerate() {
            let first = cluster;
            while cluster < count && self.rows_of(cluster).first().is_some_and(|row| range.contains(row)) {
                cluster += 1;
            }
            let mut units: Vec<&[RowId]> = (first..cluster).map(|cluster| self.rows_of(cluster)).collect();
            while loose_at < loose.len() && range.contains(&loose[loose_at]) {
                units.push(&loose[loose_at..=loose_at]);
                loose_at += 1;
            }
            let mut random = stream(Purpose::Packing { seed, epoch, task });
            for batch in pack_task(&units, *sizes, &keys, &mut random) {
                let rows: usize = batch.iter().map(|unit| units[*unit].len()).sum();
                let order = if rows == sizes.batch_size as usize { &mut full } else { &mut short };
                batch.iter().for_each(|unit| order.rows.extend(units[*unit]));
                order.end_batch();
            }
        }
        if cluster != count || loose_at != loose.len() {
            return Err(Error::runtime("the labels do not follow the tasks")
                .path(self.clusters.sealed().path())
                .expected("clusters numbered in task order, each of one task")
                .found(format!("cluster {cluster} out of order"))
                .remedy("run `mine` again with --replace"));
        }
        Ok([full, short])
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
