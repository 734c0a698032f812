//! Decoding shards: columns in bounded batches, one unit of the input at a time.
//!
//! Memory: one record batch of the projected columns per call, beside the pages that Parquet
//! decompresses one at a time; the compressed bytes are mapped, never read onto the heap.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::compute::take;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::Length;

use super::embedding_rows::{first_fault, usual_length};
use super::parquet_batches::{check_chunk, guarded_batches};
use super::shard::{Shard, Source};
use crate::config::BinaryType;
use crate::error::{Error, Result};
use crate::guard::guarded;

/// Rows of a `.npy` file, or of columns in memory, that are read as one unit.
const ARRAY_UNIT_ROWS: u64 = 65_536;
/// Rows that say how long vectors are.
const SAMPLE_ROWS: usize = 1024;

/// Some columns of a unit, batch by batch.
type ColumnBatches<'c> = Box<dyn Iterator<Item = Result<Vec<ArrayRef>>> + 'c>;

/// A stretch of input that one thread decodes by itself: a row group, a record batch of an Arrow file, or a piece of
/// one, or some rows of a `.npy` file or of columns in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit<'a> {
    pub shard: &'a Shard,
    /// The row group; `None` in Arrow and `.npy` files.
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
                Source::Arrow(file) => {
                    let pieces = file.pieces();
                    units.extend(pieces.map(|(start, rows)| Unit { shard, row_group: None, start, rows }));
                }
                Source::Npy(_) | Source::Memory(_) => {
                    while start < shard.rows {
                        let rows = ARRAY_UNIT_ROWS.min(shard.rows - start);
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
        match &self.shard.source {
            Source::Arrow(file) => return file.values_of(column, self.start, self.rows),
            Source::Memory(rows) => return rows.values_of(column, self.start, self.rows),
            _ => {}
        }
        let (Source::Parquet { metadata, .. }, Some(row_group)) = (&self.shard.source, self.row_group) else {
            return self.rows;
        };
        let leaves = metadata.metadata().row_group(row_group).columns().iter();
        let own = leaves.filter(|leaf| leaf.column_path().parts().first().is_some_and(|root| root == column));
        own.fold(0u64, |sum, leaf| sum.saturating_add(u64::try_from(leaf.num_values()).unwrap_or(0)))
    }

    /// The bytes of the unit in each of its shard's files, from where its values begin to where the next unit's do.
    pub(crate) fn byte_ranges(&self) -> Vec<Range<usize>> {
        match &self.shard.source {
            Source::Parquet { bytes, metadata } => {
                let groups = metadata.metadata().row_groups();
                let begin = |row_group: usize| {
                    let columns = groups.get(row_group).into_iter().flat_map(|group| group.columns());
                    let starts = columns.map(|column| column.byte_range().0 as usize);
                    starts.min().unwrap_or(bytes.len() as usize)
                };
                let row_group = self.row_group.unwrap_or(0);
                std::iter::once(begin(row_group)..begin(row_group + 1)).collect()
            }
            Source::Arrow(file) => vec![file.byte_range(self.start)],
            Source::Memory(rows) => rows.byte_ranges(self.start, self.rows),
            Source::Npy(array) => {
                let files = std::iter::once(&array.queries).chain(&array.positives);
                files.map(|file| array.byte_range(file, self.start, self.rows)).collect()
            }
        }
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

    /// Decodes some columns of a unit of a table, `batch_rows` rows at a time; the closure gets the
    /// batch's first row within the unit, and the columns in the order asked for. Columns of the path have their value
    /// in every row.
    ///
    /// # Errors
    /// The data cannot be decoded, the unit has not as many rows as the footer says, or the closure fails.
    pub(crate) fn for_each_batch(
        &self,
        columns: &[&str],
        batch_rows: usize,
        mut each: impl FnMut(u64, Vec<ArrayRef>) -> Result<()>,
    ) -> Result<()> {
        let own: Vec<&str> = columns.iter().copied().filter(|name| self.shard.partition(name).is_none()).collect();
        if own.is_empty() && !columns.is_empty() {
            let batches = (0..self.rows).step_by(batch_rows.max(1));
            let rows = |first: u64| (self.rows - first).min(batch_rows as u64) as usize;
            return batches
                .into_iter()
                .try_for_each(|first| each(first, self.all_columns(columns, &own, &[], rows(first))));
        }
        let mut row = 0;
        for batch in self.batches(&own, batch_rows)? {
            let arrays = batch?;
            let arrays = match own.len() == columns.len() {
                true => arrays,
                false => self.all_columns(columns, &own, &arrays, arrays.first().map_or(0, |array| array.len())),
            };
            let end = row + arrays.first().map_or(0, |array| array.len() as u64);
            if end > self.rows {
                return Err(self.miscounted(columns, &format!("at least {end}")));
            }
            each(row, arrays)?;
            row = end;
        }
        if row < self.rows { Err(self.miscounted(columns, &row.to_string())) } else { Ok(()) }
    }

    /// The columns asked for: those of the file, which are `arrays`, and those of its path.
    fn all_columns(&self, columns: &[&str], own: &[&str], arrays: &[ArrayRef], rows: usize) -> Vec<ArrayRef> {
        let column = |name: &&str| match (self.shard.partition(name), own.iter().position(|other| other == name)) {
            (None, Some(at)) => arrays[at].clone(),
            (partition, _) => {
                let value = partition.and_then(|column| column.value.as_deref());
                Arc::new(std::iter::repeat_n(value, rows).collect::<StringArray>()) as ArrayRef
            }
        };
        columns.iter().map(column).collect()
    }

    /// Decodes some rows of some columns; `rows` are numbers within the unit, ascending, each once. The arrays are in
    /// the order of the columns, and hold one value for each of the rows. Other rows are skipped.
    ///
    /// # Errors
    /// The data cannot be decoded, or the unit has no such rows.
    pub(crate) fn some_rows(&self, columns: &[&str], rows: &[u64]) -> Result<Vec<ArrayRef>> {
        let own: Vec<&str> = columns.iter().copied().filter(|name| self.shard.partition(name).is_none()).collect();
        let found = match &self.shard.source {
            _ if own.is_empty() => Vec::new(),
            Source::Arrow(_) | Source::Memory(_) => {
                let indices = UInt64Array::from(rows.to_vec());
                let arrays = self.held_columns(&own).map_err(|found| self.damaged(columns, found))?;
                let of = |array: &ArrayRef| take(array, &indices, None).map_err(|e| e.to_string());
                let taken = guarded(&self.shard.path, || arrays.iter().map(of).collect::<Result<Vec<_>, _>>());
                taken.flatten().map_err(|found| self.damaged(columns, found))?
            }
            _ => {
                let ranges = rows.iter().map(|row| *row as usize..*row as usize + 1);
                let selection = RowSelection::from_consecutive_ranges(ranges, self.rows as usize);
                let mut batches = self.parquet_batches(&own, rows.len().max(1), Some(selection))?;
                batches.next().transpose()?.unwrap_or_default()
            }
        };
        match found.first().map(|array| array.len()) {
            Some(count) if count != rows.len() => Err(self.miscounted(columns, &count.to_string())),
            None if !own.is_empty() && !rows.is_empty() => Err(self.miscounted(columns, "no")),
            _ => Ok(self.all_columns(columns, &own, &found, rows.len())),
        }
    }

    fn miscounted(&self, columns: &[&str], rows: &str) -> Error {
        self.damaged(columns, format!("{rows} rows where the footer promises {}", self.rows))
    }

    /// The batches of some columns in the file, each in the order asked for.
    fn batches<'c>(&'c self, columns: &'c [&str], batch_rows: usize) -> Result<ColumnBatches<'c>> {
        match &self.shard.source {
            Source::Arrow(_) | Source::Memory(_) => self.held_batches(columns, batch_rows),
            _ => self.parquet_batches(columns, batch_rows, None),
        }
    }

    /// Some columns of a piece of an Arrow file, or of columns in memory: whole.
    fn held_columns(&self, columns: &[&str]) -> Result<Vec<ArrayRef>, String> {
        match &self.shard.source {
            Source::Arrow(file) => file.columns(columns, self.start, self.rows),
            Source::Memory(rows) => rows.columns(columns, self.start, self.rows),
            Source::Parquet { .. } | Source::Npy(_) => Err("no columns of Arrow's".into()),
        }
    }

    /// Views of the unit's columns, which are decoded once.
    fn held_batches<'c>(&'c self, columns: &'c [&str], batch_rows: usize) -> Result<ColumnBatches<'c>> {
        let arrays = self.held_columns(columns).map_err(|found| self.damaged(columns, found))?;
        let starts = (0..self.rows as usize).step_by(batch_rows.max(1));
        Ok(Box::new(starts.map(move |start| {
            let rows = batch_rows.min(self.rows as usize - start);
            Ok(arrays.iter().map(|array| array.slice(start, rows)).collect())
        })))
    }

    /// Those of a row group: of the rows selected, or of all.
    fn parquet_batches<'c>(
        &'c self,
        columns: &'c [&str],
        batch_rows: usize,
        selection: Option<RowSelection>,
    ) -> Result<ColumnBatches<'c>> {
        let (Source::Parquet { bytes, metadata }, Some(row_group)) = (&self.shard.source, self.row_group) else {
            return Err(self.damaged(columns, "a .npy file, which has no columns".into()));
        };
        self.refuse_large_pages(columns)?;
        let group = metadata.metadata().row_group(row_group);
        let is_read = |chunk: &&ColumnChunkMetaData| {
            chunk.column_path().parts().first().is_some_and(|root| columns.contains(&&**root))
        };
        let chunks = group.columns().iter().filter(is_read).cloned().collect();
        let bytes = bytes.of_columns(chunks, u64::try_from(group.compressed_size()).unwrap_or(0));
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata.clone());
        let wanted = columns.iter().filter_map(|name| metadata.schema().index_of(name).ok());
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let mut builder = builder.with_projection(mask).with_row_groups(vec![row_group]).with_batch_size(batch_rows);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let batches = guarded_batches(&self.shard.path, builder);
        let batches = batches.map_err(|found| self.damaged(&self.damaged_among(columns), found))?;
        Ok(Box::new(batches.map(move |batch| {
            let batch: RecordBatch = batch.map_err(|found| self.damaged(&self.damaged_among(columns), found))?;
            let column = |name: &&str| {
                batch.column_by_name(name).cloned().ok_or_else(|| self.damaged(columns, format!("no column {name}")))
            };
            columns.iter().map(column).collect()
        })))
    }

    /// Fails where a page of some columns claims more than its column has: whoever decodes it would reserve that.
    ///
    /// # Errors
    /// A page does.
    pub(crate) fn refuse_large_pages(&self, columns: &[&str]) -> Result<()> {
        let (Source::Parquet { bytes, metadata }, Some(row_group)) = (&self.shard.source, self.row_group) else {
            return Ok(());
        };
        for chunk in metadata.metadata().row_group(row_group).columns() {
            let root = chunk.column_path().parts().first();
            let Some(column) = columns.iter().find(|column| root.is_some_and(|root| root == *column)) else { continue };
            check_chunk(bytes, chunk).map_err(|found| self.damaged(&[*column], found))?;
        }
        Ok(())
    }

    /// The first column that cannot be decoded by itself; all of them where each can. Reads the unit again.
    fn damaged_among<'n>(&self, columns: &[&'n str]) -> Vec<&'n str> {
        if columns.len() < 2 || self.fault().is_some() {
            return columns.to_vec();
        }
        let fails = |name: &&str| {
            let alone = [*name];
            let batches = self.parquet_batches(&alone, SAMPLE_ROWS, None);
            batches.map_or(true, |mut batches| batches.any(|batch| batch.is_err()))
        };
        columns.iter().copied().find(fails).map_or(columns.to_vec(), |name| vec![name])
    }

    /// Why the file's store cannot be read, once that is so.
    fn fault(&self) -> Option<Error> {
        match &self.shard.source {
            Source::Parquet { bytes, .. } => bytes.fault(),
            _ => None,
        }
    }

    fn damaged(&self, columns: &[&str], found: String) -> Error {
        if let Some(fault) = self.fault() {
            return fault;
        }
        let error = Error::input("the file's data cannot be decoded")
            .expected("the column data that the footer describes")
            .found(found)
            .remedy("write or download the file again");
        self.place(error, &columns.join(", "), None)
    }
}

