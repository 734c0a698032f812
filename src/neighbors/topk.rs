//! The best candidates of one query, from scores that may err within a bound.
//!
//! Candidates are kept by approximate score. With `error` the largest bound seen, the true score of the `ranks`-th best
//! is at least the `ranks`-th approximate score − `error`: the *threshold*. Candidates that cannot reach it are
//! dropped, and only those left at the end are scored exactly. Where the bound is too wide to drop enough of them, the
//! query goes over to exact scores at once, which bounds the memory.

use crate::vectors::{RowId, Scorer};

/// A candidate and its score, approximate or exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub score: f32,
    pub row: RowId,
}

impl Candidate {
    /// Total order of the search, rising: score descending, row ascending.
    #[inline]
    pub fn rank_key(&self) -> u64 {
        let bits = self.score.to_bits();
        // Rising with the score, as whole numbers: negative ones are complements.
        let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        u64::from(!rising) << 32 | u64::from(self.row)
    }

    /// The candidate of a [`Candidate::rank_key`].
    fn from_rank_key(key: u64) -> Candidate {
        let rising = !((key >> 32) as u32);
        let bits = if rising >> 31 == 1 { rising & !(1 << 31) } else { !rising };
        Candidate { score: f32::from_bits(bits), row: key as RowId }
    }
}

/// Total order of the search: score descending, row ascending.
pub(crate) fn by_rank(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    a.rank_key().cmp(&b.rank_key())
}

/// Most candidates that a [`TopK`] of `ranks` ranks holds.
pub(crate) const fn capacity(ranks: usize) -> usize {
    6 * ranks + 64
}

/// The best candidates so far of one query. At most `capacity` of them are held.
#[derive(Debug, Clone)]
pub struct TopK {
    candidates: Vec<Candidate>,
    ranks: usize,
    error: f32,
    threshold: f32,
    exact: bool,
    /// Number of candidates at which those below the threshold are dropped next.
    next: usize,
}

impl TopK {
    /// Without candidates yet; keeps `ranks` of them in the end.
    pub fn new(ranks: usize) -> TopK {
        TopK {
            candidates: Vec::with_capacity(capacity(ranks)),
            ranks,
            error: 0.0,
            threshold: f32::NEG_INFINITY,
            exact: false,
            next: ranks + ranks / 2 + 32,
        }
    }

    /// Assumes that the last of the best will reach `threshold`; the caller checks it in the end.
    pub fn begin_with(&mut self, threshold: f32) {
        self.threshold = threshold;
    }

    /// A candidate whose true score is below this cannot be among the best.
    #[inline]
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Takes a candidate whose true score lies within `error` of `score`; `exact` puts true scores into
    /// candidates.
    #[inline]
    pub fn push(&mut self, row: RowId, score: f32, error: f32, mut exact: impl FnMut(&mut [Candidate])) {
        let mut candidate = Candidate { score, row };
        if self.exact {
            exact(std::slice::from_mut(&mut candidate));
            if candidate.score < self.threshold {
                return;
            }
        } else {
            self.error = self.error.max(error);
        }
        self.candidates.push(candidate);
        if self.candidates.len() >= self.next {
            self.compact(exact);
        }
    }

    /// Drops those that cannot be among the best.
    fn compact(&mut self, exact: impl FnMut(&mut [Candidate])) {
        self.drop_those_below();
        if self.candidates.len() > 5 * self.ranks + 48 {
            self.make_exact(exact);
        }
        // Often, so that the threshold is fresh; not so often that selecting costs more than it saves.
        self.next = (self.candidates.len() + self.ranks / 2 + 32).min(capacity(self.ranks));
    }

    fn drop_those_below(&mut self) {
        if self.candidates.len() <= self.ranks {
            return;
        }
        let (_, last, _) = self.candidates.select_nth_unstable_by_key(self.ranks - 1, Candidate::rank_key);
        let last = last.score;
        if self.exact {
            self.candidates.truncate(self.ranks);
            self.threshold = self.threshold.max(last);
        } else {
            let keep = lower(last, 2.0 * self.error);
            self.candidates.retain(|candidate| candidate.score >= keep);
            self.threshold = self.threshold.max(lower(last, self.error));
        }
    }

