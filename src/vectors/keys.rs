//! The key columns: which rows must never be negatives of each other.

use super::row::{Place, RowId, UNIQUE};

/// The key columns of all rows.
#[derive(Debug, Clone)]
pub struct Keys<'a> {
    columns: Vec<&'a [u32]>,
}

impl<'a> Keys<'a> {
    /// From columns of codes, all of one length.
    pub fn new(columns: Vec<&'a [u32]>) -> Self {
        Keys { columns }
    }

    /// The keys of the rows at places; `order` is the row at each place.
    pub fn by_place(self, order: &'a [RowId]) -> KeysByPlace<'a> {
        KeysByPlace { keys: self, order }
    }

    /// Whether two rows share a key, and so may never be negatives of each other. O(columns).
    #[inline]
    pub(crate) fn conflict(&self, a: RowId, b: RowId) -> bool {
        let (a, b) = (a as usize, b as usize);
        self.columns.iter().any(|codes| codes[a] != UNIQUE && codes[a] == codes[b])
    }

    /// Whether a row shares any key with any other row.
    #[inline]
    pub(crate) fn is_shared(&self, row: RowId) -> bool {
        self.columns.iter().any(|codes| codes[row as usize] != UNIQUE)
    }

    /// (column, code) of each key that the row shares with others.
    pub(crate) fn shared(&self, row: RowId) -> impl Iterator<Item = (u32, u32)> + '_ {
        let codes = self.columns.iter().enumerate().map(move |(column, codes)| (column as u32, codes[row as usize]));
        codes.filter(|(_, code)| *code != UNIQUE)
    }

    /// The columns, by row.
    pub(crate) fn columns(&self) -> &[&'a [u32]] {
        &self.columns
    }
}

/// [`Keys`], asked by place.
#[derive(Debug, Clone)]
pub struct KeysByPlace<'a> {
    keys: Keys<'a>,
    order: &'a [RowId],
}

impl KeysByPlace<'_> {
    /// Whether the rows at two places share a key. O(columns).
    #[inline]
    pub(crate) fn conflict(&self, a: Place, b: Place) -> bool {
        // Without a key column the order, which may be on disk, is not looked up.
        !self.keys.columns.is_empty() && self.keys.conflict(self.order[a.index()], self.order[b.index()])
    }

    /// Whether the row at a place shares any key with any other row.
    #[inline]
    pub(crate) fn is_shared(&self, place: Place) -> bool {
        !self.keys.columns.is_empty() && self.keys.is_shared(self.order[place.index()])
    }
}
