//! What judged pairs say of the rules for suspects, and of the negatives that nobody judged. Pure but for `measure`.
//!
//! The judged pairs are divided into strata by score, with as many in each: they are narrow where many were judged. A
//! pair that meets in batches and was not judged is of the stratum of its score. Of a stratum the share of right
//! answers is that of its judged pairs, and the variance of the share that of the Beta distribution of Jeffreys' prior
//! (Brown, Cai and DasGupta, *Interval Estimation for a Binomial Proportion*, 2001), which is not 0 where few pairs
//! agree. The number of wrong negatives is the sum over strata, its interval 1.96 standard deviations of that sum.
//! `candidates` takes the closest pairs first and of the rest some evenly: within a narrow stratum who was judged is
//! as good as drawn.
//!
//! Memory: 4 bytes for each pair that meets, 8 for each that was judged.

use rayon::prelude::*;
use serde::Serialize;

use super::lists::BatchList;
use crate::neighbors::{Neighbors, Windows};
use crate::run::record::VerdictFacts;
use crate::vectors::Place;

/// Strata of scores, and judged pairs of one at least.
const STRATA: usize = 40;
const STRATUM_MIN: usize = 25;
/// Standard deviations on both sides of an estimate: 95 of 100 intervals hold the truth.
const SPREAD: f64 = 1.96;

/// Counts of judged pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RightAndWrong {
    /// The positive is a right answer of the query.
    pub right: u64,
    /// It is none.
    pub wrong: u64,
}

impl RightAndWrong {
    fn add(&mut self, right: bool) {
        *(if right { &mut self.right } else { &mut self.wrong }) += 1;
    }

    /// Share of right answers.
    fn share(self) -> Option<f64> {
        let all = self.right + self.wrong;
        (all > 0).then(|| self.right as f64 / all as f64)
    }
}

/// What verdicts say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgedFigures {
    /// Pairs that were judged, each once.
    pub pairs: RightAndWrong,
    /// Of these the candidates in lists that ranks and limits alone make suspects.
    pub suspects: RightAndWrong,
    /// Share of right answers among those: the precision of ranks and limits.
    pub precision: Option<f64>,
    /// The candidates in lists that ranks and limits alone make preferred negatives.
    pub preferred: RightAndWrong,
    /// Share of right answers among those: what ranks and limits miss.
    pub missed: Option<f64>,
    /// What is left in the batches.
    pub left: WrongNegatives,
}

/// Pairs of a query and a negative of its batch, out of its list, that nobody judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct WrongNegatives {
    /// All of them.
    pub pairs: u64,
    /// In strata of scores in which pairs were judged.
    pub covered: u64,
    /// Wrong negatives among the covered ones: an estimate, and the ends of its interval.
    pub wrong: f64,
    pub low: f64,
    pub high: f64,
}

/// Estimates how many of the pairs with these scores are right answers, by judged pairs. O(n log n).
pub(crate) fn estimate(scores: &[f32], mut judged: Vec<(f32, bool)>) -> WrongNegatives {
    judged.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let strata: Vec<&[(f32, bool)]> = judged.chunks((judged.len() / STRATA).max(STRATUM_MIN)).collect();
    // Pairs of each stratum: from its lowest score up to the next one's; before the first are those of none.
    let mut pairs = vec![0u64; strata.len() + 1];
    for score in scores {
        pairs[strata.partition_point(|stratum| stratum[0].0.total_cmp(score).is_le())] += 1;
    }
    let mut left = WrongNegatives { pairs: scores.len() as u64, ..WrongNegatives::default() };
    let mut variance = 0.0;
    for (stratum, pairs) in strata.iter().zip(&pairs[1..]) {
        let right = stratum.iter().filter(|(_, right)| *right).count() as f64;
        let (all, pairs) = (stratum.len() as f64, *pairs as f64);
        left.covered += pairs as u64;
        left.wrong += pairs * right / all;
        let (share, beta) = ((right + 0.5) / (all + 1.0), all + 1.0);
        // Of the share, and of the draws of so many pairs by it.
        let of_share = share * (1.0 - share) / (beta + 1.0);
        variance += pairs * pairs * of_share + pairs * (share * (1.0 - share) - of_share).max(0.0);
    }
    let spread = SPREAD * variance.sqrt();
    left.low = (left.wrong - spread).max(0.0);
    left.high = (left.wrong + spread).min(left.covered as f64);
    left
}

