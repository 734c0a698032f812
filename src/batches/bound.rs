//! How many full batches keys allow. Pure.
//!
//! A batch of |B| rows holds at most R rows of a key. So b full batches hold at most min(n, R · b) of the n rows of a
//! key, and there can be b of them only if Σ min(n, R · b) over keys, with each row without a key as a key of its own,
//! is b · |B| at least. Where each row has one key at most this is enough as well: let min(n, R · b) rows of each key
//! play, sort them by key, and deal them to the batches in turn. Rows of several keys count for their most frequent
//! one: then it is an upper bound.

use crate::vectors::{Keys, RowId};

/// Group of a row that shares no key with another row of its task.
pub(crate) const NO_GROUP: u32 = u32::MAX;
/// From so many rows on, only keys of [`LEAST_OF_MANY`] rows at least make a group: keys of fewer rows bind the last
/// batches only.
const MANY_ROWS: usize = 1 << 20;
const LEAST_OF_MANY: u32 = 8;
/// Marks an entry of the table of counts that has become a group's number.
const NUMBERED: u32 = 1 << 31;

/// The rows of a task by their most frequent key. Memory: 4 bytes a row, 4 for each key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyGroups {
    /// The group of each row, in the order in which rows were given, or [`NO_GROUP`].
    pub of: Vec<u32>,
    /// Rows of each group.
    pub sizes: Vec<u32>,
    /// Whether rows have keys beside that of their group.
    pub several: bool,
}

impl KeyGroups {
    /// Groups rows. O(rows · keys); 4 bytes for each code of a column while it runs.
    pub(crate) fn new(rows: impl Iterator<Item = RowId> + Clone, keys: &Keys<'_>) -> KeyGroups {
        let mut groups = KeyGroups { of: rows.clone().map(|_| NO_GROUP).collect(), ..KeyGroups::default() };
        let least = if groups.of.len() < MANY_ROWS { 2 } else { LEAST_OF_MANY };
        for column in keys.columns() {
            // Zeros that are never touched take no memory.
            let mut table = vec![0u32; column.table_length()];
            let codes = || rows.clone().flat_map(|row| column.of(row)).map(|code| *code as usize);
            for code in codes() {
                table[code] += 1;
            }
            for (group, row) in groups.of.iter_mut().zip(rows.clone()) {
                for code in column.of(row) {
                    let entry = &mut table[*code as usize];
                    if *entry < least {
                        groups.several |= *entry > 1;
                        continue;
                    }
                    groups.several |= *group != NO_GROUP;
                    if *entry & NUMBERED == 0 {
                        groups.sizes.push(*entry);
                        *entry = (groups.sizes.len() - 1) as u32 | NUMBERED;
                    }
                    let found = *entry & !NUMBERED;
                    let frequent = *group == NO_GROUP || groups.sizes[found as usize] > groups.sizes[*group as usize];
                    *group = if frequent { found } else { *group };
                }
            }
        }
        // Until now sizes counted every row of a key, to compare keys by.
        groups.sizes.fill(0);
        groups.of.iter().filter(|group| **group != NO_GROUP).for_each(|group| groups.sizes[*group as usize] += 1);
        groups
    }

    /// Rows in no group.
    pub(crate) fn single(&self) -> u64 {
        self.of.len() as u64 - self.sizes.iter().map(|size| u64::from(*size)).sum::<u64>()
    }
}

/// The most batches of `size` rows that groups of these sizes and `single` other rows allow, with `per_key` rows of a
/// group in a batch at most. O(groups · log rows).
pub(crate) fn most_full(sizes: &[u32], single: u64, size: u32, per_key: u32) -> u64 {
    let rows = single + sizes.iter().map(|rows| u64::from(*rows)).sum::<u64>();
    let possible = |batches: u64| slack(sizes, single, size, per_key, batches) >= 0;
    // What b batches lack is convex in b, and nothing lacks for none: the possible b are those up to a greatest.
    let (mut least, mut most) = (0, rows / u64::from(size));
    while least < most {
        let middle = (least + most).div_ceil(2);
        if possible(middle) { least = middle } else { most = middle - 1 }
    }
    least
}

/// By how many rows the groups exceed what so many full batches need; negative, where they cannot be.
pub(crate) fn slack(sizes: &[u32], single: u64, size: u32, per_key: u32, batches: u64) -> i64 {
    let most = u64::from(per_key) * batches;
    let playing = single + sizes.iter().map(|rows| u64::from(*rows).min(most)).sum::<u64>();
    playing as i64 - (batches * u64::from(size)) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::UNIQUE;

    #[test]
    fn keys_that_are_evenly_spread_allow_what_a_division_says() {
        // Keys, rows of each, |B|, full batches that are possible.
        let cases = [(77, 26, 64, 31), (400, 5, 256, 7), (150, 14, 128, 16), (40, 30, 32, 37), (100, 20, 64, 31)];
        for (keys, rows, size, full) in cases {
            assert_eq!(most_full(&vec![rows; keys], 0, size, 1), full);
        }
        assert_eq!(most_full(&[400], 600, 64, 1), 9, "one key of 40 %");
        assert_eq!(most_full(&[100; 63], 0, 64, 1), 0, "too few keys");
        assert_eq!([1, 2, 16].map(|per_key| most_full(&[100; 4], 0, 64, per_key)), [0, 0, 6]);
    }

    #[test]
    fn a_row_is_grouped_by_its_most_frequent_key() {
        let (first, second) = ([0, 0, UNIQUE, 3, 3, UNIQUE], [0, 1, 1, 1, UNIQUE, 5]);
        let keys = Keys::new(vec![&first, &second]);
        let groups = KeyGroups::new(0..6, &keys);
        let same = |a: usize, b: usize| groups.of[a] == groups.of[b];
        assert!(same(1, 2) && same(2, 3) && !same(0, 1) && !same(4, 1) && groups.of[5] == NO_GROUP);
        assert_eq!((groups.several, groups.single()), (true, 1));
        // Of rows 4 and 5 alone none shares a key.
        assert_eq!(KeyGroups::new(4..6, &keys).of, [NO_GROUP; 2]);
    }

    proptest! {
        #[test]
        fn so_many_batches_can_be_dealt_and_not_one_more(
            sizes in proptest::collection::vec(1u32..30, 0..20), single in 0u64..40,
            size in 2u32..9, per_key in 1u32..4,
        ) {
            let full = most_full(&sizes, single, size, per_key);
            prop_assert!(slack(&sizes, single, size, per_key, full) >= 0);
            prop_assert!(slack(&sizes, single, size, per_key, full + 1) < 0);
            // Dealt in turn, no batch gets too many of a group.
            let groups = sizes.iter().chain(std::iter::repeat_n(&1, single as usize)).enumerate();
            let playing = groups.flat_map(|(group, rows)| {
                std::iter::repeat_n(group, (u64::from(*rows)).min(u64::from(per_key) * full) as usize)
            });
            let dealt: Vec<usize> = playing.take((full * u64::from(size)) as usize).collect();
            prop_assert_eq!(dealt.len() as u64, full * u64::from(size));
            for batch in 0..full as usize {
                let rows: Vec<usize> = dealt.iter().copied().skip(batch).step_by(full as usize).collect();
                let most = rows.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
                prop_assert!(most <= Some(per_key as usize));
            }
        }
    }
}
