//! A batch table divided by task, as Hive does: a folder `task=NAME` for each task, and files without that column.
//!
//! The table is read from front to back once for each group of tasks whose open files fit the budget
//! ([`BatchesCounts::open_bytes`]). Rows keep their order.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::errors::ParquetError;

use super::upload::LocalFile;
use crate::batches::budget::BatchesCounts;
use crate::batches::read::unreadable;
use crate::batches::table;
use crate::error::{Error, Result};
use crate::run::sealed::PartWriter;
use crate::run::{Run, Stage};
use crate::vectors::{guarded_batches, open_table, read_metadata};

const TASK: &str = "task";
/// Rows decoded at a time.
const READ_ROWS: usize = 8192;
/// Files open at once: systems have a limit, often of 256 or 1,024.
const OPEN_FILES_MAX: usize = 128;
/// Longest name of a folder.
const NAME_BYTES_MAX: usize = 255;
/// What Hive calls a partition whose value is null or empty.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// Divides a run's batch table. `put` gets each file: its name without suffix, its task, and the file itself, which it
/// removes at the end.
///
/// # Errors
/// The table cannot be read, the disk fails, or `put` does.
pub(crate) fn divide(
    run: &Run,
    counts: &BatchesCounts,
    put: &mut dyn FnMut(&str, &str, LocalFile) -> Result<()>,
) -> Result<()> {
    let names = run.parts(Stage::Batches, "");
    let paths = names.iter().map(|name| run.part(Stage::Batches, name)).collect::<Result<Vec<PathBuf>>>()?;
    let tasks: Vec<(String, u64)> = count(&paths)?.into_iter().collect();
    let held = |rows: &u64| (*rows).min(counts.row_group_rows as u64) * counts.open_row_bytes + counts.open_file_bytes;
    let open: Vec<u64> = tasks.iter().map(|(_, rows)| held(rows)).collect();
    for group in groups(&open, counts.open_bytes) {
        let mut files = OpenFiles::new(run, counts, &paths[0], &tasks[group.clone()])?;
        for path in &paths {
            for batch in read(path, None)? {
                run.check_interrupt()?;
                files.write(&batch?)?;
            }
        }
        for (index, local) in group.zip(files.close()?) {
            put(&format!("part-{index:05}"), &tasks[index].0, local)?;
        }
    }
    Ok(())
}

/// Refuses a task whose name cannot be a folder's.
///
/// # Errors
/// The name is empty, Hive's name for a missing value, or too long.
pub(crate) fn refuse_name(task: &str) -> Result<()> {
    let bytes = "task=".len() + hive(task).len();
    if !task.is_empty() && task != NO_VALUE && bytes <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(Error::input("a task cannot have a folder of its name")
        .task(task)
        .expected(format!("a name of at most {NAME_BYTES_MAX} bytes as a folder's, not empty and not {NO_VALUE}"))
        .found(format!("{bytes} bytes, three for all but letters, digits, _, - and ."))
        .remedy("leave --partition-by out, or name the task otherwise in the input"))
}

/// A task as a part of a path, as Hive writes it: all but letters, digits, `_`, `-` and `.` as `%XX`.
pub(crate) fn hive(task: &str) -> String {
    if task.is_empty() {
        return NO_VALUE.into();
    }
    task.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => text.push(byte as char),
            _ => drop(write!(text, "%{byte:02X}")),
        }
        text
    })
}

/// Cuts files into groups of at most `OPEN_FILES_MAX` that hold at most `most` bytes while they are open, or are one
/// file. Pure; O(files).
fn groups(open: &[u64], most: u64) -> Vec<Range<usize>> {
    let (mut groups, mut start, mut held) = (Vec::new(), 0, 0);
    for (index, bytes) in open.iter().enumerate() {
        if index > start && (held + bytes > most || index - start == OPEN_FILES_MAX) {
            groups.push(start..index);
            (start, held) = (index, 0);
        }
        held += bytes;
    }
    if start < open.len() {
        groups.push(start..open.len());
    }
    groups
}

/// The rows of each file. Pure; O(rows).
fn split<'a>(tasks: impl Iterator<Item = &'a str>, files: &HashMap<String, usize>) -> Vec<Vec<u32>> {
    let mut rows = vec![Vec::new(); files.len()];
    for (row, task) in tasks.enumerate() {
        if let Some(file) = files.get(task) {
            rows[*file].push(row as u32);
        }
    }
    rows
}

/// The files of a group of tasks, while the table is read.
struct OpenFiles {
    /// Of the files: all columns of the table but the task.
    schema: SchemaRef,
    columns: Vec<usize>,
    task: usize,
    /// Each task's file.
    numbers: HashMap<String, usize>,
    writers: Vec<(PathBuf, ArrowWriter<PartWriter>)>,
}

