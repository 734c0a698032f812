//! The files with the texts of a run's rows: those that were mined, unchanged, or those given in their place.
//!
//! Only footers are read here.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, Schema};
use arrow::util::display::array_value_to_string;
use indicatif::HumanCount;

use crate::batches::read::BatchReader;
use crate::error::{Error, Result};
use crate::objects::is_url;
use crate::run::record::{FileIdentity, VectorsFacts, VectorsSettings};
use crate::run::{RunReader, STREAM};
use crate::vectors::{FileKind, IN_MEMORY, InputFile, ROWS_MAX, Shard, Unit, find, is_same, open_file, recorded_file};

/// The flags that name files in place of the rows', and of the corpus'.
pub(crate) const SOURCE: &str = "--source";
pub(crate) const CORPUS_SOURCE: &str = "--corpus-source";
/// Rows whose ids are compared.
const SAMPLE_ROWS: usize = 1024;

/// The files of a run, or those given in their place, in the input's order.
///
/// # Errors
/// A file is gone or has changed, holds no columns, or the files have another number of rows than the run.
pub(crate) fn open(run: &RunReader, recorded: &VectorsSettings, source: &[String]) -> Result<Vec<Shard>> {
    let of_rows = 0..files_of_rows(recorded);
    let mut shards =
        if source.is_empty() { open_recorded(run, recorded, of_rows, SOURCE)? } else { given(source, SOURCE)? };
    let rows = number(&mut shards, 0);
    let facts: VectorsFacts = run.facts()?;
    // Rows that were left out are among those of the files.
    let expected = facts.rows + facts.bad_rows_dropped;
    if rows == expected && rows <= ROWS_MAX && !shards.is_empty() {
        if !source.is_empty() {
            refuse_other_ids(run, recorded, &shards)?;
        }
        return Ok(shards);
    }
    let error = Error::input("the sources do not have the run's rows")
        .expected(format!("{expected} rows, one for each row that was mined, in the same order"))
        .found(format!("{rows} rows in {} files", shards.len()))
        .remedy("give the files that hold the texts of exactly the mined rows to --source");
    Err(match shards.first() {
        Some(first) => error.path(&first.path),
        None => error,
    })
}

/// How many of the recorded files are the rows': those of a corpus follow.
fn files_of_rows(recorded: &VectorsSettings) -> usize {
    recorded.inputs.len().saturating_sub(recorded.corpus.as_ref().map_or(0, |corpus| corpus.files))
}

/// Numbers the rows of some files, the first one being `first`; returns how many there are.
fn number(shards: &mut [Shard], first: u64) -> u64 {
    let mut rows = 0u64;
    for shard in shards {
        shard.first_row = first.saturating_add(rows);
        rows = rows.saturating_add(shard.rows);
    }
    rows
}

/// The files of a run's corpus, or those given in their place, in order; their rows are numbered behind the run's.
///
/// # Errors
/// As of [`open`]; or there is no corpus.
pub(crate) fn open_corpus(run: &RunReader, recorded: &VectorsSettings, source: &[String]) -> Result<Vec<Shard>> {
    let facts: VectorsFacts = run.facts()?;
    let (Some(corpus), Some(found)) = (&recorded.corpus, facts.corpus) else {
        return Err(Error::input("the run has no corpus")
            .path(run.folder())
            .expected("a run that was mined with --corpus")
            .found("one without")
            .remedy("leave --document-text and --corpus-source out"));
    };
    let (end, start) = (recorded.inputs.len(), files_of_rows(recorded));
    debug_assert_eq!(end - start, corpus.files);
    let mut shards = if source.is_empty() {
        open_recorded(run, recorded, start..end, CORPUS_SOURCE)?
    } else {
        given(source, CORPUS_SOURCE)?
    };
    let documents = number(&mut shards, facts.rows + facts.bad_rows_dropped);
    let expected = found.documents + found.bad_dropped + found.of_other_tasks;
    if documents == expected && !shards.is_empty() {
        return Ok(shards);
    }
    let error = Error::input("the files do not have the corpus' documents")
        .expected(format!("{expected} documents, those that were given to --corpus, in the same order"))
        .found(format!("{documents} rows in {} files", shards.len()))
        .remedy("give the files that hold the texts of exactly these documents to --corpus-source");
    Err(match shards.first() {
        Some(first) => error.path(&first.path),
        None => error,
    })
}