/// Scores of a row's pairs that meet and were not judged, and what was judged in its list.
#[derive(Default)]
struct OfRow {
    open: Vec<f32>,
    judged: Vec<(f32, bool)>,
    suspects: RightAndWrong,
    preferred: RightAndWrong,
}

/// Measures a list of batches. O(rows · ranks).
pub(crate) fn measure(
    neighbors: &Neighbors,
    windows: &Windows<'_>,
    list: &BatchList,
    facts: &VerdictFacts,
) -> JudgedFigures {
    let of_row = |mut all: OfRow, place: Place| {
        let (window, scores, membership) = (windows.of(place), neighbors.scores(place), list.membership());
        let rules = window.without_verdicts();
        let meets = |candidate: Place| {
            candidate.number() < neighbors.row_count() && membership.meet(place, std::iter::once(candidate)).0 > 0
        };
        for (rank, (candidate, score)) in window.places.iter().zip(scores).enumerate() {
            match window.judged(rank) {
                Some(right) => {
                    all.judged.push((*score, right));
                    if rules.is_suspect(rank) {
                        all.suspects.add(right);
                    } else if rank < rules.ranks.end {
                        all.preferred.add(right);
                    }
                }
                None if meets(*candidate) => all.open.push(*score),
                None => {}
            }
        }
        all
    };
    let sum = |mut a: OfRow, b: OfRow| {
        a.open.extend(b.open);
        a.judged.extend(b.judged);
        for (sum, more) in [(&mut a.suspects, b.suspects), (&mut a.preferred, b.preferred)] {
            *sum = RightAndWrong { right: sum.right + more.right, wrong: sum.wrong + more.wrong };
        }
        a
    };
    let blocks = windows.block_places();
    let of_block = blocks.par_iter().map(|places| places.iter().fold(OfRow::default(), of_row));
    let OfRow { open, judged, suspects, preferred } = of_block.reduce(OfRow::default, sum);
    JudgedFigures {
        pairs: RightAndWrong { right: facts.positive, wrong: facts.negative },
        suspects,
        precision: suspects.share(),
        preferred,
        missed: preferred.share(),
        left: estimate(&open, judged),
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn intervals_hold_the_truth_nine_times_in_ten() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let (mut held, mut bias) = (0, 0.0);
        for _ in 0..200 {
            // The higher the score the likelier a right answer; the closest are judged, and of the rest one in ten.
            let pairs: Vec<(f32, bool)> = (0..4000)
                .map(|_| {
                    let score: f32 = random.random_range(0.0..1.0);
                    (score, random.random_bool(f64::from(score.powi(4)) * 0.9))
                })
                .collect();
            let is_judged: Vec<bool> = pairs.iter().map(|pair| pair.0 > 0.9 || random.random_bool(0.1)).collect();
            let of =
                |wanted: bool| pairs.iter().zip(&is_judged).filter(move |pair| *pair.1 == wanted).map(|pair| *pair.0);
            let judged: Vec<(f32, bool)> = of(true).collect();
            let left = estimate(&of(false).map(|pair| pair.0).collect::<Vec<_>>(), judged);
            let truth = of(false).filter(|pair| pair.1).count() as f64;
            assert!(left.covered > left.pairs * 9 / 10, "{left:?}");
            held += usize::from((left.low..=left.high).contains(&truth));
            bias += (left.wrong - truth) / truth;
        }
        assert!(held >= 180, "{held} of 200");
        assert!((bias / 200.0).abs() < 0.1, "{bias}");
    }

    #[test]
    fn what_is_not_covered_is_not_guessed() {
        let scores: Vec<f32> = (0..100).map(|score| score as f32).collect();
        let left = estimate(&scores, Vec::new());
        assert_eq!(left, WrongNegatives { pairs: 100, ..WrongNegatives::default() });
        // What scores lower than all that were judged is of no stratum.
        let judged: Vec<(f32, bool)> = (0..50).map(|pair| (74.5 + pair as f32 / 2.0, pair >= 25)).collect();
        let left = estimate(&scores, judged.clone());
        assert_eq!((left.pairs, left.covered), (100, 25));
        assert_eq!(left.wrong, 13.0, "a half of no right answers, and one of right ones alone");
        assert!(left.low < 13.0 && left.high > 13.0 && left.high <= 25.0, "{left:?}");
        assert_eq!(estimate(&[], judged), WrongNegatives::default());
    }
}
