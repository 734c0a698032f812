//! Reading label columns: ids, tasks and keys.
//!
//! Memory: labels are written out in pieces of a MiB at most, or one label, which has a bound of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef};
use rayon::prelude::*;

use super::context::Input;
use crate::error::{Error, Result};
use crate::vectors::decode::Unit;
use crate::vectors::label_arrays::for_each_label_array;
use crate::vectors::labels::{
    LabelColumn, LabelValues, Missing, Unlabelled, elements, lengths, of_list, pieces, slice, spanned,
};

/// Most bytes of the keys of one row.
const LIST_BYTES_MAX: usize = 4 << 20;

/// Runs `work` on every unit in parallel; of several errors the one that comes first in the input
/// is returned, whatever the threads did.
///
/// # Errors
/// The first unit's error.
pub(super) fn for_each_unit(units: &[Unit<'_>], work: impl Fn(&Unit<'_>) -> Result<()> + Sync) -> Result<()> {
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

/// Calls `each(first row within the unit, labels)` for every batch of a column that has one label a row.
///
/// # Errors
/// The column cannot be decoded, a value has no label in the column's form, or the closure fails.
pub(super) fn for_each_label_batch(
    unit: &Unit<'_>,
    column: &LabelColumn,
    mut each: impl FnMut(u64, &LabelValues) -> Result<()>,
) -> Result<()> {
    for_each_label_array(unit, &column.name, 1, |first, array| {
        let lengths = lengths(array);
        if let Some((row, bytes)) = longest(lengths.as_deref(), column.bytes_max) {
            return Err(unit.place(column.too_long(bytes), &column.name, Some(first + row as u64)));
        }
        for rows in lengths.map_or_else(|| whole(array.len()), pieces) {
            let (first, array) = (first + rows.start as u64, slice(array, &rows));
            let labels = LabelValues::new(&array, column.form)
                .map_err(|wrong| unlabelled(unit, column, &array, first + wrong.row as u64, &wrong))?;
            each(first, &labels)?;
        }
        Ok(())
    })
}

/// The first label that is longer than `most`, and its bytes.
fn longest(lengths: Option<&[usize]>, most: usize) -> Option<(usize, usize)> {
    lengths?.iter().copied().enumerate().find(|(_, bytes)| *bytes > most)
}

/// All rows as one piece.
fn whole(rows: usize) -> Vec<std::ops::Range<usize>> {
    std::iter::once(0..rows).collect()
}

/// Calls `each(row within the unit, label)` for every row of a column that has one label a row.
///
/// # Errors
/// See [`for_each_label_batch`].
pub(super) fn for_each_label(
    unit: &Unit<'_>,
    column: &LabelColumn,
    mut each: impl FnMut(u64, Result<&[u8], Missing>) -> Result<()>,
) -> Result<()> {
    for_each_label_batch(unit, column, |first, labels| {
        (0..labels.len()).try_for_each(|row| each(first + row as u64, labels.get(row)))
    })
}

/// Calls `each(row within the unit, label)` for every row of a column whose labels have to be text.
///
/// # Errors
/// See [`for_each_label_batch`]; or bytes are no text.
pub(super) fn for_each_text(
    unit: &Unit<'_>,
    column: &LabelColumn,
    mut each: impl FnMut(u64, Result<&str, Missing>) -> Result<()>,
) -> Result<()> {
    for_each_label(unit, column, |row, label| {
        let text = label.map(std::str::from_utf8);
        match text {
            Ok(Ok(text)) => each(row, Ok(text)),
            Ok(Err(_)) => Err(unit.place(no_utf8(label.unwrap_or_default()), &column.name, Some(row))),
            Err(missing) => each(row, Err(missing)),
        }
    })
}

/// Calls `each(row within the unit, labels, those of the row)` for every row of a column of lists; none where the row
/// has no list.
///
/// # Errors
/// See [`for_each_label_batch`].
pub(super) fn for_each_list(
    unit: &Unit<'_>,
    column: &LabelColumn,
    mut each: impl FnMut(u64, &LabelValues, Option<std::ops::Range<usize>>) -> Result<()>,
) -> Result<()> {
    // The elements of a row group are known, and about how many of them a row has.
    let elements_of_row = unit.values_of(&column.name).div_ceil(unit.rows.max(1)).max(1);
    for_each_label_array(unit, &column.name, elements_of_row, |first, array| {
        let (values, lists) =
            elements(array).map_err(|wrong| unlabelled(unit, column, array, first + wrong.row as u64, &wrong))?;
        let of_values = lengths(&values);
        if let Some((at, bytes)) = longest(of_values.as_deref(), column.bytes_max) {
            return Err(unit.place(column.too_long(bytes), &column.name, row_of(&lists, at).map(|row| first + row)));
        }
        let of_row = |list: &Option<_>| of_values.as_ref().map_or(0, |all| of_list(all, list.as_ref()));
        let of_rows: Vec<usize> = lists.iter().map(of_row).collect();
        if let Some((row, bytes)) = longest(Some(&of_rows), LIST_BYTES_MAX) {
            let error = column.list_too_long(bytes, LIST_BYTES_MAX);
            return Err(unit.place(error, &column.name, Some(first + row as u64)));
        }
        for rows in pieces(of_rows) {
            let span = spanned(&lists[rows.clone()]);
            let labels = LabelValues::new(&slice(&values, &span), column.form).map_err(|wrong| {
                let row = row_of(&lists, span.start + wrong.row).unwrap_or(0);
                unlabelled(unit, column, array, first + row, &wrong)
            })?;
            for row in rows {
                let list = lists[row].clone().map(|list| match list.is_empty() {
                    true => 0..0,
                    false => list.start - span.start..list.end - span.start,
                });
                each(first + row as u64, &labels, list)?;
            }
        }
        Ok(())
    })
}

/// The row that has an element.
fn row_of(lists: &[Option<std::ops::Range<usize>>], element: usize) -> Option<u64> {
    lists.iter().position(|list| list.as_ref().is_some_and(|list| list.contains(&element))).map(|row| row as u64)
}

/// The error for a value without a label, with the number of such values in its file.
fn unlabelled(unit: &Unit<'_>, column: &LabelColumn, array: &ArrayRef, row: u64, wrong: &Unlabelled) -> Error {
    let count = unlabelled_in_file(unit, column);
    let error = column.unlabelled(&unit.shard.path, array.data_type(), &wrong.found, count);
    unit.place(error, &column.name, Some(row))
}

/// Values of a unit's file that have no label. The file cannot be used, so that what it takes to count is well spent.
fn unlabelled_in_file(unit: &Unit<'_>, column: &LabelColumn) -> u64 {
    let mut count = 0;
    for unit in Unit::all(std::slice::from_ref(unit.shard)) {
        let counted = for_each_label_array(&unit, &column.name, 1, |_, array| {
            let Ok((values, _)) = elements(array) else { return Ok(()) };
            if LabelValues::new(&values, column.form).is_err() {
                let wrong = |row: &usize| LabelValues::new(&values.slice(*row, 1), column.form).is_err();
                count += (0..values.len()).filter(wrong).count() as u64;
            }
            Ok(())
        });
        // What cannot be decoded is another error, and not the first.
        if counted.is_err() {
            break;
        }
    }
    count
}

fn no_utf8(bytes: &[u8]) -> Error {
    let shown: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Error::input("a label is no text")
        .expected("bytes that are UTF-8")
        .found(format!("the bytes {shown}{}", if bytes.len() > 16 { " and more" } else { "" }))
        .remedy("write the bytes as text, such as hex, into a column of strings")
}

/// The error for a row without a label where each row must have one, with the number of such rows in the input.
pub(super) fn missing_label(error: Error, input: &Input<'_>, column: &LabelColumn, missing: Missing) -> Error {
    let (mut null, mut nan, mut rows) = (0u64, 0u64, 0u64);
    for unit in &input.units {
        let counted = for_each_label(unit, column, |_, label| {
            rows += 1;
            null += u64::from(label == Err(Missing::Null));
            nan += u64::from(label == Err(Missing::NaN));
            Ok(())
        });
        if counted.is_err() {
            break;
        }
    }
    let found = if missing == Missing::NaN { "a NaN" } else { "a null" };
    error.found(format!("{found}; of {rows} {} {null} are null and {nan} are NaN", input.noun()))
}
