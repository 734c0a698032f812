//! Uniting clusters into batches, at random, never more than R rows of one key in one. Pure.
//!
//! Clusters are shuffled and fill one batch after the other; one that shares a key with the batch waits
//! for the next. A cluster that still waits at the end is exchanged for one of an earlier batch. Where that does not
//! make as many full batches as keys allow ([`bound`](super::bound)), the task is packed again, and clusters are
//! divided ([`divide`](super::divide)).

use std::collections::{BinaryHeap, HashMap, VecDeque};

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::bound::{KeyGroups, most_full};
use super::divide::divide;
use super::order::BatchOrder;
use super::units::Units;
use crate::config::Sizes;
use crate::vectors::{Keys, RowId};

/// Most clusters that are passed over for one batch.
const WAITING_MAX: usize = 4096;
/// Earlier batches that are looked at to find an exchange.
const EXCHANGE_TRIES: usize = 256;
/// Short batches that are looked at to place a unit, and their rows.
const SHORT_TRIES: usize = 64;
const SHORT_ROWS: usize = 1 << 18;

/// Short batches of at most `size` rows that are looked at.
fn open_batches(size: usize) -> usize {
    SHORT_TRIES.min(SHORT_ROWS / size).max(1)
}

/// What packing goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackRules<'a> {
    pub sizes: Sizes,
    /// R: most rows of a key in a batch.
    pub per_key: u32,
    pub keys: &'a Keys<'a>,
}

/// The batches of one task.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Batches of exactly |B| rows.
    pub full: BatchOrder,
    /// Smaller ones.
    pub short: BatchOrder,
    /// The most full batches that keys allow.
    pub possible: u64,
}

impl Packed {
    fn add(&mut self, rows: impl IntoIterator<Item = RowId>, size: usize) {
        let batch: Vec<RowId> = rows.into_iter().collect();
        if batch.is_empty() {
            return;
        }
        let order = if batch.len() == size { &mut self.full } else { &mut self.short };
        order.rows.extend(batch);
        order.end_batch();
    }

    /// Adds other batches behind these.
    pub(crate) fn append(&mut self, other: Packed) {
        self.full.append(other.full);
        self.short.append(other.short);
        self.possible += other.possible;
    }

    /// The same with rows that are alone in a short batch put into another one, where one takes them. O(rows), and a
    /// look at some short batches for each such row.
    fn joined(mut self, rules: &PackRules<'_>) -> Packed {
        if self.short.batches().all(|batch| batch.len() > 1) {
            return self;
        }
        let (size, short) = (rules.sizes.batch_size as usize, std::mem::take(&mut self.short));
        let mut open: Vec<JoinedBatch> = smallest(&short, open_batches(size))
            .into_iter()
            .map(|index| JoinedBatch {
                index,
                held: Held::of([short.batch(index)].into_iter(), rules),
                rows: Vec::new(),
            })
            .collect();
        let mut moved = vec![false; short.count()];
        for index in (0..short.count()).filter(|index| short.batch(*index).len() == 1) {
            let unit = short.batch(index);
            let has_room = |batch: &JoinedBatch| short.batch(batch.index).len() + batch.rows.len() < size;
            if let Some(batch) = open.iter_mut().find(|batch| has_room(batch) && batch.held.takes(unit, rules)) {
                batch.held.add(unit, rules);
                batch.rows.extend_from_slice(unit);
                moved[index] = true;
            } else if open.len() < open_batches(size) {
                open.push(JoinedBatch { index, held: Held::of([unit].into_iter(), rules), rows: Vec::new() });
            }
        }
        for index in (0..short.count()).filter(|index| !moved[*index]) {
            let joining = open.iter().find(|batch| batch.index == index).map_or(&[][..], |batch| &batch.rows);
            self.add(short.batch(index).iter().chain(joining).copied(), size);
        }
        self
    }

    fn append_all(&mut self, short: ShortBatches<'_>, size: usize) {
        let (first, others) = short.finish();
        self.add(first, size);
        self.append(others);
    }
}

/// A short batch that rows may join.
struct JoinedBatch {
    /// Its number among the short ones.
    index: usize,
    held: Held,
    /// Rows that have joined.
    rows: Vec<RowId>,
}

/// The `most` smallest batches of several rows, in order: they have most room, and fewest keys.
fn smallest(batches: &BatchOrder, most: usize) -> Vec<usize> {
    let mut found = BinaryHeap::new();
    for (index, batch) in batches.batches().enumerate().filter(|(_, batch)| batch.len() > 1) {
        found.push((batch.len(), index));
        if found.len() > most {
            found.pop();
        }
    }
    let mut indices: Vec<usize> = found.into_iter().map(|(_, index)| index).collect();
    indices.sort_unstable();
    indices
}

/// The keys of a batch's rows, and how many rows have each.
#[derive(Debug, Default)]
struct Held(HashMap<(u32, u32), u32>);

