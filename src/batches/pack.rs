//! Uniting clusters into batches, at random, never two rows of one key in one. Pure.
//!
//! Clusters are shuffled and fill one batch after the other; one that shares a key with the batch waits
//! for the next. A cluster that still waits at the end is exchanged for one of an earlier batch. Where keys
//! make even that impossible (more rows of a key than batches), more batches are short.

use std::collections::{HashSet, VecDeque};

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::config::Sizes;
use crate::vectors::{Keys, RowId};

/// Most clusters that are passed over for one batch.
const WAITING_MAX: usize = 4096;
/// Earlier batches that are looked at to find an exchange.
const EXCHANGE_TRIES: usize = 256;
/// Short batches that are looked at to place a unit.
const SHORT_TRIES: usize = 64;

/// Batches in order: all rows, and where each batch ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BatchOrder {
    /// Rows, batch after batch.
    pub rows: Vec<RowId>,
    ends: Vec<usize>,
}

impl BatchOrder {
    /// Makes the rows since the last end a batch.
    pub(crate) fn end_batch(&mut self) {
        self.ends.push(self.rows.len());
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn batch(&self, index: usize) -> &[RowId] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.rows[start..self.ends[index]]
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &[RowId]> {
        (0..self.count()).map(|index| self.batch(index))
    }

    /// Rows of some batches.
    pub(crate) fn rows_of(&self, batches: &std::ops::Range<usize>) -> u64 {
        batches.clone().map(|index| self.batch(index).len() as u64).sum()
    }

    /// Brings the rows of each batch into another order.
    pub(crate) fn arrange(&mut self, mut arrange: impl FnMut(&mut [RowId])) {
        let mut start = 0;
        for end in &self.ends {
            arrange(&mut self.rows[start..*end]);
            start = *end;
        }
    }

    pub(crate) fn append(&mut self, other: BatchOrder) {
        let base = self.rows.len();
        self.rows.extend(other.rows);
        self.ends.extend(other.ends.into_iter().map(|end| base + end));
    }

    /// The same batches in random order.
    pub(crate) fn shuffled(&self, random: &mut ChaCha8Rng) -> BatchOrder {
        let mut indices: Vec<usize> = (0..self.count()).collect();
        indices.shuffle(random);
        let mut order = BatchOrder { rows: Vec::with_capacity(self.rows.len()), ends: Vec::new() };
        for index in indices {
            order.rows.extend(self.batch(index));
            order.end_batch();
        }
        order
    }
}

/// The keys of a batch's rows.
#[derive(Debug, Default)]
struct Held(HashSet<(u32, u32)>);

impl Held {
    fn takes(&self, unit: &[RowId], keys: &Keys<'_>) -> bool {
        unit.iter().all(|row| keys.shared(*row).all(|key| !self.0.contains(&key)))
    }

    fn add(&mut self, unit: &[RowId], keys: &Keys<'_>) {
        unit.iter().for_each(|row| self.0.extend(keys.shared(*row)));
    }

    fn of<'a>(units: impl Iterator<Item = &'a [RowId]>, keys: &Keys<'_>) -> Held {
        let mut held = Held::default();
        units.for_each(|unit| held.add(unit, keys));
        held
    }
}

