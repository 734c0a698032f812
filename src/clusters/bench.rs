//! Rows that no batch can take: of a key with more rows than its task has batches, the rest sit out.
//!
//! A batch holds one row of a key at most, so what is over can only be left over. If such rows were
//! clustered all the same, every cluster would hold one and no two clusters could share a batch.

use std::ops::Range;

use crate::vectors::{Keys, RowId};

/// Marks the rows that sit out: in each task of n rows, those after the first max(1, n / `batch_size`)
/// of each key. O(rows · key columns); 4 bytes a row while it runs.
pub fn bench(keys: &Keys<'_>, tasks: &[Range<RowId>], batch_size: u32) -> Vec<bool> {
    let rows = tasks.last().map_or(0, |task| task.end) as usize;
    let mut benched = vec![false; rows];
    for codes in keys.columns() {
        // Codes are row numbers: a table of counts by code.
        let mut counts = vec![0u32; rows];
        for task in tasks {
            let most = (task.len() as u32 / batch_size).max(1);
            let shared = || task.clone().filter(|row| (codes[*row as usize] as usize) < rows);
            for row in shared() {
                let count = &mut counts[codes[row as usize] as usize];
                if !benched[row as usize] && *count == most {
                    benched[row as usize] = true;
                } else if !benched[row as usize] {
                    *count += 1;
                }
            }
            shared().for_each(|row| counts[codes[row as usize] as usize] = 0);
        }
    }
    benched
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::rows::UNIQUE;

    #[test]
    fn a_key_keeps_as_many_rows_as_there_are_batches() {
        let first = [0, 0, 0, UNIQUE, 0, 5, 5, 0];
        let second = [UNIQUE, 1, UNIQUE, 1, UNIQUE, UNIQUE, 6, UNIQUE];
        let benched = bench(&Keys::new(vec![&first, &second]), &[0..5, 5..8], 2);
        // Task 0 has two batches, task 1 one: three of row 0's key in the first, two of row 5's in the second.
        assert_eq!(benched, [false, false, true, false, true, false, true, false]);
    }
}
