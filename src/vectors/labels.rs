//! Columns beside the embeddings: ids, tasks and keys.
//!
//! Memory, per row: tasks 4 bytes (a code, then in place the row's position), ids 8 (a hash, to find
//! duplicates), each key column 8 (a hash) and, while it is coded, 8 more; one column at a time.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::decode::Unit;
use super::rows::UNIQUE;
use super::store::RowId;
use crate::error::{Error, Result};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8192;

/// Runs `work` on every unit in parallel; of several errors the one that comes first in the input
/// is returned, whatever the threads did.
///
/// # Errors
/// The first unit's error.
pub(crate) fn for_each_unit(units: &[Unit<'_>], work: impl Fn(&Unit<'_>) -> Result<()> + Sync) -> Result<()> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let first_failed = AtomicUsize::new(usize::MAX);
    let failures: Vec<(usize, Error)> = units
        .par_iter()
        .enumerate()
        .filter(|(index, _)| *index < first_failed.load(Ordering::Relaxed))
        .filter_map(|(index, unit)| {
            let error = work(unit).err()?;
            first_failed.fetch_min(index, Ordering::Relaxed);
            Some((index, error))
        })
        .collect();
    match failures.into_iter().min_by_key(|(index, _)| *index) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// A label column's values as text; null where the input is null.
fn as_text(array: &ArrayRef) -> Result<ArrayRef, String> {
    cast(array, &DataType::LargeUtf8).map_err(|e| e.to_string())
}

fn not_text(found: String) -> Error {
    Error::input("the column cannot be read as labels")
        .expected("strings, numbers or booleans")
        .found(found)
        .remedy("name another column, or cast this one")
}

/// Calls `each(row within the unit, value)` for every row of a label column.
///
/// # Errors
/// The column cannot be decoded or has no textual form, or the closure fails.
pub(crate) fn for_each_text(
    unit: &Unit<'_>,
    column: &str,
    mut each: impl FnMut(u64, Option<&str>) -> Result<()>,
) -> Result<()> {
    unit.for_each_batch(&[column], BATCH_ROWS, |first, arrays| {
        let text = as_text(&arrays[0]).map_err(|found| unit.place(not_text(found), column, None))?;
        let text = text.as_string::<i64>();
        for row in 0..text.len() {
            each(first + row as u64, text.is_valid(row).then(|| text.value(row)))?;
        }
        Ok(())
    })
}

