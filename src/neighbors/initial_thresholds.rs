//! Initial thresholds: the score that a query's k-th best will reach at least, guessed from a sample of its task.
//!
//! A search that begins without a threshold keeps many candidates that later ones replace. So a sample of each large
//! task is scored first: about r · rows / sample rows of the task reach the score of the sample's r-th best. The guess
//! is checked when the search is over: if a list is full and its last score reaches the threshold, it is right, since
//! every row that was left out scores less. Any other query is searched again without an initial threshold.
//!
//! Memory: 4 bytes a sampled row, one row in sixteen at most.

use std::ops::Range;

use super::columns::BaseColumns;
use super::cpu::scan::HitSink;
use super::k_means::spread;
use super::topk::TopK;
use crate::vectors::{Keys, RowId};

/// One row in this many is sampled.
const STRIDE: usize = 16;
/// Smaller tasks are not sampled.
const TASK_ROWS_MIN: usize = 8192;
const SAMPLE_ROWS_MAX: usize = 32_768;

/// The sampled rows, task by task.
#[derive(Debug, Clone, Default)]
pub(crate) struct ThresholdSample {
    rows: Vec<RowId>,
    /// Where each task starts, with the end of the last.
    starts: Vec<usize>,
}

impl ThresholdSample {
    /// One column in [`STRIDE`] of each large task, spread evenly over its places: each list gives its share.
    pub(crate) fn new(columns: BaseColumns<'_>) -> ThresholdSample {
        let mut samples = ThresholdSample { rows: Vec::new(), starts: vec![0] };
        for task in (0..columns.tasks.len()).map(|task| columns.of_task(task)) {
            let count = if task.len() < TASK_ROWS_MIN { 0 } else { (task.len() / STRIDE).min(SAMPLE_ROWS_MAX) };
            let task = task.start as RowId..task.end as RowId;
            samples.rows.extend(spread(task, count).iter().map(|column| columns.rows()[*column as usize]));
            samples.starts.push(samples.rows.len());
        }
        samples
    }

    /// Given rows of the only task, for tests.
    #[cfg(test)]
    pub(crate) fn of_one_task(rows: Vec<RowId>) -> ThresholdSample {
        ThresholdSample { starts: vec![0, rows.len()], rows }
    }

    pub(crate) fn rows(&self) -> &[RowId] {
        &self.rows
    }

    /// Where a task's rows lie among all.
    pub(crate) fn of(&self, task: usize) -> Range<usize> {
        self.starts[task]..self.starts[task + 1]
    }
}

/// The rank in the sample whose score is the initial threshold: three standard deviations more than the number of the
/// best `ranks` of `rows` that a sample holds on average. `None`: the sample is too small.
pub(crate) fn rank(ranks: usize, rows: usize, sampled: usize) -> Option<usize> {
    let share = ranks as f64 * sampled as f64 / rows as f64;
    let rank = (share + 3.0 * share.sqrt() + 2.0).ceil() as usize;
    (rank < sampled / 2).then_some(rank)
}

/// Keeps the best of the sample for each query.
#[derive(Debug)]
pub(crate) struct Guess<'a, 'v> {
    /// Row of each query.
    pub queries: &'a [RowId],
    pub best: &'a mut [TopK],
    /// Row of each column from `first` on.
    pub rows: &'a [RowId],
    /// The sample's first column.
    pub first: usize,
    /// Who may not be a negative of whom.
    pub keys: &'a Keys<'v>,
}

impl HitSink for Guess<'_, '_> {
    fn threshold(&self, query: usize) -> f32 {
        self.best[query].threshold()
    }

    fn hit(&mut self, query: usize, column: usize, score: f32, _: f32) {
        let (x, row) = (self.queries[query], self.rows[column - self.first]);
        if x != row && !self.keys.conflict(x, row) {
            // A guess may err: it is checked.
            self.best[query].push(row, score, 0.0, |_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guess_leaves_room_for_chance() {
        assert_eq!(rank(130, 60_940, 3808), Some(19));
        assert_eq!(rank(1030, 12_000, 750), Some(91));
        assert_eq!(rank(700, 8192, 512), Some(66));
        assert_eq!(rank(8191, 8192, 512), None);
        assert_eq!(rank(130, 60_940, 0), None);
    }
}
