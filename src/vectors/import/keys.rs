//! Key columns become codes: rows with equal keys get one code.
//!
//! Memory: 8 bytes a row, a hash, and while it is coded 8 more; one column at a time.

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::context::Import;
use super::labels::{for_each_text, for_each_unit};
use super::scatter::Scatter;
use crate::error::Result;
use crate::vectors::row::{RowId, UNIQUE};

/// Codes of a column's keys, by row. Equal hashes are taken for equal keys.
///
/// # Errors
/// The column cannot be read.
pub(super) fn key_column(import: &Import<'_>, column: &str, row_ids: &[RowId]) -> Result<Vec<u32>> {
    let hashes = Scatter::new(vec![0u64; import.rows()]);
    for_each_unit(&import.units, |unit| {
        for_each_text(unit, column, |row, key| {
            let row_id = row_ids[(unit.first_input_row() + row) as usize];
            // 0 means "no key"; a key that hashes to 0 takes 1.
            let hash = key.map_or(0, |key| xxh3_64(key.as_bytes()).max(1));
            hashes.write(row_id as usize, [hash]);
            Ok(())
        })
    })?;
    Ok(key_codes(&hashes.into_inner(), |_, _| true))
}

/// Codes of equal keys: the group's lowest row, or [`UNIQUE`] where no other row has the key.
/// `hashes` 0 stand for "no key"; `same` settles whether two rows of one hash are really equal.
/// O(rows log rows).
pub(super) fn key_codes(hashes: &[u64], same: impl Fn(RowId, RowId) -> bool) -> Vec<u32> {
    let mut order: Vec<RowId> = (0..hashes.len() as RowId).collect();
    order.par_sort_unstable_by_key(|row| (hashes[*row as usize], *row));
    let mut codes = vec![UNIQUE; hashes.len()];
    for group in order.chunk_by(|a, b| hashes[*a as usize] == hashes[*b as usize]) {
        let first = group[0];
        if group.len() < 2 || hashes[first as usize] == 0 {
            continue;
        }
        for row in &group[1..] {
            if same(first, *row) {
                codes[first as usize] = first;
                codes[*row as usize] = first;
            }
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_coded_by_their_first_row() {
        let hashes = [7, 5, 7, 0, 0, 9, 7];
        assert_eq!(key_codes(&hashes, |_, _| true), [0, UNIQUE, 0, UNIQUE, UNIQUE, UNIQUE, 0]);
        assert_eq!(key_codes(&hashes, |_, row| row != 2), [0, UNIQUE, UNIQUE, UNIQUE, UNIQUE, UNIQUE, 0]);
    }
}
