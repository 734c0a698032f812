//! The id column becomes `ids.col`; no id may occur twice.
//!
//! Memory: 8 bytes a row, the hashes that duplicates are found by.

use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::context::Import;
use super::labels::{BATCH_ROWS, for_each_text, for_each_unit, not_text};
use super::scatter::Scatter;
use crate::error::{Error, Result};
use crate::run::ScatteredPart;
use crate::run::sealed::HEADER_BYTES;
use crate::vectors::decode::Unit;
use crate::vectors::ids::{INT_IDS, TEXT_IDS};
use crate::vectors::open::ID_TABLE;

/// Writes the ids and refuses duplicates; row numbers need no file.
///
/// # Errors
/// The column holds no ids, an id is null or occurs twice, or the disk fails.
pub(super) fn write_ids(import: &Import<'_>) -> Result<Option<ScatteredPart>> {
    let (Some(column), Some(first)) = (import.shards.roles.id.as_deref(), import.units.first()) else {
        return Ok(None);
    };
    let Some(field) = first.shard.schema().and_then(|schema| schema.field_with_name(column).ok()) else {
        return Ok(None);
    };
    let integers = ids_are_integers(first, column, field.data_type())?;
    let part = if integers { int_ids(import, column) } else { text_ids(import, column) };
    part.map(Some)
}

fn int_ids(import: &Import<'_>, column: &str) -> Result<ScatteredPart> {
    let part = import.stage.scattered(ID_TABLE, HEADER_BYTES as u64 + 8 * import.rows() as u64)?;
    part.write_at(&INT_IDS.header([import.rows() as u64, 0, 0, 0, 0, 0]), 0)?;
    let hashes = Scatter::new(vec![0u64; import.rows()]);
    for_each_unit(&import.units, |unit| {
        for_each_int_ids(unit, column, |row, ids| {
            let first = unit.first_input_row() + row;
            let hash = ids.iter().map(|id| id_hash(&id.to_string()));
            hashes.write(first as usize, hash);
            part.write_at(bytemuck::cast_slice(ids), HEADER_BYTES as u64 + 8 * first)
        })
    })?;
    refuse_duplicate_ids(&import.units, column, hashes.into_inner())?;
    Ok(part)
}

fn text_ids(import: &Import<'_>, column: &str) -> Result<ScatteredPart> {
    let text_start = HEADER_BYTES as u64 + 8 * (import.rows() as u64 + 1);
    let mut part = import.stage.scattered(ID_TABLE, text_start)?;
    let mut hashes = Vec::with_capacity(import.rows());
    let mut end = 0u64;
    for unit in &import.units {
        import.run.check_interrupt()?;
        let (mut text, mut offsets) = (Vec::new(), Vec::new());
        let (first, text_from) = (unit.first_input_row(), end);
        for_each_text(unit, column, |row, id| {
            let Some(id) = id else { return Err(unit.place(null_id(), column, Some(row))) };
            hashes.push(id_hash(id));
            offsets.extend(end.to_le_bytes());
            text.extend(id.as_bytes());
            end += id.len() as u64;
            Ok(())
        })?;
        part.write_at(&offsets, HEADER_BYTES as u64 + 8 * first)?;
        part.write_at(&text, text_start + text_from)?;
    }
    part.write_at(&end.to_le_bytes(), text_start - 8)?;
    part.write_at(&TEXT_IDS.header([import.rows() as u64, end, 0, 0, 0, 0]), 0)?;
    part.set_payload_end(text_start + end);
    refuse_duplicate_ids(&import.units, column, hashes)?;
    Ok(part)
}

/// Whether an id column holds int64 (else strings).
///
/// # Errors
/// The column is neither integer nor string.
fn ids_are_integers(unit: &Unit<'_>, column: &str, data_type: &DataType) -> Result<bool> {
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
fn for_each_int_ids(unit: &Unit<'_>, column: &str, mut each: impl FnMut(u64, &[i64]) -> Result<()>) -> Result<()> {
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
fn null_id() -> Error {
    Error::input("an id is null")
        .expected("an id in every row")
        .found("a null")
        .remedy("fill the ids, or use row numbers by renaming the column")
}

/// Fails if two rows have one id.
///
/// # Errors
/// The first id (by row) that occurs again, with both rows.
fn refuse_duplicate_ids(units: &[Unit<'_>], column: &str, mut hashes: Vec<u64>) -> Result<()> {
    hashes.par_sort_unstable();
    let mut twice: Vec<u64> = hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    drop(hashes);
    twice.dedup();
    if twice.is_empty() {
        return Ok(());
    }
    // Hashes agree: look whether the ids do.
    let mut seen = HashMap::<String, (u64, String)>::new();
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
fn id_hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}
