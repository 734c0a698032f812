//! Batches in order.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::vectors::RowId;

/// Batches in order: all rows, and where each batch ends. 4 bytes a row and a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BatchOrder {
    /// Rows, batch after batch.
    pub rows: Vec<RowId>,
    ends: Vec<u32>,
}

impl BatchOrder {
    /// Makes the rows since the last end a batch.
    pub(crate) fn end_batch(&mut self) {
        self.ends.push(self.rows.len() as u32);
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn batch(&self, index: usize) -> &[RowId] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.rows[start..self.ends[index] as usize]
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &[RowId]> {
        (0..self.count()).map(|index| self.batch(index))
    }

    /// Rows of some batches.
    pub(crate) fn rows_of(&self, batches: &std::ops::Range<usize>) -> u64 {
        batches.clone().map(|index| self.batch(index).len() as u64).sum()
    }

    /// Brings the rows of each batch into another order.
    pub(crate) fn arrange(&mut self, mut arrange: impl FnMut(&mut [RowId])) {
        let mut start = 0;
        for end in &self.ends {
            arrange(&mut self.rows[start..*end as usize]);
            start = *end as usize;
        }
    }

    pub(crate) fn append(&mut self, other: BatchOrder) {
        let base = self.rows.len() as u32;
        self.rows.extend(other.rows);
        self.ends.extend(other.ends.into_iter().map(|end| base + end));
    }

    /// The batches of several rows, and how many others there are.
    pub(crate) fn without_single_rows(self) -> (BatchOrder, u64) {
        let single = self.batches().filter(|batch| batch.len() == 1).count() as u64;
        if single == 0 {
            return (self, 0);
        }
        let mut order = BatchOrder::default();
        for batch in self.batches().filter(|batch| batch.len() > 1) {
            order.rows.extend(batch);
            order.end_batch();
        }
        (order, single)
    }

    /// The first so many batches.
    pub(crate) fn first(mut self, count: usize) -> BatchOrder {
        self.ends.truncate(count);
        self.rows.truncate(self.ends.last().map_or(0, |end| *end as usize));
        self
    }

    /// The same batches in random order.
    pub(crate) fn shuffled(&self, random: &mut ChaCha8Rng) -> BatchOrder {
        let mut indices: Vec<usize> = (0..self.count()).collect();
        indices.shuffle(random);
        let mut order = BatchOrder { rows: Vec::with_capacity(self.rows.len()), ends: Vec::new() };
        for index in indices {
            order.rows.extend(self.batch(index));
            order.end_batch();
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_one_row_are_left_out() {
        let mut order = BatchOrder::default();
        for batch in [&[4, 2][..], &[7], &[1, 3, 5], &[0]] {
            order.rows.extend(batch);
            order.end_batch();
        }
        let (order, single) = order.without_single_rows();
        assert_eq!(order.batches().collect::<Vec<_>>(), [&[4, 2][..], &[1, 3, 5]]);
        assert_eq!(single, 2);
    }
}
