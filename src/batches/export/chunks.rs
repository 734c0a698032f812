//! Chunks of the order: ranges of rows or clusters whose texts fit the budget.

use std::ops::Range;

/// The rows of one chunk: a slice of the table, or clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pick {
    /// A slice of the table.
    Rows(Range<u64>),
    /// A range of cluster numbers and K: clusters of another size are left out.
    Clusters(Range<u64>, u32),
}

/// Cuts units of known bytes into ranges of at most `limit` bytes. Units are counted from 0.
#[derive(Debug)]
pub(crate) struct Cutter {
    limit: u64,
    at: u64,
    open: Option<(u64, u64)>,
    ranges: Vec<Range<u64>>,
}

impl Cutter {
    pub(crate) fn new(limit: u64) -> Cutter {
        Cutter { limit, at: 0, open: None, ranges: Vec::new() }
    }

    /// Includes the next unit.
    pub(crate) fn take(&mut self, bytes: u64) {
        match &mut self.open {
            Some((_, filled)) if *filled + bytes <= self.limit => *filled += bytes,
            _ => {
                self.close();
                self.open = Some((self.at, bytes));
            }
        }
        self.at += 1;
    }

    /// Leaves the next units out: no range contains them.
    pub(crate) fn skip(&mut self, units: u64) {
        self.close();
        self.at += units;
    }

    /// Counts the next unit, which has no rows to export and may lie inside a range.
    pub(crate) fn pass(&mut self) {
        self.at += 1;
    }

    fn close(&mut self) {
        if let Some((start, _)) = self.open.take() {
            self.ranges.push(start..self.at);
        }
    }

    pub(crate) fn ranges(mut self) -> Vec<Range<u64>> {
        self.close();
        self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_unit_larger_than_the_limit_stands_alone() {
        let mut cutter = Cutter::new(10);
        [4, 4, 4, 25, 1].into_iter().for_each(|bytes| cutter.take(bytes));
        cutter.skip(3);
        cutter.take(2);
        cutter.pass();
        cutter.take(3);
        assert_eq!(cutter.ranges(), [0..2, 2..3, 3..4, 4..5, 8..11]);
    }

    proptest! {
        #[test]
        fn ranges_follow_each_other_and_keep_to_the_limit(
            units in prop::collection::vec(prop::option::of(0u64..30), 0..60),
            limit in 1u64..50,
        ) {
            let mut cutter = Cutter::new(limit);
            units.iter().for_each(|unit| match unit {
                Some(bytes) => cutter.take(*bytes),
                None => cutter.skip(1),
            });
            let ranges = cutter.ranges();
            let inside: Vec<u64> = ranges.iter().cloned().flatten().collect();
            let wanted: Vec<u64> = (0..units.len() as u64).filter(|at| units[*at as usize].is_some()).collect();
            prop_assert_eq!(inside, wanted);
            for range in ranges {
                let bytes: u64 = range.clone().filter_map(|at| units[at as usize]).sum();
                prop_assert!(bytes <= limit || range.end - range.start == 1);
            }
        }
    }
}