/// Length of most of the first vectors of a column whose type does not fix it: a few batches, until one has vectors.
/// None where no row has one.
///
/// # Errors
/// The file cannot be decoded.
pub(super) fn usual_length_of(shard: &Shard, column: &str, dtype: Option<BinaryType>) -> Result<Option<usize>> {
    for unit in Unit::all(std::slice::from_ref(shard)) {
        for batch in unit.batches(&[column], SAMPLE_ROWS)? {
            let arrays = batch?;
            let array = arrays.first().ok_or_else(|| unit.miscounted(&[column], "no"))?;
            let length = usual_length(array, dtype).map_err(|(error, row)| unit.place(error, column, Some(row)))?;
            if length.is_some() {
                return Ok(length);
            }
        }
    }
    Ok(None)
}

/// The error for the first row of a file, which has no vector.
///
/// # Errors
/// The file cannot be decoded.
pub(super) fn first_fault_of(shard: &Shard, column: &str, dtype: Option<BinaryType>) -> Result<Option<Error>> {
    let units = Unit::all(std::slice::from_ref(shard));
    let Some(unit) = units.iter().find(|unit| unit.rows > 0) else { return Ok(None) };
    let Some(arrays) = unit.batches(&[column], 1)?.next().transpose()? else { return Ok(None) };
    let array = arrays.first().ok_or_else(|| unit.miscounted(&[column], "no"))?;
    let fault = first_fault(array, dtype).map_err(|(error, row)| unit.place(error, column, Some(row)))?;
    Ok(fault.map(|(row, fault)| unit.place(fault.error(), column, Some(row as u64))))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
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
    fn a_column_without_lists_has_no_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        std::fs::write(&path, parquet_file([3, 2], None)).unwrap();
        let shard = open_parquet(&[path]).unwrap().remove(0);
        let text = usual_length_of(&shard, "id", None).unwrap_err().to_string();
        assert!(text.contains("a.parquet") && text.contains("Int64"), "{text}");
    }
}
