//! Files of a batch table: what made them, their columns, and which rows, epochs and batches they hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::line::one_line;
use crate::error::{Error, Result};
use crate::regular::text_of;
use crate::vectors::{Shard, Source, Unit, open_files};

/// Rows that are decoded at a time.
const CHUNK_ROWS: usize = 8192;
/// The footer's key that every file of a batch table has.
const VERSION_KEY: &str = "batchmine.version";

/// Files of a batch table, in the order of their names.
#[derive(Debug, Serialize)]
pub(crate) struct BatchTableFiles {
    path: PathBuf,
    rows: u64,
    bytes: u64,
    files: Vec<TablePart>,
}

/// One file of a batch table.
#[derive(Debug, Serialize)]
struct TablePart {
    path: PathBuf,
    rows: u64,
    row_groups: usize,
    bytes: u64,
    /// Key-values of the footer, without those of the Arrow library.
    footer: BTreeMap<String, String>,
    columns: Vec<TableColumn>,
    epochs: Vec<EpochRows>,
}

#[derive(Debug, Serialize)]
struct TableColumn {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    nullable: bool,
}

/// What a file has of one epoch.
#[derive(Debug, Serialize)]
struct EpochRows {
    epoch: i32,
    rows: u64,
    batches: u64,
    first_batch: i64,
    last_batch: i64,
    /// Rows of the smallest batch, and of the largest one.
    batch_rows: [u64; 2],
}

impl BatchTableFiles {
    /// Reads the footers, and two columns, of files of a batch table; `None` where the first file is none.
    ///
    /// # Errors
    /// There are no files, or one is damaged or no file of a batch table.
    pub(crate) fn read(path: &Path) -> Result<Option<BatchTableFiles>> {
        let shards = open_files(&vec![text_of(path)?.to_owned()].into())?;
        if shards.first().is_none_or(|shard| !footer_of(shard).contains_key(VERSION_KEY)) {
            return Ok(None);
        }
        let files = shards.iter().map(part).collect::<Result<Vec<_>>>()?;
        Ok(Some(BatchTableFiles {
            path: path.to_owned(),
            rows: files.iter().map(|file| file.rows).sum(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
        }))
    }

    pub(crate) fn text(&self) -> String {
        let mut lines = vec![format!(
            "batch table: {} rows in {} files, {}",
            HumanCount(self.rows),
            self.files.len(),
            HumanBytes(self.bytes)
        )];
        for file in &self.files {
            let groups = file.row_groups;
            lines.push(format!("{}: {} rows in {groups} row groups", file.path.display(), HumanCount(file.rows)));
            lines.extend(file.epochs.iter().map(|epoch| {
                let [least, most] = epoch.batch_rows;
                format!(
                    "  epoch {}: {} rows in {} batches of {least} to {most} rows, batch_id {} to {}",
                    epoch.epoch,
                    HumanCount(epoch.rows),
                    HumanCount(epoch.batches),
                    epoch.first_batch,
                    epoch.last_batch
                )
            }));
        }
        if let Some(first) = self.files.first() {
            lines.push("columns of the first file:".into());
            lines.extend(first.columns.iter().map(|column| {
                let nulls = if column.nullable { ", nullable" } else { "" };
                format!("  {:<16} {}{nulls}", column.name, column.kind)
            }));
            lines.push("footer of the first file:".into());
            lines.extend(first.footer.iter().map(|(key, value)| format!("  {key}: {}", one_line(value, 200))));
        }
        lines.join("\n")
    }
}

fn footer_of(shard: &Shard) -> BTreeMap<String, String> {
    let Source::Parquet { metadata, .. } = &shard.source else { return BTreeMap::new() };
    let file = metadata.metadata().file_metadata();
    let pairs = file.key_value_metadata().into_iter().flatten();
    let pairs = pairs.filter(|pair| !pair.key.starts_with("ARROW:"));
    let mut footer: BTreeMap<String, String> =
        pairs.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default())).collect();
    footer.extend(file.created_by().map(|writer| ("created_by".to_owned(), writer.to_owned())));
    footer
}

