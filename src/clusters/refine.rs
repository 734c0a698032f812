//! Swaps: two rows change clusters where that raises the weight inside; sizes never change.
//!
//! A row u looks at its `CANDIDATES` best other clusters and, in each, for the row v whose exchange
//! gains most: conn(u, B) − conn(u, A) − conn(v, B) + conn(v, A) − 2 w(u, v). What is connected to u is
//! read from the stream; of v, its own connection and its *best other cluster* (its best other cluster, and how well it
//! is connected there) are known from its last visit. Memory: 20 bytes a row with the slots, 8 bytes a
//! cluster.

use super::chunks::{Watch, pass};
use super::exact::{NOBODY, Slots};
use super::tally::ClusterSums;
use super::{PassRules, Weights};
use crate::edges::{Edge, EdgeRows};
use crate::error::Result;
use crate::vectors::{Keys, RowId};

/// Clusters that a row looks at.
const CANDIDATES: usize = 8;
/// Refinement ends when a pass gains less than 1/`LEAST_GAIN` of the weight inside.
const LEAST_GAIN: i64 = 1000;
/// Own connection of a row that is not known yet: so much that it stays. No sum is larger.
pub(crate) const UNKNOWN: i32 = i32::MAX / 4;

/// Slots, and what each row knew at its last visit, by slot.
#[derive(Debug)]
pub struct Swaps {
    slots: Slots,
    own: Vec<i32>,
    best_other: Vec<u32>,
    best_other_sum: Vec<i32>,
    /// By cluster, at least what the most eager of its rows gains by leaving, whoever comes.
    gain_bound: Vec<i32>,
    /// The step in which a cluster last changed.
    touched: Vec<u32>,
    step: u32,
}

impl Swaps {
    /// Nobody knows anything yet, and so nobody gives way before its first visit.
    pub fn new(slots: Slots) -> Swaps {
        let rows = slots.row_at.len();
        Swaps::from_arrays(slots, vec![UNKNOWN; rows], vec![NOBODY; rows], vec![0; rows])
    }

    /// With what was known, by slot: own connections, best other clusters and their sums.
    pub fn from_arrays(slots: Slots, own: Vec<i32>, best_other: Vec<u32>, best_other_sum: Vec<i32>) -> Swaps {
        let (gain_bound, touched) = (vec![i32::MAX / 2; slots.clusters() as usize], vec![0; slots.clusters() as usize]);
        Swaps { slots, own, best_other, best_other_sum, gain_bound, touched, step: 1 }
    }

    /// Each row's slot and what [`Swaps::from_arrays`] takes, as bytes.
    pub fn arrays(&self) -> [&[u8]; 4] {
        use bytemuck::cast_slice;
        [
            cast_slice(&self.slots.slot_of),
            cast_slice(&self.own),
            cast_slice(&self.best_other),
            cast_slice(&self.best_other_sum),
        ]
    }

    /// Gives up all but the slots.
    pub fn into_slots(self) -> Slots {
        self.slots
    }

    /// Bounds what rows gain by leaving, by what is known now. `least`: the smallest weight of an arc.
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
    pub fn inside(&self) -> i64 {
        self.own.iter().filter(|own| **own != UNKNOWN).map(|own| i64::from(*own)).sum()
    }
}

/// What a row gains by leaving, at most: its own connection is lost, its best other cluster may come true, and an arc of negative
/// weight between the two that swap counts twice for them.
fn gain_bound(own: i32, best_other_sum: i32, least: i32) -> i32 {
    best_other_sum.max(0) - own + 2 * (-least).max(0)
}

/// Whether a pass that brought the weight inside from `before` to `after` was worth another.
pub(crate) fn gained(before: i64, after: i64) -> bool {
    after - before >= after.abs() / LEAST_GAIN
}

/// What a visit of `row` saw, and the exchange that it proposes.
struct Visit {
    row: RowId,
    task: usize,
    own: i32,
    best_other: u32,
    best_other_sum: i32,
    swap: Option<Swap>,
}

struct Swap {
    slot: u32,
    row_own: i32,
    other_own: i32,
}

