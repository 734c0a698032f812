//! Hard negatives of each batch (B3++): for batch B, Pr(j) ∝ the number of i in B whose window j stands in.
//!
//! The windows of B's rows, one after the other, are the [`Pool`]: a row that stands in many windows is in it many
//! times, so that an entry drawn evenly is a row drawn by its count, in constant time and without any table. Rows of
//! B itself are taken out beforehand. For each example entries are drawn until there are enough; one that it may not
//! have (of its key, its suspect, of another task, or drawn before) is drawn again. That is the weighted draw without
//! replacement among those that it may have. After so many (`misses`) such entries the rest is drawn by a scan that leaves
//! them out: the same distribution, so that how often one missed says nothing about what was drawn. Expected
//! O(count · (skip + keys)) an example, and at worst O(count · |B| · window) times that.
//!
//! How few examples come to the scan: a batch has one row of a key at most, so that the shares of the pool that keys
//! keep from its rows sum up to at most 1 for each key column. Suspects keep a stretch of one list from a row.
//!
//! Memory: |B| · window entries of 4 bytes for each batch under way. Rows are places, as in the neighbor lists.
//! After Thirukovalluru et al. (2025), B3++.

use std::cell::RefCell;
use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::pack::BatchOrder;
use crate::neighbors::topk::Candidate;
use crate::neighbors::{Neighbors, Windows};
use crate::random::{Purpose, stream};
use crate::vectors::{Keys, RowId, Scorer, Vectors};

/// Entries of pools that are held at a time, but for the last batch that still begins within them.
pub(crate) const POOL_ENTRIES: usize = 2 << 20;
/// Rows that a thread takes at least.
const ROWS_MIN: usize = 32;
const NOBODY: RowId = RowId::MAX;

/// Entries that may be of no use before those that are left are counted.
const fn misses(count: usize) -> usize {
    64 + 16 * count
}

/// Who stands in the windows of a batch, once for each window. Pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool(Vec<RowId>);

impl Pool {
    /// Collects the windows of a batch's members, which are sorted. O(members · window · log members).
    pub(crate) fn new<'w>(members: &[RowId], window: impl Fn(RowId) -> &'w [RowId] + Sync) -> Pool {
        let width = members.iter().map(|row| window(*row).len()).max().unwrap_or(0).max(1);
        let mut entries = vec![NOBODY; members.len() * width];
        entries.par_chunks_mut(width).zip(members).with_min_len(ROWS_MIN).for_each(|(slots, row)| {
            let others = window(*row).iter().filter(|other| members.binary_search(other).is_err());
            slots.iter_mut().zip(others).for_each(|(slot, other)| *slot = *other);
        });
        entries.retain(|entry| *entry != NOBODY);
        Pool(entries)
    }

    /// Draws up to `count` different rows among those that `may` be drawn, by their counts, without replacement:
    /// fewer only where there are no more.
    pub(crate) fn draw(&self, count: usize, may: impl Fn(RowId) -> bool, random: &mut ChaCha8Rng) -> Vec<RowId> {
        self.draw_patiently(count, misses(count), may, random)
    }

    fn draw_patiently(
        &self,
        count: usize,
        mut misses: usize,
        may: impl Fn(RowId) -> bool,
        random: &mut ChaCha8Rng,
    ) -> Vec<RowId> {
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count && misses > 0 && !self.0.is_empty() {
            let entry = self.0[random.random_range(0..self.0.len() as u64) as usize];
            if !drawn.contains(&entry) && may(entry) {
                drawn.push(entry);
            } else {
                misses -= 1;
            }
        }
        if drawn.len() < count {
            self.draw_rest(count, may, random, &mut drawn);
        }
        drawn
    }

    /// The same by counting who is left.
    fn draw_rest(&self, count: usize, may: impl Fn(RowId) -> bool, random: &mut ChaCha8Rng, drawn: &mut Vec<RowId>) {
        let is_left = |entry: &RowId, drawn: &[RowId]| !drawn.contains(entry) && may(*entry);
        let mut left = self.0.iter().filter(|entry| is_left(entry, drawn)).count();
        while drawn.len() < count && left > 0 {
            let number = random.random_range(0..left as u64) as usize;
            let mut those_left = self.0.iter().filter(|entry| is_left(entry, drawn));
            let entry = *those_left.nth(number).expect("they were counted");
            left -= self.0.iter().filter(|other| **other == entry).count();
            drawn.push(entry);
        }
    }
}

/// Draws for the batches of an epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NegativeSampler<'a> {
    /// Keys, tasks, and what scores.
    pub vectors: &'a Vectors,
    /// The lists.
    pub neighbors: &'a Neighbors,
    /// Which of a list are suspects, and which preferred negatives.
    pub windows: &'a Windows<'a>,
    /// h: negatives of an example.
    pub count: usize,
    /// The job's seed.
    pub seed: u64,
}