impl Held {
    /// Whether a unit's rows fit into the batch; no key has more than R rows in the unit alone.
    fn takes(&self, unit: &[RowId], rules: &PackRules<'_>) -> bool {
        let held = |key: &(u32, u32)| self.0.get(key).copied().unwrap_or(0);
        if rules.per_key == 1 {
            return unit.iter().all(|row| rules.keys.shared(*row).all(|key| held(&key) == 0));
        }
        let mut own = HashMap::<(u32, u32), u32>::new();
        unit.iter().flat_map(|row| rules.keys.shared(*row)).all(|key| {
            let rows = own.entry(key).or_insert_with(|| held(&key));
            *rows += 1;
            *rows <= rules.per_key
        })
    }

    fn add(&mut self, unit: &[RowId], rules: &PackRules<'_>) {
        unit.iter().flat_map(|row| rules.keys.shared(*row)).for_each(|key| *self.0.entry(key).or_default() += 1);
    }

    fn of<'a>(units: impl Iterator<Item = &'a [RowId]>, rules: &PackRules<'_>) -> Held {
        let mut held = Held::default();
        units.for_each(|unit| held.add(unit, rules));
        held
    }
}

/// Packs one task's units into as many batches of exactly |B| rows as keys allow, and as few short ones. Clusters are
/// divided only where whole ones make fewer full batches. Expected O(rows log rows).
pub(crate) fn pack_task(units: Units<'_>, rules: &PackRules<'_>, random: &mut ChaCha8Rng) -> Packed {
    let rows = (0..units.rows()).map(|position| units.row(position));
    let groups = KeyGroups::new(rows, rules.keys);
    let possible = most_full(&groups.sizes, groups.single(), rules.sizes.batch_size, rules.per_key);
    if let Some(packed) = pack_whole(units, rules, possible, random)
        && packed.full.count() as u64 >= possible
    {
        return Packed { possible, ..packed }.joined(rules);
    }
    let mut clusters: Vec<u32> = (0..units.clusters() as u32).collect();
    clusters.shuffle(random);
    Packed { possible, ..pack_divided(units, clusters.into(), rules, groups) }.joined(rules)
}

/// Packs clusters whole; none, where a batch cannot be filled.
fn pack_whole(units: Units<'_>, rules: &PackRules<'_>, possible: u64, random: &mut ChaCha8Rng) -> Option<Packed> {
    let [batch_size, cluster_size] = [rules.sizes.batch_size, rules.sizes.cluster_size].map(|size| size as usize);
    let width = batch_size / cluster_size;
    let (mut whole, odd): (Vec<u32>, Vec<u32>) =
        (0..units.count() as u32).partition(|unit| units.get(*unit as usize).len() == cluster_size);
    whole.shuffle(random);
    let mut waiting = VecDeque::from(whole);
    let spare = waiting.len() % width;
    // Clusters beyond the last full batch join the first short batch, in which room is left for them.
    let mut short = ShortBatches::new(rules, batch_size - spare * cluster_size);
    odd.iter().for_each(|unit| short.add(units.get(*unit as usize)));
    let (mut first, short) = short.finish();
    let joining = take(units, &mut waiting, spare, Held::of([&first[..]].into_iter(), rules), rules);
    first.extend(joining.iter().flat_map(|unit| units.get(*unit as usize)));
    let mut full: Vec<u32> = Vec::with_capacity(waiting.len());
    for _ in 0..(waiting.len() / width).min(possible as usize) {
        let mut batch = take(units, &mut waiting, width, Held::default(), rules);
        while batch.len() < width && exchange(units, &mut waiting, &mut batch, (&mut full, width), rules, random) {}
        if batch.len() < width {
            return None;
        }
        full.append(&mut batch);
    }
    let mut packed = Packed::default();
    for batch in full.chunks_exact(width) {
        packed.add(batch.iter().flat_map(|unit| units.get(*unit as usize)).copied(), batch_size);
    }
    packed.add(first, batch_size);
    packed.append(short);
    // What still waits makes more short ones.
    let mut rest = ShortBatches::new(rules, batch_size);
    waiting.into_iter().for_each(|unit| rest.add(units.get(unit as usize)));
    packed.append_all(rest, batch_size);
    Some(packed)
}

/// Packs with clusters divided.
fn pack_divided(units: Units<'_>, clusters: VecDeque<u32>, rules: &PackRules<'_>, groups: KeyGroups) -> Packed {
    let size = rules.sizes.batch_size as usize;
    let mut divided = divide(units, clusters, groups, rules.keys, [rules.sizes.batch_size, rules.per_key]);
    let mut packed = Packed::default();
    for batch in divided.full.chunks_exact_mut(size).chain(divided.stuck.iter_mut().map(Vec::as_mut_slice)) {
        // Rows of one cluster side by side.
        batch.sort_unstable();
        packed.add(batch.iter().map(|position| units.row(*position as usize)), size);
    }
    let mut rest = ShortBatches::new(rules, size);
    divided.clusters.into_iter().for_each(|unit| rest.add(units.get(unit as usize)));
    divided.rows.into_iter().for_each(|position| rest.add(&[units.row(position as usize)]));
    packed.append_all(rest, size);
    packed
}