#[derive(Default)]
struct Scratch {
    sums: ClusterSums,
    /// (cluster, slot, weight) of each arc to somebody who sits.
    others: Vec<(u32, u32, i32)>,
    best: TopClusters,
    /// Weights from the row to the slots of the candidates, K for each.
    to: Vec<i32>,
    /// What an exchange with each slot of one candidate gains.
    gains: Vec<i32>,
}

/// One pass: swaps rows where that gains.
/// O(arcs + rows · K).
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub fn swap(edges: &impl EdgeRows, swaps: &mut Swaps, rules: &PassRules<'_>, watch: &Watch<'_>) -> Result<()> {
    let (keys, weights) = (&rules.keys, &rules.weights);
    let least = weights.iter().copied().min().unwrap_or(0);
    swaps.bound_gains(least);
    pass(
        edges,
        swaps,
        watch,
        |swaps, scratch: &mut Scratch, row, arcs| visit(swaps, scratch, row, arcs, weights, keys),
        |swaps, visits| {
            visits.for_each(|visit| apply(swaps, visit, least, keys));
            swaps.step += 1;
        },
    )
}

/// Looks at a row's arcs: its own connection, its best other cluster, and its best exchange. Pure.
fn visit(
    state: &Swaps,
    scratch: &mut Scratch,
    row: RowId,
    arcs: &[Edge],
    weights: &Weights,
    keys: &Keys<'_>,
) -> Option<Visit> {
    let slots = &state.slots;
    let slot = slots.slot_of[row as usize];
    if slot == NOBODY {
        return None;
    }
    let task = slots.task_of(row);
    let home = slots.cluster_of(task, slot);
    let Scratch { sums, others, best, .. } = scratch;
    others.clear();
    others.extend(arcs.iter().map(|arc| {
        let other = slots.slot_of[arc.row as usize];
        let (cluster, weight) = (slots.cluster_of(task, other), weights[usize::from(arc.relation.code())]);
        // Whoever has no slot counts as an arc of weight 0 to home.
        if other == NOBODY { (home, slot, 0) } else { (cluster, other, weight) }
    }));
    sums.reset(slots.clusters(), arcs.len());
    sums.add_all(others.iter().map(|(cluster, _, weight)| (*cluster, *weight)));
    let own = sums.get(home);
    let elsewhere = || sums.iter().filter(|(cluster, _)| *cluster != home);
    // The complement, so that the lower number is the larger.
    let (best_other_sum, best_other) = elsewhere().fold((0, !NOBODY), |best, (cluster, sum)| best.max((sum, !cluster)));
    let best_other = if best_other_sum > 0 { !best_other } else { NOBODY };
    // Nobody's leave from elsewhere could make up for this row's.
    best.choose(elsewhere().filter(|(cluster, sum)| *sum > 0 && sum - own + state.gain_bound[*cluster as usize] > 0));
    let swap = best_swap(state, scratch, row, slot, own, keys);
    Some(Visit { row, task, own, best_other, best_other_sum, swap })
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

/// What an exchange with each slot of a cluster gains: `moved`, what the row itself gains by moving; less the other's
/// own connection; plus what is known of the other's to `home`; less twice the weight between the two.
fn gains_of(known: (&[i32], &[u32], &[i32]), to: &[i32], home: u32, moved: i32, gains: &mut Vec<i32>) {
    let (own, best_other, best_other_sum) = known;
    gains.clear();
    gains.extend(own.iter().zip(best_other).zip(best_other_sum).zip(to).map(
        |(((own, best_other), best_other_sum), between)| {
            let back = if *best_other == home { *best_other_sum } else { *between.max(&0) };
            moved - own + back - 2 * between
        },
    ));
}

/// The exchange that gains most among the candidates. O(candidates · K + arcs).
fn best_swap(state: &Swaps, scratch: &mut Scratch, row: RowId, slot: u32, own: i32, keys: &Keys<'_>) -> Option<Swap> {
    let slots = &state.slots;
    let task = slots.task_of(row);
    let home = slots.cluster_of(task, slot);
    let home_places = slots.slots(task, home);
    let size = slots.size(task) as usize;
    let Scratch { sums, others, best, to, gains } = scratch;
    let best = best.as_slice();
    if best.is_empty() {
        return None;
    }
    // Weights to the slots of the first candidate, of the second, and so on; before them a place for all others.
    to.clear();
    to.resize((1 + best.len()) * size, 0);
    let mut starts = [(0, 0); CANDIDATES + 1];
    for (number, (_, cluster)) in (1u8..).zip(best.iter()) {
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
    let (mut swap, mut most) = (None, 0);
    for ((sum, cluster), to) in best.iter().copied().zip(to[size..].chunks_exact(size)) {
        let places = slots.slots(task, cluster);
        let range = places.start as usize..places.end as usize;
        let known = (&state.own[range.clone()], &state.best_other[range.clone()], &state.best_other_sum[range]);
        gains_of(known, to, home, sum - own, gains);
        // The most that is permitted, the first among equals.
        loop {
            let gain = gains.iter().copied().fold(i32::MIN, i32::max);
            if gain <= most {
                break;
            }
            let index = gains.iter().position(|other| *other == gain).unwrap_or(0);
            let place = places.start + index as u32;
            let other = slots.row_at[place as usize];
            if other != NOBODY
                && slots.fits(row, places.clone(), place, keys)
                && slots.fits(other, home_places.clone(), slot, keys)
            {
                let between = to[index];
                let back = gain - (sum - own) + state.own[place as usize] + 2 * between;
                most = gain;
                swap = Some(Swap { slot: place, row_own: sum - between, other_own: back - between });
            }
            gains[index] = i32::MIN;
        }
    }
    swap
}

/// Takes what a visit saw, and makes its exchange if neither cluster has changed since.
fn apply(state: &mut Swaps, visit: Visit, least: i32, keys: &Keys<'_>) {
    let slot = state.slots.slot_of[visit.row as usize];
    let home = state.slots.cluster_of(visit.task, slot);
    let changed = |state: &Swaps, cluster: u32| state.touched[cluster as usize] == state.step;
    let at = slot as usize;
    (state.best_other[at], state.best_other_sum[at]) = (visit.best_other, visit.best_other_sum);
    let fresh = !changed(state, home);
    if fresh {
        state.own[at] = visit.own;
    }
    let gain_bound = |state: &mut Swaps, cluster: u32, slot: usize| {
        let gain_bound = gain_bound(state.own[slot], state.best_other_sum[slot], least);
        state.gain_bound[cluster as usize] = state.gain_bound[cluster as usize].max(gain_bound);
    };
    gain_bound(state, home, at);
    if !fresh {
        return;
    }
    let Some(swap) = visit.swap else { return };
    let there = state.slots.cluster_of(visit.task, swap.slot);
    if changed(state, there) {
        return;
    }
    let to = swap.slot as usize;
    let other = state.slots.row_at[to];
    let left = state.own[to];
    debug_assert!(state.slots.fits(visit.row, state.slots.slots(visit.task, there), swap.slot, keys));
    state.slots.put(visit.row, swap.slot);
    state.slots.put(other, slot);
    state.touched[home as usize] = state.step;
    state.touched[there as usize] = state.step;
    // Each one's best other cluster is now, as far as is known, the one that it left.
    (state.own[to], state.best_other[to], state.best_other_sum[to]) = (swap.row_own, home, visit.own);
    (state.own[at], state.best_other[at], state.best_other_sum[at]) = (swap.other_own, there, left);
    gain_bound(state, home, at);
    gain_bound(state, there, to);
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
        fn nobody_gains_more_by_leaving_than_the_bound(
            own in -300i32..300, best_other in 0u32..2, best_other_sum in 0i32..300, between in -64i32..=128, moved in -300i32..300,
        ) {
            let mut gains = Vec::new();
            gains_of((&[own], &[best_other], &[best_other_sum]), &[between], 0, moved, &mut gains);
            prop_assert!(gains[0] <= moved + gain_bound(own, best_other_sum, -64));
        }
    }
}