impl NegativeSampler<'_> {
    /// The negatives of each row of some batches, row after row, in the order in which they were drawn, with the
    /// score of the row's query. A row's are the same wherever it stands in its batch, and on any number of threads.
    pub(crate) fn of_batches(&self, epoch: u32, order: &BatchOrder, batches: Range<usize>) -> Vec<Vec<Candidate>> {
        batches.into_par_iter().flat_map_iter(|index| self.of_batch(epoch, index, order.batch(index))).collect()
    }

    fn of_batch(&self, epoch: u32, index: usize, rows: &[RowId]) -> Vec<Vec<Candidate>> {
        let mut members: Vec<RowId> = rows.iter().map(|row| self.neighbors.places()[*row as usize]).collect();
        members.sort_unstable();
        let pool = Pool::new(&members, |place| self.windows.of(place).preferred());
        let keys = self.vectors.rows.keys().by_place(self.neighbors.order());
        let random = stream(Purpose::HardNegatives { seed: self.seed, epoch, batch: index });
        rows.par_iter()
            .with_min_len(ROWS_MIN)
            .map_init(|| Scorer::new(self.vectors), |scorer, row| self.of_row(*row, &pool, &keys, &random, scorer))
            .collect()
    }

    fn of_row(
        &self,
        row: RowId,
        pool: &Pool,
        keys: &Keys<'_>,
        random: &ChaCha8Rng,
        scorer: &mut Scorer<'_>,
    ) -> Vec<Candidate> {
        let place = self.neighbors.places()[row as usize];
        let suspects = self.windows.of(place).suspects();
        // A task's places are its range of rows. In batches of several tasks, each row has its own task's negatives.
        let tasks = &self.vectors.tasks;
        let task = tasks.range(tasks.of(row));
        let scorer = RefCell::new(scorer);
        let score = |other: RowId| scorer.borrow_mut().pair(row, self.neighbors.order()[other as usize]);
        let may = |other: RowId| {
            task.contains(&other)
                && !suspects.contains(&other)
                && !keys.conflict(place, other)
                && !self.windows.is_too_close(place, || score(other))
        };
        let mut random = random.clone();
        random.set_stream(u64::from(row));
        let drawn = pool.draw(self.count, may, &mut random).into_iter();
        drawn.map(|other| Candidate { row: self.neighbors.order()[other as usize], score: score(other) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// How often each ordered pair is drawn in so many draws.
    fn pairs(pool: &Pool, misses: usize, may: impl Fn(RowId) -> bool, draws: u64) -> BTreeMap<Vec<RowId>, u64> {
        let mut counts = BTreeMap::new();
        let random = stream(Purpose::HardNegatives { seed: 7, epoch: 0, batch: 0 });
        for draw in 0..draws {
            let mut random = random.clone();
            random.set_stream(draw);
            *counts.entry(pool.draw_patiently(2, misses, &may, &mut random)).or_default() += 1;
        }
        counts
    }

    #[test]
    fn pairs_come_as_often_as_their_counts_say_however_they_are_drawn() {
        const DRAWS: u64 = 60_000;
        // Counts 1 to 6 of rows 1 to 6; 5 may not be drawn.
        let pool = Pool((1..=6).flat_map(|row| vec![row; row as usize]).collect());
        let may = |row: RowId| row != 5;
        let weights: Vec<(RowId, f64)> = [1, 2, 3, 4, 6].map(|row| (row, f64::from(row))).to_vec();
        // By rejection alone, by counting alone, and with counting after a miss or two, which is often.
        for misses in [1000, 0, 1, 2] {
            let counts = pairs(&pool, misses, may, DRAWS);
            let mut chi_square = 0.0;
            for (first, a) in &weights {
                for (second, b) in weights.iter().filter(|(row, _)| row != first) {
                    let expected = DRAWS as f64 * a / 16.0 * b / (16.0 - a);
                    let found = counts.get(&vec![*first, *second]).copied().unwrap_or(0) as f64;
                    chi_square += (found - expected).powi(2) / expected;
                }
            }
            assert_eq!(counts.len(), 20, "{counts:?}");
            // 19 degrees of freedom: one draw in a thousand is above 43.8.
            assert!(chi_square < 43.8, "chi-square {chi_square} with {misses} misses");
        }
    }

    #[test]
    fn the_pool_has_a_row_once_for_each_window_and_no_member() {
        let windows = [[1, 2, 8], [8, 9, 0], [9, 8, 7]];
        let pool = Pool::new(&[0, 1, 2], |row| &windows[row as usize]);
        assert_eq!(pool.0, [8, 8, 9, 9, 8, 7]);
        assert_eq!(Pool::new(&[], |_| &[]).0, [0; 0]);
        assert_eq!(Pool::new(&[3], |_| &[]).draw(4, |_| true, &mut stream(Purpose::RecallSample)), [0; 0]);
    }

    proptest! {
        #[test]
        fn as_many_as_there_are_and_none_that_may_not_be(
            entries in proptest::collection::vec(0u32..40, 0..300),
            forbidden in proptest::collection::hash_set(0u32..40, 0..40),
            count in 1usize..50, misses in 0usize..80, seed in any::<u64>(),
        ) {
            let mut wanted = entries.clone();
            wanted.sort_unstable();
            wanted.dedup();
            wanted.retain(|row| !forbidden.contains(row));
            let may = |row: RowId| !forbidden.contains(&row);
            let mut drawn = Pool(entries).draw_patiently(count, misses, may, &mut stream(Purpose::HardNegatives { seed, epoch: 0, batch: 0 }));
            prop_assert_eq!(drawn.len(), wanted.len().min(count));
            drawn.sort_unstable();
            drawn.dedup();
            prop_assert_eq!(drawn.len(), wanted.len().min(count), "one of them twice");
            prop_assert!(drawn.iter().all(|row| wanted.binary_search(row).is_ok()));
        }

        #[test]
        fn the_pool_is_what_the_windows_hold(
            windows in proptest::collection::vec(proptest::collection::vec(0u32..200, 0..30), 0..150),
        ) {
            let members: Vec<RowId> = (0..windows.len() as RowId).collect();
            let pool = Pool::new(&members, |row| &windows[row as usize]);
            let wanted: Vec<RowId> = windows.concat().into_iter().filter(|row| *row >= members.len() as RowId).collect();
            prop_assert_eq!(pool.0, wanted);
        }
    }
}
