//! Swaps: two rows change clusters where that raises the weight inside; sizes never change.
//!
//! The visit of a row u of cluster A looks at its `CANDIDATES` best other clusters B and, in each, for the row v whose
//! exchange with u gains most: conn(u, B) − conn(u, A) − conn(v, B) + conn(v, A) − 2 w(u, v), where conn(x, C) is the
//! sum of the weights between x and the rows of C. What u is connected to is read with its edges. Of v two things are
//! known from its last visit: its *own connection* conn(v, B), and its *best other cluster* with the sum of its weights
//! there. Memory: 20 bytes a row with the slots, 8 bytes a cluster.

use std::ops::Range;

use super::chunks::pass;
use super::exact::{NO_SLOT, Slots};
use super::labels::NO_CLUSTER;
use super::rules::PassRules;
use super::sums::ClusterSums;
use crate::edges::{Edge, EdgeRows};
use crate::error::Result;
use crate::vectors::{KeysByPlace, Place};
use crate::watch::Watch;

/// Clusters that a visit looks at.
const CANDIDATES: usize = 8;
/// Refinement ends when a pass gains less than 1/`LEAST_GAIN` of the weight inside.
const LEAST_GAIN: i64 = 1000;
/// Own connection of a row that was not visited yet: so large that the row is not moved. No sum is larger.
pub(crate) const UNKNOWN: i32 = i32::MAX / 4;

/// Slots, and what is known of each row since its last visit, by slot.
#[derive(Debug)]
pub struct Swaps {
    slots: Slots,
    own: Vec<i32>,
    /// Best other cluster, or [`NO_CLUSTER`].
    best_other: Vec<u32>,
    best_other_sum: Vec<i32>,
    /// By cluster, a bound of what any of its rows gains by leaving, whichever row it is exchanged with.
    gain_bound: Vec<i32>,
    /// The step in which a cluster last changed.
    touched: Vec<u32>,
    step: u32,
}

impl Swaps {
    /// Nothing is known yet, so that a row is moved by another's visit only after its own.
    pub fn new(slots: Slots) -> Swaps {
        let rows = slots.rows();
        Swaps::from_arrays(slots, vec![UNKNOWN; rows], vec![NO_CLUSTER; rows], vec![0; rows])
    }

    /// With what was known, by slot: own connections, best other clusters and their sums.
    pub(crate) fn from_arrays(slots: Slots, own: Vec<i32>, best_other: Vec<u32>, best_other_sum: Vec<i32>) -> Swaps {
        let (gain_bound, touched) = (vec![i32::MAX / 2; slots.clusters() as usize], vec![0; slots.clusters() as usize]);
        Swaps { slots, own, best_other, best_other_sum, gain_bound, touched, step: 1 }
    }

    /// Each row's slot and what [`Swaps::from_arrays`] takes, as bytes.
    pub(crate) fn arrays(&self) -> [&[u8]; 4] {
        use bytemuck::cast_slice;
        [
            cast_slice(self.slots.as_slots()),
            cast_slice(&self.own),
            cast_slice(&self.best_other),
            cast_slice(&self.best_other_sum),
        ]
    }

    pub(crate) fn into_slots(self) -> Slots {
        self.slots
    }

    /// Bounds what rows gain by leaving, by what is known now. `least`: the smallest weight of an edge.
    fn bound_gains(&mut self, least: i32) {
        self.gain_bound.fill(i32::MIN / 2);
        for task in 0..self.slots.tasks() {
            for slot in self.slots.slots_of_task(task) {
                let cluster = self.slots.cluster_of(task, slot) as usize;
                let gain_bound = gain_bound(self.own[slot as usize], self.best_other_sum[slot as usize], least);
                self.gain_bound[cluster] = self.gain_bound[cluster].max(gain_bound);
            }
        }
    }

    /// Twice the weight inside clusters, in units, as far as is known.
    pub(crate) fn inside(&self) -> i64 {
        self.own.iter().filter(|own| **own != UNKNOWN).map(|own| i64::from(*own)).sum()
    }
}