    fn make_exact(&mut self, mut exact: impl FnMut(&mut [Candidate])) {
        exact(&mut self.candidates);
        (self.exact, self.error) = (true, 0.0);
        self.drop_those_below();
    }

    /// Candidates that may be among the best and whose scores are approximate; none where scores are exact already.
    pub fn unsure(&mut self) -> &[Candidate] {
        if self.exact {
            return &[];
        }
        self.drop_those_below();
        &self.candidates
    }

    /// Takes the true scores of all candidates of [`TopK::unsure`], in that order.
    pub fn resolve(&mut self, scores: &mut impl Iterator<Item = f32>) {
        if !self.exact {
            self.candidates.iter_mut().zip(scores).for_each(|(candidate, score)| candidate.score = score);
            (self.exact, self.error) = (true, 0.0);
        }
    }

    /// The best `ranks` (or all, where there are fewer) with exact scores, in rank order. O(ranks log ranks).
    pub fn finish(mut self, exact: impl FnMut(&mut [Candidate])) -> Vec<Candidate> {
        if !self.exact {
            self.drop_those_below();
            self.make_exact(exact);
        }
        // Keys are compared in one step.
        let mut keys: Vec<u64> = self.candidates.iter().map(Candidate::rank_key).collect();
        if keys.len() > self.ranks {
            keys.select_nth_unstable(self.ranks);
            keys.truncate(self.ranks);
        }
        keys.sort_unstable();
        // Not the candidates' own room: lists wait for their whole block, and that room is for more than is left.
        keys.into_iter().map(Candidate::from_rank_key).collect()
    }
}

/// Puts true scores into candidates.
pub(crate) fn score_exactly(scorer: &mut Scorer<'_>, query: RowId, list: &mut [Candidate]) {
    scorer.pairs(query, list, |candidate| candidate.row, |candidate, score| candidate.score = score);
}

/// `score − error`, never rounded up.
#[inline]
fn lower(score: f32, error: f32) -> f32 {
    if error == 0.0 { score } else { (score - error).next_down() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_order_as_scores_and_rows_do(a in any::<(f32, u32)>(), b in any::<(f32, u32)>()) {
            let [x, y] = [a, b].map(|(score, row)| Candidate { score, row });
            prop_assert_eq!(by_rank(&x, &y), y.score.total_cmp(&x.score).then(x.row.cmp(&y.row)));
            let again = Candidate::from_rank_key(x.rank_key());
            prop_assert_eq!((again.score.to_bits(), again.row), (x.score.to_bits(), x.row));
        }

        #[test]
        fn finds_the_exact_best_whatever_the_errors(
            scores in proptest::collection::vec((-20i32..20, -1.0f32..1.0), 0..900),
            ranks in 1usize..70,
            error in prop_oneof![Just(0.0f32), 0.001f32..40.0],
        ) {
            let truth = |row: RowId| scores[row as usize].0 as f32 * 0.25;
            let mut topk = TopK::new(ranks);
            let mut asked = 0;
            let mut exact = |candidates: &mut [Candidate]| {
                asked += candidates.len();
                candidates.iter_mut().for_each(|candidate| candidate.score = truth(candidate.row));
            };
            for (row, (_, noise)) in scores.iter().enumerate() {
                let row = row as RowId;
                let approximate = truth(row) + noise * error * 0.99;
                if approximate + error >= topk.threshold() {
                    topk.push(row, approximate, error, &mut exact);
                }
            }
            let found = topk.finish(&mut exact);
            let mut wanted: Vec<_> =
                (0..scores.len() as RowId).map(|row| Candidate { row, score: truth(row) }).collect();
            wanted.sort_by(by_rank);
            wanted.truncate(ranks);
            prop_assert_eq!(found, wanted);
            prop_assert!(asked <= scores.len() + capacity(ranks));
        }
    }
}
