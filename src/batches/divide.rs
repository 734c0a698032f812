//! Packing where whole clusters do not fill as many batches as keys allow: some clusters are divided. Pure.
//!
//! Batches are filled one after the other: with whole clusters as far as they fit, then with rows of clusters that are
//! divided already, and then with rows of one more cluster, of which as many fit as of any that is looked at.
//!
//! What keeps the later batches possible is a count. With b batches to make, at most min(n, R · b) of the n rows of a
//! key can play; the *slack* is by how many rows the sum of these exceeds b · |B| ([`super::bound`]). A key *needs*
//! n − R · (b − 1) rows in this batch, if that is above zero: each row that it does not get there, no later batch can
//! take, and the slack falls by one. So a cluster or row may enter the batch as long as the needs that are left fit
//! into the room that is left and this batch's share of the slack. Where each row has one key at most, the needs of a
//! batch always fit into it, and all b batches become full. Rows of several keys are counted by their most frequent
//! key; then a batch may be left that nothing fits into, and its rows make a short batch.
//!
//! Memory: 16 bytes a row: group, row by group, where it stands there, and the batches; 33 for each key.

use std::collections::{HashMap, VecDeque};

use super::bound::{KeyGroups, NO_GROUP, most_full, slack};
use super::rows_by_key::RowsByKey;
use super::units::Units;
use crate::vectors::Keys;

/// Clusters that are looked at for a batch, for each that it holds.
const LOOKED_AT: usize = 16;
/// The same, at least.
const LOOKED_AT_LEAST: usize = 256;
/// The same, at most.
const LOOKED_AT_MOST: usize = 8192;
/// Clusters among these from which on whole ones are tried.
const STARTS: usize = 8;
/// Clusters that are looked at to find the one to divide.
const DIVIDED_LOOKED_AT: usize = 48;
/// The same, where none of these has a row that fits.
const DIVIDED_LOOKED_AT_MOST: usize = 65_536;
/// Rows of a key that are looked at to find one to take.
const ROWS_LOOKED_AT: usize = 16;
/// Keys that are looked at in vain before no row of a divided cluster is taken.
const KEYS_LOOKED_AT: usize = 256;

/// What came of a task's units.
#[derive(Debug, Default)]
pub(super) struct Divided {
    /// The positions of the full batches' rows, batch after batch.
    pub full: Vec<u32>,
    /// Batches that nothing more fitted into.
    pub stuck: Vec<Vec<u32>>,
    /// Whole clusters that are left.
    pub clusters: Vec<u32>,
    /// Positions of single rows that are left.
    pub rows: Vec<u32>,
}

/// Packs units into full batches of `size` rows, with `per_key` rows of a key in each at most. Clusters are taken in
/// the order given. Expected O(rows · log).
pub(super) fn divide(
    units: Units<'_>,
    clusters: VecDeque<u32>,
    groups: KeyGroups,
    keys: &Keys<'_>,
    [size, per_key]: [u32; 2],
) -> Divided {
    let mut packer = Packer::new(units, clusters, groups, keys, [size, per_key]);
    let mut result = Divided::default();
    packer.plan_batches();
    while packer.left > 0 {
        packer.begin();
        packer.add_whole_clusters();
        packer.meet_needs();
        packer.add_rows();
        let mut rows = std::mem::take(&mut packer.batch);
        let is_full = rows.len() == size as usize;
        if is_full {
            result.full.append(&mut rows);
            packer.slack -= i64::from(packer.unmet);
            packer.left -= 1;
        } else if !rows.is_empty() {
            result.stuck.push(rows);
        } else {
            break;
        }
        if !is_full || packer.slack < 0 {
            packer.plan_batches();
        }
    }
    packer.finish(result)
}

