//! Which rows have bit-identical vectors: equal positives, and vectors that a row's query shares with another row.
//!
//! Algorithm: each vector is an entry of a hash's upper bits and the vector's number. Sorted, equal vectors stand in
//! one group; within a group the vectors themselves settle which are equal. All this happens in one array.
//!
//! Memory: 8 bytes a vector, one or two vectors a row; 4 bytes a row for the codes of equal positives.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::vectors::row::{RowId, UNIQUE};

/// A vector's number, see [`Numbering`].
pub(super) type VectorNumber = u32;

/// How vectors are numbered: sides · row + side, the query being side 0 of two; and behind them documents, which have
/// no query. It fits: there are at most 2³¹ − 1 rows and documents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbering {
    rows: usize,
    documents: usize,
    sides: usize,
}

impl Numbering {
    fn count(self) -> usize {
        self.rows * self.sides + self.documents
    }

    /// The number of the first vector of a row, or of a document's only one.
    fn first(self, row: RowId) -> usize {
        let behind = (row as usize).saturating_sub(self.rows);
        (row as usize - behind) * self.sides + behind
    }

    /// The row or document of a vector.
    pub(super) fn row(self, number: VectorNumber) -> RowId {
        let (number, of_rows) = (number as usize, self.rows * self.sides);
        if number < of_rows { (number / self.sides) as RowId } else { (self.rows + number - of_rows) as RowId }
    }

    pub(super) fn is_positive(self, number: VectorNumber) -> bool {
        self.sides == 1 || number as usize >= self.rows * self.sides || number % 2 == 1
    }
}

/// The hashes of all vectors, while threads fill them in.
pub(super) struct VectorHashes {
    /// By number: the upper bits of the hash, and the number.
    entries: Vec<AtomicU64>,
    numbering: Numbering,
}

impl VectorHashes {
    /// For both sides of each row, or for the positives alone; and for documents.
    pub(super) fn new(rows: usize, documents: usize, sides: usize) -> VectorHashes {
        let numbering = Numbering { rows, documents, sides };
        VectorHashes { entries: (0..numbering.count()).map(|_| AtomicU64::new(0)).collect(), numbering }
    }

    /// Whether queries are looked at.
    pub(super) fn has_queries(&self) -> bool {
        self.numbering.sides == 2
    }

    /// Takes the hashes of a row's query and positive; a document's own is the second.
    pub(super) fn put(&self, row: RowId, hashes: [u64; 2]) {
        let Numbering { rows, sides, .. } = self.numbering;
        let sides = if (row as usize) < rows { sides } else { 1 };
        let (first, numbers) = (self.numbering.first(row), self.numbers());
        for (number, hash) in (first..).zip(&hashes[2 - sides..]) {
            self.entries[number].store(hash & !numbers | number as u64, Ordering::Relaxed);
        }
    }

    /// The bits of an entry that hold a number.
    fn numbers(&self) -> u64 {
        self.entries.len().next_power_of_two() as u64 - 1
    }

    /// Finds equal vectors; `same` settles whether two are. O(vectors log vectors), and the comparisons.
    pub(super) fn equal(self, same: impl Fn(VectorNumber, VectorNumber) -> bool + Sync) -> EqualVectors {
        let (numbering, numbers) = (self.numbering, self.numbers());
        // In place: both vectors have elements of one size.
        let mut entries: Vec<u64> = self.entries.into_iter().map(AtomicU64::into_inner).collect();
        entries.par_sort_unstable();
        entries.par_chunk_by_mut(|a, b| a & !numbers == b & !numbers).for_each(|group| {
            group.iter_mut().for_each(|entry| *entry &= numbers);
            settle(group, &same);
        });
        EqualVectors { entries, numbering }
    }

    pub(super) fn numbering(&self) -> Numbering {
        self.numbering
    }
}

/// Divides the ascending numbers of one hash by their vectors. Before each number goes the first one of its vector.
fn settle(mut group: &mut [u64], same: impl Fn(VectorNumber, VectorNumber) -> bool) {
    while let Some((entry, rest)) = std::mem::take(&mut group).split_first_mut() {
        let first = *entry;
        let mut equal = 0;
        for at in 0..rest.len() {
            if same(first as VectorNumber, rest[at] as VectorNumber) {
                rest.swap(equal, at);
                equal += 1;
            }
        }
        let (own, others) = rest.split_at_mut(equal);
        std::iter::once(entry).chain(own).for_each(|entry| *entry |= first << 32);
        others.sort_unstable();
        group = others;
    }
}

/// How many rows have a vector of another row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct EqualCounts {
    /// Rows whose positive is another row's positive.
    pub(super) positives: u64,
    /// Rows whose query is another row's query.
    pub(super) queries: u64,
    /// Rows whose query is another row's positive.
    pub(super) crossed: u64,
}