/// What a row gains by leaving, at most: it loses its own connection, gains at most that to its best other cluster, and
/// an edge of negative weight to the row that it is exchanged with counts twice.
fn gain_bound(own: i32, best_other_sum: i32, least: i32) -> i32 {
    best_other_sum.max(0) - own + 2 * (-least).max(0)
}

/// Whether a pass that brought the weight inside from `before` to `after` was worth another.
pub(crate) fn gained(before: i64, after: i64) -> bool {
    after - before >= after.abs() / LEAST_GAIN
}

/// What the visit of a row saw, and the exchange that it proposes.
struct Visit {
    place: Place,
    task: usize,
    own: i32,
    best_other: u32,
    best_other_sum: i32,
    swap: Option<Swap>,
}

/// An exchange of the visited row with the one on `slot`, and the own connections of both after it.
struct Swap {
    slot: u32,
    visited_own: i32,
    other_own: i32,
}

#[derive(Default)]
struct Scratch {
    sums: ClusterSums,
    /// (cluster, slot, weight) of each edge to a row with a slot.
    others: Vec<(u32, u32, i32)>,
    best: TopClusters,
    /// Weights from the visited row to the slots of the candidates, K for each.
    to: Vec<i32>,
    /// What an exchange with each slot of one candidate gains.
    gains: Vec<i32>,
}

/// One pass: swaps rows where that gains. O(edges + rows · K).
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub fn swap(graph: &impl EdgeRows, swaps: &mut Swaps, rules: &PassRules<'_>, watch: Watch<'_>) -> Result<()> {
    let least = rules.weights.least();
    swaps.bound_gains(least);
    pass(
        graph,
        swaps,
        watch,
        |swaps, scratch: &mut Scratch, place, edges| visit(swaps, scratch, place, edges, rules),
        |swaps, visits| {
            visits.for_each(|visit| apply(swaps, visit, least, &rules.keys));
            swaps.step += 1;
        },
    )
}

/// Looks at a row's edges: its own connection, its best other cluster, and its best exchange. Pure.
fn visit(state: &Swaps, scratch: &mut Scratch, place: Place, edges: &[Edge], rules: &PassRules<'_>) -> Option<Visit> {
    let slots = &state.slots;
    let slot = slots.slot_of(place);
    if slot == NO_SLOT {
        return None;
    }
    let task = slots.task_of(place);
    let home = slots.cluster_of(task, slot);
    let Scratch { sums, others, best, .. } = scratch;
    others.clear();
    others.extend(edges.iter().map(|edge| {
        let other = slots.slot_of(edge.other);
        let (cluster, weight) = (slots.cluster_of(task, other), rules.weights.of(edge));
        // An edge to a row without a slot counts as one of weight 0 to the home cluster.
        if other == NO_SLOT { (home, slot, 0) } else { (cluster, other, weight) }
    }));
    sums.reset(slots.clusters(), edges.len());
    sums.add_all(others.iter().map(|(cluster, _, weight)| (*cluster, *weight)));
    let own = sums.get(home);
    let elsewhere = || sums.iter().filter(|(cluster, _)| *cluster != home);
    // The complement, so that of equal sums the lower number is the larger.
    let best_other = elsewhere().fold((0, !NO_CLUSTER), |best, (cluster, sum)| best.max((sum, !cluster)));
    let (best_other_sum, best_other) = (best_other.0, if best_other.0 > 0 { !best_other.1 } else { NO_CLUSTER });
    // Without the clusters where no row gains enough by leaving to make up for what this one loses.
    best.choose(elsewhere().filter(|(cluster, sum)| *sum > 0 && sum - own + state.gain_bound[*cluster as usize] > 0));
    let swap = best_swap(state, scratch, place, own, &rules.keys);
    Some(Visit { place, task, own, best_other, best_other_sum, swap })
}

/// Up to `CANDIDATES` clusters with the largest sums, the best first, lower numbers first among equals.
#[derive(Debug, Default)]
struct TopClusters {
    clusters: [(i32, u32); CANDIDATES],
    count: usize,
}