/// Packs one task's units (clusters, and rows without one) into batches of exactly |B|, and as few short
/// ones as keys allow, which come last. Returns each batch's units. Expected O(rows).
pub(crate) fn pack_task(units: &[&[RowId]], sizes: Sizes, keys: &Keys<'_>, random: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
    let [batch_size, cluster_size] = [sizes.batch_size, sizes.cluster_size].map(|size| size as usize);
    let width = batch_size / cluster_size;
    let (mut whole, odd): (Vec<usize>, Vec<usize>) =
        (0..units.len()).partition(|unit| units[*unit].len() == cluster_size);
    whole.shuffle(random);
    let mut waiting = VecDeque::from(whole);
    let spare = waiting.len() % width;
    // Clusters beyond the last full batch join the first short batch, in which room is left for them.
    let mut short = pack_short(units, odd, batch_size - spare * cluster_size, batch_size, keys);
    if spare > 0 {
        let first = if short.is_empty() { Vec::new() } else { short.remove(0) };
        let wanted = first.len() + spare;
        let batch = take(units, &mut waiting, first, wanted, keys);
        short.insert(0, batch);
    }
    let mut full: Vec<Vec<usize>> = Vec::with_capacity(waiting.len() / width);
    for _ in 0..waiting.len() / width {
        let mut batch = take(units, &mut waiting, Vec::new(), width, keys);
        while batch.len() < width && exchange(units, &mut waiting, &mut batch, &mut full, keys, random) {}
        full.push(batch);
    }
    // Batches that keys kept from being filled, and what still waits, make more short ones.
    let (full, mut partial): (Vec<_>, Vec<_>) = full.into_iter().partition(|batch| batch.len() == width);
    let rest: Vec<usize> = waiting.into_iter().collect();
    partial.extend(pack_short(units, rest, batch_size, batch_size, keys));
    full.into_iter().chain(short).chain(partial).filter(|batch| !batch.is_empty()).collect()
}

/// Fills a batch up to `wanted` units from the front of those waiting; those that conflict go on waiting.
fn take(
    units: &[&[RowId]],
    waiting: &mut VecDeque<usize>,
    mut batch: Vec<usize>,
    wanted: usize,
    keys: &Keys<'_>,
) -> Vec<usize> {
    let mut held = Held::of(batch.iter().map(|unit| units[*unit]), keys);
    let mut passed = Vec::new();
    while batch.len() < wanted && passed.len() < WAITING_MAX {
        let Some(unit) = waiting.pop_front() else { break };
        if held.takes(units[unit], keys) {
            held.add(units[unit], keys);
            batch.push(unit);
        } else {
            passed.push(unit);
        }
    }
    passed.into_iter().rev().for_each(|unit| waiting.push_front(unit));
    batch
}

/// Puts the first waiting unit into an earlier batch, whose unit comes here instead.
fn exchange(
    units: &[&[RowId]],
    waiting: &mut VecDeque<usize>,
    batch: &mut Vec<usize>,
    earlier: &mut [Vec<usize>],
    keys: &Keys<'_>,
    random: &mut ChaCha8Rng,
) -> bool {
    let (Some(unit), false) = (waiting.front().copied(), earlier.is_empty()) else { return false };
    let here = Held::of(batch.iter().map(|unit| units[*unit]), keys);
    let start = random.random_range(0..earlier.len());
    for step in 0..earlier.len().min(EXCHANGE_TRIES) {
        let other = (start + step) % earlier.len();
        for index in 0..earlier[other].len() {
            let leaving = earlier[other][index];
            let rest = earlier[other].iter().filter(|unit| **unit != leaving).map(|unit| units[*unit]);
            if here.takes(units[leaving], keys) && Held::of(rest, keys).takes(units[unit], keys) {
                earlier[other][index] = unit;
                batch.push(leaving);
                waiting.pop_front();
                return true;
            }
        }
    }
    false
}

/// First fit into batches of at most `first_size` rows (the first) and `size` rows (the others).
fn pack_short(
    units: &[&[RowId]],
    list: Vec<usize>,
    first_size: usize,
    size: usize,
    keys: &Keys<'_>,
) -> Vec<Vec<usize>> {
    let mut batches: Vec<(Vec<usize>, usize, Held)> = Vec::new();
    for unit in list {
        let rows = units[unit].len();
        let from = batches.len().saturating_sub(SHORT_TRIES);
        let fitting = batches[from..].iter_mut().enumerate().find(|(index, (_, filled, held))| {
            let most = if from + index == 0 { first_size } else { size };
            filled + rows <= most && held.takes(units[unit], keys)
        });
        match fitting {
            Some((_, (batch, filled, held))) => {
                held.add(units[unit], keys);
                batch.push(unit);
                *filled += rows;
            }
            None => batches.push((vec![unit], rows, Held::of([units[unit]].into_iter(), keys))),
        }
    }
    batches.into_iter().map(|(batch, ..)| batch).collect()
}

