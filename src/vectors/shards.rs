//! The input as a whole: its files in order, and what they agree on.

use std::path::PathBuf;

use super::columns::resolve;
use super::dimensions::dimensions;
use super::labels::Labels;
use super::npy::open_npy;
use super::parquet::open_parquet;
use super::paths::{find, is_npy};
use super::row::ROWS_MAX;
use super::shape::{Shape, StoreType};
use super::shard::{InputFile, Shard, rows_out_of_range};
use crate::config::Columns;
use crate::error::{Error, Result};
use crate::run::record::Roles;

/// All shards, and what their columns are.
#[derive(Debug, Clone)]
pub struct Shards {
    /// In input order.
    pub(crate) list: Vec<Shard>,
    /// Rows and dimensions of the whole input.
    pub(crate) shape: Shape,
    pub(crate) roles: Roles,
    /// Ids, tasks and keys.
    pub(crate) labels: Labels,
    /// Number type of each side's store.
    pub(crate) store_types: [StoreType; 2],
}

impl Shards {
    /// Finds and maps the input files and compares their columns. Reads footers and headers only, and the first row
    /// of columns whose type does not fix the number of dimensions.
    ///
    /// # Errors
    /// A path or column that is not there, a file that is no Parquet or npy, types or dimensions that
    /// do not fit; labels that cannot be compared.
    pub(crate) fn open(inputs: &[String], columns: &Columns) -> Result<Shards> {
        let shards = Shards::open_unlabelled(inputs, columns)?;
        let labels = Labels::resolve(&shards.list, &shards.roles)?;
        Ok(Shards { labels, ..shards })
    }

    /// Does the same without a look at the labels' types: for those who look at the input, and do not mine it.
    ///
    /// # Errors
    /// See [`Shards::open`].
    pub(crate) fn open_unlabelled(inputs: &[String], columns: &Columns) -> Result<Shards> {
        let mut list = open_files(&find(inputs)?)?;
        let (mut rows, mut files) = (0u64, 0);
        for shard in &mut list {
            (shard.first_row, shard.first_file) = (rows, files);
            files += shard.files.len();
            rows = rows.saturating_add(shard.rows);
        }
        let first = list.first().ok_or_else(|| Error::input("no input is given").remedy("name files or folders"))?;
        if !(1..=ROWS_MAX).contains(&rows) {
            return Err(rows_out_of_range(&first.path, rows, list.len()));
        }
        let roles = resolve(first, columns)?;
        let (dim, store_types) = dimensions(&list, &roles, columns.dtype)?;
        Ok(Shards { list, shape: Shape { rows, dim }, roles, labels: Labels::default(), store_types })
    }

    /// Bytes of all input files.
    pub(crate) fn input_bytes(&self) -> u64 {
        self.files().map(|file| file.identity.bytes).sum()
    }

    /// All files, in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = &InputFile> {
        self.list.iter().flat_map(|shard| &shard.files)
    }
}

fn open_files(paths: &[PathBuf]) -> Result<Vec<Shard>> {
    let npy = paths.iter().filter(|path| is_npy(path)).count();
    match npy {
        0 => open_parquet(paths),
        npy if npy == paths.len() => open_npy(paths),
        _ => Err(Error::input("Parquet and .npy files are mixed")
            .expected("files of one kind")
            .found(format!("{npy} .npy files among {} files", paths.len()))
            .remedy("mine them apart, or convert one kind")),
    }
}
