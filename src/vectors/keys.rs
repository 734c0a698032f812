//! The key columns: which rows must never be negatives of each other.

use super::row::{RowId, UNIQUE};

/// The key columns of all rows.
#[derive(Debug, Clone)]
pub struct Keys<'a> {
    columns: Vec<&'a [u32]>,
    /// The row of each number that rows are known by, if that is not the row itself.
    order: Option<&'a [RowId]>,
}

impl<'a> Keys<'a> {
    /// From columns of codes, all of one length.
    pub fn new(columns: Vec<&'a [u32]>) -> Self {
        Keys { columns, order: None }
    }

    /// The same keys of rows that are known by their place in an order.
    pub(crate) fn by_place(self, order: &'a [RowId]) -> Self {
        Keys { order: Some(order), ..self }
    }

    #[inline]
    fn index(&self, row: RowId) -> usize {
        self.order.map_or(row, |order| order[row as usize]) as usize
    }

    /// Whether two rows share a key, and so may never be negatives of each other. O(columns).
    #[inline]
    pub(crate) fn conflict(&self, a: RowId, b: RowId) -> bool {
        let (a, b) = (self.index(a), self.index(b));
        self.columns.iter().any(|codes| codes[a] != UNIQUE && codes[a] == codes[b])
    }

    /// Whether a row shares any key with any other row.
    #[inline]
    pub(crate) fn is_shared(&self, row: RowId) -> bool {
        let row = self.index(row);
        self.columns.iter().any(|codes| codes[row] != UNIQUE)
    }

    /// (column, code) of each key that the row shares with others.
    pub(crate) fn shared(&self, row: RowId) -> impl Iterator<Item = (u32, u32)> + '_ {
        let row = self.index(row);
        let codes = self.columns.iter().enumerate().map(move |(column, codes)| (column as u32, codes[row]));
        codes.filter(|(_, code)| *code != UNIQUE)
    }

    /// The columns, by row.
    pub(crate) fn columns(&self) -> &[&'a [u32]] {
        &self.columns
    }
}