impl TopClusters {
    fn choose(&mut self, sums: impl Iterator<Item = (u32, i32)>) {
        self.count = 0;
        for (cluster, sum) in sums {
            let before = |other: (i32, u32)| other.0 > sum || (other.0 == sum && other.1 < cluster);
            if self.count == CANDIDATES && before(self.clusters[CANDIDATES - 1]) {
                continue;
            }
            let mut at = self.count.min(CANDIDATES - 1);
            while at > 0 && !before(self.clusters[at - 1]) {
                self.clusters[at] = self.clusters[at - 1];
                at -= 1;
            }
            self.clusters[at] = (sum, cluster);
            self.count = CANDIDATES.min(self.count + 1);
        }
    }

    fn as_slice(&self) -> &[(i32, u32)] {
        &self.clusters[..self.count]
    }
}

/// What is known of the rows on a cluster's slots.
#[derive(Clone, Copy)]
struct Known<'a> {
    own: &'a [i32],
    best_other: &'a [u32],
    best_other_sum: &'a [i32],
}

/// What an exchange with each slot of a cluster gains: `moved`, what the visited row gains by moving; less the other's
/// own connection; plus what is known of the other's to `home`; less twice the weight `to` between the two.
fn gains_of(known: Known<'_>, to: &[i32], home: u32, moved: i32, gains: &mut Vec<i32>) {
    gains.clear();
    gains.extend(known.own.iter().zip(known.best_other).zip(known.best_other_sum).zip(to).map(
        |(((own, best_other), best_other_sum), between)| {
            let back = if *best_other == home { *best_other_sum } else { *between.max(&0) };
            moved - own + back - 2 * between
        },
    ));
}

/// The exchange that gains most among the candidates. O(candidates · K + edges).
fn best_swap(state: &Swaps, scratch: &mut Scratch, place: Place, own: i32, keys: &KeysByPlace<'_>) -> Option<Swap> {
    let (slots, task) = (&state.slots, state.slots.task_of(place));
    let slot = slots.slot_of(place);
    let home = slots.cluster_of(task, slot);
    let size = slots.size(task) as usize;
    if scratch.best.as_slice().is_empty() {
        return None;
    }
    scratch.weigh_slots(slots, task);
    let Scratch { best, to, gains, .. } = scratch;
    let (mut swap, mut most) = (None, 0);
    for ((sum, cluster), to) in best.as_slice().iter().copied().zip(to[size..].chunks_exact(size)) {
        let there = slots.slots(task, cluster);
        gains_of(state.known(&there), to, home, sum - own, gains);
        // The most that keys permit, the first among equals.
        loop {
            let gain = gains.iter().copied().fold(i32::MIN, i32::max);
            if gain <= most {
                break;
            }
            let index = gains.iter().position(|other| *other == gain).unwrap_or(0);
            let goal = there.start + index as u32;
            let other = slots.place_at(goal);
            if other != Place::NONE
                && slots.fits(place, there.clone(), goal, keys)
                && slots.fits(other, slots.slots(task, home), slot, keys)
            {
                let between = to[index];
                let back = gain - (sum - own) + state.own[goal as usize] + 2 * between;
                most = gain;
                swap = Some(Swap { slot: goal, visited_own: sum - between, other_own: back - between });
            }
            gains[index] = i32::MIN;
        }
    }
    swap
}

impl Scratch {
    /// Fills `to`: the weights to the slots of the first candidate, of the second, and so on, K for each. Before them
    /// there is room for one more candidate, which takes the weights to all other clusters.
    fn weigh_slots(&mut self, slots: &Slots, task: usize) {
        let Scratch { sums, others, best, to, .. } = self;
        let (best, size) = (best.as_slice(), slots.size(task) as usize);
        to.clear();
        to.resize((1 + best.len()) * size, 0);
        let mut starts = [(0, 0); CANDIDATES + 1];
        for (number, (_, cluster)) in (1u8..).zip(best) {
            sums.mark(*cluster, number);
            starts[usize::from(number)] = (slots.slots(task, *cluster).start, u32::MAX);
        }
        let marks = sums.marks();
        for (cluster, other, weight) in others.iter() {
            let number = usize::from(marks[*cluster as usize]);
            let (start, mask) = starts[number];
            to[number * size + (other.wrapping_sub(start) & mask) as usize] = *weight;
        }
        best.iter().for_each(|(_, cluster)| sums.mark(*cluster, 0));
    }
}

