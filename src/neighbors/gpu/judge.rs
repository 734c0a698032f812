//! Checks a device's answers and bounds their error, before anything is made of them.
//!
//! The first and the last answer of each query are scored by the reference: a device that errs by more than the bound
//! is not believed.

use std::ops::Range;

use super::base::DeviceBase;
use super::rounding::{Bounds, RoundedQuery};
use crate::neighbors::answers::sum_error;
use crate::neighbors::topk::Candidate;
use crate::vectors::{RowId, Scorer};

/// Unit roundoff that sums of products of f16 are taken to have on a device. Tensor cores truncate what they do not
/// keep, with a few bits beyond the 24 of f32 (Fasi et al., *Numerical behavior of NVIDIA tensor cores*, 2021); this is
/// four times as much.
const HALF_ROUNDOFF: f64 = 1.0 / (1u64 << 21) as f64;
/// The same for f32: twice that of one rounding to nearest.
const SINGLE_ROUNDOFF: f64 = 1.0 / (1u64 << 23) as f64;

/// The answers to one query: rows with their true scores, and the most that these err by.
pub(crate) struct Answers {
    pub list: Vec<Candidate>,
    pub error: f64,
}

/// One query's k answers as the device wrote them: scores, and places within the base tile.
#[derive(Clone, Copy)]
pub(crate) struct RawAnswers<'a> {
    pub scores: &'a [f32],
    pub places: &'a [u32],
}

/// Reads a device's answers from one tile of base rows.
pub(crate) struct Judge<'a> {
    base: &'a DeviceBase,
    rows: Range<usize>,
    bounds: Bounds,
    roundoff: f64,
}

impl<'a> Judge<'a> {
    /// `rows`: the base rows of the tile.
    pub(crate) fn new(base: &'a DeviceBase, rows: Range<usize>) -> Judge<'a> {
        let roundoff = if base.width() == 2 { HALF_ROUNDOFF } else { SINGLE_ROUNDOFF };
        Judge { base, bounds: base.bounds(rows.clone()), rows, roundoff }
    }

    /// Largest difference between a device's score and the reference's, in the device's units.
    fn error(&self, query: &RoundedQuery) -> f64 {
        let (query, base) = (query.bounds, self.bounds);
        let sum = sum_error(self.base.dim(), self.roundoff, query.norm, base.norm);
        sum + query.norm * base.residual + query.residual * base.norm
    }

    /// The answers to the query of row `row`; or why they are impossible. O(k log k).
    pub(crate) fn read(
        &self,
        row: RowId,
        query: &RoundedQuery,
        raw: RawAnswers<'_>,
        scorer: &mut Scorer<'_>,
    ) -> Result<Answers, String> {
        // The device's units are true units times two to both exponents.
        let scale = f64::from(-(query.exponent + self.base.exponent())).exp2();
        // The last term covers scores that are subnormal in true units.
        let error = self.error(query) * scale + f64::from(f32::MIN_POSITIVE);
        // Sums of larger rows may overflow f32, on the device as in the reference.
        let fits = query.bounds.norm * self.bounds.norm < f64::from(f32::MAX) / 2.0;
        if !fits {
            return Ok(Answers { list: Vec::new(), error: f64::INFINITY });
        }
        let impossible = |what: String| format!("the GPU's answers to row {row} are impossible: {what}");
        self.check(raw).map_err(|what| impossible(what.into()))?;
        let answers = raw.scores.iter().zip(raw.places).map(|(score, place)| Candidate {
            score: (f64::from(*score) * scale) as f32,
            row: (self.rows.start + *place as usize) as RowId,
        });
        let list: Vec<Candidate> = answers.collect();
        for answer in [list[0], list[list.len() - 1]] {
            let truth = scorer.pair(row, answer.row);
            if (f64::from(truth) - f64::from(answer.score)).abs() > error {
                return Err(impossible(format!(
                    "row {} scores {truth}, not {} (± {error:.2e})",
                    answer.row, answer.score
                )));
            }
        }
        Ok(Answers { list, error })
    }

    /// k different rows of the tile, with finite scores that do not rise.
    fn check(&self, RawAnswers { scores, places }: RawAnswers<'_>) -> Result<(), &'static str> {
        let mut sorted = places.to_vec();
        sorted.sort_unstable();
        let inside = sorted.last().is_some_and(|last| (*last as usize) < self.rows.len());
        if !inside || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("they are not different rows of the tile");
        }
        if scores.iter().any(|score| !score.is_finite()) || scores.windows(2).any(|pair| pair[0] < pair[1]) {
            return Err("their scores are not finite and falling");
        }
        Ok(())
    }
}
