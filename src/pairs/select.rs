//! Which pairs are judged first. Pure.

use std::cmp::Reverse;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::vectors::RowId;

/// A query and a positive, or document, that is its negative somewhere in training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MeetingPair {
    /// What the query scores with the candidate.
    pub score: f32,
    /// Whose query.
    pub query: RowId,
    /// Whose positive, or which document.
    pub other: RowId,
    /// What bit-identical positives have in common, and no others.
    pub positive: u64,
    /// Rank in the query's list; `None`: it is not in it.
    pub rank: Option<u32>,
    /// It is a suspect of the query.
    pub suspect: bool,
    /// In how many batches both rows are, over all epochs.
    pub batches: u32,
    /// Both rows are in one cluster.
    pub same_cluster: bool,
    /// How often it is a hard negative of the query, over all epochs.
    pub drawn: u32,
}

impl MeetingPair {
    /// What is asked: pairs of one name are one question.
    pub(crate) fn name(&self) -> (RowId, u64) {
        (self.query, self.positive)
    }

    /// By which pairs are in order: the closest first, then by rows. Pairs of one name come one after the other.
    fn closeness(&self) -> (Reverse<i32>, RowId, u64, RowId) {
        // The bits of floats in the order of the floats.
        let bits = self.score.to_bits().cast_signed();
        (Reverse(bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed()), self.query, self.positive, self.other)
    }

    /// By which pairs are in an order without sense, the same in any run: the first of it are drawn evenly.
    fn lot(&self, seed: u64) -> (u64, RowId, u64, RowId) {
        let name = [u64::from(self.query).to_le_bytes(), self.positive.to_le_bytes()].concat();
        (xxh3_64_with_seed(&name, seed), self.query, self.positive, self.other)
    }
}

/// The first so many distinct pairs in some order, of any number. Memory: twice as many.
#[derive(Debug)]
pub(crate) struct FirstPairs<K> {
    most: usize,
    key: K,
    pairs: Vec<MeetingPair>,
}

impl<K: Fn(&MeetingPair) -> O, O: Ord> FirstPairs<K> {
    pub(crate) fn new(most: usize, key: K) -> FirstPairs<K> {
        FirstPairs { most, key, pairs: Vec::new() }
    }

    pub(crate) fn add(&mut self, pair: MeetingPair) {
        self.pairs.push(pair);
        // Small selections are sorted now and then only.
        if self.pairs.len() >= 2 * self.most + 4096 {
            self.compact();
        }
    }

    fn compact(&mut self) {
        self.pairs.sort_unstable_by_key(|pair| (self.key)(pair));
        // A pair comes once as rows of one batch, and once for each epoch that draws it.
        self.pairs.dedup_by(|later, first| {
            let same = later.name() == first.name();
            if same {
                first.batches = first.batches.max(later.batches);
                first.same_cluster |= later.same_cluster;
                first.drawn += later.drawn;
            }
            same
        });
        self.pairs.truncate(self.most);
    }

    /// The pairs in order.
    pub(crate) fn finish(mut self) -> Vec<MeetingPair> {
        self.compact();
        self.pairs
    }
}

/// The closest pairs.
pub(crate) fn closest(most: usize) -> FirstPairs<impl Fn(&MeetingPair) -> (Reverse<i32>, RowId, u64, RowId)> {
    FirstPairs::new(most, MeetingPair::closeness)
}

/// Pairs drawn evenly.
pub(crate) fn evenly(most: usize, seed: u64) -> FirstPairs<impl Fn(&MeetingPair) -> (u64, RowId, u64, RowId)> {
    FirstPairs::new(most, move |pair| pair.lot(seed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(query: u32, other: u32, score: f32, drawn: u32) -> MeetingPair {
        let same_cluster = query.is_multiple_of(2);
        MeetingPair {
            score,
            query,
            other,
            positive: other.into(),
            rank: None,
            suspect: false,
            batches: 1,
            same_cluster,
            drawn,
        }
    }

    proptest! {
        #[test]
        fn the_closest_are_those_of_a_sort(
            pairs in proptest::collection::vec((0u32..40, 0u32..40), 0..6000), most in 0usize..50,
        ) {
            let mut wanted: Vec<MeetingPair> = Vec::new();
            let mut found = closest(most);
            for (query, other) in pairs {
                // A pair has one score.
                let pair = pair(query, other, (query as f32 - other as f32) / 7.0, 1);
                found.add(pair);
                match wanted.iter_mut().find(|known| known.name() == pair.name()) {
                    Some(known) => known.drawn += 1,
                    None => wanted.push(pair),
                }
            }
            wanted.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.name().cmp(&b.name())));
            wanted.truncate(most);
            let found = found.finish();
            prop_assert_eq!(found.iter().map(MeetingPair::name).collect::<Vec<_>>(),
                wanted.iter().map(MeetingPair::name).collect::<Vec<_>>());
        }
    }

    #[test]
    fn lots_are_even() {
        let mut drawn = evenly(500, 7);
        (0..100).for_each(|query| (0..100).for_each(|other| drawn.add(pair(query, other, 0.0, 0))));
        let drawn = drawn.finish();
        assert_eq!(drawn.len(), 500);
        // Of 10,000 pairs 500: a half has 250 ± 15.
        let low = drawn.iter().filter(|pair| pair.query < 50).count();
        assert!((205..=295).contains(&low), "{low}");
    }
}
