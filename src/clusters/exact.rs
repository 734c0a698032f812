//! Exact sizes: the largest labels keep their clusters; every other row is placed by connection, then anywhere.
//!
//! A task of n rows gets ⌊n/K⌋ clusters of K and one of n mod K. Its *slots* are numbered like its places, and a
//! cluster is a range of slots, so that reading its members takes a few cache lines.
//! Memory: 20 bytes a row at most: labels and sizes while slots are filled, then the slots and which rows are excluded.

use std::collections::VecDeque;
use std::ops::Range;

use super::chunks::pass;
use super::labels::NO_CLUSTER;
use super::propagate::{Communities, EXCLUDED};
use super::rules::{PassRules, TaskPlaces};
use super::sums::ClusterSums;
use crate::edges::{Edge, EdgeRows};
use crate::error::Result;
use crate::vectors::{KeysByPlace, Place, PlaceRange};
use crate::watch::Watch;

/// Slot of a row that has none.
pub(crate) const NO_SLOT: u32 = u32::MAX;
/// Clusters that are tried for a row before it is left without a slot: keys can make a task impossible.
const TRIES: usize = 2048;

/// Which row has which slot.
#[derive(Debug, Clone)]
pub struct Slots {
    /// Slot by place, or [`NO_SLOT`].
    slot_of: Vec<u32>,
    /// Place by slot, or [`Place::NONE`].
    place_at: Vec<Place>,
    tasks: Vec<TaskSlots>,
}

#[derive(Debug, Clone)]
struct TaskSlots {
    places: PlaceRange,
    /// Its slots begin with its places' numbers and end here.
    end: u32,
    first_cluster: u32,
    size: u32,
    per_key: u32,
    /// ⌈2⁶⁴ / size⌉; a size is 2 at least.
    inverse: u64,
}

impl TaskSlots {
    /// So many slots, of clusters from a number on.
    fn new(task: &TaskPlaces, slots: u32, first_cluster: u32) -> TaskSlots {
        let inverse = (u64::MAX / u64::from(task.size)).wrapping_add(1);
        let end = task.places.start.number() + slots;
        TaskSlots { places: task.places, end, first_cluster, size: task.size, per_key: task.per_key, inverse }
    }

    fn slots(&self) -> Range<u32> {
        self.places.start.number()..self.end
    }

    fn clusters(&self) -> Range<u32> {
        self.first_cluster..self.first_cluster + (self.slots().len() as u32).div_ceil(self.size)
    }
}

impl Slots {
    /// A slot for every row that is not excluded, none of them taken yet.
    fn empty(tasks: &[TaskPlaces], excluded: &[bool]) -> Slots {
        let rows = tasks.last().map_or(0, |task| task.places.end.index());
        let mut first_cluster = 0;
        let slots_of = |task: &TaskPlaces| {
            let placed = excluded[task.places.indices()].iter().filter(|out| !**out).count() as u32;
            let slots = TaskSlots::new(task, placed, first_cluster);
            first_cluster = slots.clusters().end;
            slots
        };
        let tasks = tasks.iter().map(slots_of).collect();
        Slots { slot_of: vec![NO_SLOT; rows], place_at: vec![Place::NONE; rows], tasks }
    }

    /// From each row's slot, by place; `None` where that is no slot of its task, or another row's.
    pub(crate) fn from_slots(tasks: &[TaskPlaces], excluded: &[bool], slot_of: Vec<u32>) -> Option<Slots> {
        let mut slots = Slots::empty(tasks, excluded);
        for (number, task) in tasks.iter().enumerate() {
            for place in task.places.iter().filter(|place| slot_of[place.index()] != NO_SLOT) {
                let slot = slot_of[place.index()];
                let exists = slots.slots_of_task(number).contains(&slot);
                if !exists || slots.place_at[slot as usize] != Place::NONE {
                    return None;
                }
                slots.place_at[slot as usize] = place;
            }
        }
        slots.slot_of = slot_of;
        Some(slots)
    }

    /// Each row's slot, by place, or [`NO_SLOT`].
    pub(crate) fn as_slots(&self) -> &[u32] {
        &self.slot_of
    }

    pub(super) fn rows(&self) -> usize {
        self.slot_of.len()
    }

    #[inline]
    pub(super) fn slot_of(&self, place: Place) -> u32 {
        self.slot_of[place.index()]
    }

    #[inline]
    pub(super) fn place_at(&self, slot: u32) -> Place {
        self.place_at[slot as usize]
    }

    /// Slots of a task's clusters, but for its last.
    pub(super) fn size(&self, task: usize) -> u32 {
        self.tasks[task].size
    }

    pub(crate) fn clusters(&self) -> u32 {
        self.tasks.last().map_or(0, |task| task.clusters().end)
    }

