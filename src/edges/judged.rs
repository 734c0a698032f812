//! Files of judged pairs (`--verdicts`): Parquet tables with a row for each pair.
//!
//! | column | content |
//! |---|---|
//! | `id`, `other_id` | the query's row, and the row or document whose positive was judged |
//! | `label` | whether that positive is a right answer: true or 1, false or 0; null: not judged |
//! | `relevance` | in place of `label`: from 0 to 1, which `--verdict-threshold` divides; null: not judged |
//!
//! Other columns are passed over. Memory: the pairs, and each id once; see [`JudgedFiles::bytes`].

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema};

use crate::config::{Threshold, VerdictRules};
use crate::error::{Error, Result};
use crate::run::mapped::Mapped;
use crate::vectors::{RowId, Vectors, content_hash, guarded_batches, open_table};
use crate::watch::Watch;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8192;
/// Bytes of a pair: its ids' numbers and its verdict, before and after they are known as rows; and an id's entry.
const PAIR_BYTES: u64 = 160;
/// The same for each byte of texts of ids, by the files' footers: a dictionary may be decoded, and is kept once more.
const TEXT_BYTES: u64 = 3;

/// The files of judged pairs that a job names.
#[derive(Debug, Clone)]
pub struct JudgedFiles {
    files: Vec<JudgedFile>,
    threshold: Threshold,
}

#[derive(Debug, Clone)]
struct JudgedFile {
    path: PathBuf,
    /// Of all bytes.
    content: String,
    rows: u64,
    /// Bytes of both columns of ids, decompressed.
    id_bytes: u64,
}

/// A pair that was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JudgedPair {
    pub query: RowId,
    /// A row, or a document.
    pub candidate: RowId,
    /// Whether its positive is a right answer.
    pub positive: bool,
}

/// What the files hold of the rows that are mined.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub pairs: Vec<JudgedPair>,
    /// Pairs without a verdict.
    pub open: u64,
    /// Pairs of which an id is no row's.
    pub unknown: u64,
    /// An id that is no row's.
    pub example: Option<String>,
}

impl JudgedFiles {
    /// Opens the files and reads them through. O(bytes of the files): their content is hashed, too.
    ///
    /// # Errors
    /// A file that is not there or damaged, or has other columns; an id that is missing, or a verdict that is none.
    pub(crate) fn open(rules: &VerdictRules) -> Result<JudgedFiles> {
        let open = |path: &String| JudgedFile::open(Path::new(path), rules.threshold);
        let files = rules.files.iter().map(open).collect::<Result<_>>()?;
        Ok(JudgedFiles { files, threshold: rules.threshold })
    }

    /// Hashes of the files' contents, sorted: their order and places change nothing.
    pub(crate) fn contents(&self) -> Vec<String> {
        let mut contents: Vec<String> = self.files.iter().map(|file| file.content.clone()).collect();
        contents.sort();
        contents.dedup();
        contents
    }

    /// The first file.
    pub(super) fn first(&self) -> &Path {
        self.files.first().map_or(Path::new(""), |file| &file.path)
    }

