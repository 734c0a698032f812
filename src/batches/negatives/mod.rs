//! Hard negatives of each batch (B3++): for batch B, Pr(j) ∝ the number of rows i of B whose rank window has j in it.
//!
//! The rank windows of B's rows, one after the other, are the [`Pool`]. A row that is in many windows is in it many
//! times: an entry that is drawn uniformly is a row drawn by its count, in constant time and without a table. Rows of B
//! itself are left out of it. For each example, entries are drawn until there are enough; an entry that the example may
//! not have (of its key, its suspect, of another task, or drawn before) is a *miss* and is drawn again. That is the
//! weighted draw without replacement among the rows that it may have. After `misses` misses the rest is drawn from a
//! scan of the entries that it may have. The distribution is the same, so the number of misses does not bias the draw.
//! Expected O(count · (skip + keys)) an example, and at worst O(count · |B| · window) times that.
//!
//! Few examples need the scan: a batch has at most one row of a key, so for each key column the shares of the pool that
//! its rows may not have sum up to at most 1. Suspects exclude a part of one list only.
//!
//! Memory: |B| · window entries of 4 bytes for each batch under way. Rows are known by their places, as in the lists.
//! After Thirukovalluru et al. (2025), B3++.

use std::cell::RefCell;
use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::order::BatchOrder;
use crate::neighbors::topk::Candidate;
use crate::neighbors::{Neighbors, Windows};
use crate::random::{Purpose, stream};
use crate::vectors::{KeysByPlace, Place, RowId, Scorer, Vectors};

/// Entries of the pools that are held at a time; the last batch may begin within them and end beyond.
pub(crate) const POOL_ENTRIES: usize = 2 << 20;
/// Rows that a thread takes at least.
const ROWS_MIN: usize = 32;

/// Misses before the entries that are left are scanned.
const fn misses(count: usize) -> usize {
    64 + 16 * count
}

/// The rows in the rank windows of a batch, once for each window. Pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool(Vec<Place>);