/// All vectors, equal ones side by side in the order of their numbers.
pub(super) struct EqualVectors {
    /// The number of the first equal vector, and the own.
    entries: Vec<u64>,
    numbering: Numbering,
}

impl EqualVectors {
    /// The entries of each vector that there is.
    fn groups(&self) -> impl Iterator<Item = &[u64]> {
        self.entries.chunk_by(|a, b| a >> 32 == b >> 32)
    }

    fn row(&self, entry: u64) -> RowId {
        self.numbering.row(entry as VectorNumber)
    }

    fn is_positive(&self, entry: u64) -> bool {
        self.numbering.is_positive(entry as VectorNumber)
    }

    /// The rows of a group's queries, or those of its positives.
    fn rows_of<'a>(&'a self, group: &'a [u64], positives: bool) -> impl Iterator<Item = RowId> + Clone + 'a {
        group.iter().filter(move |entry| self.is_positive(**entry) == positives).map(|entry| self.row(*entry))
    }

    /// Codes of equal positives, by row and then by document: the lowest row that has the positive, or [`UNIQUE`] where
    /// no other has it.
    pub(super) fn positive_codes(&self) -> Vec<u32> {
        let mut codes = vec![UNIQUE; self.numbering.rows + self.numbering.documents];
        for group in self.groups().filter(|group| group.len() > 1) {
            let mut rows = self.rows_of(group, true);
            let Some(first) = rows.next() else { continue };
            for row in rows {
                codes[first as usize] = first;
                codes[row as usize] = first;
            }
        }
        codes
    }

    /// How many rows have a vector of another row. Documents are not among them.
    pub(super) fn counts(&self) -> EqualCounts {
        let mut counts = EqualCounts::default();
        let is_row = |row: &RowId| (*row as usize) < self.numbering.rows;
        for group in self.groups().filter(|group| group.len() > 1) {
            let (queries, positives) = (self.rows_of(group, false), self.rows_of(group, true).filter(is_row));
            let several = |rows: usize| if rows > 1 { rows as u64 } else { 0 };
            counts.queries += several(queries.clone().count());
            counts.positives += several(positives.clone().count());
            let ends = (positives.clone().next(), positives.last());
            let crossed = |row: &RowId| ends.0.is_some() && ends != (Some(*row), Some(*row));
            counts.crossed += queries.filter(crossed).count() as u64;
        }
        counts
    }

    /// Whether two rows have a vector in common that is not the positive of both.
    pub(super) fn part_more_than_positives(&self) -> bool {
        self.groups().filter(|group| self.row(group[0]) != self.row(group[group.len() - 1])).any(|group| {
            // A row's query comes before its positive.
            let mut rows = group.chunk_by(|a, b| self.row(*a) == self.row(*b));
            rows.any(|vectors| vectors.last().is_some_and(|last| !self.is_positive(*last)))
        })
    }

