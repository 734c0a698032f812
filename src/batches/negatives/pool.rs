//! The entries that negatives are drawn from. Pure.

use std::collections::HashSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::vectors::Place;

/// Rows that a thread takes at least.
pub(super) const ROWS_MIN: usize = 32;

/// Misses before the entries that are left are scanned.
const fn misses(count: usize) -> usize {
    64 + 16 * count
}

/// The rows in the rank windows of a batch, once for each window. Pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool(Vec<Place>);

impl Pool {
    /// Collects the windows of some rows, of `width` entries at most. O(rows · width).
    pub(super) fn new<W: Iterator<Item = Place>>(
        rows: &[Place],
        width: usize,
        window: impl Fn(Place) -> W + Sync,
    ) -> Pool {
        let width = width.max(1);
        let mut entries = vec![Place::NONE; rows.len() * width];
        entries.par_chunks_mut(width).zip(rows).with_min_len(ROWS_MIN).for_each(|(room, row)| {
            room.iter_mut().zip(window(*row)).for_each(|(entry, other)| *entry = other);
        });
        entries.retain(|entry| *entry != Place::NONE);
        Pool(entries)
    }

    /// Collects the windows of the rows of a cluster, less twice their suspects: a row is in it as often as it is in
    /// windows beyond that. O(rows · (suspects + window) · log).
    pub(super) fn of_cluster<W: Iterator<Item = Place>, S: Iterator<Item = Place>>(
        rows: &[Place],
        window: impl Fn(Place) -> W,
        suspects: impl Fn(Place) -> S,
    ) -> Pool {
        let mut entries: Vec<Place> = rows.iter().flat_map(|row| window(*row)).collect();
        let mut against: Vec<Place> = rows.iter().flat_map(|row| suspects(*row)).collect();
        entries.sort_unstable();
        against.sort_unstable();
        let mut left = Vec::with_capacity(entries.len());
        let mut against = &against[..];
        for same in entries.chunk_by(|a, b| a == b) {
            against = &against[against.partition_point(|other| *other < same[0])..];
            let lost = 2 * against.partition_point(|other| *other == same[0]);
            left.extend(same.iter().skip(lost));
        }
        Pool(left)
    }

    /// Draws up to `count` different rows among those that `may` be drawn, by their counts, without replacement:
    /// fewer only where there are no more.
    pub(super) fn draw(&self, count: usize, may: impl Fn(Place) -> bool, random: &mut ChaCha8Rng) -> Vec<Place> {
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

/// Draws for each row of a cluster in turn, one at a time, until each has `count`: by the entries' number, without
/// replacement over all rows. `may` says what each row may have. Fewer only where none that a row may have is left.
pub(super) fn share_out(
    mut pool: Pool,
    count: usize,
    may: &[impl Fn(Place) -> bool],
    random: &mut ChaCha8Rng,
) -> Vec<Vec<Place>> {
    let mut shares = vec![Vec::with_capacity(count); may.len()];
    let mut taken = HashSet::new();
    // A row for which nothing was left has nothing later on.
    let mut served: Vec<usize> = (0..may.len()).collect();
    for _ in 0..count {
        pool.0.retain(|entry| !taken.contains(entry));
        served.retain(|row| {
            let drawn = pool.draw(1, |other| !taken.contains(&other) && may[*row](other), random);
            taken.extend(drawn.iter().copied());
            shares[*row].extend(drawn.iter().copied());
            !drawn.is_empty()
        });
    }
    shares
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::random::{Purpose, stream};

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
    fn the_pool_has_a_row_once_for_each_window() {
        let windows = [[3, 2, 8], [8, 9, 4], [9, 8, 7]].map(|window| window.map(Place::new));
        let of = |place: Place| windows[place.index()].into_iter();
        assert_eq!(Pool::new(&[0, 1, 2].map(Place::new), 3, of).0, [3, 2, 8, 8, 9, 4, 9, 8, 7].map(Place::new));
        let nothing = |_| std::iter::empty();
        assert_eq!(Pool::new(&[], 0, nothing).0, []);
        let random = &mut stream(Purpose::RecallSample);
        assert_eq!(Pool::new(&[Place::new(3)], 1, nothing).draw(4, |_| true, random), []);
        // 8 is in three windows and one row's suspects, 9 in two and one.
        let suspects = |place: Place| [9, 8, 5].map(Place::new).into_iter().take(2 * usize::from(place.index() == 1));
        assert_eq!(Pool::of_cluster(&[0, 1, 2].map(Place::new), of, suspects).0, [2, 3, 4, 7, 8].map(Place::new));
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
        fn shares_have_what_each_may_have_and_nothing_twice(
            entries in proptest::collection::vec((0u32..40).prop_map(Place::new), 0..120),
            forbidden in proptest::collection::vec(
                proptest::collection::hash_set((0u32..40).prop_map(Place::new), 0..40), 1..9,
            ),
            count in 1usize..9, seed in any::<u64>(),
        ) {
            let mut random = stream(Purpose::HardNegatives { seed, epoch: 0, batch: 0 });
            let may: Vec<_> = forbidden.iter().map(|those| |other: Place| !those.contains(&other)).collect();
            let shares = share_out(Pool(entries.clone()), count, &may, &mut random);
            let all: HashSet<Place> = shares.iter().flatten().copied().collect();
            prop_assert_eq!(all.len(), shares.iter().map(Vec::len).sum::<usize>(), "one of them twice");
            for (share, forbidden) in shares.iter().zip(&forbidden) {
                prop_assert!(share.iter().all(|other| entries.contains(other) && !forbidden.contains(other)));
                let left = entries.iter().any(|other| !all.contains(other) && !forbidden.contains(other));
                prop_assert!(share.len() == count || share.len() < count && !left);
            }
        }
    }
}