impl OpenFiles {
    fn new(run: &Run, counts: &BatchesCounts, like: &Path, tasks: &[(String, u64)]) -> Result<OpenFiles> {
        let file = File::open(like).map_err(|e| Error::io("a batch table cannot be opened", like, e))?;
        let reader = read_metadata(like, &file).map_err(|found| unreadable(like, found))?;
        let whole = reader.schema();
        let task = whole.index_of(TASK).map_err(|e| unreadable(like, e.to_string()))?;
        let columns: Vec<usize> = (0..whole.fields().len()).filter(|column| *column != task).collect();
        let schema = Arc::new(Schema::new(columns.iter().map(|c| whole.field(*c).clone()).collect::<Vec<_>>()));
        let footer = table::footer_of(reader.metadata());
        let properties =
            table::properties(counts.row_group_rows, footer).map_err(|e| unreadable(like, e.to_string()))?;
        let mut writers = Vec::new();
        for number in 0..tasks.len() {
            let (path, out) = run.scratch(&format!("task-{number:05}.parquet"))?;
            let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties.clone()));
            writers.push((path.clone(), writer.map_err(|e| unwritable(&path, &e))?));
        }
        let numbers = tasks.iter().enumerate().map(|(number, (task, _))| (task.clone(), number)).collect();
        Ok(OpenFiles { schema, columns, task, numbers, writers })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let tasks = batch.column(self.task).as_any().downcast_ref::<StringArray>();
        let names = tasks.into_iter().flat_map(|tasks| (0..tasks.len()).map(|row| tasks.value(row)));
        let rest = batch.project(&self.columns).and_then(|batch| batch.with_schema(self.schema.clone()));
        for (rows, (path, writer)) in split(names, &self.numbers).into_iter().zip(&mut self.writers) {
            if rows.is_empty() {
                continue;
            }
            let failed = |e: ParquetError| unwritable(path, &e);
            let rest = rest.as_ref().map_err(|e| failed(ParquetError::General(e.to_string())))?;
            let own = take_record_batch(rest, &UInt32Array::from(rows)).map_err(|e| failed(e.into()))?;
            writer.write(&own).map_err(failed)?;
        }
        Ok(())
    }

    fn close(self) -> Result<Vec<LocalFile>> {
        let close = |(path, writer): (PathBuf, ArrowWriter<PartWriter>)| {
            let out = writer.into_inner().map_err(|e| unwritable(&path, &e))?;
            let (bytes, hash) = out.finish().map_err(|e| Error::io("a file cannot be written", &path, e))?;
            Ok(LocalFile { path, bytes, xxh3: format!("{hash:016x}") })
        };
        self.writers.into_iter().map(close).collect()
    }
}

/// The number of rows of each task.
fn count(paths: &[PathBuf]) -> Result<BTreeMap<String, u64>> {
    let mut rows = BTreeMap::new();
    for path in paths {
        for batch in read(path, Some(TASK))? {
            let batch = batch?;
            let tasks = batch.column(0).as_any().downcast_ref::<StringArray>();
            for task in tasks.into_iter().flatten() {
                match task.and_then(|task| rows.get_mut(task)) {
                    Some(count) => *count += 1,
                    None => drop(rows.insert(task.unwrap_or_default().to_owned(), 1)),
                }
            }
        }
    }
    Ok(rows)
}

/// Reads a part: one column, or all.
fn read<'p>(path: &'p Path, column: Option<&str>) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<'p>> {
    let builder = open_table(path, |found| unreadable(path, found))?;
    let mask = match column {
        Some(name) => ProjectionMask::columns(builder.parquet_schema(), [name]),
        None => ProjectionMask::all(),
    };
    let batches = guarded_batches(path, builder.with_projection(mask).with_batch_size(READ_ROWS));
    let batches = batches.map_err(|found| unreadable(path, found))?;
    Ok(batches.map(move |batch| batch.map_err(|found| unreadable(path, found))))
}

fn unwritable(path: &Path, error: &ParquetError) -> Error {
    Error::runtime("a file of the divided table cannot be written")
        .path(path)
        .found(error.to_string())
        .remedy("free some disk space and run the same command again: the batches are kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_hive_does() {
        assert_eq!(hive("nq-2.0_dev"), "nq-2.0_dev");
        assert_eq!(hive("a/b=c %é"), "a%2Fb%3Dc%20%25%C3%A9");
        assert_eq!(hive(""), NO_VALUE);
        assert_eq!(hive(".."), "..", "the folder is task=.., which is no parent folder");
    }

    #[test]
    fn names_that_no_folder_can_have_are_refused() {
        assert!(refuse_name("nq").is_ok() && refuse_name(&"a".repeat(250)).is_ok());
        for name in ["", NO_VALUE, &"a".repeat(251), &"火".repeat(28)] {
            assert!(refuse_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn groups_hold_what_may_be_open() {
        assert_eq!(groups(&[10, 10, 10], 25), [0..2, 2..3]);
        assert_eq!(groups(&[100, 100], 50), [0..1, 1..2], "one file at least");
        assert_eq!(groups(&[5, 100, 5], 50), [0..1, 1..2, 2..3]);
        assert!(groups(&[], 50).is_empty());
        assert_eq!(groups(&[1; 300], 1000), [0..128, 128..256, 256..300]);
    }

    #[test]
    fn rows_go_to_the_files_of_their_tasks() {
        let files = HashMap::from([("a".to_owned(), 0), ("b".to_owned(), 1)]);
        assert_eq!(split(["b", "a", "c", "b"].into_iter(), &files), [vec![1], vec![0, 3]]);
    }
}