impl Pool {
    /// Collects the windows of a batch's members, which are sorted. O(members · window · log members).
    pub(crate) fn new<'w>(members: &[Place], window: impl Fn(Place) -> &'w [Place] + Sync) -> Pool {
        let width = members.iter().map(|place| window(*place).len()).max().unwrap_or(0).max(1);
        let mut entries = vec![Place::NONE; members.len() * width];
        entries.par_chunks_mut(width).zip(members).with_min_len(ROWS_MIN).for_each(|(room, place)| {
            let others = window(*place).iter().filter(|other| members.binary_search(other).is_err());
            room.iter_mut().zip(others).for_each(|(entry, other)| *entry = *other);
        });
        entries.retain(|entry| *entry != Place::NONE);
        Pool(entries)
    }

    /// Draws up to `count` different rows among those that `may` be drawn, by their counts, without replacement:
    /// fewer only where there are no more.
    pub(crate) fn draw(&self, count: usize, may: impl Fn(Place) -> bool, random: &mut ChaCha8Rng) -> Vec<Place> {
        self.draw_with(count, misses(count), may, random)
    }

    fn draw_with(
        &self,
        count: usize,
        mut misses: usize,
        may: impl Fn(Place) -> bool,
        random: &mut ChaCha8Rng,
    ) -> Vec<Place> {
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

    /// The same by a scan of the entries that are left.
    fn draw_rest(&self, count: usize, may: impl Fn(Place) -> bool, random: &mut ChaCha8Rng, drawn: &mut Vec<Place>) {
        let is_left = |entry: &Place, drawn: &[Place]| !drawn.contains(entry) && may(*entry);
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
    pub neighbors: &'a Neighbors,
    /// Which of a list are suspects, and which preferred negatives.
    pub windows: &'a Windows<'a>,
    /// h: negatives of an example.
    pub count: usize,
    pub seed: u64,
}

impl NegativeSampler<'_> {
    /// The negatives of each row of some batches, row after row, in the order in which they were drawn, with the
    /// score of the row's query. A row's are the same wherever it stands in its batch, and on any number of threads.
    pub(crate) fn of_batches(&self, epoch: u32, order: &BatchOrder, batches: Range<usize>) -> Vec<Vec<Candidate>> {
        batches.into_par_iter().flat_map_iter(|index| self.of_batch(epoch, index, order.batch(index))).collect()
    }

    fn of_batch(&self, epoch: u32, index: usize, rows: &[RowId]) -> Vec<Vec<Candidate>> {
        let mut members: Vec<Place> = rows.iter().map(|row| self.neighbors.place_of(*row)).collect();
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
        keys: &KeysByPlace<'_>,
        random: &ChaCha8Rng,
        scorer: &mut Scorer<'_>,
    ) -> Vec<Candidate> {
        let place = self.neighbors.place_of(row);
        let suspects = self.windows.of(place).suspects();
        // In batches of several tasks, each row has its own task's negatives.
        let tasks = &self.vectors.tasks;
        let task = tasks.places(tasks.of(row));
        let scorer = RefCell::new(scorer);
        let score = |other: Place| scorer.borrow_mut().pair(row, self.neighbors.row_at(other));
        let may = |other: Place| {
            task.contains(other)
                && !suspects.contains(&other)
                && !keys.conflict(place, other)
                && !self.windows.is_too_close(place, || score(other))
        };
        let mut random = random.clone();
        random.set_stream(u64::from(row));
        let drawn = pool.draw(self.count, may, &mut random).into_iter();
        drawn.map(|other| Candidate { row: self.neighbors.row_at(other), score: score(other) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::vectors::PlaceRange;

    /// How often each ordered pair is drawn in so many draws.
    fn pairs(pool: &Pool, misses: usize, may: impl Fn(Place) -> bool, draws: u64) -> BTreeMap<Vec<Place>, u64> {
        let mut counts = BTreeMap::new();
        let random = stream(Purpose::HardNegatives { seed: 7, epoch: 0, batch: 0 });
        for draw in 0..draws {
            let mut random = random.clone();
            random.set_stream(draw);
            *counts.entry(pool.draw_with(2, misses, &may, &mut random)).or_default() += 1;
        }
        counts
    }

    #[test]
    fn pairs_come_as_often_as_their_counts_say_however_they_are_drawn() {
        const DRAWS: u64 = 60_000;
        // Counts 1 to 6 of rows 1 to 6; 5 may not be drawn.
        let pool = Pool((1..=6).flat_map(|number| vec![Place::new(number); number as usize]).collect());
        let may = |place: Place| place.number() != 5;
        let weights = [1, 2, 3, 4, 6].map(|number| (Place::new(number), f64::from(number)));
        // By rejection alone, by counting alone, and with counting after a miss or two, which is often.
        for misses in [1000, 0, 1, 2] {
            let counts = pairs(&pool, misses, may, DRAWS);
            let mut chi_square = 0.0;
            for (first, a) in &weights {
                for (second, b) in weights.iter().filter(|(place, _)| place != first) {
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
        let windows = [[1, 2, 8], [8, 9, 0], [9, 8, 7]].map(|window| window.map(Place::new));
        let pool = Pool::new(&[0, 1, 2].map(Place::new), |place| &windows[place.index()]);
        assert_eq!(pool.0, [8, 8, 9, 9, 8, 7].map(Place::new));
        assert_eq!(Pool::new(&[], |_| &[]).0, []);
        let random = &mut stream(Purpose::RecallSample);
        assert_eq!(Pool::new(&[Place::new(3)], |_| &[]).draw(4, |_| true, random), []);
    }

    proptest! {
        #[test]
        fn as_many_as_there_are_and_none_that_may_not_be(
            entries in proptest::collection::vec((0u32..40).prop_map(Place::new), 0..300),
            forbidden in proptest::collection::hash_set((0u32..40).prop_map(Place::new), 0..40),
            count in 1usize..50, misses in 0usize..80, seed in any::<u64>(),
        ) {
            let mut wanted = entries.clone();
            wanted.sort_unstable();
            wanted.dedup();
            wanted.retain(|place| !forbidden.contains(place));
            let may = |place: Place| !forbidden.contains(&place);
            let mut random = stream(Purpose::HardNegatives { seed, epoch: 0, batch: 0 });
            let mut drawn = Pool(entries).draw_with(count, misses, may, &mut random);
            prop_assert_eq!(drawn.len(), wanted.len().min(count));
            drawn.sort_unstable();
            drawn.dedup();
            prop_assert_eq!(drawn.len(), wanted.len().min(count), "one of them twice");
            prop_assert!(drawn.iter().all(|place| wanted.binary_search(place).is_ok()));
        }

        #[test]
        fn the_pool_is_what_the_windows_hold(
            windows in proptest::collection::vec(
                proptest::collection::vec((0u32..200).prop_map(Place::new), 0..30), 0..150,
            ),
        ) {
            let members: Vec<Place> = PlaceRange::new(0, windows.len() as u32).iter().collect();
            let pool = Pool::new(&members, |place| &windows[place.index()]);
            let wanted: Vec<Place> =
                windows.concat().into_iter().filter(|place| place.index() >= members.len()).collect();
            prop_assert_eq!(pool.0, wanted);
        }
    }
}