    /// Each row with the codes of those of its vectors that other rows have, too.
    pub(super) fn into_row_codes(self) -> Vec<u64> {
        let EqualVectors { mut entries, numbering } = self;
        let row = |entry: u64| numbering.row(entry as VectorNumber);
        // Codes count vectors by the first row that has them.
        entries.par_sort_unstable();
        let (mut kept, mut code, mut start) = (0, 0, 0);
        while start < entries.len() {
            let group = entries[start..].chunk_by(|a, b| a >> 32 == b >> 32).next().map_or(0, <[u64]>::len);
            let end = start + group;
            if row(entries[start]) != row(entries[end - 1]) {
                for at in start..end {
                    let entry = u64::from(row(entries[at])) << 32 | code;
                    // A row's query may be its positive.
                    if kept == 0 || entries[kept - 1] != entry {
                        entries[kept] = entry;
                        kept += 1;
                    }
                }
                code += 1;
            }
            start = end;
        }
        entries.truncate(kept);
        entries.par_sort_unstable();
        entries
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The codes of each row, by what a row's vectors are.
    fn lists(rows: usize, row_codes: &[u64]) -> Vec<Vec<u32>> {
        let mut lists = vec![Vec::new(); rows];
        row_codes.iter().for_each(|entry| lists[(entry >> 32) as usize].push(*entry as u32));
        lists
    }

    /// Equal vectors of rows of (query, positive), with hashes of so few bits that others meet in a group.
    fn equal(rows: &[[u8; 2]], sides: usize, bits: u32) -> EqualVectors {
        let hashes = VectorHashes::new(rows.len(), 0, sides);
        let hash = |value: u8| (u64::from(value) % (1 << bits)) << 60;
        (0..).zip(rows).for_each(|(row, values)| hashes.put(row, values.map(hash)));
        let value = |number: VectorNumber| rows[number as usize / sides][2 - sides + number as usize % sides];
        hashes.equal(|a, b| value(a) == value(b))
    }

    fn meet(a: [u8; 2], b: [u8; 2]) -> bool {
        a.iter().any(|value| b.contains(value))
    }

    proptest! {
        #[test]
        fn rows_share_a_code_if_and_only_if_they_share_a_vector(
            rows in proptest::collection::vec(proptest::array::uniform2(0u8..12), 1..40), bits in 0u32..4,
        ) {
            let found = equal(&rows, 2, bits);
            let others = |row: usize| (0..rows.len()).filter(move |other| *other != row);
            let count = |has: &dyn Fn(usize, usize) -> bool| {
                (0..rows.len()).filter(|row| others(*row).any(|other| has(*row, other))).count() as u64
            };
            let wanted = EqualCounts {
                positives: count(&|row, other| rows[row][1] == rows[other][1]),
                queries: count(&|row, other| rows[row][0] == rows[other][0]),
                crossed: count(&|row, other| rows[row][0] == rows[other][1]),
            };
            prop_assert_eq!(found.counts(), wanted);

            let codes = found.positive_codes();
            for row in 0..rows.len() {
                let first = rows.iter().position(|other| other[1] == rows[row][1]).unwrap() as u32;
                let alone = !others(row).any(|other| rows[other][1] == rows[row][1]);
                prop_assert_eq!(codes[row], if alone { UNIQUE } else { first });
            }
            prop_assert_eq!(&equal(&rows, 1, bits).positive_codes(), &codes);

            let more = found.part_more_than_positives();
            let is_new = |row: usize, other: usize| {
                let positives = [rows[row][1], rows[other][1]];
                rows[row].iter().any(|value| rows[other].contains(value) && positives != [*value; 2])
            };
            prop_assert_eq!(more, (0..rows.len()).any(|row| others(row).any(|other| is_new(row, other))));

            let lists = lists(rows.len(), &found.into_row_codes());
            for (row, list) in lists.iter().enumerate() {
                prop_assert!(list.is_sorted_by(|a, b| a < b), "{:?}", list);
                for other in others(row) {
                    let shared = list.iter().any(|code| lists[other].contains(code));
                    prop_assert_eq!(shared, meet(rows[row], rows[other]), "rows {} and {}", row, other);
                }
                prop_assert!(list.iter().all(|code| others(row).any(|other| lists[other].contains(code))));
            }
            // Dense, by the first row that has the vector.
            let mut seen = 0;
            for code in lists.iter().flatten() {
                prop_assert!(*code <= seen);
                seen = seen.max(code + 1);
            }
        }
    }

    #[test]
    fn a_row_shares_nothing_with_itself() {
        let found = equal(&[[1, 1], [2, 2], [3, 4]], 2, 3);
        assert_eq!(found.counts(), EqualCounts::default());
        assert!(!found.part_more_than_positives());
        assert_eq!(found.into_row_codes(), Vec::<u64>::new());
    }

    #[test]
    fn queries_that_are_their_own_positives_add_nothing() {
        let found = equal(&[[1, 1], [2, 2], [1, 1]], 2, 3);
        assert_eq!(found.counts(), EqualCounts { positives: 2, queries: 2, crossed: 2 });
        assert!(!found.part_more_than_positives());
    }

    #[test]
    fn hashes_are_sorted_where_they_stand() {
        let hashes = VectorHashes::new(1000, 0, 2);
        let (at, room) = (hashes.entries.as_ptr().cast::<u64>(), hashes.entries.capacity());
        let found = hashes.equal(|_, _| false);
        assert_eq!((found.entries.as_ptr(), found.entries.capacity()), (at, room), "8 bytes a vector, and no more");
    }

    #[test]
    fn documents_are_numbered_behind_both_sides_of_the_rows() {
        let numbering = Numbering { rows: 2, documents: 3, sides: 2 };
        let all: Vec<(RowId, bool)> =
            (0..7).map(|number| (numbering.row(number), numbering.is_positive(number))).collect();
        let rows = [(0, false), (0, true), (1, false), (1, true)];
        assert_eq!(all, [&rows[..], &[(2, true), (3, true), (4, true)]].concat());
        assert_eq!([0, 1, 2, 3, 4].map(|row| numbering.first(row)), [0, 2, 4, 5, 6]);
        // A document that is a row's query, and one that is a positive; the third is nobody's.
        let hashes = VectorHashes::new(2, 3, 2);
        let values = [[1, 2], [3, 4], [0, 1], [0, 4], [0, 9]];
        (0..).zip(values).for_each(|(row, values)| hashes.put(row, values.map(|value: u64| value << 60)));
        let value =
            |number: VectorNumber| values[numbering.row(number) as usize][usize::from(numbering.is_positive(number))];
        let found = hashes.equal(|a, b| value(a) == value(b));
        assert_eq!(found.positive_codes(), [UNIQUE, 1, UNIQUE, 1, UNIQUE]);
        assert_eq!(found.counts(), EqualCounts::default(), "documents are no rows");
        assert!(found.part_more_than_positives());
        assert_eq!(lists(5, &found.into_row_codes()), [vec![0], vec![1], vec![0], vec![1], vec![]]);
    }
}