impl Swaps {
    fn known(&self, slots: &Range<u32>) -> Known<'_> {
        let range = slots.start as usize..slots.end as usize;
        Known {
            own: &self.own[range.clone()],
            best_other: &self.best_other[range.clone()],
            best_other_sum: &self.best_other_sum[range],
        }
    }

    fn changed(&self, cluster: u32) -> bool {
        self.touched[cluster as usize] == self.step
    }

    /// Raises a cluster's bound to that of the row on one of its slots.
    fn raise_bound(&mut self, cluster: u32, slot: usize, least: i32) {
        let bound = gain_bound(self.own[slot], self.best_other_sum[slot], least);
        let of_cluster = &mut self.gain_bound[cluster as usize];
        *of_cluster = bound.max(*of_cluster);
    }
}

/// Keeps what a visit saw, and makes its exchange if neither cluster has changed since.
fn apply(state: &mut Swaps, visit: Visit, least: i32, keys: &KeysByPlace<'_>) {
    let slot = state.slots.slot_of(visit.place);
    let home = state.slots.cluster_of(visit.task, slot);
    let at = slot as usize;
    (state.best_other[at], state.best_other_sum[at]) = (visit.best_other, visit.best_other_sum);
    let fresh = !state.changed(home);
    if fresh {
        state.own[at] = visit.own;
    }
    state.raise_bound(home, at, least);
    if !fresh {
        return;
    }
    let Some(swap) = visit.swap else { return };
    let there = state.slots.cluster_of(visit.task, swap.slot);
    if state.changed(there) {
        return;
    }
    let to = swap.slot as usize;
    let other = state.slots.place_at(swap.slot);
    let left = state.own[to];
    debug_assert!(state.slots.fits(visit.place, state.slots.slots(visit.task, there), swap.slot, keys));
    state.slots.put(visit.place, swap.slot);
    state.slots.put(other, slot);
    state.touched[home as usize] = state.step;
    state.touched[there as usize] = state.step;
    // The best other cluster of each is now, as far as is known, the one that it has left.
    (state.own[to], state.best_other[to], state.best_other_sum[to]) = (swap.visited_own, home, visit.own);
    (state.own[at], state.best_other[at], state.best_other_sum[at]) = (swap.other_own, there, left);
    state.raise_bound(home, at, least);
    state.raise_bound(there, to, least);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_are_those_of_a_sort(sums in proptest::collection::vec(-5i32..5, 0..40)) {
            let clusters = || (0u32..).zip(sums.iter().copied());
            let mut best = TopClusters::default();
            best.choose(clusters());
            let mut wanted: Vec<(i32, u32)> = clusters().map(|(cluster, sum)| (sum, cluster)).collect();
            wanted.sort_by_key(|(sum, cluster)| (-sum, *cluster));
            wanted.truncate(CANDIDATES);
            prop_assert_eq!(best.as_slice(), &wanted[..]);
        }

        #[test]
        fn no_row_gains_more_by_leaving_than_the_bound(
            own in -300i32..300, best_other in 0u32..2, best_other_sum in 0i32..300,
            between in -64i32..=128, moved in -300i32..300,
        ) {
            let mut gains = Vec::new();
            let known = Known { own: &[own], best_other: &[best_other], best_other_sum: &[best_other_sum] };
            gains_of(known, &[between], 0, moved, &mut gains);
            prop_assert!(gains[0] <= moved + gain_bound(own, best_other_sum, -64));
        }
    }
}
