//! What judged pairs say of the rules for suspects, and of the negatives that nobody judged. Pure but for [`measure`].
//!
//! Pairs that meet in batches and were not judged are divided into strata by score, with as many in each. Of a stratum
//! the share of right answers is that of the pairs judged there, and its variance that of the Beta distribution of
//! Jeffreys' prior (Brown, Cai and DasGupta, *Interval Estimation for a Binomial Proportion*, 2001), which is not 0
//! where few pairs agree. The number of wrong negatives is the sum over strata, its interval 1.96 standard deviations
//! of that sum. `candidates` takes the closest pairs first and the rest evenly: who scores higher than all pairs that
//! are left is not counted, and of the others who was judged is as good as drawn.
//!
//! Memory: 4 bytes for each pair that meets, 8 for each that was judged.

use rayon::prelude::*;
use serde::Serialize;

use super::lists::BatchList;
use crate::neighbors::{Neighbors, Windows};
use crate::run::record::VerdictFacts;
use crate::vectors::Place;

/// Strata of scores.
const STRATA: usize = 20;
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
pub(crate) fn estimate(mut scores: Vec<f32>, judged: &[(f32, bool)]) -> WrongNegatives {
    scores.sort_unstable_by(f32::total_cmp);
    let mut left = WrongNegatives { pairs: scores.len() as u64, ..WrongNegatives::default() };
    let size = scores.len().div_ceil(STRATA).max(1);
    let strata: Vec<&[f32]> = scores.chunks(size).collect();
    let mut counts = vec![RightAndWrong::default(); strata.len()];
    // Who scores beyond all of them says nothing of them: of the closest pairs all are judged.
    let (least, most) = (scores.first().copied(), scores.last().copied());
    let inside = |score: &f32| Some(*score) >= least && Some(*score) <= most;
    for (score, right) in judged.iter().filter(|(score, _)| inside(score)) {
        // The last stratum that begins at or below the score.
        let at = strata.partition_point(|stratum| stratum[0].total_cmp(score).is_le());
        if let Some(count) = counts.get_mut(at.saturating_sub(1)) {
            count.add(*right);
        }
    }
    let mut variance = 0.0;
    for (stratum, RightAndWrong { right, wrong }) in strata.iter().zip(counts) {
        if right + wrong == 0 {
            continue;
        }
        let (a, b, pairs) = (right as f64 + 0.5, wrong as f64 + 0.5, stratum.len() as f64);
        left.covered += stratum.len() as u64;
        left.wrong += pairs * right as f64 / (right + wrong) as f64;
        let share = a / (a + b);
        // Of the share, and of the draws of so many pairs by it.
        let of_share = share * (1.0 - share) / (a + b + 1.0);
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
        left: estimate(open, &judged),
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
            let left = estimate(of(false).map(|pair| pair.0).collect(), &judged);
            let truth = of(false).filter(|pair| pair.1).count() as f64;
            assert_eq!(left.covered, left.pairs);
            held += usize::from((left.low..=left.high).contains(&truth));
            bias += (left.wrong - truth) / truth;
        }
        assert!(held >= 180, "{held} of 200");
        assert!((bias / 200.0).abs() < 0.1, "{bias}");
    }

    #[test]
    fn what_is_not_covered_is_not_guessed() {
        let left = estimate((0..100).map(|score| score as f32).collect(), &[]);
        assert_eq!(left, WrongNegatives { pairs: 100, ..WrongNegatives::default() });
        // Five strata of twenty, from a score of 75 on.
        let judged: Vec<(f32, bool)> = (75..99).map(|score| (score as f32 + 0.5, false)).collect();
        let left = estimate((0..100).map(|score| score as f32).collect(), &judged);
        assert_eq!((left.pairs, left.covered), (100, 25));
        assert!(left.low == 0.0 && left.wrong < 4.0 && left.high <= 25.0, "{left:?}");
        assert_eq!(estimate(Vec::new(), &judged), WrongNegatives::default());
    }
}