    /// Bytes of memory that reading all of them takes.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |file: &JudgedFile| file.rows * PAIR_BYTES + file.id_bytes * TEXT_BYTES;
        self.files.iter().map(bytes).sum()
    }

    /// Fails where ids are of another kind than the rows'.
    ///
    /// # Errors
    /// Texts, and the rows have numbers; or the other way round.
    pub(crate) fn refuse_other_ids(&self, are_text: bool) -> Result<()> {
        for file in &self.files {
            let builder = open_table(&file.path, |found| damaged(&file.path, found))?;
            for name in ID_COLUMNS {
                let kind =
                    leaf(builder.schema().field_with_name(name).map_err(|_| missing(&file.path, name))?.data_type());
                if is_text(kind) != are_text {
                    let [wanted, hint] = match are_text {
                        true => ["texts, as the rows' ids are", "write the ids as texts, as `inspect` shows them"],
                        false => [
                            "integers, as the rows' ids are",
                            "write the ids as integers; rows without an id column are numbered from 0",
                        ],
                    };
                    return Err(Error::input("judged pairs have ids of another type than the rows")
                        .path(&file.path)
                        .expected(format!("column {name} of {wanted}"))
                        .found(kind.to_string())
                        .remedy(hint));
                }
            }
        }
        Ok(())
    }

    /// Reads all pairs. O(pairs + rows).
    ///
    /// # Errors
    /// A file was changed since it was opened or cannot be decoded, an id is missing, or a verdict is none.
    pub(crate) fn read(&self, vectors: &Vectors) -> Result<Judged> {
        match vectors.ids.are_text() {
            true => self.read_as(vectors, texts, |row| vectors.ids.text(row).map(str::to_owned)),
            false => self.read_as(vectors, integers, |row| vectors.ids.int(row)),
        }
    }

    /// The same, where ids are of one type.
    fn read_as<I: Hash + Eq + ToString>(
        &self,
        vectors: &Vectors,
        ids_of: impl Fn(&ArrayRef) -> IdsOrFound<I>,
        id_of: impl Fn(u32) -> Option<I>,
    ) -> Result<Judged> {
        // Each id has a number, by which pairs know it until its row is known.
        let mut numbers: HashMap<I, u32> = HashMap::new();
        let mut pairs: Vec<(u32, u32, bool)> = Vec::new();
        let mut judged = Judged::default();
        for file in &self.files {
            file.for_each(self.threshold, &ids_of, |id, other, verdict| {
                let Some(positive) = verdict else {
                    judged.open += 1;
                    return;
                };
                let mut number = |id| {
                    let next = numbers.len() as u32;
                    *numbers.entry(id).or_insert(next)
                };
                pairs.push((number(id), number(other), positive));
            })?;
        }
        let mut rows: Vec<Option<RowId>> = vec![None; numbers.len()];
        for (row, input) in (0..).zip(vectors.rows.input_rows()) {
            if let Some(number) = id_of(*input).and_then(|id| numbers.remove(&id)) {
                rows[number as usize] = Some(row);
            }
        }
        judged.example = numbers.into_iter().min_by_key(|(_, number)| *number).map(|(id, _)| id.to_string());
        for (query, candidate, positive) in pairs {
            match [rows[query as usize], rows[candidate as usize]] {
                [Some(query), Some(candidate)] => judged.pairs.push(JudgedPair { query, candidate, positive }),
                _ => judged.unknown += 1,
            }
        }
        Ok(judged)
    }
}

const ID_COLUMNS: [&str; 2] = ["id", "other_id"];
const LABEL: &str = "label";
const RELEVANCE: &str = "relevance";

impl JudgedFile {
    /// Opens a file and reads it through: what is wrong with it is known before any work.
    fn open(path: &Path, threshold: Threshold) -> Result<JudgedFile> {
        if !path.is_file() {
            return Err(Error::input("a file of judged pairs is not there")
                .path(path)
                .expected("a Parquet file")
                .found(if path.is_dir() { "a folder" } else { "no such file" })
                .remedy("name each file: --verdicts is repeatable"));
        }
        let builder = open_table(path, |found| damaged(path, found))?;
        let metadata = builder.metadata().clone();
        check_columns(path, builder.schema())?;
        let ids = metadata.row_groups().iter().flat_map(|group| group.columns());
        let ids = ids.filter(|chunk| ID_COLUMNS.contains(&chunk.column_path().string().as_str()));
        let kind = builder.schema().field_with_name(ID_COLUMNS[0]).map(|field| is_text(leaf(field.data_type())));
        let file = JudgedFile {
            path: path.to_owned(),
            content: content_of(path)?,
            rows: u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0),
            id_bytes: ids.map(|chunk| u64::try_from(chunk.uncompressed_size()).unwrap_or(0)).sum(),
        };
        match kind {
            Ok(true) => file.for_each(threshold, texts, |_, _, _| ())?,
            _ => file.for_each(threshold, integers, |_, _, _| ())?,
        }
        Ok(file)
    }

    /// Calls `each` with the ids and the verdict of every pair.
    fn for_each<I>(
        &self,
        threshold: Threshold,
        ids_of: impl Fn(&ArrayRef) -> IdsOrFound<I>,
        mut each: impl FnMut(I, I, Option<bool>),
    ) -> Result<()> {
        let path = &self.path;
        if content_of(path)? != self.content {
            return Err(Error::input("a file of judged pairs was changed while the job ran")
                .path(path)
                .expected("the bytes that it had when the job began")
                .found("others")
                .remedy("run the same command again"));
        }
        let builder = open_table(path, |found| damaged(path, found))?.with_batch_size(BATCH_ROWS);
        let mut first = 0;
        for batch in guarded_batches(path, builder).map_err(|found| damaged(path, found))? {
            let batch = batch.map_err(|found| damaged(path, found))?;
            let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(path, name));
            let [ids, others] = [column(ID_COLUMNS[0])?, column(ID_COLUMNS[1])?];
            let [ids, others] = [ids_of(ids), ids_of(others)].map(|ids| ids.map_err(|found| damaged(path, found)));
            let verdicts = verdicts_of(&batch, threshold).map_err(|found| damaged(path, found))?;
            for (index, ((id, other), verdict)) in ids?.into_iter().zip(others?).zip(verdicts).enumerate() {
                let row = first + index as u64;
                let wrong = |what: &str, expected: &str, found: String| {
                    Err(Error::input(what)
                        .path(path)
                        .row(row)
                        .expected(expected)
                        .found(found)
                        .remedy("mend or leave out the row: a null verdict says that a pair was not judged"))
                };
                let verdict = match verdict {
                    Ok(verdict) => verdict,
                    Err(found) => {
                        let expected = "label: true, false, 1, 0 or null; relevance: from 0 to 1, or null";
                        return wrong("a verdict is none", expected, found);
                    }
                };
                match (id, other) {
                    (Ok(Some(id)), Ok(Some(other))) => each(id, other, verdict),
                    (Err(found), _) | (_, Err(found)) => return wrong("an id is none", "whole numbers", found),
                    _ => return wrong("a judged pair has no id", "id and other_id", "null".into()),
                }
            }
            first += batch.num_rows() as u64;
        }
        Ok(())
    }
}

