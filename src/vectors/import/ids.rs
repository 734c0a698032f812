//! The id column becomes `ids.col`; no id may occur twice.
//!
//! Memory: 8 bytes a row, the hashes that duplicates are found by; about two MiB of string ids before they are written.

use std::collections::HashMap;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::context::{Import, Input};
use super::labels::{for_each_label_batch, for_each_text, for_each_unit, missing_label};
use super::scatter::Scatter;
use crate::error::{Error, Result};
use crate::run::ScatteredPart;
use crate::run::sealed::HEADER_BYTES;
use crate::vectors::decode::Unit;
use crate::vectors::ids::{INT_IDS, TEXT_IDS};
use crate::vectors::labels::{LabelColumn, LabelValues, Missing};
use crate::vectors::open::ID_TABLE;

/// Writes the ids of rows and documents and refuses duplicates among either; row numbers need no file.
///
/// # Errors
/// An id is null, is beyond int64 or occurs twice, or the disk fails.
pub(super) fn write_ids(import: &Import<'_>) -> Result<Option<ScatteredPart>> {
    let mut columns = import.inputs().filter_map(|input| input.shards.labels.id.as_ref());
    let Some(column) = columns.next() else { return Ok(None) };
    let part = if column.has_integer_ids() { int_ids(import) } else { text_ids(import) };
    part.map(Some)
}

/// Reads the ids without writing them, and refuses duplicates.
///
/// # Errors
/// An id is null, is beyond int64 or occurs twice.
pub(super) fn check_ids(input: &Input<'_>) -> Result<()> {
    let Some(column) = &input.shards.labels.id else { return Ok(()) };
    let hashes = if column.has_integer_ids() {
        read_int_ids(input, column, |_, _| Ok(()))?
    } else {
        let mut hashes = Vec::with_capacity(input.rows());
        for unit in &input.units {
            read_text_ids(input, unit, column, &mut hashes, |_| Ok(()))?;
        }
        hashes
    };
    refuse_duplicate_ids(input, column, hashes).map(drop)
}

/// Integer ids; where rows or documents have none, their numbers.
fn int_ids(import: &Import<'_>) -> Result<ScatteredPart> {
    let count = import.input_rows();
    let part = import.stage.scattered(ID_TABLE, HEADER_BYTES as u64 + 8 * count)?;
    part.write_at(&INT_IDS.header([count, 0, 0, 0, 0, 0]), 0)?;
    let mut known = Vec::new();
    for input in import.inputs() {
        let write = |first: u64, ids: &[i64]| {
            part.write_at(bytemuck::cast_slice(ids), HEADER_BYTES as u64 + 8 * (input.first_number + first))
        };
        match &input.shards.labels.id {
            Some(column) => known.push(refuse_duplicate_ids(input, column, read_int_ids(input, column, write)?)?),
            None => {
                let mut hashes = Vec::with_capacity(input.rows());
                for first in (0..input.rows() as u64).step_by(NUMBERS) {
                    let end = (first + NUMBERS as u64).min(input.rows() as u64);
                    let ids: Vec<i64> = (first..end).map(|row| (input.first_number + row) as i64).collect();
                    hashes.extend(ids.iter().map(|id| id_hash(&id.to_string())));
                    write(first, &ids)?;
                }
                hashes.sort_unstable();
                known.push(hashes);
            }
        }
    }
    refuse_ids_of_both(import, &known)?;
    Ok(part)
}

/// Row numbers that are written at a time.
const NUMBERS: usize = 1 << 16;

/// Reads int64 ids and returns their hashes by input row; `each` gets the first input row of a batch, and its ids. A
/// row that is left out has the id 0.
fn read_int_ids(
    input: &Input<'_>,
    column: &LabelColumn,
    each: impl Fn(u64, &[i64]) -> Result<()> + Sync,
) -> Result<Vec<u64>> {
    let hashes = Scatter::new(vec![0u64; input.rows()]);
    for_each_unit(&input.units, |unit| {
        for_each_label_batch(unit, column, |row, labels| {
            let ids = integers(input, unit, column, row, labels)?;
            let first = unit.first_input_row() + row;
            hashes.write(first as usize, ids.iter().map(|id| id_hash(&id.to_string())));
            each(first, &ids)
        })
    })?;
    Ok(hashes.into_inner())
}

