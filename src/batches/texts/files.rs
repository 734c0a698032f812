//! The files with the texts of a run's rows: those that were mined, unchanged, or those given in their place.
//!
//! Only footers are read here.

use std::path::{Path, PathBuf};

use arrow::datatypes::Schema;
use indicatif::HumanCount;

use crate::error::{Error, Result};
use crate::run::RunReader;
use crate::run::record::{VectorsFacts, VectorsSettings};
use crate::vectors::{FileKind, ROWS_MAX, Shard, find, is_same, kind_of, open_file};

/// The files of a run, or those given in their place, in the input's order.
///
/// # Errors
/// A file is gone or has changed, holds no columns, or the files have another number of rows than the run.
pub(crate) fn open(run: &RunReader, recorded: &VectorsSettings, source: &[String]) -> Result<Vec<Shard>> {
    let mut shards = if source.is_empty() { open_recorded(run, recorded)? } else { given(source)? };
    let mut rows = 0u64;
    for shard in &mut shards {
        shard.first_row = rows;
        rows = rows.saturating_add(shard.rows);
    }
    let facts: VectorsFacts = run.facts()?;
    // Rows that were left out are among those of the files.
    let expected = facts.rows + facts.bad_rows_dropped;
    if rows == expected && rows <= ROWS_MAX && !shards.is_empty() {
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

/// The files where the manifest saw them last, each with the content that was mined. Those that were written or moved
/// meanwhile are hashed.
fn open_recorded(run: &RunReader, recorded: &VectorsSettings) -> Result<Vec<Shard>> {
    let places = &run.manifest().inputs;
    let paths: Vec<PathBuf> = places.iter().map(|place| PathBuf::from(&place.path)).collect();
    if paths.is_empty() {
        return Err(Error::runtime("the manifest names no input files").remedy("mine again into a new folder"));
    }
    if let Some(path) = paths.iter().find(|path| !path.exists()) {
        return Err(Error::input("a file that was mined is gone")
            .path(path)
            .expected("the input files where they were")
            .found("nothing at this path")
            .remedy(
                "bring it back, or repeat the `mine` command with its new place: it finds the same content and mines \
                 nothing. Or give the files that hold the texts to --source",
            ));
    }
    let shards = paths.iter().map(|path| open_columns(path, kind_of(path)?)).collect::<Result<Vec<_>>>()?;
    for ((shard, identity), place) in shards.iter().zip(&recorded.inputs).zip(places) {
        let (file, bytes) = (&shard.files[0], shard.contents()[0]);
        if !is_same((identity, place), (&file.identity, &file.place), bytes)? {
            return Err(Error::input("a file has changed since it was mined")
                .path(&shard.path)
                .expected(format!("the {} bytes that were mined", HumanCount(identity.bytes)))
                .found(format!("{} bytes, with another content", HumanCount(file.identity.bytes)))
                .remedy("mine again, or give files with the mined rows in the same order to --source"));
        }
    }
    Ok(shards)
}

/// The files that the user gave instead.
fn given(source: &[String]) -> Result<Vec<Shard>> {
    find(source)?.iter().map(|file| open_columns(&file.path, file.kind)).collect()
}

/// A file that has columns.
fn open_columns(path: &Path, kind: FileKind) -> Result<Shard> {
    match kind {
        FileKind::Npy => Err(Error::input("texts are not read from .npy files, which hold no texts")
            .path(path)
            .expected("Parquet or Arrow files with the texts")
            .found("a .npy file")
            .remedy("give files with the texts, one row for each mined row in the same order, to --source")),
        kind => open_file(path, kind),
    }
}

/// The columns of a file.
///
/// # Panics
/// The file is a `.npy` file: none comes out of [`open`].
pub(crate) fn schema_of(shard: &Shard) -> &Schema {
    shard.file_schema().expect("only files with columns come here")
}
