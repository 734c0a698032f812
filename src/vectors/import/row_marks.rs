//! A mark for each input row that some have. Pure.
//!
//! Memory: a bit a row.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::vectors::decode::Unit;

/// A mark for each input row that some have. Threads share it.
#[derive(Debug, Default)]
pub(crate) struct RowMarks(Vec<AtomicU64>);

impl RowMarks {
    pub(super) fn new(rows: usize) -> RowMarks {
        RowMarks((0..rows.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn mark(&self, row: u64) {
        self.0[row as usize / 64].fetch_or(1 << (row % 64), Ordering::Relaxed);
    }

    pub(super) fn has(&self, row: u64) -> bool {
        self.0.get(row as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (row % 64) & 1 == 1)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// Whether a row of a unit has a mark.
    pub(super) fn any_of(&self, unit: &Unit<'_>) -> bool {
        let first = unit.first_input_row();
        (first..first + unit.rows).any(|row| self.has(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_counted_once() {
        let marks = RowMarks::new(130);
        [0, 63, 64, 129, 64].into_iter().for_each(|row| marks.mark(row));
        assert_eq!(marks.count(), 4);
        assert_eq!(
            [0, 1, 63, 64, 128, 129, 1000].map(|row| marks.has(row)),
            [true, false, true, true, false, true, false]
        );
    }
}
