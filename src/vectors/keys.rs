//! The key columns: which rows must never be negatives of each other.

use super::row::{Place, RowId, UNIQUE};

/// One key column: the codes of each row. Rows that have a code in common share a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyColumn<'a> {
    /// One code a row; [`UNIQUE`] where the row shares its key with no other row, or has none.
    One(&'a [u32]),
    /// Any number of codes a row.
    Lists(KeyLists<'a>),
}

/// Any number of codes a row: of row r `codes[offsets[r]..offsets[r + 1]]`, ascending, each shared by two rows at
/// least.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyLists<'a> {
    /// One more than rows.
    pub(crate) offsets: &'a [u64],
    pub(crate) codes: &'a [u32],
}

impl<'a> KeyLists<'a> {
    #[inline]
    fn of(self, row: RowId) -> &'a [u32] {
        let row = row as usize;
        &self.codes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

impl<'a> KeyColumn<'a> {
    /// The codes of a row.
    #[inline]
    pub(crate) fn of(self, row: RowId) -> &'a [u32] {
        match self {
            KeyColumn::One(codes) => match &codes[row as usize..=row as usize] {
                [UNIQUE] => &[],
                code => code,
            },
            KeyColumn::Lists(lists) => lists.of(row),
        }
    }

    /// Whether two rows have a code in common. O(codes of both).
    #[inline]
    fn conflict(self, a: RowId, b: RowId) -> bool {
        match self {
            KeyColumn::One(codes) => codes[a as usize] != UNIQUE && codes[a as usize] == codes[b as usize],
            KeyColumn::Lists(lists) => {
                // Asked of many b after each other: most rows share nothing, and then b's list is not looked up.
                let of_a = lists.of(a);
                !of_a.is_empty() && meet(of_a, lists.of(b))
            }
        }
    }

    /// The length of a table by code, at least: codes are below the number of rows, or of codes in lists. O(1).
    pub(crate) fn table_length(self) -> usize {
        match self {
            KeyColumn::One(codes) => codes.len(),
            KeyColumn::Lists(lists) => lists.codes.len(),
        }
    }

    /// One more than the largest code. O(codes).
    pub(crate) fn code_limit(self) -> usize {
        // The next number after a code: 0 for UNIQUE.
        let next = |codes: &[u32]| codes.iter().fold(0, |most, code| most.max(code.wrapping_add(1)));
        match self {
            KeyColumn::One(codes) => next(codes) as usize,
            KeyColumn::Lists(lists) => next(lists.codes) as usize,
        }
    }
}

/// Whether two ascending lists have a number in common. O(numbers).
fn meet(mut a: &[u32], mut b: &[u32]) -> bool {
    while let ([first, rest_a @ ..], [second, rest_b @ ..]) = (a, b) {
        match first.cmp(second) {
            std::cmp::Ordering::Less => a = rest_a,
            std::cmp::Ordering::Greater => b = rest_b,
            std::cmp::Ordering::Equal => return true,
        }
    }
    false
}

/// Which rows have the same positive: by the positive key, and by their vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PositiveCodes<'a> {
    /// Codes of the positive key; empty where there is none.
    pub(crate) key: &'a [u32],
    /// Codes of bit-identical positives.
    pub(crate) vectors: &'a [u32],
}

impl PositiveCodes<'_> {
    /// The codes of all columns that the row shares with others, each with its column.
    #[inline]
    pub(crate) fn all(&self, row: RowId) -> impl Iterator<Item = (usize, u32)> + use<> {
        let code = |kind: usize, codes: &[u32]| {
            codes.get(row as usize).copied().filter(|code| *code != UNIQUE).map(|code| (kind, code))
        };
        [code(0, self.key), code(1, self.vectors)].into_iter().flatten()
    }

    /// Lengths of tables by code. O(1).
    pub(crate) fn lengths(&self) -> [usize; 2] {
        [self.key.len(), self.vectors.len()]
    }
}

/// Which rows have the same positive, where documents have codes in common with them: a key that one row has, and
/// documents, is none that rows share. Memory: two bits a code with documents.
#[derive(Debug, Clone)]
pub(crate) struct RowPositives<'a> {
    pub(crate) codes: PositiveCodes<'a>,
    /// By code of the positive key, a bit where several rows have it; empty where whoever has a code is a row.
    several: Vec<u64>,
}