/// The files of a range where the manifest saw them last, each with the content that was mined. Those that were written
/// or moved meanwhile are hashed.
fn open_recorded(run: &RunReader, recorded: &VectorsSettings, range: Range<usize>, flag: &str) -> Result<Vec<Shard>> {
    let places = run.manifest().inputs.get(range.clone()).unwrap_or_default();
    let identities = recorded.inputs.get(range).unwrap_or_default();
    let roles = match (&recorded.corpus, flag) {
        (Some(corpus), CORPUS_SOURCE) => &corpus.columns,
        _ => &recorded.columns,
    };
    let paths: Vec<PathBuf> = places.iter().map(|place| PathBuf::from(&place.path)).collect();
    if paths.is_empty() {
        return Err(Error::runtime("the manifest names no input files").remedy("mine again into a new folder"));
    }
    if let Some(path) = paths.iter().find(|path| is_in_no_file(path)) {
        return Err(Error::input("the mined rows have no texts: they came as arrays, or as a stream")
            .path(path)
            .expected("files with the texts")
            .found("rows that are in no file")
            .remedy(format!(
                "give Parquet files with the texts of the mined rows, in their order, to {flag} ({}= in Python)",
                flag.trim_start_matches('-').replace('-', "_")
            )));
    }
    let is_gone = |path: &&PathBuf| !path.exists() && !path.to_str().is_some_and(is_url);
    if let Some(path) = paths.iter().find(is_gone) {
        return Err(Error::input("a file that was mined is gone")
            .path(path)
            .expected("the input files where they were")
            .found("nothing at this path")
            .remedy(format!(
                "bring it back, or repeat the `mine` command with its new place: it finds the same content and mines \
                 nothing. Or give the files that hold the texts to {flag}"
            )));
    }
    let mut shards = paths.iter().map(|path| open_columns(&recorded_file(path)?, flag)).collect::<Result<Vec<_>>>()?;
    shards.iter_mut().for_each(|shard| shard.use_columns(roles));
    for ((shard, identity), place) in shards.iter().zip(identities).zip(places) {
        let (file, content) = (&shard.files[0], shard.contents().remove(0));
        // Columns of the path are labels, and no part of the texts.
        let own = FileIdentity { path_columns: identity.path_columns.clone(), ..file.identity.clone() };
        if !is_same((identity, place), (&own, &file.place), content)? {
            return Err(Error::input("a file has changed since it was mined")
                .path(&shard.path)
                .expected(format!("the {} bytes that were mined", HumanCount(identity.bytes)))
                .found(format!("{} bytes, with another content", HumanCount(file.identity.bytes)))
                .remedy(format!("mine again, or give files with the mined rows in the same order to {flag}")));
        }
    }
    Ok(shards)
}

/// Whether a recorded place is none that a user has: rows came from memory, or from a stream's temporary file.
fn is_in_no_file(path: &Path) -> bool {
    path.starts_with(IN_MEMORY) || (path.ends_with(STREAM) && !path.exists())
}

/// Fails where files have other ids than the mined rows, or the same in another order. The first rows of the first
/// epoch, which are random, are compared. Files without the column of ids are taken at their word.
fn refuse_other_ids(run: &RunReader, recorded: &VectorsSettings, shards: &[Shard]) -> Result<()> {
    let Some(column) = &recorded.columns.id else { return Ok(()) };
    let Some(batch) = BatchReader::open(run, Some(0))?.next().transpose()? else { return Ok(()) };
    let batch = batch.slice(0, batch.num_rows().min(SAMPLE_ROWS));
    let (Some(rows), Some(ids)) = (batch.column_by_name("row"), batch.column_by_name("id")) else { return Ok(()) };
    let rows = rows.as_primitive::<Int64Type>();
    let mut wanted: Vec<(u64, usize)> = rows.values().iter().map(|row| *row as u64).zip(0..).collect();
    wanted.sort_unstable();
    for unit in Unit::all(shards) {
        let (first, end) = (unit.first_input_row(), unit.first_input_row() + unit.rows);
        let own: Vec<&(u64, usize)> = wanted.iter().filter(|(row, _)| (first..end).contains(row)).collect();
        let has_ids = unit.shard.file_schema().is_some_and(|schema| schema.field_with_name(column).is_ok());
        if own.is_empty() || !has_ids {
            continue;
        }
        let within: Vec<u64> = own.iter().map(|(row, _)| row - first).collect();
        let Ok(given) = cast(&unit.some_rows(&[column], &within)?[0], ids.data_type()) else { continue };
        for (at, (row, place)) in own.iter().enumerate() {
            // What cannot be cast to the type of the run's ids says nothing.
            if given.is_null(at) || given.slice(at, 1) == ids.slice(*place, 1) {
                continue;
            }
            let text = |array: &ArrayRef, at: usize| array_value_to_string(array, at).unwrap_or_default();
            return Err(Error::input("the sources have other rows than the run, or the same in another order")
                .path(&unit.shard.path)
                .column(column)
                .row(row - first)
                .expected(format!("the id {} of the mined row {row}", text(ids, *place)))
                .found(text(&given, at))
                .remedy("give the files with the texts in the order of the mined rows"));
        }
    }
    Ok(())
}

/// The files that the user gave instead.
fn given(source: &[String], flag: &str) -> Result<Vec<Shard>> {
    find(source)?.iter().map(|file| open_columns(file, flag)).collect()
}

/// A file that has columns.
fn open_columns(file: &InputFile, flag: &str) -> Result<Shard> {
    match file.kind {
        FileKind::Npy => Err(Error::input("texts are not read from .npy files, which hold no texts")
            .path(&file.path)
            .expected("Parquet or Arrow files with the texts")
            .found("a .npy file")
            .remedy(format!("give files with the texts, one row for each mined one in the same order, to {flag}"))),
        _ => open_file(file),
    }
}

/// The columns of a file.
///
/// # Panics
/// The file is a `.npy` file: none comes out of [`open`].
pub(crate) fn schema_of(shard: &Shard) -> &Schema {
    shard.file_schema().expect("only files with columns come here")
}
