//! What the answers of FAISS or of a GPU are worth: the best few rows of a tile, with scores that may err within a
//! bound E.
//!
//! - *Threshold*: `ranks` permitted rows whose true scores are at least F are known, so that no row below F can be
//!   among the best. The `ranks`-th permitted answer of a tile scores b, so F = b − E is such a threshold; the highest
//!   of all tiles counts.
//! - *Cut*: rows that were left out score at most as much as the worst that was given, w; in truth at most w + E. If
//!   w + E < F, the tile hides nothing: not behind rows that may not be negatives (the query's own, those of the same
//!   key), and not behind ties.
//!
//! What can still reach the threshold goes into [`TopK`], and its survivors are scored by the reference: ids and
//! scores are the reference's. O(answers) a query and tile.

use super::topk::{Candidate, TopK};
use crate::vectors::{Keys, RowId};

/// Rows beyond `ranks` that each tile is asked for.
pub(crate) const SPARE: usize = 64;

/// What FAISS or a GPU answers for a query and a tile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileAnswers<'a> {
    /// The best rows of the tile, best first.
    pub list: &'a [Candidate],
    /// Whether these are all rows of the tile.
    pub is_whole: bool,
    /// The most that their scores err by.
    pub error: f64,
}

/// The best rows of one query, from answers tile by tile.
#[derive(Debug, Clone)]
pub(crate) struct CertifiedTopK {
    pub kept: TopK,
    /// `ranks` rows are known whose true scores are at least this.
    pub threshold: f32,
    ranks: usize,
}

impl CertifiedTopK {
    /// Nothing yet; `ranks` rows in the end.
    pub(crate) fn new(ranks: usize) -> CertifiedTopK {
        CertifiedTopK { kept: TopK::new(ranks), threshold: f32::NEG_INFINITY, ranks }
    }

    /// Takes a tile's answers. `exact` puts true scores into candidates. Returns false, and takes none, where the tile
    /// may hide a row that belongs to the best.
    pub(crate) fn take(
        &mut self,
        answers: TileAnswers<'_>,
        is_permitted: impl Fn(RowId) -> bool,
        mut exact: impl FnMut(&mut [Candidate]),
    ) -> bool {
        let TileAnswers { list, is_whole, error } = answers;
        let reaches = |score: f32, threshold: f32| f64::from(score) + error >= f64::from(threshold);
        let permitted = || list.iter().filter(|candidate| is_permitted(candidate.row));
        if let Some(last) = permitted().nth(self.ranks - 1) {
            self.threshold = self.threshold.max(((f64::from(last.score) - error) as f32).next_down());
        }
        if !is_whole && list.last().is_none_or(|last| reaches(last.score, self.threshold)) {
            return false;
        }
        let (bound, threshold) = ((error as f32).next_up(), self.threshold);
        for candidate in permitted().take_while(|candidate| reaches(candidate.score, threshold)) {
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

    fn take(best: &mut CertifiedTopK, scores: &[f32], is_whole: bool, error: f64) -> bool {
        let list = answers(scores);
        let answers = TileAnswers { list: &list, is_whole, error };
        best.take(answers, |row| row != 0, |_| unreachable!("too few candidates for exact scores"))
    }

    #[test]
    fn a_tile_that_may_hide_a_row_is_not_taken() {
        // Row 0 is forbidden, so the second rank scores 0.7.
        let scores = [0.9, 0.8, 0.7, 0.6];
        assert!(take(&mut CertifiedTopK::new(2), &scores, false, 0.04), "0.6 + 0.04 cannot reach 0.7 - 0.04");
        assert!(!take(&mut CertifiedTopK::new(2), &scores, false, 0.06), "0.6 + 0.06 can reach 0.7 - 0.06");
        assert!(take(&mut CertifiedTopK::new(2), &scores, true, 0.06), "nothing is left out");
        assert!(!take(&mut CertifiedTopK::new(4), &scores, false, 0.0), "there are too few permitted rows");
        assert!(!take(&mut CertifiedTopK::new(2), &scores, false, f64::INFINITY), "nothing is known");
    }

    #[test]
    fn an_earlier_tile_raises_the_threshold_of_later_ones() {
        let mut best = CertifiedTopK::new(2);
        assert!(take(&mut best, &[0.9, 0.8, 0.7, 0.2], false, 0.01));
        assert!(take(&mut best, &[0.5, 0.4], false, 0.01), "all of it lies below the threshold");
        let rows: Vec<RowId> = best.kept.finish(|_| {}).iter().map(|candidate| candidate.row).collect();
        assert_eq!(rows, [1, 2]);
    }
}