    pub(super) fn tasks(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn slots_of_task(&self, task: usize) -> Range<u32> {
        self.tasks[task].slots()
    }

    /// The task of the row at a place. O(log tasks).
    #[inline]
    pub(super) fn task_of(&self, place: Place) -> usize {
        self.tasks.partition_point(|task| task.places.end <= place)
    }

    /// The cluster of a slot of a task.
    #[inline]
    pub(super) fn cluster_of(&self, task: usize, slot: u32) -> u32 {
        let task = &self.tasks[task];
        let number = slot.wrapping_sub(task.places.start.number());
        // Every pass does this for every edge, and a division takes as long as five products: the quotient of 32
        // bits is exact in 64 bits after the point (Lemire, Kaser, Kurz, *Faster remainder by direct computation*).
        let quotient = (u128::from(task.inverse) * u128::from(number)) >> 64;
        task.first_cluster.wrapping_add(quotient as u32)
    }

    /// The slots of a task's cluster.
    #[inline]
    pub(super) fn slots(&self, task: usize, cluster: u32) -> Range<u32> {
        let task = &self.tasks[task];
        let start = task.places.start.number() + (cluster - task.first_cluster) * task.size;
        start..task.end.min(start + task.size)
    }

    /// Whether the row at `place` may join the rows on `slots`, without the one on the slot `except`: whether it shares
    /// a key with less of them than a cluster may have of one key.
    #[inline]
    pub(super) fn fits(&self, place: Place, slots: Range<u32>, except: u32, keys: &KeysByPlace<'_>) -> bool {
        if !keys.is_shared(place) {
            return true;
        }
        let conflicts = |(slot, other): &(u32, &Place)| {
            *slot != except && **other != Place::NONE && **other != place && keys.conflict(place, **other)
        };
        let per_key = self.tasks[self.task_of(place)].per_key as usize;
        let others = &self.place_at[slots.start as usize..slots.end as usize];
        slots.zip(others).filter(conflicts).nth(per_key - 1).is_none()
    }

    /// Gives a row a slot.
    pub(super) fn put(&mut self, place: Place, slot: u32) {
        self.slot_of[place.index()] = slot;
        self.place_at[slot as usize] = place;
    }

    fn is_free(&self, slot: u32) -> bool {
        self.place_at(slot) == Place::NONE
    }

    /// A free slot of a cluster where no key forbids the row.
    fn free_slot(&self, task: usize, cluster: u32, place: Place, keys: &KeysByPlace<'_>) -> Option<u32> {
        let slots = self.slots(task, cluster);
        let free = slots.clone().find(|slot| self.is_free(*slot));
        free.filter(|_| self.fits(place, slots, NO_SLOT, keys))
    }

    /// Each row's cluster, by place, or [`NO_CLUSTER`].
    pub(crate) fn labels(&self) -> Vec<u32> {
        let of_task = |(task, slots): (usize, &TaskSlots)| {
            let slots = self.slot_of[slots.places.indices()].iter();
            slots.map(move |slot| if *slot == NO_SLOT { NO_CLUSTER } else { self.cluster_of(task, *slot) })
        };
        self.tasks.iter().enumerate().flat_map(of_task).collect()
    }
}

/// Turns labels of at most K rows into clusters of exactly K. O(edges + rows log rows).
/// Rows that keys keep from every cluster stay without a slot.
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub fn fix_sizes(
    graph: &impl EdgeRows,
    communities: Communities,
    excluded: &[bool],
    rules: &PassRules<'_>,
    watch: Watch<'_>,
) -> Result<Slots> {
    let (labels, mut sizes) = communities.into_labels();
    let mut slots = Slots::empty(&rules.tasks, excluded);
    for task in 0..slots.tasks() {
        place_largest(&mut slots, task, &labels, &mut sizes);
    }
    drop(sizes);
    drop(labels);
    place_by_connection(graph, &mut slots, excluded, rules, watch)?;
    for task in 0..slots.tasks() {
        place_anywhere(&mut slots, task, &rules.keys, excluded);
    }
    Ok(slots)
}

/// The largest labels take the clusters, in the order of places; the smallest of them takes the smaller cluster.
/// `sizes` become each label's next slot.
fn place_largest(slots: &mut Slots, task: usize, labels: &[u32], sizes: &mut [u32]) {
    let TaskSlots { places, size, .. } = slots.tasks[task];
    let mut order: Vec<u32> = places.iter().map(Place::number).filter(|label| sizes[*label as usize] > 0).collect();
    order.sort_unstable_by_key(|label| (std::cmp::Reverse(sizes[*label as usize]), *label));
    let full = slots.slots_of_task(task).len() / size as usize;
    let clusters = slots.tasks[task].clusters();
    order.truncate(clusters.len());
    order[..full.min(clusters.len())].sort_unstable();
    sizes[places.indices()].fill(NO_SLOT);
    for (cluster, label) in clusters.zip(order) {
        sizes[label as usize] = slots.slots(task, cluster).start;
    }
    for place in places {
        let label = labels[place.index()];
        if label == EXCLUDED || sizes[label as usize] == NO_SLOT {
            continue;
        }
        // The smaller cluster may be too small for its label: its last rows are placed by connection.
        let slot = sizes[label as usize];
        let end = slots.slots(task, slots.cluster_of(task, slot)).end;
        slots.put(place, slot);
        sizes[label as usize] = if slot + 1 < end { slot + 1 } else { NO_SLOT };
    }
}

/// Places rows without a slot in the cluster with room that they are most connected to.
fn place_by_connection(
    graph: &impl EdgeRows,
    slots: &mut Slots,
    excluded: &[bool],
    rules: &PassRules<'_>,
    watch: Watch<'_>,
) -> Result<()> {
    let keys = &rules.keys;
    pass(
        graph,
        slots,
        watch,
        |slots, sums: &mut ClusterSums, place, edges: &[Edge]| {
            if slots.slot_of(place) != NO_SLOT || excluded[place.index()] {
                return None;
            }
            let task = slots.task_of(place);
            sums.reset(slots.clusters(), edges.len());
            let placed =
                edges.iter().map(|edge| (slots.slot_of(edge.other), edge)).filter(|(slot, _)| *slot != NO_SLOT);
            sums.add_all(placed.map(|(slot, edge)| (slots.cluster_of(task, slot), rules.weights.of(edge))));
            let mut best = (0, NO_CLUSTER);
            for (cluster, sum) in sums.iter() {
                let better = sum > best.0 || (sum == best.0 && cluster < best.1 && sum > 0);
                if better && slots.free_slot(task, cluster, place, keys).is_some() {
                    best = (sum, cluster);
                }
            }
            (best.1 != NO_CLUSTER).then_some((place, task, best.1))
        },
        |slots, moves| {
            for (place, task, cluster) in moves {
                if let Some(slot) = slots.free_slot(task, cluster, place, keys) {
                    slots.put(place, slot);
                }
            }
        },
    )
}

/// Gives the rows that are left a slot, in the order of places, where no key forbids it. Where every free slot is
/// forbidden, another row moves to it.
fn place_anywhere(slots: &mut Slots, task: usize, keys: &KeysByPlace<'_>, excluded: &[bool]) {
    let is_left = |place: &Place| slots.slot_of(*place) == NO_SLOT && !excluded[place.index()];
    let left: Vec<Place> = slots.tasks[task].places.iter().filter(is_left).collect();
    let mut free: VecDeque<u32> = slots.slots_of_task(task).filter(|slot| slots.is_free(*slot)).collect();
    for place in left {
        let fitting = free.iter().take(TRIES).position(|slot| {
            let cluster = slots.slots(task, slots.cluster_of(task, *slot));
            slots.fits(place, cluster, NO_SLOT, keys)
        });
        if let Some(slot) = fitting.and_then(|index| free.remove(index)) {
            slots.put(place, slot);
        } else if let Some(slot) = free.front().copied()
            && make_room(slots, task, place, slot, keys)
        {
            free.pop_front();
        }
    }
}

/// Moves another row to the `free` slot, and the row at `place` to that row's slot.
fn make_room(slots: &mut Slots, task: usize, place: Place, free: u32, keys: &KeysByPlace<'_>) -> bool {
    let clusters = slots.tasks[task].clusters();
    let forbidden = slots.cluster_of(task, free);
    let goal = slots.slots(task, forbidden);
    // Beginning after the forbidden one, so that many rows of one key do not all try the same.
    let others = (forbidden + 1..clusters.end).chain(clusters.start..forbidden);
    for cluster in others.take(TRIES) {
        let there = slots.slots(task, cluster);
        for slot in there.clone() {
            let other = slots.place_at(slot);
            if other != Place::NONE
                && slots.fits(place, there.clone(), slot, keys)
                && slots.fits(other, goal.clone(), NO_SLOT, keys)
            {
                slots.put(other, free);
                slots.put(place, slot);
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
        fn clusters_are_ranges_of_slots(size in 2u32..100_000, start in 0u32..1 << 30, number in 0u32..1 << 30) {
            let mut slots = Slots::empty(&[], &[]);
            let task = TaskPlaces { places: PlaceRange::new(start, start + number + 1), size, per_key: 1 };
            slots.tasks.push(TaskSlots::new(&task, number + 1, 0));
            prop_assert_eq!(slots.cluster_of(0, start + number), number / size);
        }
    }
}