/// Whether an id column holds int64 (else strings).
///
/// # Errors
/// The column is neither integer nor string.
pub(crate) fn ids_are_integers(unit: &Unit<'_>, column: &str, data_type: &DataType) -> Result<bool> {
    let value = match data_type {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    match value {
        integer if integer.is_integer() => Ok(true),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(false),
        other => Err(unit.place(
            Error::input("the id column has a type that holds no ids")
                .expected("integers or strings")
                .found(other.to_string())
                .remedy("name another column with --id-column, or cast this one"),
            column,
            None,
        )),
    }
}

/// Calls `each(first row within the unit, ids)` for every batch of an int64 id column.
///
/// # Errors
/// A null id, an integer beyond int64, or data that cannot be decoded.
pub(crate) fn for_each_int_ids(
    unit: &Unit<'_>,
    column: &str,
    mut each: impl FnMut(u64, &[i64]) -> Result<()>,
) -> Result<()> {
    unit.for_each_batch(&[column], BATCH_ROWS, |first, arrays| {
        let ids = cast(&arrays[0], &DataType::Int64).map_err(|e| unit.place(not_text(e.to_string()), column, None))?;
        if let Some(row) = (0..ids.len()).find(|row| ids.is_null(*row)) {
            let error = if arrays[0].is_null(row) {
                null_id()
            } else {
                Error::input("an id does not fit into int64")
                    .expected("at most 9223372036854775807")
                    .found("a larger number")
                    .remedy("cast the ids to strings")
            };
            return Err(unit.place(error, column, Some(first + row as u64)));
        }
        each(first, ids.as_primitive::<Int64Type>().values())
    })
}

/// The error for a null id.
pub(crate) fn null_id() -> Error {
    Error::input("an id is null")
        .expected("an id in every row")
        .found("a null")
        .remedy("fill the ids, or use row numbers by renaming the column")
}

/// Fails if two rows have one id.
///
/// # Errors
/// The first id (by row) that occurs again, with both rows.
pub(crate) fn refuse_duplicate_ids(units: &[Unit<'_>], column: &str, mut hashes: Vec<u64>) -> Result<()> {
    hashes.par_sort_unstable();
    let mut twice: Vec<u64> = hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    drop(hashes);
    twice.dedup();
    if twice.is_empty() {
        return Ok(());
    }
    // Hashes agree: look whether the ids do.
    let mut seen = std::collections::HashMap::<String, (u64, String)>::new();
    for unit in units {
        for_each_text(unit, column, |row, id| {
            let Some(id) = id else { return Ok(()) };
            if twice.binary_search(&id_hash(id)).is_err() {
                return Ok(());
            }
            let here = (unit.start + row, unit.shard.path.display().to_string());
            match seen.insert(id.to_owned(), here) {
                None => Ok(()),
                Some((first_row, first_path)) => Err(unit.place(
                    Error::input("two rows have the same id")
                        .expected("each id once")
                        .found(format!("id {id}, also in {first_path}, row {first_row}"))
                        .remedy("drop the repeated rows, or name another column with --id-column"),
                    column,
                    Some(row),
                )),
            }
        })?;
    }
    Ok(())
}

/// Hash of an id's text.
pub(crate) fn id_hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// Groups rows by task: sorts task names, turns each row's task code into the row's position in
/// task-grouped order (stable: the input's order within a task), in place. O(rows + tasks log tasks).
///
/// Returns the names in order and where each task's rows start, with the total at the end.
pub(crate) fn group_by_task(names: Vec<String>, codes: &mut [u32]) -> (Vec<String>, Vec<u64>) {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_unstable_by(|a, b| names[*a].cmp(&names[*b]));
    let mut next = vec![0u64; names.len()];
    codes.iter().for_each(|code| next[*code as usize] += 1);
    let mut starts = Vec::with_capacity(names.len() + 1);
    let mut start = 0;
    for code in &order {
        starts.push(start);
        start += std::mem::replace(&mut next[*code], start);
    }
    starts.push(start);
    for code in codes {
        let position = &mut next[*code as usize];
        *code = *position as RowId;
        *position += 1;
    }
    let mut names = names;
    let names = order.into_iter().map(|code| std::mem::take(&mut names[code])).collect();
    (names, starts)
}

/// Codes of equal keys: the group's lowest row, or [`UNIQUE`] where no other row has the key.
/// `hashes` 0 stand for "no key"; `same` settles whether two rows of one hash are really equal.
/// O(rows log rows).
pub(crate) fn key_codes(hashes: &[u64], same: impl Fn(RowId, RowId) -> bool) -> Vec<u32> {
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
    fn rows_are_grouped_by_sorted_task_in_input_order() {
        let mut codes = vec![0, 1, 0, 2, 1, 0];
        let (names, starts) = group_by_task(vec!["b".into(), "c".into(), "a".into()], &mut codes);
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(starts, [0, 1, 4, 6]);
        assert_eq!(codes, [1, 4, 2, 0, 5, 3]);
    }

    #[test]
    fn keys_are_coded_by_their_first_row() {
        let hashes = [7, 5, 7, 0, 0, 9, 7];
        assert_eq!(key_codes(&hashes, |_, _| true), [0, UNIQUE, 0, UNIQUE, UNIQUE, UNIQUE, 0]);
        assert_eq!(key_codes(&hashes, |_, row| row != 2), [0, UNIQUE, UNIQUE, UNIQUE, UNIQUE, UNIQUE, 0]);
    }
}