impl<'a> RowPositives<'a> {
    /// Of `rows` rows, behind which are documents. O(rows).
    pub(crate) fn new(codes: PositiveCodes<'a>, rows: RowId) -> RowPositives<'a> {
        let keys = codes.key;
        if keys.len() == rows as usize || keys.is_empty() {
            return RowPositives { codes, several: Vec::new() };
        }
        let [mut once, mut several] = [(); 2].map(|()| vec![0u64; keys.len().div_ceil(64)]);
        for code in keys[..rows as usize].iter().filter(|code| **code != UNIQUE) {
            let (word, bit) = (*code as usize / 64, 1 << (code % 64));
            several[word] |= once[word] & bit;
            once[word] |= bit;
        }
        RowPositives { codes, several }
    }

    /// Which of the two columns tells the row's positive, and its code there; `None`: no other row has it.
    #[inline]
    pub(crate) fn of(&self, row: RowId) -> Option<(usize, u32)> {
        let is_shared = |(kind, code): &(usize, u32)| {
            *kind == 1 || self.several.get(*code as usize / 64).is_none_or(|word| word >> (code % 64) & 1 == 1)
        };
        self.codes.all(row).find(is_shared)
    }
}

/// The key columns of all rows.
#[derive(Debug, Clone)]
pub struct Keys<'a> {
    columns: Vec<KeyColumn<'a>>,
}

impl<'a> Keys<'a> {
    /// From columns of codes, all of one length.
    pub fn new(columns: Vec<&'a [u32]>) -> Self {
        Keys::of_columns(columns.into_iter().map(KeyColumn::One).collect())
    }

    /// From columns, all of the same rows.
    pub(crate) fn of_columns(columns: Vec<KeyColumn<'a>>) -> Self {
        Keys { columns }
    }

    /// The keys of the rows at places; `order` is the row at each place.
    pub fn by_place(self, order: &'a [RowId]) -> KeysByPlace<'a> {
        KeysByPlace { keys: self, order }
    }

    /// Whether two rows share a key, and so may never be negatives of each other. O(columns).
    #[inline]
    pub(crate) fn conflict(&self, a: RowId, b: RowId) -> bool {
        self.columns.iter().any(|column| column.conflict(a, b))
    }

    /// Whether a row shares any key with any other row.
    #[inline]
    pub(crate) fn is_shared(&self, row: RowId) -> bool {
        self.columns.iter().any(|column| !column.of(row).is_empty())
    }

    /// (column, code) of each key that the row shares with others.
    pub(crate) fn shared(&self, row: RowId) -> impl Iterator<Item = (u32, u32)> + '_ {
        let columns = self.columns.iter().enumerate();
        columns.flat_map(move |(index, column)| column.of(row).iter().map(move |code| (index as u32, *code)))
    }

    /// The columns, by row.
    pub(crate) fn columns(&self) -> &[KeyColumn<'a>] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_have_any_code_in_common_conflict() {
        let lists = KeyLists { offsets: &[0, 2, 2, 4, 5], codes: &[1, 4, 2, 4, 2] };
        let one = [7, 7, UNIQUE, UNIQUE];
        let keys = Keys::of_columns(vec![KeyColumn::One(&one), KeyColumn::Lists(lists)]);
        let pairs: Vec<(u32, u32)> = (0..4).flat_map(|a| (a + 1..4).map(move |b| (a, b))).collect();
        let conflicts: Vec<_> = pairs.into_iter().filter(|(a, b)| keys.conflict(*a, *b)).collect();
        assert_eq!(conflicts, [(0, 1), (0, 2), (2, 3)]);
        assert_eq!(keys.shared(0).collect::<Vec<_>>(), [(0, 7), (1, 1), (1, 4)]);
        assert_eq!(keys.shared(3).collect::<Vec<_>>(), [(1, 2)]);
        assert_eq!([0, 1, 2, 3].map(|row| keys.is_shared(row)), [true; 4]);
        assert_eq!(keys.columns().iter().map(|column| column.code_limit()).collect::<Vec<_>>(), [8, 5]);
    }
}
