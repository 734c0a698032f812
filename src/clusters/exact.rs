//! Exact sizes: the largest labels stay, everybody else is placed by connection, then anywhere.
//!
//! A task of n rows gets ⌊n/K⌋ clusters of K and one of n mod K. Their slots are numbered like the task's
//! own rows, so that a cluster is a stretch of slots and reading its members is a few cache lines.
//! Memory: 20 bytes a row at most: labels and sizes while slots are filled, then the slots and who sits out.

use std::ops::Range;

use super::chunks::{Watch, pass};
use super::labels::NO_CLUSTER;
use super::propagate::{Communities, EXCLUDED};
use super::tally::ClusterSums;
use super::{PassRules, TaskPlaces, Weights};
use crate::edges::{Edge, EdgeRows};
use crate::error::Result;
use crate::vectors::{Keys, RowId};

/// No row, or no slot.
pub(crate) const NOBODY: u32 = u32::MAX;
/// Clusters that are tried for a row before it is given up: keys can make a task impossible.
const TRIES: usize = 2048;

/// Who sits where.
#[derive(Debug, Clone)]
pub struct Slots {
    /// Slot by row, or [`NOBODY`].
    pub slot_of: Vec<u32>,
    /// Row by slot, or [`NOBODY`].
    pub row_at: Vec<RowId>,
    tasks: Vec<TaskSlots>,
}

/// A task's slots.
#[derive(Debug, Clone)]
struct TaskSlots {
    rows: Range<RowId>,
    /// Its slots begin with its rows' numbers and end here.
    end: u32,
    first_cluster: u32,
    size: u32,
    /// ⌈2⁶⁴ / size⌉; a size is 2 at least.
    inverse: u64,
}

impl TaskSlots {
    /// So many slots, of clusters from a number on.
    fn new(task: &TaskPlaces, slots: u32, first_cluster: u32) -> TaskSlots {
        let inverse = (u64::MAX / u64::from(task.size)).wrapping_add(1);
        let end = task.rows.start + slots;
        TaskSlots { rows: task.rows.clone(), end, first_cluster, size: task.size, inverse }
    }

    fn clusters(&self) -> Range<u32> {
        self.first_cluster..self.first_cluster + (self.end - self.rows.start).div_ceil(self.size)
    }
}

impl Slots {
    /// A slot for every row that does not sit out, nobody placed yet.
    fn empty(tasks: &[TaskPlaces], excluded: &[bool]) -> Slots {
        let rows = tasks.last().map_or(0, |task| task.rows.end) as usize;
        let mut first_cluster = 0;
        let slots_of = |task: &TaskPlaces| {
            let placed = task.rows.clone().filter(|row| !excluded[*row as usize]).count() as u32;
            let slots = TaskSlots::new(task, placed, first_cluster);
            first_cluster = slots.clusters().end;
            slots
        };
        let tasks = tasks.iter().map(slots_of).collect();
        Slots { slot_of: vec![NOBODY; rows], row_at: vec![NOBODY; rows], tasks }
    }

    /// From each row's slot; `None` where that is no slot of its task, or another row's.
    pub fn from_slots(tasks: &[TaskPlaces], excluded: &[bool], slot_of: Vec<u32>) -> Option<Slots> {
        let mut slots = Slots::empty(tasks, excluded);
        for (number, task) in tasks.iter().enumerate() {
            for row in task.rows.clone().filter(|row| slot_of[*row as usize] != NOBODY) {
                let slot = slot_of[row as usize];
                let exists = slots.slots_of_task(number).contains(&slot);
                if !exists || slots.row_at[slot as usize] != NOBODY {
                    return None;
                }
                slots.row_at[slot as usize] = row;
            }
        }
        slots.slot_of = slot_of;
        Some(slots)
    }

    /// Slots of a task's clusters, but for its last.
    pub fn size(&self, task: usize) -> u32 {
        self.tasks[task].size
    }

