//! Columns in memory as input: what a caller holds, read where it lies.
//!
//! Memory: none. The columns are their owner's, and nothing of them is copied.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};

/// What stands for a path in messages and in the manifest.
pub(crate) const IN_MEMORY: &str = "memory";

/// The rows of a job as columns in memory: embeddings of both sides, and ids, tasks and keys.
#[derive(Debug, Clone)]
pub struct MemoryRows {
    batch: RecordBatch,
    /// The bytes of all columns, each buffer by the name of its column.
    buffers: Vec<(String, Buffer)>,
}

impl MemoryRows {
    /// Takes columns as they are. Embeddings are `fixed_size_list` of numbers, or `fixed_size_binary` with `--dtype`.
    ///
    /// Whether an input is that of an earlier call is known by all bytes of its columns' buffers. So a column that is a
    /// slice of another one should be copied: its buffers may hold what is not its own.
    pub fn new(batch: RecordBatch) -> MemoryRows {
        let mut buffers = Vec::new();
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            buffers.extend(buffers_of(column).into_iter().map(|buffer| (field.name().clone(), buffer)));
        }
        MemoryRows { batch, buffers }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        self.batch.schema_ref()
    }

    /// The bytes of all columns, buffer by buffer.
    pub(super) fn contents(&self) -> impl Iterator<Item = &[u8]> {
        self.buffers.iter().map(|(_, buffer)| buffer.as_slice())
    }

    /// About where some rows lie in each buffer. Ranges of rows that follow each other do so, too.
    pub(super) fn byte_ranges(&self, start: u64, rows: u64) -> Vec<Range<usize>> {
        let all = self.batch.num_rows() as u128;
        let at = |row: u64, bytes: usize| (bytes as u128 * u128::from(row) / all) as usize;
        self.buffers.iter().map(|(_, buffer)| at(start, buffer.len())..at(start + rows, buffer.len())).collect()
    }

    /// Values of a column in some rows: rows, or items of lists.
    pub(super) fn values_of(&self, column: &str, start: u64, rows: u64) -> u64 {
        let Some(array) = self.batch.column_by_name(column) else { return rows };
        let slice = array.slice(start as usize, rows as usize);
        match slice.data_type() {
            DataType::List(_) => {
                let offsets = slice.as_list::<i32>().value_offsets();
                let items = offsets.last().zip(offsets.first()).map_or(0, |(last, first)| last - first);
                // A list without items counts as one.
                rows + u64::try_from(items).unwrap_or(0)
            }
            _ => rows,
        }
    }

    /// Some columns of some rows, in the order asked for.
    ///
    /// # Errors
    /// There is no such column.
    pub(super) fn columns(&self, columns: &[&str], start: u64, rows: u64) -> Result<Vec<ArrayRef>, String> {
        let column = |name: &&str| {
            let array = self.batch.column_by_name(name).ok_or_else(|| format!("no column {name}"))?;
            Ok(array.slice(start as usize, rows as usize))
        };
        columns.iter().map(column).collect()
    }

    /// What stands for the files of the input: the path of each buffer, its bytes, and words that say what it holds.
    pub(super) fn files(&self) -> Vec<(PathBuf, u64, String)> {
        let mut files: Vec<(PathBuf, u64, String)> = Vec::new();
        let mut before = "";
        let mut number = 0;
        for (name, buffer) in &self.buffers {
            number = if name == before { number + 1 } else { 0 };
            before = name;
            let path = if number == 0 { name.clone() } else { format!("{name}.{number}") };
            let field = self.batch.schema_ref().field_with_name(name).map(|field| field.data_type().to_string());
            let what = format!("{name} {number}: {} rows of {}", self.batch.num_rows(), field.unwrap_or_default());
            files.push((Path::new(IN_MEMORY).join(path), buffer.len() as u64, what));
        }
        files
    }

    pub(super) fn rows(&self) -> u64 {
        self.batch.num_rows() as u64
    }
}

/// The buffers of an array and of what is in it.
fn buffers_of(array: &ArrayRef) -> Vec<Buffer> {
    let mut found = Vec::new();
    let mut open = vec![array.to_data()];
    while let Some(data) = open.pop() {
        found.extend(data.nulls().map(|nulls| nulls.buffer().clone()));
        found.extend(data.buffers().iter().cloned());
        open.extend(data.child_data().iter().cloned());
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{FixedSizeListArray, Float32Array, ListArray, StringArray};
    use arrow::datatypes::{Field, Int32Type};

    use super::*;

    fn rows() -> RecordBatch {
        let values: ArrayRef = Arc::new(Float32Array::from_iter_values((0..12).map(|at| at as f32)));
        let item = Arc::new(Field::new_list_field(DataType::Float32, false));
        let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, 4, values, None));
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "bcd", "e"]));
        let keys =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)]), None, Some(vec![])]);
        RecordBatch::try_from_iter([("vector", vectors), ("id", ids), ("key", Arc::new(keys))]).unwrap()
    }

    #[test]
    fn columns_are_read_where_they_lie() {
        let batch = rows();
        let values = batch.column(0).as_fixed_size_list().values().to_data().buffers()[0].as_ptr();
        let memory = MemoryRows::new(batch);
        assert_eq!(memory.contents().next().unwrap().as_ptr(), values);
        let some = memory.columns(&["id", "vector"], 1, 2).unwrap();
        assert_eq!(some[0].as_string::<i32>().value(0), "bcd");
        assert_eq!(some[1].as_fixed_size_list().value(1).as_primitive::<arrow::datatypes::Float32Type>().value(0), 8.0);
        assert!(memory.columns(&["task"], 0, 1).is_err());
        assert_eq!([memory.values_of("id", 0, 3), memory.values_of("key", 0, 3)], [3, 5]);
    }

    #[test]
    fn ranges_of_rows_cover_each_buffer_once() {
        let memory = MemoryRows::new(rows());
        let [first, rest] = [memory.byte_ranges(0, 1), memory.byte_ranges(1, 2)];
        for ((first, rest), bytes) in first.iter().zip(&rest).zip(memory.contents()) {
            assert_eq!((first.start, first.end, rest.end), (0, rest.start, bytes.len()));
        }
    }

    #[test]
    fn each_buffer_is_a_file_of_its_own() {
        let memory = MemoryRows::new(rows());
        let files = memory.files();
        let bytes: Vec<u64> = memory.contents().map(|bytes| bytes.len() as u64).collect();
        assert_eq!(files.iter().map(|(_, bytes, _)| *bytes).collect::<Vec<_>>(), bytes);
        let paths: Vec<&Path> = files.iter().map(|(path, ..)| path.as_path()).collect();
        assert_eq!(paths[..3], ["memory/vector", "memory/id", "memory/id.1"].map(Path::new));
        assert!(files.iter().all(|(path, ..)| paths.iter().filter(|other| *other == path).count() == 1));
    }
}
