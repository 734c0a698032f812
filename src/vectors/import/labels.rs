//! Reading label columns as text: ids, tasks and keys.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::vectors::decode::Unit;

/// Rows decoded at a time.
pub(super) const BATCH_ROWS: usize = 8192;

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

/// A label column's values as text; null where the input is null.
fn as_text(array: &ArrayRef) -> Result<ArrayRef, String> {
    cast(array, &DataType::LargeUtf8).map_err(|e| e.to_string())
}

pub(super) fn not_text(found: String) -> Error {
    Error::input("the column cannot be read as labels")
        .expected("strings, numbers or booleans")
        .found(found)
        .remedy("name another column, or cast this one")
}

/// Calls `each(row within the unit, value)` for every row of a label column.
///
/// # Errors
/// The column cannot be decoded or has no textual form, or the closure fails.
pub(super) fn for_each_text(
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
