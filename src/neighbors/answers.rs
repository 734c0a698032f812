//! What the answers of somebody else's exact search are worth: its best few rows of a tile, with scores that
//! may err within a bound E.
//!
//! - *Floor*: `ranks` permitted rows of truth at least f are known, so that no row below f can be among the
//!   best. The `ranks`-th permitted answer of a tile scores b, so f = b − E is such a floor; the highest of
//!   all tiles counts.
//! - *Cut*: rows that were left out score at most as much as the worst that was given, w; in truth at most
//!   w + E. If w + E < f, the tile hides nothing: not behind rows that may not be negatives (the query's
//!   own, those of the same key), and not behind ties.
//!
//! What can still reach the floor goes into [`TopK`], and its survivors are scored by the reference: ids and
//! scores are the reference's. O(answers) a query and tile.

use super::topk::{Candidate, TopK};
use crate::vectors::{Keys, RowId};

/// Rows beyond `ranks` that each tile is asked for.
pub(crate) const SPARE: usize = 64;

/// What was found for one query.
#[derive(Debug, Clone)]
pub(crate) struct CertifiedTopK {
    /// Candidates.
    pub kept: TopK,
    /// `ranks` rows are known whose true scores are at least this.
    pub floor: f32,
}

impl CertifiedTopK {
    /// Nothing yet.
    pub(crate) fn new(ranks: usize) -> CertifiedTopK {
        CertifiedTopK { kept: TopK::new(ranks), floor: f32::NEG_INFINITY }
    }

    /// Takes a query's answers, best first, whose scores err by at most `error`. `whole`: they are all rows of
    /// the tile. Returns false, and takes none, where the tile may hide a row that belongs to the best.
    pub(crate) fn take(
        &mut self,
        answers: &[Candidate],
        whole: bool,
        error: f64,
        ranks: usize,
        is_permitted: impl Fn(RowId) -> bool,
        mut exact: impl FnMut(&mut [Candidate]),
    ) -> bool {
        let reaches = |score: f32, floor: f32| f64::from(score) + error >= f64::from(floor);
        let permitted = || answers.iter().filter(|candidate| is_permitted(candidate.row));
        if let Some(last) = permitted().nth(ranks - 1) {
            self.floor = self.floor.max(((f64::from(last.score) - error) as f32).next_down());
        }
        if !whole && answers.last().is_none_or(|last| reaches(last.score, self.floor)) {
            return false;
        }
        let (bound, floor) = ((error as f32).next_up(), self.floor);
        for candidate in permitted().take_while(|candidate| reaches(candidate.score, floor)) {
            self.kept.push(candidate.row, candidate.score, bound, &mut exact);
        }
        true
    }
}

/// Whether a row may be a negative of a query.
pub(crate) fn is_permitted(keys: &Keys<'_>, query: RowId, row: RowId) -> bool {
    row != query && !keys.conflict(query, row)
}

/// Largest error of a product of two rows of these norms, summed in f32 with the given unit roundoff: the sum
/// has d terms, which may be added in any order, fused or not (Higham, *Accuracy and Stability of Numerical
/// Algorithms*, section 3.1); eight more roundings are for loading, scaling and the reference. What underflow
/// takes, even from kernels that take subnormal numbers for zero, comes on top.
pub(crate) fn sum_error(dim: usize, roundoff: f64, query_norm: f64, base_norm: f64) -> f64 {
    let dim = dim as f64;
    let terms = (dim + 8.0) * roundoff;
    let underflow = 2.0 * (dim + 1.0) * f64::from(f32::MIN_POSITIVE) * (1.0 + query_norm + base_norm);
    terms / (1.0 - terms) * 1.001 * query_norm * base_norm + underflow
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(scores: &[f32]) -> Vec<Candidate> {
        scores.iter().enumerate().map(|(row, score)| Candidate { score: *score, row: row as RowId }).collect()
    }

    fn take(best: &mut CertifiedTopK, scores: &[f32], whole: bool, error: f64, ranks: usize) -> bool {
        best.take(&answers(scores), whole, error, ranks, |row| row != 0, |_| unreachable!("nothing is crowded here"))
    }

    #[test]
    fn a_tile_that_may_hide_a_row_is_not_taken() {
        // Row 0 is forbidden, so the second rank scores 0.7.
        let scores = [0.9, 0.8, 0.7, 0.6];
        assert!(take(&mut CertifiedTopK::new(2), &scores, false, 0.04, 2), "0.6 + 0.04 cannot reach 0.7 - 0.04");
        assert!(!take(&mut CertifiedTopK::new(2), &scores, false, 0.06, 2), "0.6 + 0.06 can reach 0.7 - 0.06");
        assert!(take(&mut CertifiedTopK::new(2), &scores, true, 0.06, 2), "nothing is left out");
        assert!(!take(&mut CertifiedTopK::new(4), &scores, false, 0.0, 4), "there are too few permitted rows");
        assert!(!take(&mut CertifiedTopK::new(2), &scores, false, f64::INFINITY, 2), "nothing is known");
    }

    #[test]
    fn an_earlier_tile_raises_the_floor_of_later_ones() {
        let mut best = CertifiedTopK::new(2);
        assert!(take(&mut best, &[0.9, 0.8, 0.7, 0.2], false, 0.01, 2));
        assert!(take(&mut best, &[0.5, 0.4], false, 0.01, 2), "all of it lies below the floor");
        let rows: Vec<RowId> = best.kept.finish(|_| {}).iter().map(|candidate| candidate.row).collect();
        assert_eq!(rows, [1, 2]);
    }
}
