//! The files with the texts of a run's rows: those that were mined, unchanged, or those given in their place.
//!
//! Only footers are read here.

use std::path::PathBuf;

use arrow::datatypes::Schema;

use crate::error::{Error, Result};
use crate::run::RunReader;
use crate::run::json::differences;
use crate::run::record::{FileIdentity, VectorsFacts, VectorsSettings};
use crate::vectors::{ROWS_MAX, Shard, find, is_npy, open_parquet};

/// The files of a run, or those given in their place, in the input's order.
///
/// # Errors
/// A file is gone or has changed, holds no columns, or the files have another number of rows than the run.
pub(crate) fn open(run: &RunReader, recorded: &VectorsSettings, source: &[String]) -> Result<Vec<Shard>> {
    let mut shards = if source.is_empty() { open_recorded(&recorded.inputs)? } else { given(source)? };
    let mut rows = 0u64;
    for shard in &mut shards {
        shard.first_row = rows;
        rows = rows.saturating_add(shard.rows);
    }
    let expected = run.facts::<VectorsFacts>()?.rows;
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

/// The files that the manifest names, each as it was when it was mined.
fn open_recorded(inputs: &[FileIdentity]) -> Result<Vec<Shard>> {
    let paths: Vec<PathBuf> = inputs.iter().map(|input| PathBuf::from(&input.path)).collect();
    let Some(first) = paths.first() else {
        return Err(Error::runtime("the manifest names no input files").remedy("mine again into a new folder"));
    };
    if paths.iter().any(|path| is_npy(path)) {
        return Err(Error::input("the run was mined from .npy files, which hold no texts")
            .path(first)
            .expected("Parquet files with the texts")
            .found(".npy files")
            .remedy("give Parquet files with the texts, one row for each mined row in the same order, to --source"));
    }
    let gone = |path: &PathBuf| {
        Error::input("a file that was mined is gone")
            .path(path)
            .expected("the input files where they were")
            .found("nothing at this path")
            .remedy("bring it back, or give the files that hold the texts to --source")
    };
    if let Some(path) = paths.iter().find(|path| !path.exists()) {
        return Err(gone(path));
    }
    let shards = open_parquet(&paths)?;
    for (shard, known) in shards.iter().zip(inputs) {
        if shard.identity != *known {
            return Err(Error::input("a file has changed since it was mined")
                .path(&shard.path)
                .expected("the size, time and footer that the run recorded")
                .found(differences(known, &shard.identity).join("; "))
                .remedy("mine again, or give files with the mined rows in the same order to --source"));
        }
    }
    Ok(shards)
}

/// The files that the user gave instead.
fn given(source: &[String]) -> Result<Vec<Shard>> {
    let paths = find(source)?;
    if let Some(path) = paths.iter().find(|path| is_npy(path)) {
        return Err(Error::input("a source file holds no texts")
            .path(path)
            .expected("Parquet files")
            .found("a .npy file, which holds no texts")
            .remedy("give Parquet files with the texts to --source"));
    }
    open_parquet(&paths)
}

/// The columns of a file.
///
/// # Panics
/// The file is no Parquet file: none other comes out of [`open`].
pub(crate) fn schema_of(shard: &Shard) -> &Schema {
    shard.schema().expect("only Parquet files come here")
}
