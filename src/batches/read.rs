//! Reading the batch table of a finished run.
//!
//! Memory: a record batch; the files are mapped, and compared with their hashes, once a process.

use std::path::{Path, PathBuf};

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::run::record::BatchesSettings;
use crate::run::{RunReader, Stage};
use crate::vectors::{GuardedBatches, guarded_batches, open_table};

/// Rows of a record batch.
const CHUNK_ROWS: usize = 8192;

/// The files of an epoch of a finished run, in the order of its batches.
///
/// # Errors
/// The run is not finished, has no such epoch, or a file is not what was written.
pub(crate) fn epoch_files(run: &RunReader, epoch: u32) -> Result<Vec<PathBuf>> {
    let record = run.stage(Stage::Batches)?;
    if !run.succeeded() {
        return Err(Error::input("the run is not finished")
            .path(run.folder())
            .expected("a _SUCCESS in the run folder")
            .found("none: the job was interrupted or is under way")
            .remedy("run the `mine` command again to finish it"));
    }
    let epochs = run.settings::<BatchesSettings>()?.epochs;
    if epoch >= epochs {
        return Err(Error::input("the run has no such epoch")
            .path(run.folder())
            .expected(format!("--epoch from 0 to {}", epochs.saturating_sub(1)))
            .found(format!("--epoch {epoch}"))
            .remedy("leave --epoch out for the first one"));
    }
    let (folder, prefix) = (run.stage_folder(Stage::Batches), format!("part-{epoch:05}-"));
    let names: Vec<&String> = record.parts.keys().filter(|name| name.starts_with(&prefix)).collect();
    if names.is_empty() {
        return Err(Error::input("the epoch has no batches")
            .path(&folder)
            .expected("batches")
            .found("no row in any: --remainder drop, or the tasks' weights, left all of them out")
            .remedy("read another epoch; or mine with a smaller --batch-size, another --remainder, or other weights"));
    }
    names.into_iter().map(|name| run.part(Stage::Batches, name)).collect()
}

/// The rows of the batch table in their order, by epoch, batch and position. Behind the first error nothing comes.
pub struct BatchReader {
    schema: SchemaRef,
    files: std::vec::IntoIter<PathBuf>,
    /// The file under way.
    current: Option<(PathBuf, GuardedBatches)>,
}

impl BatchReader {
    /// Opens the table of a finished run: of one epoch, or of all.
    ///
    /// # Errors
    /// The run is not finished, has no such epoch, or a file is not what was written.
    pub fn open(run: &RunReader, epoch: Option<u32>) -> Result<BatchReader> {
        let epochs = match epoch {
            Some(epoch) => epoch..epoch.saturating_add(1),
            None => 0..run.settings::<BatchesSettings>()?.epochs,
        };
        let files = epochs.map(|epoch| epoch_files(run, epoch)).collect::<Result<Vec<_>>>()?.concat();
        let first = files.first().ok_or_else(|| unreadable(run.folder(), "a run of no epoch".into()))?;
        let schema = open_table(first, |found| unreadable(first, found))?.schema().clone();
        Ok(BatchReader { schema, files: files.into_iter(), current: None })
    }

    /// The columns (docs/table.md).
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next record batch of the file under way, or of the next one that has any.
    fn read(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some((path, batches)) = &mut self.current
                && let Some(batch) = batches.next()
            {
                return batch.map(Some).map_err(|found| unreadable(path, found));
            }
            let Some(path) = self.files.next() else { return Ok(None) };
            let builder = open_table(&path, |found| unreadable(&path, found))?.with_batch_size(CHUNK_ROWS);
            let batches = guarded_batches(&path, builder).map_err(|found| unreadable(&path, found))?;
            self.current = Some((path, batches));
        }
    }
}

impl Iterator for BatchReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        let read = self.read();
        if read.is_err() {
            (self.files, self.current) = (Vec::new().into_iter(), None);
        }
        read.transpose()
    }
}

/// The batches of an epoch as rows of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchRows {
    /// Of each batch the first of its rows in `rows`, and behind the last one their number.
    pub starts: Vec<u64>,
    /// Rows of the input, from 0, batch after batch.
    pub rows: Vec<u64>,
}

impl BatchRows {
    /// Reads the batches of an epoch. Memory: 8 bytes a row and 8 a batch.
    ///
    /// # Errors
    /// See [`BatchReader::open`]; or a file has other columns.
    pub fn read(run: &RunReader, epoch: u32) -> Result<BatchRows> {
        let (mut found, mut last) = (BatchRows::default(), None);
        for batch in BatchReader::open(run, Some(epoch))? {
            let batch = batch?;
            let numbers = |name: &str| {
                let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<Int64Array>());
                let whole = column.filter(|column| column.null_count() == 0);
                whole.ok_or_else(|| unreadable(run.folder(), format!("no column {name} of whole numbers")))
            };
            for (number, row) in numbers("batch_id")?.values().iter().zip(numbers("row")?.values()) {
                if last.replace(*number) != Some(*number) {
                    found.starts.push(found.rows.len() as u64);
                }
                found.rows.push(row.cast_unsigned());
            }
        }
        found.starts.push(found.rows.len() as u64);
        Ok(found)
    }
}

/// The error of a file of a run's batch table that cannot be read.
pub(crate) fn unreadable(path: &Path, found: String) -> Error {
    Error::runtime("a batch table cannot be read")
        .path(path)
        .found(found)
        .remedy("delete it and run the same `mine` command again")
}
