//! The id column becomes `ids.col`; no id may occur twice.
//!
//! Memory: 8 bytes a row, the hashes that duplicates are found by.

use std::collections::HashMap;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::context::Import;
use super::labels::{for_each_label_batch, for_each_text, for_each_unit, missing_label};
use super::scatter::Scatter;
use crate::error::{Error, Result};
use crate::run::ScatteredPart;
use crate::run::sealed::HEADER_BYTES;
use crate::vectors::decode::Unit;
use crate::vectors::ids::{INT_IDS, TEXT_IDS};
use crate::vectors::labels::{LabelColumn, LabelValues, Missing};
use crate::vectors::open::ID_TABLE;

/// Writes the ids and refuses duplicates; row numbers need no file.
///
/// # Errors
/// An id is null, is beyond int64 or occurs twice, or the disk fails.
pub(super) fn write_ids(import: &Import<'_>) -> Result<Option<ScatteredPart>> {
    let Some(column) = &import.input.shards.labels.id else { return Ok(None) };
    let part = if column.has_integer_ids() { int_ids(import, column) } else { text_ids(import, column) };
    part.map(Some)
}

fn int_ids(import: &Import<'_>, column: &LabelColumn) -> Result<ScatteredPart> {
    let part = import.stage.scattered(ID_TABLE, HEADER_BYTES as u64 + 8 * import.input.rows() as u64)?;
    part.write_at(&INT_IDS.header([import.input.rows() as u64, 0, 0, 0, 0, 0]), 0)?;
    let hashes = Scatter::new(vec![0u64; import.input.rows()]);
    for_each_unit(&import.input.units, |unit| {
        for_each_label_batch(unit, column, |row, labels| {
            let ids = integers(import, unit, column, row, labels)?;
            let first = unit.first_input_row() + row;
            let hash = ids.iter().map(|id| id_hash(&id.to_string()));
            hashes.write(first as usize, hash);
            part.write_at(bytemuck::cast_slice(&ids), HEADER_BYTES as u64 + 8 * first)
        })
    })?;
    refuse_duplicate_ids(&import.input.units, column, hashes.into_inner())?;
    Ok(part)
}

fn text_ids(import: &Import<'_>, column: &LabelColumn) -> Result<ScatteredPart> {
    let text_start = HEADER_BYTES as u64 + 8 * (import.input.rows() as u64 + 1);
    let mut part = import.stage.scattered(ID_TABLE, text_start)?;
    let mut hashes = Vec::with_capacity(import.input.rows());
    let mut end = 0u64;
    for unit in &import.input.units {
        import.run.check_interrupt()?;
        let (mut text, mut offsets) = (Vec::new(), Vec::new());
        let (first, text_from) = (unit.first_input_row(), end);
        for_each_text(unit, column, |row, id| {
            let id = id.map_err(|missing| null_id(import, unit, column, row, missing))?;
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
    part.write_at(&TEXT_IDS.header([import.input.rows() as u64, end, 0, 0, 0, 0]), 0)?;
    part.set_payload_end(text_start + end);
    refuse_duplicate_ids(&import.input.units, column, hashes)?;
    Ok(part)
}

/// The ids of a batch whose first row is `first` within the unit.
fn integers(
    import: &Import<'_>,
    unit: &Unit<'_>,
    column: &LabelColumn,
    first: u64,
    labels: &LabelValues,
) -> Result<Vec<i64>> {
    let id = |row: usize| {
        let place = first + row as u64;
        let digits = labels.get(row).map_err(|missing| null_id(import, unit, column, place, missing))?;
        let digits = String::from_utf8_lossy(digits);
        digits.parse().map_err(|_| unit.place(large_id(&digits), &column.name, Some(place)))
    };
    (0..labels.len()).map(id).collect()
}

/// The error for an integer that is no int64.
fn large_id(digits: &str) -> Error {
    Error::input("an id does not fit into int64")
        .expected("at most 9223372036854775807")
        .found(format!("the larger number {digits}"))
        .remedy("cast the ids to strings, or name another column with --id-column NAME")
}

/// The error for a null id.
fn null_id(import: &Import<'_>, unit: &Unit<'_>, column: &LabelColumn, row: u64, missing: Missing) -> Error {
    let error = Error::input("an id is missing")
        .expected("an id in every row")
        .remedy("fill the ids, or use row numbers by renaming the column");
    unit.place(missing_label(error, &import.input.units, column, missing), &column.name, Some(row))
}

/// Fails if two rows have one id.
///
/// # Errors
/// The first id (by row) that occurs again, with both rows.
fn refuse_duplicate_ids(units: &[Unit<'_>], column: &LabelColumn, mut hashes: Vec<u64>) -> Result<()> {
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
            let Ok(id) = id else { return Ok(()) };
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
                    &column.name,
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
