//! Rows that no batch can take: of a key with more rows than its task has batches, the rest is excluded.
//!
//! A batch holds at most one row of a key, so the other rows can be in no batch. If they were clustered all the same,
//! every cluster would hold a row of the key, and no two clusters could share a batch.

use std::ops::Range;

use crate::vectors::{Keys, RowId};

/// Most rows of one key that a task of so many rows can place: one for each batch, less one batch in eight, or packing
/// would have to be perfect.
pub(crate) fn most_of_one_key(rows: u32, batch_size: u32) -> u32 {
    let batches = rows / batch_size;
    if batches < 2 { 1 } else { batches - batches.div_ceil(8) }
}

/// Marks the excluded rows, by row: of each key, those after the first that the batches of a task can place. Takes each
/// task's rows, and the most of one key; those that are marked already count for no key. O(rows · key columns); 4 bytes
/// for each code of a column while it runs.
pub(crate) fn exclude(keys: &Keys<'_>, tasks: &[(Range<RowId>, u32)], mut excluded: Vec<bool>) -> Vec<bool> {
    for column in keys.columns() {
        let mut counts = vec![0u32; column.table_length()];
        for (task, most) in tasks {
            for row in task.clone() {
                let codes = if excluded[row as usize] { &[][..] } else { column.of(row) };
                if codes.iter().any(|code| counts[*code as usize] == *most) {
                    excluded[row as usize] = true;
                } else {
                    codes.iter().for_each(|code| counts[*code as usize] += 1);
                }
            }
            task.clone().flat_map(|row| column.of(row)).for_each(|code| counts[*code as usize] = 0);
        }
    }
    excluded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::UNIQUE;

    #[test]
    fn a_key_keeps_as_many_rows_as_there_are_batches() {
        let first = [0, 0, 0, UNIQUE, 0, 5, 5, 0];
        let second = [UNIQUE, 1, UNIQUE, 1, UNIQUE, UNIQUE, 6, UNIQUE];
        let excluded = exclude(&Keys::new(vec![&first, &second]), &[(0..5, 1), (5..8, 1)], vec![false; 8]);
        // Each task places one row of a key.
        assert_eq!(excluded, [false, true, true, false, true, false, true, false]);
        assert_eq!([1, 2, 7, 8, 9, 100].map(|batches| most_of_one_key(batches * 64, 64)), [1, 1, 6, 7, 7, 87]);
    }
}