fn content_of(path: &Path) -> Result<String> {
    content_hash(Mapped::open(path)?.bytes(), Watch::silent())
}

fn damaged(path: &Path, found: String) -> Error {
    Error::input("a file of judged pairs cannot be read")
        .path(path)
        .expected("a Parquet file")
        .found(found)
        .remedy("write it again; `batchmine candidates` writes such files, without verdicts")
}

fn missing(path: &Path, name: &str) -> Error {
    Error::input("a file of judged pairs lacks a column")
        .path(path)
        .expected("columns id, other_id, and label or relevance")
        .found(format!("no column {name}"))
        .remedy("`batchmine candidates` writes pairs with their ids; add label, or relevance from 0 to 1")
}

/// The type of a column's values, whether or not they are in a dictionary.
fn leaf(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Fails where a column is not there, or of a type that it cannot have.
fn check_columns(path: &Path, schema: &Schema) -> Result<()> {
    let kind = |name: &str| schema.field_with_name(name).ok().map(|field| leaf(field.data_type()));
    let wrong = |name: &str, expected: &str, found: &DataType| {
        Err(Error::input("a column of judged pairs has a type that it cannot have")
            .path(path)
            .expected(format!("{name}: {expected}"))
            .found(found.to_string())
            .remedy("write the column anew"))
    };
    for name in ID_COLUMNS {
        match kind(name) {
            None => return Err(missing(path, name)),
            Some(found) if is_text(found) || found.is_integer() || *found == DataType::Float64 => {}
            Some(found) => return wrong(name, "integers or texts", found),
        }
    }
    let number = |found: &DataType| found.is_integer() || found.is_floating();
    match [kind(LABEL), kind(RELEVANCE)] {
        [None, None] => Err(missing(path, "label or relevance")),
        [Some(_), Some(_)] => Err(Error::input("a file of judged pairs has two columns of verdicts")
            .path(path)
            .expected("label, or relevance")
            .found("both")
            .remedy("leave out one of them")),
        // A column of nulls only: nothing is judged yet.
        [Some(DataType::Boolean | DataType::Null), None] | [None, Some(DataType::Null)] => Ok(()),
        [Some(found), None] if !number(found) => wrong(LABEL, "truth values, or numbers 0 and 1", found),
        [None, Some(found)] if !number(found) => wrong(RELEVANCE, "numbers from 0 to 1", found),
        _ => Ok(()),
    }
}

const CHECKED: CastOptions<'_> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

fn converted(array: &ArrayRef, kind: &DataType) -> std::result::Result<ArrayRef, String> {
    cast_with_options(array, kind, &CHECKED).map_err(|e| e.to_string())
}

/// The ids of a column, or what stands in the place of one; or what is wrong with the column.
type IdsOrFound<I> = std::result::Result<Vec<std::result::Result<Option<I>, String>>, String>;

fn texts(array: &ArrayRef) -> IdsOrFound<String> {
    let found = converted(array, &DataType::Utf8)?;
    Ok(found.as_string::<i32>().iter().map(|id| Ok(id.map(str::to_owned))).collect())
}

/// Integers; floats beside them are what pandas makes of integers with holes.
fn integers(array: &ArrayRef) -> IdsOrFound<i64> {
    if leaf(array.data_type()).is_floating() {
        let found = converted(array, &DataType::Float64)?;
        let whole = |id: f64| match id.fract() == 0.0 && id.abs() < 9.007_199_254_740_992e15 {
            true => Ok(id as i64),
            false => Err(format!("id {id}, which is no integer")),
        };
        return Ok(found.as_primitive::<Float64Type>().iter().map(|id| id.map(whole).transpose()).collect());
    }
    let found = converted(array, &DataType::Int64)?;
    Ok(found.as_primitive::<Int64Type>().iter().map(Ok).collect())
}

type VerdictOrFound = std::result::Result<Option<bool>, String>;

/// The verdict of each row, or what stands in its place.
fn verdicts_of(batch: &RecordBatch, threshold: Threshold) -> std::result::Result<Vec<VerdictOrFound>, String> {
    let judge = |relevance: f64| match (0.0..=1.0).contains(&relevance) {
        true => Ok(threshold.judge(relevance)),
        false => Err(format!("relevance {relevance}")),
    };
    let label = |label: f64| match label {
        0.0 => Ok(Some(false)),
        1.0 => Ok(Some(true)),
        other => Err(format!("label {other}")),
    };
    let (array, of): (_, &dyn Fn(f64) -> VerdictOrFound) = match batch.column_by_name(LABEL) {
        Some(labels) => (labels, &label),
        None => (batch.column_by_name(RELEVANCE).ok_or("no verdicts")?, &judge),
    };
    let numbers = converted(array, &DataType::Float64)?;
    Ok(numbers.as_primitive::<Float64Type>().iter().map(|number| number.map_or(Ok(None), of)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float32Array, Float64Array, Int8Array, NullArray};
    use arrow::datatypes::Field;

    use super::*;

    fn judged(name: &str, array: ArrayRef, threshold: &str) -> Vec<VerdictOrFound> {
        let schema = Arc::new(Schema::new(vec![Field::new(name, array.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
        verdicts_of(&batch, threshold.parse().unwrap()).unwrap()
    }

    #[test]
    fn labels_and_relevances_are_verdicts() {
        let (yes, no, open) = (Ok(Some(true)), Ok(Some(false)), Ok(None));
        let all = [yes.clone(), no.clone(), open.clone()];
        let truth = Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]));
        assert_eq!(judged(LABEL, truth, "0.5"), all);
        assert_eq!(judged(LABEL, Arc::new(Int8Array::from(vec![Some(1), Some(0), None])), "0.5"), all);
        assert_eq!(judged(LABEL, Arc::new(Float64Array::from(vec![Some(1.0), Some(0.0), None])), "0.5"), all);
        assert_eq!(judged(LABEL, Arc::new(NullArray::new(2)), "0.5"), [open.clone(), open.clone()]);
        let some = Arc::new(Float32Array::from(vec![Some(0.9), Some(0.2), Some(0.5), None]));
        assert_eq!(judged(RELEVANCE, some, "0.25..0.75"), [yes, no, open.clone(), open]);
        assert!(judged(LABEL, Arc::new(Int8Array::from(vec![2])), "0.5")[0].is_err());
        for wrong in [1.5, -0.1, f64::NAN] {
            assert!(judged(RELEVANCE, Arc::new(Float64Array::from(vec![wrong])), "0.5")[0].is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_that_are_no_integers_are_none() {
        let floats = |values: Vec<Option<f64>>| integers(&(Arc::new(Float64Array::from(values)) as ArrayRef));
        assert_eq!(floats(vec![Some(3.0), None]), Ok(vec![Ok(Some(3)), Ok(None)]));
        for wrong in [1.5, f64::NAN, f64::INFINITY, 1e300] {
            assert!(floats(vec![Some(wrong)]).unwrap()[0].is_err(), "{wrong}");
        }
    }
}