/// A task while it is packed.
struct Packer<'a> {
    units: Units<'a>,
    keys: &'a Keys<'a>,
    /// |B|.
    size: usize,
    /// R.
    per_key: u32,
    /// Whether rows have more keys than that of their group.
    several: bool,
    rows: RowsByKey,
    /// Rows of each group that are in no batch.
    remaining: Vec<u32>,
    /// Rows in no group that are in no batch.
    single_remaining: u64,
    /// Groups, the one with most rows at the start first.
    frequent: Vec<u32>,
    /// Clusters in order; those that are not whole any more are passed over.
    waiting: VecDeque<u32>,
    is_waiting: Vec<bool>,
    /// b: batches to be made, with this one.
    left: u64,
    slack: i64,
    /// This batch: its number and its rows.
    number: u32,
    batch: Vec<u32>,
    /// Rows of each group in the batch of a number.
    held: Vec<(u32, u32)>,
    /// The keys of this batch's rows, where rows have several.
    held_keys: HashMap<(u32, u32), u32>,
    /// Rows that keys need in this batch and do not have yet.
    unmet: u32,
    /// Whether room is kept for these.
    keeps_room: bool,
    /// Whether no loose row fits into this batch. It stays so: rows that are loosened later were tried then.
    exhausted: bool,
}