fn part(shard: &Shard) -> Result<TablePart> {
    let not_one = |found: String| {
        Error::input("not a file of a batch table")
            .path(&shard.path)
            .expected("the columns epoch (int32) and batch_id (int64)")
            .found(found)
            .remedy("name files of one kind; `batchmine verify RUN` checks the batch table of a run")
    };
    let schema = shard.schema().ok_or_else(|| not_one("a .npy file".into()))?;
    let columns: Vec<TableColumn> = schema
        .fields()
        .iter()
        .map(|field| TableColumn {
            name: field.name().clone(),
            kind: field.data_type().to_string(),
            nullable: field.is_nullable(),
        })
        .collect();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    if ["epoch", "batch_id"].iter().any(|name| !names.contains(name)) {
        return Err(not_one(format!("columns {}", names.join(", "))));
    }
    let units = Unit::all(std::slice::from_ref(shard));
    let mut counting = Counting::default();
    for unit in &units {
        unit.for_each_batch(&["epoch", "batch_id"], CHUNK_ROWS, |_, arrays| {
            let epochs = arrays[0].as_primitive_opt::<Int32Type>().filter(|epochs| epochs.null_count() == 0);
            let batches = arrays[1].as_primitive_opt::<Int64Type>().filter(|batches| batches.null_count() == 0);
            let (Some(epochs), Some(batches)) = (epochs, batches) else {
                return Err(not_one(format!("{} and {}, or nulls", arrays[0].data_type(), arrays[1].data_type())));
            };
            epochs.values().iter().zip(batches.values()).for_each(|(epoch, batch)| counting.take(*epoch, *batch));
            Ok(())
        })?;
    }
    Ok(TablePart {
        path: shard.path.clone(),
        rows: shard.rows,
        row_groups: units.len(),
        bytes: shard.input_bytes(),
        footer: footer_of(shard),
        columns,
        epochs: counting.finish(),
    })
}

/// Counts rows that are sorted by epoch and batch. Rows in another order make more batches of them.
#[derive(Debug, Default)]
struct Counting {
    epochs: Vec<EpochRows>,
    /// Rows of the batch that is being counted.
    open_rows: u64,
}

impl Counting {
    fn take(&mut self, epoch: i32, batch: i64) {
        let same = self.epochs.last().is_some_and(|last| (last.epoch, last.last_batch) == (epoch, batch));
        if !same {
            self.end_batch();
        }
        if self.epochs.last().is_none_or(|last| last.epoch != epoch) {
            let [first_batch, last_batch] = [batch; 2];
            let batch_rows = [u64::MAX, 0];
            self.epochs.push(EpochRows { epoch, rows: 0, batches: 0, first_batch, last_batch, batch_rows });
        }
        if let Some(last) = self.epochs.last_mut() {
            last.rows += 1;
            last.last_batch = batch;
        }
        self.open_rows += 1;
    }

    fn end_batch(&mut self) {
        let rows = std::mem::take(&mut self.open_rows);
        if let Some(last) = self.epochs.last_mut().filter(|_| rows > 0) {
            last.batches += 1;
            last.batch_rows = [last.batch_rows[0].min(rows), last.batch_rows[1].max(rows)];
        }
    }

    fn finish(mut self) -> Vec<EpochRows> {
        self.end_batch();
        self.epochs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_by_epoch_and_batch() {
        let mut counting = Counting::default();
        for (epoch, batch) in [(0, 5), (0, 5), (0, 6), (1, 7), (1, 7), (1, 7)] {
            counting.take(epoch, batch);
        }
        let found = counting.finish();
        let counts: Vec<_> = found.iter().map(|e| (e.epoch, e.rows, e.batches, e.first_batch, e.last_batch)).collect();
        assert_eq!(counts, [(0, 3, 2, 5, 6), (1, 3, 1, 7, 7)]);
        assert_eq!(found.iter().map(|e| e.batch_rows).collect::<Vec<_>>(), [[1, 2], [3, 3]]);
        assert!(Counting::default().finish().is_empty());
    }
}