    /// Clusters in all.
    pub fn clusters(&self) -> u32 {
        self.tasks.last().map_or(0, |task| task.clusters().end)
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// A task's slots.
    pub fn slots_of_task(&self, task: usize) -> Range<u32> {
        self.tasks[task].rows.start..self.tasks[task].end
    }

    /// The task of a row (or slot: both have the same ranges).
    #[inline]
    pub fn task_of(&self, row: RowId) -> usize {
        self.tasks.partition_point(|task| task.rows.end <= row)
    }

    /// The cluster of a slot of a task.
    #[inline]
    pub fn cluster_of(&self, task: usize, slot: u32) -> u32 {
        let task = &self.tasks[task];
        let place = slot.wrapping_sub(task.rows.start);
        // Every arc of every pass comes here, and a division takes as long as five products: the quotient of 32
        // bits is exact in 64 bits after the point (Lemire, Kaser, Kurz, *Faster remainder by direct computation*).
        let quotient = (u128::from(task.inverse) * u128::from(place)) >> 64;
        task.first_cluster.wrapping_add(quotient as u32)
    }

    /// A cluster's slots, in a task.
    #[inline]
    pub fn slots(&self, task: usize, cluster: u32) -> Range<u32> {
        let task = &self.tasks[task];
        let start = task.rows.start + (cluster - task.first_cluster) * task.size;
        start..task.end.min(start + task.size)
    }

    /// Whether `row` shares no key with those on `slots`, but for whoever sits on `except`.
    #[inline]
    pub fn fits(&self, row: RowId, slots: Range<u32>, except: u32, keys: &Keys<'_>) -> bool {
        !keys.is_shared(row)
            || slots
                .clone()
                .zip(&self.row_at[slots.start as usize..slots.end as usize])
                .all(|(slot, other)| slot == except || *other == NOBODY || *other == row || !keys.conflict(row, *other))
    }

    /// Slots a row.
    pub fn put(&mut self, row: RowId, slot: u32) {
        self.slot_of[row as usize] = slot;
        self.row_at[slot as usize] = row;
    }

    fn free_slot(&self, slots: Range<u32>) -> Option<u32> {
        slots.into_iter().find(|slot| self.row_at[*slot as usize] == NOBODY)
    }

    /// Each row's cluster, or [`NO_CLUSTER`].
    pub fn labels(&self) -> Vec<u32> {
        let of_task = |(task, slots): (usize, &TaskSlots)| {
            let slots = self.slot_of[slots.rows.start as usize..slots.rows.end as usize].iter();
            slots.map(move |slot| if *slot == NOBODY { NO_CLUSTER } else { self.cluster_of(task, *slot) })
        };
        self.tasks.iter().enumerate().flat_map(of_task).collect()
    }
}

/// Turns labels of at most K rows into clusters of exactly K. O(arcs + rows log rows).
/// Rows that keys shut out of every cluster stay without a slot.
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub fn fix_sizes(
    edges: &impl EdgeRows,
    communities: Communities,
    excluded: &[bool],
    rules: &PassRules<'_>,
    watch: &Watch<'_>,
) -> Result<Slots> {
    let (keys, weights) = (&rules.keys, &rules.weights);
    let (labels, mut sizes) = communities.into_labels();
    let mut slots = Slots::empty(&rules.tasks, excluded);
    for task in 0..slots.tasks() {
        place_largest(&mut slots, task, &labels, &mut sizes);
    }
    drop(sizes);
    drop(labels);
    place_by_connection(edges, keys, excluded, &mut slots, weights, watch)?;
    for task in 0..slots.tasks() {
        place_anywhere(&mut slots, task, keys, excluded);
    }
    Ok(slots)
}

/// The largest labels take the clusters, in row order; the smallest of them the smaller cluster. `sizes`
/// become each label's next slot.
fn place_largest(slots: &mut Slots, task: usize, labels: &[u32], sizes: &mut [u32]) {
    let TaskSlots { rows, end, size, .. } = slots.tasks[task].clone();
    let mut order: Vec<u32> = rows.clone().filter(|label| sizes[*label as usize] > 0).collect();
    order.sort_unstable_by_key(|label| (std::cmp::Reverse(sizes[*label as usize]), *label));
    let full = ((end - rows.start) / size) as usize;
    let clusters = slots.tasks[task].clusters();
    order.truncate(clusters.len());
    order[..full.min(clusters.len())].sort_unstable();
    sizes[rows.start as usize..rows.end as usize].fill(NOBODY);
    for (cluster, label) in clusters.zip(order) {
        sizes[label as usize] = slots.slots(task, cluster).start;
    }
    for row in rows {
        let label = labels[row as usize];
        if label == EXCLUDED || sizes[label as usize] == NOBODY {
            continue;
        }
        // The smaller cluster may be too small for its label: whoever comes late has to wait.
        let slot = sizes[label as usize];
        let place = slots.slots(task, slots.cluster_of(task, slot));
        slots.put(row, slot);
        sizes[label as usize] = if slot + 1 < place.end { slot + 1 } else { NOBODY };
    }
}

fn place_by_connection(
    edges: &impl EdgeRows,
    keys: &Keys<'_>,
    excluded: &[bool],
    slots: &mut Slots,
    weights: &Weights,
    watch: &Watch<'_>,
) -> Result<()> {
    pass(
        edges,
        slots,
        watch,
        |slots, sums: &mut ClusterSums, row, arcs: &[Edge]| {
            if slots.slot_of[row as usize] != NOBODY || excluded[row as usize] {
                return None;
            }
            let task = slots.task_of(row);
            sums.reset(slots.clusters(), arcs.len());
            let placed =
                arcs.iter().map(|arc| (slots.slot_of[arc.row as usize], arc)).filter(|(slot, _)| *slot != NOBODY);
            sums.add_all(
                placed.map(|(slot, arc)| (slots.cluster_of(task, slot), weights[usize::from(arc.relation.code())])),
            );
            let mut best = (0, NOBODY);
            for (cluster, sum) in sums.iter() {
                if sum > best.0 || (sum == best.0 && cluster < best.1 && sum > 0) {
                    let places = slots.slots(task, cluster);
                    if slots.free_slot(places.clone()).is_some() && slots.fits(row, places, NOBODY, keys) {
                        best = (sum, cluster);
                    }
                }
            }
            (best.1 != NOBODY).then_some((row, task, best.1))
        },
        |slots, moves| {
            for (row, task, cluster) in moves {
                let places = slots.slots(task, cluster);
                if let Some(slot) = slots.free_slot(places.clone())
                    && slots.fits(row, places, NOBODY, keys)
                {
                    slots.put(row, slot);
                }
            }
        },
    )
}

/// Slots whoever is left, in row order, where no key forbids it; where every free slot is forbidden,
/// somebody else moves to it.
fn place_anywhere(slots: &mut Slots, task: usize, keys: &Keys<'_>, excluded: &[bool]) {
    let rows = slots.tasks[task].rows.clone();
    let waits = |row: &RowId| slots.slot_of[*row as usize] == NOBODY && !excluded[*row as usize];
    let left: Vec<RowId> = rows.filter(waits).collect();
    let mut free: std::collections::VecDeque<u32> =
        slots.slots_of_task(task).filter(|slot| slots.row_at[*slot as usize] == NOBODY).collect();
    for row in left {
        let fitting = free.iter().take(TRIES).position(|slot| {
            let places = slots.slots(task, slots.cluster_of(task, *slot));
            slots.fits(row, places, NOBODY, keys)
        });
        if let Some(slot) = fitting.and_then(|index| free.remove(index)) {
            slots.put(row, slot);
        } else if let Some(slot) = free.front().copied()
            && make_room(slots, task, row, slot, keys)
        {
            free.pop_front();
        }
    }
}

/// Moves some other row to the free `slot`, and `row` to that row's.
fn make_room(slots: &mut Slots, task: usize, row: RowId, slot: u32, keys: &Keys<'_>) -> bool {
    let clusters = slots.tasks[task].clusters();
    let forbidden = slots.cluster_of(task, slot);
    let goal = slots.slots(task, forbidden);
    // Beginning after the forbidden one, so that many rows of one key do not all try the same.
    let others = (forbidden + 1..clusters.end).chain(clusters.start..forbidden);
    for cluster in others.take(TRIES) {
        let places = slots.slots(task, cluster);
        for place in places.clone() {
            let other = slots.row_at[place as usize];
            if other != NOBODY
                && slots.fits(row, places.clone(), place, keys)
                && slots.fits(other, goal.clone(), NOBODY, keys)
            {
                slots.put(other, slot);
                slots.put(row, place);
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn clusters_are_stretches_of_seats(size in 2u32..100_000, start in 0u32..1 << 30, place in 0u32..1 << 30) {
            let mut slots = Slots::empty(&[], &[]);
            slots.tasks.push(TaskSlots::new(&TaskPlaces { rows: start..start + place + 1, size }, place + 1, 0));
            prop_assert_eq!(slots.cluster_of(0, start + place), place / size);
        }
    }
}