/// The first so many units that fit into a batch together with what it holds, from the front of those waiting; those
/// that conflict go on waiting.
fn take(
    units: Units<'_>,
    waiting: &mut VecDeque<u32>,
    wanted: usize,
    mut held: Held,
    rules: &PackRules<'_>,
) -> Vec<u32> {
    let (mut batch, mut passed) = (Vec::new(), Vec::new());
    while batch.len() < wanted && passed.len() < WAITING_MAX {
        let Some(unit) = waiting.pop_front() else { break };
        let rows = units.get(unit as usize);
        if held.takes(rows, rules) {
            held.add(rows, rules);
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
    units: Units<'_>,
    waiting: &mut VecDeque<u32>,
    batch: &mut Vec<u32>,
    (earlier, width): (&mut [u32], usize),
    rules: &PackRules<'_>,
    random: &mut ChaCha8Rng,
) -> bool {
    let batches = earlier.len() / width;
    let (Some(unit), false) = (waiting.front().copied(), batches == 0) else { return false };
    let rows = |unit: u32| units.get(unit as usize);
    let here = Held::of(batch.iter().map(|unit| rows(*unit)), rules);
    let start = random.random_range(0..batches);
    for step in 0..batches.min(EXCHANGE_TRIES) {
        let first = (start + step) % batches * width;
        for index in first..first + width {
            let leaving = earlier[index];
            let rest = earlier[first..first + width].iter().filter(|unit| **unit != leaving).map(|unit| rows(*unit));
            if here.takes(rows(leaving), rules) && Held::of(rest, rules).takes(rows(unit), rules) {
                earlier[index] = unit;
                batch.push(leaving);
                waiting.pop_front();
                return true;
            }
        }
    }
    false
}

/// Units packed by first fit into batches of at most |B| rows. Only the last of them are looked at, so that a unit
/// takes bounded time and memory.
struct ShortBatches<'a> {
    rules: &'a PackRules<'a>,
    /// Most rows of the first batch, into which others may come.
    first_size: usize,
    /// The first batch, once it is not looked at any more.
    first: Option<Vec<RowId>>,
    open: VecDeque<(Vec<RowId>, Held)>,
    closed: Packed,
}

impl<'a> ShortBatches<'a> {
    fn new(rules: &'a PackRules<'a>, first_size: usize) -> ShortBatches<'a> {
        ShortBatches { rules, first_size, first: None, open: VecDeque::new(), closed: Packed::default() }
    }

    fn size(&self) -> usize {
        self.rules.sizes.batch_size as usize
    }

    fn add(&mut self, unit: &[RowId]) {
        let (rules, size, first_size, is_first) = (self.rules, self.size(), self.first_size, self.first.is_none());
        let fitting = self.open.iter_mut().enumerate().find(|(index, (rows, held))| {
            let most = if *index == 0 && is_first { first_size } else { size };
            rows.len() + unit.len() <= most && held.takes(unit, rules)
        });
        if let Some((_, (rows, held))) = fitting {
            held.add(unit, rules);
            rows.extend_from_slice(unit);
            return;
        }
        if self.open.len() >= open_batches(size) {
            self.close_oldest();
        }
        self.open.push_back((unit.to_vec(), Held::of([unit].into_iter(), rules)));
    }

    fn close_oldest(&mut self) {
        let Some((rows, _)) = self.open.pop_front() else { return };
        match self.first {
            None => self.first = Some(rows),
            Some(_) => self.closed.add(rows, self.rules.sizes.batch_size as usize),
        }
    }

    /// The first batch, which may hold no row, and the others.
    fn finish(mut self) -> (Vec<RowId>, Packed) {
        while !self.open.is_empty() {
            self.close_oldest();
        }
        (self.first.unwrap_or_default(), self.closed)
    }
}

/// Unites left-over rows of all tasks into batches of exactly |B|; the last may be smaller, and keys may force a few
/// more that are. Expected O(rows log rows).
pub(crate) fn fill(rows: &[RowId], rules: &PackRules<'_>) -> Packed {
    let units = Units::loose(rows);
    let size = rules.sizes.batch_size as usize;
    let groups = KeyGroups::new(rows.iter().copied(), rules.keys);
    let possible = most_full(&groups.sizes, groups.single(), rules.sizes.batch_size, rules.per_key);
    let mut waiting: VecDeque<u32> = (0..units.count() as u32).collect();
    let mut packed = Packed { possible, ..Packed::default() };
    for _ in 0..possible {
        let batch = take(units, &mut waiting, size, Held::default(), rules);
        if batch.len() < size {
            return Packed { possible, ..pack_divided(units, VecDeque::new(), rules, groups) }.joined(rules);
        }
        packed.add(batch.into_iter().map(|unit| rows[unit as usize]), size);
    }
    let mut rest = ShortBatches::new(rules, size);
    waiting.into_iter().for_each(|unit| rest.add(units.get(unit as usize)));
    packed.append_all(rest, size);
    packed.joined(rules)
}

#[cfg(test)]
mod tests;