impl<'a> Packer<'a> {
    fn new(
        units: Units<'a>,
        waiting: VecDeque<u32>,
        groups: KeyGroups,
        keys: &'a Keys<'a>,
        [size, per_key]: [u32; 2],
    ) -> Packer<'a> {
        let single_remaining = groups.single();
        let KeyGroups { of, sizes, several } = groups;
        let mut rows = RowsByKey::new(of, &sizes);
        for position in units.rows() - units.loose_rows()..units.rows() {
            rows.loosen(position as u32);
            rows.offer(position as u32);
        }
        let mut frequent: Vec<u32> = (0..sizes.len() as u32).collect();
        frequent.sort_unstable_by_key(|group| (std::cmp::Reverse(sizes[*group as usize]), *group));
        Packer {
            units,
            keys,
            size: size as usize,
            per_key,
            several,
            rows,
            held: vec![(0, 0); sizes.len()],
            remaining: sizes,
            single_remaining,
            frequent,
            is_waiting: vec![true; units.clusters()],
            waiting,
            left: 0,
            slack: 0,
            number: 0,
            batch: Vec::new(),
            held_keys: HashMap::new(),
            unmet: 0,
            keeps_room: true,
            exhausted: false,
        }
    }

    /// Counts how many full batches the rows that are left allow.
    fn plan_batches(&mut self) {
        let (sizes, single) = (&self.remaining, self.single_remaining);
        let possible = most_full(sizes, single, self.size as u32, self.per_key);
        self.left = if self.number == 0 { possible } else { possible.min(self.left) };
        self.slack = slack(sizes, single, self.size as u32, self.per_key, self.left);
    }

    /// Begins a batch.
    fn begin(&mut self) {
        self.number += 1;
        self.held_keys.clear();
        self.batch = Vec::with_capacity(self.size);
        (self.keeps_room, self.exhausted) = (true, false);
        self.unmet = self.needing().map(|group| self.need(group)).sum();
    }

    /// The groups that may need rows in this batch, the most frequent first.
    fn needing(&self) -> impl Iterator<Item = u32> + use<'_, 'a> {
        let later = u64::from(self.per_key) * (self.left - 1);
        self.frequent.iter().copied().take_while(move |group| u64::from(self.rows.size(*group)) > later)
    }

    /// Rows of a group in this batch.
    fn held(&self, group: u32) -> u32 {
        let (number, rows) = self.held[group as usize];
        if number == self.number { rows } else { 0 }
    }

    /// Rows that a group needs in this batch, beyond those that are there.
    fn need(&self, group: u32) -> u32 {
        let later = u64::from(self.per_key) * (self.left - 1);
        let beyond = u64::from(self.remaining[group as usize]).saturating_sub(later);
        beyond.min(u64::from(self.per_key - self.held(group))) as u32
    }

    fn room(&self) -> usize {
        self.size - self.batch.len()
    }

    /// Whether the needs that are left fit into the room that is left.
    fn needs_fit(&self) -> bool {
        let share = self.slack.max(0) / self.left as i64;
        !self.keeps_room || i64::from(self.unmet) <= self.room() as i64 + share
    }

    /// Whether no key of a row has too many rows in this batch.
    fn fits(&self, position: u32) -> bool {
        let group = self.rows.group_of(position);
        if !self.several {
            return group == NO_GROUP || self.held(group) < self.per_key;
        }
        let mut keys = self.keys.shared(self.units.row(position as usize));
        keys.all(|key| self.held_keys.get(&key).is_none_or(|rows| *rows < self.per_key))
    }

    /// Adds a row to the batch, or takes it out again: counts only.
    fn count(&mut self, position: u32, enters: bool) {
        let change = |count: u32| if enters { count + 1 } else { count - 1 };
        let group = self.rows.group_of(position);
        if self.several {
            for key in self.keys.shared(self.units.row(position as usize)) {
                let rows = self.held_keys.entry(key).or_default();
                *rows = change(*rows);
            }
        }
        if group == NO_GROUP {
            self.single_remaining = if enters { self.single_remaining - 1 } else { self.single_remaining + 1 };
            return;
        }
        let before = self.need(group);
        self.held[group as usize] = (self.number, change(self.held(group)));
        let remaining = &mut self.remaining[group as usize];
        *remaining = if enters { *remaining - 1 } else { *remaining + 1 };
        self.unmet = self.unmet - before + self.need(group);
    }

    /// Adds a row to the batch if it fits, and leaves room for what is needed.
    fn enter(&mut self, position: u32) -> bool {
        if self.room() == 0 || !self.fits(position) {
            return false;
        }
        self.count(position, true);
        self.batch.push(position);
        if self.needs_fit() {
            return true;
        }
        self.batch.pop();
        self.count(position, false);
        false
    }

    /// Adds all rows of a cluster, or none: counts only.
    fn enter_cluster(&mut self, cluster: u32) -> bool {
        let positions = self.units.positions(cluster as usize);
        let before = self.batch.len();
        // Most clusters conflict: that is found before anything is counted.
        if positions.len() > self.room() || !positions.clone().all(|position| self.fits(position as u32)) {
            return false;
        }
        for position in positions.clone() {
            if !self.fits(position as u32) {
                break;
            }
            self.count(position as u32, true);
            self.batch.push(position as u32);
        }
        let enters = self.batch.len() == before + positions.len() && self.needs_fit();
        if !enters {
            self.leave(before);
        }
        enters
    }

    /// Takes the last rows out of the batch again: counts only.
    fn leave(&mut self, rows: usize) {
        for position in self.batch.split_off(rows) {
            self.count(position, false);
        }
    }

    /// Fills the batch with whole clusters: with as many as fit from any of the starts that are tried.
    fn add_whole_clusters(&mut self) {
        let looked = self.next_waiting();
        let mut best: Vec<u32> = Vec::new();
        for start in 0..STARTS.min(looked.len()) {
            let (before, after) = looked.split_at(start * looked.len() / STARTS);
            let in_turn = after.iter().chain(before).copied();
            let chosen: Vec<u32> = in_turn.filter(|cluster| self.enter_cluster(*cluster)).collect();
            let is_full = self.room() == 0;
            self.leave(0);
            if chosen.len() > best.len() {
                best = chosen;
            }
            if is_full {
                break;
            }
        }
        for cluster in best {
            self.enter_cluster(cluster);
            self.is_waiting[cluster as usize] = false;
            for position in self.units.positions(cluster as usize) {
                self.rows.loosen(position as u32);
                self.rows.pack(position as u32);
            }
        }
        looked.into_iter().rev().filter(|cluster| self.is_waiting[*cluster as usize]).for_each(|cluster| {
            self.waiting.push_front(cluster);
        });
    }

    /// Takes the clusters that are looked at from the front of those that wait.
    fn next_waiting(&mut self) -> Vec<u32> {
        let first = self.waiting.iter().find(|cluster| self.is_waiting[**cluster as usize]);
        let Some(rows) = first.map(|cluster| self.units.positions(*cluster as usize).len()) else { return Vec::new() };
        let looked_at = (LOOKED_AT * self.size / rows.max(1)).clamp(LOOKED_AT_LEAST, LOOKED_AT_MOST);
        let mut looked = Vec::new();
        while looked.len() < looked_at {
            let Some(cluster) = self.waiting.pop_front() else { break };
            if self.is_waiting[cluster as usize] {
                looked.push(cluster);
            }
        }
        looked
    }

    /// Takes rows of the keys that need to be in this batch.
    fn meet_needs(&mut self) {
        let needing: Vec<u32> = self.needing().collect();
        for group in needing {
            while self.unmet > 0 && self.room() > 0 && self.need(group) > 0 {
                if !self.take_loose(group) && !self.divide_for(group) {
                    break;
                }
            }
        }
        // What could not be met here, rows of several keys stand in the way of: others may have the room.
        self.keeps_room = false;
    }

    /// Fills the batch with loose rows, and where these do not suffice with rows of one more cluster.
    fn add_rows(&mut self) {
        while self.room() > 0 {
            if !self.take_any_loose() && !self.divide_best() {
                return;
            }
        }
    }

    /// Takes one loose row of a group.
    fn take_loose(&mut self, group: u32) -> bool {
        if !self.several && self.held(group) >= self.per_key {
            return false;
        }
        for index in 0..self.rows.loose(group).len().min(ROWS_LOOKED_AT) {
            let position = self.rows.loose(group)[index];
            if self.enter(position) {
                self.rows.pack(position);
                return true;
            }
        }
        false
    }

    /// Takes one loose row: of the groups in turn, then one in no group.
    fn take_any_loose(&mut self) -> bool {
        for _ in 0..if self.exhausted { 0 } else { self.rows.active().min(self.size + KEYS_LOOKED_AT) } {
            let Some(group) = self.rows.next_active() else { break };
            if self.take_loose(group) {
                return true;
            }
        }
        self.exhausted = true;
        let singles = self.rows.single().len();
        for index in (singles.saturating_sub(ROWS_LOOKED_AT)..singles).rev() {
            if self.enter(self.rows.single()[index]) {
                self.rows.take_single(index);
                return true;
            }
        }
        false
    }

    /// Divides a cluster that has a row of a group.
    fn divide_for(&mut self, group: u32) -> bool {
        let rows = self.rows.clustered(group).iter().take(ROWS_LOOKED_AT).filter(|position| self.fits(**position));
        let usable = rows.filter_map(|position| {
            let cluster = self.units.cluster_of(*position as usize)?;
            Some((self.usable(cluster), std::cmp::Reverse(*position), cluster))
        });
        let Some((_, position, cluster)) = usable.max() else { return false };
        self.divide(cluster, Some(position.0))
    }

    /// Divides a cluster of which as many rows fit as of any that is looked at.
    fn divide_best(&mut self) -> bool {
        let mut best = (0, 0);
        let mut passed = Vec::new();
        while let Some(cluster) = self.waiting.pop_front() {
            if !self.is_waiting[cluster as usize] {
                continue;
            }
            let usable = self.usable(cluster as usize);
            if usable > best.0 {
                best = (usable, cluster as usize);
            }
            passed.push(cluster);
            let enough = if best.0 > 0 { DIVIDED_LOOKED_AT } else { DIVIDED_LOOKED_AT_MOST };
            if passed.len() >= enough || (best.0 > 0 && best.0 >= self.room()) {
                break;
            }
        }
        passed.into_iter().rev().for_each(|cluster| self.waiting.push_front(cluster));
        best.0 > 0 && self.divide(best.1, None)
    }

    /// Rows of a cluster that fit into the batch, each by itself.
    fn usable(&self, cluster: usize) -> usize {
        self.units.positions(cluster).filter(|position| self.fits(*position as u32)).count()
    }

    /// Takes what fits of a cluster, one row first; the others are loose from now on. Whether any row was taken.
    fn divide(&mut self, cluster: usize, first: Option<u32>) -> bool {
        let positions = self.units.positions(cluster);
        self.is_waiting[cluster] = false;
        positions.clone().for_each(|position| self.rows.loosen(position as u32));
        let before = self.batch.len();
        let others = positions.clone().map(|position| position as u32).filter(|position| Some(*position) != first);
        for position in first.into_iter().chain(others) {
            match self.enter(position) {
                true => self.rows.pack(position),
                false => self.rows.offer(position),
            }
        }
        self.batch.len() > before
    }

    /// Adds what is left.
    fn finish(self, mut result: Divided) -> Divided {
        result.clusters = self.waiting.iter().copied().filter(|cluster| self.is_waiting[*cluster as usize]).collect();
        result.rows = self.rows.into_loose();
        result
    }
}
