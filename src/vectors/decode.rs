//! Decoding shards: columns in bounded batches, one unit of the input at a time.
//!
//! Memory: one record batch of the projected columns per call, beside the pages that Parquet
//! decompresses one at a time; the compressed bytes are mapped, never read onto the heap.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};

use super::shard::{Shard, Source};
use super::values::null_embedding;
use crate::error::{Error, Result};

/// Rows of a `.npy` file that are read as one unit.
const NPY_UNIT_ROWS: u64 = 65_536;

/// A stretch of input that one thread decodes by itself: a row group, or some rows of a `.npy` file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit<'a> {
    pub shard: &'a Shard,
    /// The row group; `None` in `.npy` files.
    pub row_group: Option<usize>,
    /// First row, within the file.
    pub start: u64,
    pub rows: u64,
}

impl<'a> Unit<'a> {
    /// All units of some files, in order.
    pub(crate) fn all(shards: &'a [Shard]) -> Vec<Unit<'a>> {
        let mut units = Vec::new();
        for shard in shards {
            let mut start = 0;
            match &shard.source {
                Source::Parquet { metadata, .. } => {
                    for (row_group, meta) in metadata.metadata().row_groups().iter().enumerate() {
                        let rows = u64::try_from(meta.num_rows()).unwrap_or(0);
                        units.push(Unit { shard, row_group: Some(row_group), start, rows });
                        start += rows;
                    }
                }
                Source::Npy(_) => {
                    while start < shard.rows {
                        let rows = NPY_UNIT_ROWS.min(shard.rows - start);
                        units.push(Unit { shard, row_group: None, start, rows });
                        start += rows;
                    }
                }
            }
        }
        units
    }

    /// Values of a column by the footer: rows, or elements of lists, where a list without one counts as one.
    pub(crate) fn values_of(&self, column: &str) -> u64 {
        let (Source::Parquet { metadata, .. }, Some(row_group)) = (&self.shard.source, self.row_group) else {
            return self.rows;
        };
        let leaves = metadata.metadata().row_group(row_group).columns().iter();
        let own = leaves.filter(|leaf| leaf.column_path().parts().first().is_some_and(|root| root == column));
        own.fold(0u64, |sum, leaf| sum.saturating_add(u64::try_from(leaf.num_values()).unwrap_or(0)))
    }

    /// Ordinal of the unit's first row in the whole input.
    pub(crate) fn first_input_row(&self) -> u64 {
        self.shard.first_row + self.start
    }

    /// Puts this unit's place into an error; `row` counts within the unit.
    pub(crate) fn place(&self, error: Error, column: &str, row: Option<u64>) -> Error {
        let mut error = error.path(&self.shard.path);
        if !column.is_empty() {
            error = error.column(column);
        }
        if let Some(row_group) = self.row_group {
            error = error.row_group(row_group);
        }
        match row {
            Some(row) => error.row(self.start + row),
            None => error,
        }
    }

    /// Decodes some columns of a Parquet unit, `batch_rows` rows at a time; the closure gets the
    /// batch's first row within the unit, and the columns in the order asked for.
    ///
    /// # Errors
    /// The data cannot be decoded, the unit has not as many rows as the footer says, or the closure fails.
    pub(crate) fn for_each_batch(
        &self,
        columns: &[&str],
        batch_rows: usize,
        mut each: impl FnMut(u64, Vec<ArrayRef>) -> Result<()>,
    ) -> Result<()> {
        let mut row = 0;
        for batch in self.batches(columns, batch_rows, None)? {
            let arrays = batch?;
            let end = row + arrays.first().map_or(0, |array| array.len() as u64);
            if end > self.rows {
                return Err(self.miscounted(columns, &format!("at least {end}")));
            }
            each(row, arrays)?;
            row = end;
        }
        if row < self.rows { Err(self.miscounted(columns, &row.to_string())) } else { Ok(()) }
    }

    /// Decodes some rows of some columns of a Parquet unit; `rows` are numbers within the unit, ascending, each once.
    /// The arrays are in the order of the columns, and hold one value for each of the rows. Other rows are skipped.
    ///
    /// # Errors
    /// The data cannot be decoded, or the unit has no such rows.
    pub(crate) fn some_rows(&self, columns: &[&str], rows: &[u64]) -> Result<Vec<ArrayRef>> {
        let ranges = rows.iter().map(|row| *row as usize..*row as usize + 1);
        let selection = RowSelection::from_consecutive_ranges(ranges, self.rows as usize);
        let mut batches = self.batches(columns, rows.len().max(1), Some(selection))?;
        let found = batches.next().transpose()?.unwrap_or_default();
        match found.first() {
            Some(array) if array.len() == rows.len() => Ok(found),
            other => Err(self.miscounted(columns, &other.map_or(0, Array::len).to_string())),
        }
    }

    fn miscounted(&self, columns: &[&str], rows: &str) -> Error {
        self.damaged(columns, format!("{rows} rows where the footer promises {}", self.rows))
    }

    /// The batches of some columns of a Parquet unit, each in the order asked for; of the rows selected, or of all.
    fn batches<'c>(
        &'c self,
        columns: &'c [&str],
        batch_rows: usize,
        selection: Option<RowSelection>,
    ) -> Result<impl Iterator<Item = Result<Vec<ArrayRef>>> + 'c> {
        let (Source::Parquet { bytes, metadata }, Some(row_group)) = (&self.shard.source, self.row_group) else {
            return Err(self.damaged(columns, "a .npy file, which has no columns".into()));
        };
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone());
        let wanted = columns.iter().filter_map(|name| metadata.schema().index_of(name).ok());
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let builder = builder.with_projection(mask).with_row_groups(vec![row_group]).with_batch_size(batch_rows);
        let reader = match selection {
            Some(selection) => builder.with_row_selection(selection).build(),
            None => builder.build(),
        };
        let reader = reader.map_err(|e| self.damaged(columns, e.to_string()))?;
        Ok(reader.map(move |batch| {
            let batch: RecordBatch = batch.map_err(|e| self.damaged(columns, e.to_string()))?;
            let column = |name: &&str| {
                batch.column_by_name(name).cloned().ok_or_else(|| self.damaged(columns, format!("no column {name}")))
            };
            columns.iter().map(column).collect()
        }))
    }

    fn damaged(&self, columns: &[&str], found: String) -> Error {
        let error = Error::input("the file's data cannot be decoded")
            .expected("the column data that the footer describes")
            .found(found)
            .remedy("write or download the file again");
        self.place(error, &columns.join(", "), None)
    }
}