/// Ids that are text: rows and documents both have a column of them.
fn text_ids(import: &Import<'_>) -> Result<ScatteredPart> {
    let count = import.input_rows();
    let text_start = HEADER_BYTES as u64 + 8 * (count + 1);
    let mut part = import.stage.scattered(ID_TABLE, text_start)?;
    let (mut end, mut known) = (0u64, Vec::new());
    for input in import.inputs() {
        let Some(column) = &input.shards.labels.id else { continue };
        let mut hashes = Vec::with_capacity(input.rows());
        for unit in &input.units {
            import.run.check_interrupt()?;
            let row = input.first_number + unit.first_input_row();
            let mut written = Written { offsets: Vec::new(), text: Vec::new(), row, end };
            read_text_ids(input, unit, column, &mut hashes, |id| {
                written.offsets.extend(end.to_le_bytes());
                written.text.extend(id.as_bytes());
                end += id.len() as u64;
                if written.text.len() + written.offsets.len() < WRITE_BYTES {
                    Ok(())
                } else {
                    written.write(&part, text_start)
                }
            })?;
            written.write(&part, text_start)?;
        }
        known.push(refuse_duplicate_ids(input, column, hashes)?);
    }
    refuse_ids_of_both(import, &known)?;
    part.write_at(&end.to_le_bytes(), text_start - 8)?;
    part.write_at(&TEXT_IDS.header([count, end, 0, 0, 0, 0]), 0)?;
    part.set_payload_end(text_start + end);
    Ok(part)
}

/// Bytes of ids that are written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// String ids that are not in the file yet.
struct Written {
    offsets: Vec<u8>,
    text: Vec<u8>,
    /// The first one's row, and where its text begins.
    row: u64,
    end: u64,
}

impl Written {
    fn write(&mut self, part: &ScatteredPart, text_start: u64) -> Result<()> {
        part.write_at(&self.offsets, HEADER_BYTES as u64 + 8 * self.row)?;
        part.write_at(&self.text, text_start + self.end)?;
        self.row += self.offsets.len() as u64 / 8;
        self.end += self.text.len() as u64;
        self.offsets.clear();
        self.text.clear();
        Ok(())
    }
}

/// Reads a unit's string ids and appends their hashes. A row that is left out has an empty id.
fn read_text_ids(
    input: &Input<'_>,
    unit: &Unit<'_>,
    column: &LabelColumn,
    hashes: &mut Vec<u64>,
    mut each: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    for_each_text(unit, column, |row, id| {
        let id = match id {
            _ if !input.keeps(unit.first_input_row() + row) => "",
            Ok(id) => id,
            Err(missing) => return Err(null_id(input, unit, column, row, missing)),
        };
        hashes.push(id_hash(id));
        each(id)
    })
}

