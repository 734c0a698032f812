//! What is packed: the clusters of a task, and its rows without one.

use std::ops::Range;

use crate::vectors::RowId;

/// A task's rows as units: its clusters, then each row without one. A row's *position* is its number in this order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Units<'a> {
    /// Rows, cluster after cluster.
    clustered: &'a [RowId],
    /// Where each cluster starts, and where the last ends; all count from the same number.
    starts: &'a [u32],
    /// Rows without a cluster.
    loose: &'a [RowId],
}

impl<'a> Units<'a> {
    /// `starts` is one longer than there are clusters; `clustered` begins at the first of them.
    pub(crate) fn new(clustered: &'a [RowId], starts: &'a [u32], loose: &'a [RowId]) -> Units<'a> {
        Units { clustered, starts, loose }
    }

    /// Rows without clusters.
    pub(crate) fn loose(rows: &'a [RowId]) -> Units<'a> {
        Units { clustered: &[], starts: &[0], loose: rows }
    }

    pub(crate) fn rows(&self) -> usize {
        self.clustered.len() + self.loose.len()
    }

    /// Rows without a cluster.
    pub(crate) fn loose_rows(&self) -> usize {
        self.loose.len()
    }

    pub(crate) fn clusters(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn count(&self) -> usize {
        self.clusters() + self.loose.len()
    }

    /// The positions of a unit.
    #[inline]
    pub(crate) fn positions(&self, unit: usize) -> Range<usize> {
        match self.starts.get(unit..unit + 2) {
            Some(bounds) => (bounds[0] - self.starts[0]) as usize..(bounds[1] - self.starts[0]) as usize,
            None => {
                let position = self.clustered.len() + unit - self.clusters();
                position..position + 1
            }
        }
    }

    /// The rows of a unit.
    #[inline]
    pub(crate) fn get(&self, unit: usize) -> &'a [RowId] {
        let positions = self.positions(unit);
        match unit < self.clusters() {
            true => &self.clustered[positions],
            false => &self.loose[positions.start - self.clustered.len()..positions.end - self.clustered.len()],
        }
    }

    /// The row at a position.
    #[inline]
    pub(crate) fn row(&self, position: usize) -> RowId {
        match self.clustered.get(position) {
            Some(row) => *row,
            None => self.loose[position - self.clustered.len()],
        }
    }

    /// The cluster of the row at a position. O(log clusters).
    pub(crate) fn cluster_of(&self, position: usize) -> Option<usize> {
        let number = position as u32 + self.starts[0];
        (position < self.clustered.len()).then(|| self.starts.partition_point(|start| *start <= number) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_clusters_and_then_single_rows() {
        let units = Units::new(&[7, 9, 4, 5, 6], &[10, 12, 15], &[1, 2]);
        assert_eq!((units.rows(), units.clusters(), units.count()), (7, 2, 4));
        assert_eq!([0, 1, 2, 3].map(|unit| units.get(unit).to_vec()), [vec![7, 9], vec![4, 5, 6], vec![1], vec![2]]);
        assert_eq!((0..7).map(|position| units.row(position)).collect::<Vec<_>>(), [7, 9, 4, 5, 6, 1, 2]);
        let clusters: Vec<Option<usize>> = (0..7).map(|position| units.cluster_of(position)).collect();
        assert_eq!(clusters, [Some(0), Some(0), Some(1), Some(1), Some(1), None, None]);
        assert_eq!(Units::loose(&[3, 8]).get(1), [8]);
    }
}