/// Length of the first list of a column whose type does not fix it.
///
/// # Errors
/// The file cannot be decoded, or the first row is null or missing.
pub(super) fn first_length(shard: &Shard, column: &str) -> Result<usize> {
    let units = Unit::all(std::slice::from_ref(shard));
    let Some(unit) = units.iter().find(|unit| unit.rows > 0) else { return Ok(0) };
    let first = unit.batches(&[column], 1, None)?.next().transpose()?;
    let Some(array) = first.as_ref().and_then(|arrays| arrays.first()).filter(|array| !array.is_empty()) else {
        return Err(unit.miscounted(&[column], "no"));
    };
    if array.is_null(0) {
        return Err(unit.place(null_embedding(), column, Some(0)));
    }
    let list = array.as_list_opt::<i32>().map(|list| list.value(0));
    let list = list.or_else(|| array.as_list_opt::<i64>().map(|list| list.value(0)));
    list.map(|list| list.len()).ok_or_else(|| unit.damaged(&[column], format!("values of type {}", array.data_type())))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::vectors::parquet::open_parquet;
    use crate::vectors::testing::parquet_file;

    #[test]
    fn a_unit_yields_the_rows_that_the_footer_promises_or_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let read = |group_rows: [i64; 2]| {
            std::fs::write(&path, parquet_file(group_rows, None)).unwrap();
            let shards = open_parquet(std::slice::from_ref(&path)).unwrap();
            let mut ids = Vec::new();
            for unit in Unit::all(&shards) {
                unit.for_each_batch(&["id"], 2, |first, arrays| {
                    assert!(first + arrays[0].len() as u64 <= unit.rows);
                    ids.extend(arrays[0].as_primitive::<Int64Type>().values());
                    Ok(())
                })?;
            }
            Ok::<Vec<i64>, Error>(ids)
        };
        assert_eq!(read([3, 2]).unwrap(), [10, 11, 12, 13, 14]);
        let text = read([5, 2]).unwrap_err().to_string();
        assert!(text.contains("a.parquet") && text.contains("promises 5") && text.contains("row group 0"), "{text}");
        // The second row group has more rows than it promises: none of them is passed on as a row of another unit.
        assert!(read([3, 1]).map_or(true, |ids| ids.len() == 4));
    }

    #[test]
    fn some_rows_are_those_that_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        std::fs::write(&path, parquet_file([3, 2], None)).unwrap();
        let shards = open_parquet(std::slice::from_ref(&path)).unwrap();
        let units = Unit::all(&shards);
        let ids = |unit: &Unit<'_>, rows: &[u64]| -> Result<Vec<i64>> {
            let arrays = unit.some_rows(&["id"], rows)?;
            Ok(arrays[0].as_primitive::<Int64Type>().values().to_vec())
        };
        assert_eq!(ids(&units[0], &[0, 2]).unwrap(), [10, 12]);
        assert_eq!(ids(&units[1], &[1]).unwrap(), [14]);
        // A footer that promises more rows than there are.
        std::fs::write(&path, parquet_file([5, 2], None)).unwrap();
        let shards = open_parquet(std::slice::from_ref(&path)).unwrap();
        let text = ids(&Unit::all(&shards)[0], &[0, 4]).unwrap_err().to_string();
        assert!(text.contains("a.parquet") && text.contains("row group 0"), "{text}");
    }

    #[test]
    fn a_first_list_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        std::fs::write(&path, parquet_file([3, 2], None)).unwrap();
        let shard = open_parquet(&[path]).unwrap().remove(0);
        let text = first_length(&shard, "id").unwrap_err().to_string();
        assert!(text.contains("a.parquet") && text.contains("Int64"), "{text}");
    }
}