/// The ids of a batch whose first row is `first` within the unit.
fn integers(
    input: &Input<'_>,
    unit: &Unit<'_>,
    column: &LabelColumn,
    first: u64,
    labels: &LabelValues,
) -> Result<Vec<i64>> {
    let id = |row: usize| {
        let place = first + row as u64;
        if !input.keeps(unit.first_input_row() + place) {
            return Ok(0);
        }
        let digits = labels.get(row).map_err(|missing| null_id(input, unit, column, place, missing))?;
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
fn null_id(input: &Input<'_>, unit: &Unit<'_>, column: &LabelColumn, row: u64, missing: Missing) -> Error {
    let (flag, noun) = (input.id_flag(), input.noun());
    let error = Error::input("an id is missing")
        .expected(if noun == "rows" { "an id in every row" } else { "an id for every document" })
        .remedy(format!("fill the ids, or name another column with {flag}; {flag} none numbers the {noun}"));
    unit.place(missing_label(error, input, column, missing), &column.name, Some(row))
}

/// Fails if a row and a document have one id, given the sorted hashes of either's: an id in the table of hard negatives
/// has to say which it is.
///
/// # Errors
/// The first such document, with its row.
fn refuse_ids_of_both(import: &Import<'_>, known: &[Vec<u64>]) -> Result<()> {
    let (Some(corpus), [of_rows, of_documents]) = (&import.documents, known) else { return Ok(()) };
    let twice: Vec<u64> =
        of_documents.iter().filter(|hash| of_rows.binary_search(hash).is_ok()).copied().take(IDS_COMPARED).collect();
    if twice.is_empty() {
        return Ok(());
    }
    // Hashes agree: look whether the ids do.
    let mut of_rows = HashMap::<String, u64>::new();
    for_each_id(&import.input, |row, id| {
        if twice.binary_search(&id_hash(id)).is_ok() {
            of_rows.insert(id.to_owned(), row);
        }
        Ok(())
    })?;
    for_each_id(corpus, |document, id| match of_rows.get(id) {
        None => Ok(()),
        Some(row) => Err(Error::input("a row and a document have the same id")
            .path(&corpus.shards.list[0].path)
            .row(document - corpus.first_number)
            .expected("ids that are either a row's or a document's: both stand in the column `negatives`")
            .found(format!("id {id}, also that of row {row} (both are counted through all files)"))
            .remedy(both_remedy([&import.input, corpus].map(|input| input.shards.labels.id.is_some())))),
    })
}

/// What to do about ids of both, where rows, and documents, have a column of ids.
fn both_remedy(have_ids: [bool; 2]) -> &'static str {
    match have_ids {
        [true, false] => "give the documents ids that no row has, or number the rows, too: --id-column none",
        [false, true] => {
            "give the documents ids that are no row's number, or number them behind: --document-id-column none"
        }
        _ => "write ids that tell them apart; or number both: --id-column none --document-id-column none",
    }
}

/// Ids that rows and documents share, of which one is named.
const IDS_COMPARED: usize = 1 << 10;

/// Calls `each(number, id)` for the kept rows or documents; where they have no ids, their numbers are.
fn for_each_id(input: &Input<'_>, mut each: impl FnMut(u64, &str) -> Result<()>) -> Result<()> {
    let number = |row: u64| input.first_number + row;
    let Some(column) = &input.shards.labels.id else {
        return (0..input.rows() as u64).try_for_each(|row| each(number(row), &number(row).to_string()));
    };
    for unit in &input.units {
        for_each_text(unit, column, |row, id| match id.ok() {
            Some(id) if input.keeps(unit.first_input_row() + row) => each(number(unit.first_input_row() + row), id),
            _ => Ok(()),
        })?;
    }
    Ok(())
}

/// Fails if two rows have one id; returns the sorted hashes.
///
/// # Errors
/// The first id (by row) that occurs again, with both rows.
fn refuse_duplicate_ids(input: &Input<'_>, column: &LabelColumn, mut hashes: Vec<u64>) -> Result<Vec<u64>> {
    if input.dropped_rows() > 0 {
        let mut rows = 0u64..;
        hashes.retain(|_| rows.next().is_some_and(|row| input.keeps(row)));
    }
    hashes.par_sort_unstable();
    let mut twice: Vec<u64> = hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    twice.dedup();
    if twice.is_empty() {
        return Ok(hashes);
    }
    let (flag, noun) = (input.id_flag(), input.noun());
    // Hashes agree: look whether the ids do.
    let mut seen = HashMap::<String, (u64, String)>::new();
    for unit in &input.units {
        for_each_text(unit, column, |row, id| {
            let Some(id) = id.ok().filter(|_| input.keeps(unit.first_input_row() + row)) else { return Ok(()) };
            if twice.binary_search(&id_hash(id)).is_err() {
                return Ok(());
            }
            let here = (unit.start + row, unit.shard.path.display().to_string());
            match seen.insert(id.to_owned(), here) {
                None => Ok(()),
                Some((first_row, first_path)) => Err(unit.place(
                    Error::input(format!("two {} have the same id", input.noun()))
                        .expected("each id once")
                        .found(format!("id {id}, also in {first_path}, row {first_row}"))
                        .remedy(format!(
                            "if the column is no id, such as a chunk's document, {flag} none numbers the {noun}; else \
                             drop the repeated ones, or name another column with {flag}"
                        )),
                    &column.name,
                    Some(row),
                )),
            }
        })?;
    }
    Ok(hashes)
}

/// Hash of an id's text.
fn id_hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}