/// Unites left-over rows of all tasks into batches of exactly `size`; the last may be smaller, and keys
/// may force a few more that are. Expected O(rows).
pub(crate) fn fill(rows: Vec<RowId>, size: usize, keys: &Keys<'_>) -> BatchOrder {
    let units: Vec<&[RowId]> = rows.chunks(1).collect();
    let mut waiting: VecDeque<usize> = (0..units.len()).collect();
    let mut order = BatchOrder::default();
    while !waiting.is_empty() {
        let batch = take(&units, &mut waiting, Vec::new(), size, keys);
        batch.iter().for_each(|unit| order.rows.extend(units[*unit]));
        order.end_batch();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use proptest::prelude::*;

    fn packing(seed: u64) -> ChaCha8Rng {
        stream(Purpose::Packing { seed, epoch: 0, task: 0 })
    }

    proptest! {
        #[test]
        fn batches_hold_each_unit_once_and_no_key_twice(
            sizes in (1usize..6, 1usize..5), whole in 0usize..60, odd in 0usize..4,
            codes in proptest::collection::vec(0u32..60, 400), seed in any::<u64>(),
        ) {
            let (cluster_size, batch_size) = (sizes.0 + 1, (sizes.0 + 1) * sizes.1);
            let sizes = Sizes { cluster_size: cluster_size as u32, batch_size: batch_size as u32 };
            let codes: Vec<u32> = codes.into_iter().map(|code| if code < 40 { u32::MAX } else { code }).collect();
            let keys = Keys::new(vec![&codes]);
            let rows: Vec<RowId> = (0..400).collect();
            let mut next = 0;
            let mut units: Vec<&[RowId]> = Vec::new();
            for index in 0..whole + odd {
                let size = if index < whole { cluster_size } else { 1 };
                let unit = &rows[next..next + size];
                next += size;
                let conflict = unit.iter().enumerate().any(|(i, a)| unit[..i].iter().any(|b| keys.conflict(*a, *b)));
                if !conflict {
                    units.push(unit);
                }
            }
            let packed = pack_task(&units, sizes, &keys, &mut packing(seed));
            let mut seen: Vec<usize> = packed.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..units.len()).collect::<Vec<_>>());
            for batch in &packed {
                let rows: Vec<RowId> = batch.iter().flat_map(|unit| units[*unit]).copied().collect();
                prop_assert!(rows.len() <= batch_size);
                for (i, a) in rows.iter().enumerate() {
                    prop_assert!(rows[..i].iter().all(|b| !keys.conflict(*a, *b)));
                }
            }
        }

        #[test]
        fn without_keys_at_most_one_batch_is_short(width in 1usize..6, whole in 0usize..60, seed in any::<u64>()) {
            let rows: Vec<RowId> = (0..400).collect();
            let units: Vec<&[RowId]> = rows.chunks(4).take(whole).chain([&rows[396..399]]).collect();
            let none = vec![u32::MAX; 400];
            let sizes = Sizes { cluster_size: 4, batch_size: 4 * width as u32 };
            let packed = pack_task(&units, sizes, &Keys::new(vec![&none]), &mut packing(seed));
            let short = packed.iter().filter(|batch| batch.len() < width || batch.contains(&whole)).count();
            prop_assert_eq!((short, packed.len()), (1, whole / width + 1));
        }
    }

    #[test]
    fn left_over_rows_fill_whole_batches() {
        let codes = [0, 0, 0, u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0];
        let order = fill((0..8).collect(), 2, &Keys::new(vec![&codes]));
        assert_eq!(order.batches().map(<[u32]>::to_vec).collect::<Vec<_>>(), [[0, 3], [1, 4], [2, 5], [6, 7]]);
    }
}
