//! Decoding shards: typed views of embedding columns, text of label columns, in bounded batches.
//!
//! Memory: one record batch of the projected columns per call, beside the pages that Parquet
//! decompresses one at a time; the compressed bytes are mapped, never read onto the heap.

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeListArray, GenericListArray, OffsetSizeTrait, RecordBatch,
};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use half::f16;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::columns::binary_width;
use super::shard::{NpyArray, Shard, Shards, Source};
use super::store::StoreType;
use crate::config::BinaryType;
use crate::error::{Error, Result};

/// Rows of a `.npy` file that are read as one unit.
const NPY_UNIT_ROWS: u64 = 65_536;

/// A stretch of input that one thread decodes by itself: a row group, or some rows of a `.npy` file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit<'a> {
    /// The file.
    pub shard: &'a Shard,
    /// The row group; `None` in `.npy` files.
    pub row_group: Option<usize>,
    /// First row, within the file.
    pub start: u64,
    /// Rows.
    pub rows: u64,
}

impl<'a> Unit<'a> {
    /// All units of the input, in order.
    pub(crate) fn all(shards: &'a Shards) -> Vec<Unit<'a>> {
        let mut units = Vec::new();
        for shard in &shards.list {
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
    /// The data cannot be decoded, or the closure fails.
    pub(crate) fn for_each_batch(
        &self,
        columns: &[&str],
        batch_rows: usize,
        mut each: impl FnMut(u64, Vec<ArrayRef>) -> Result<()>,
    ) -> Result<()> {
        let mut row = 0;
        for batch in self.batches(columns, batch_rows)? {
            let arrays = batch?;
            let rows = arrays[0].len() as u64;
            each(row, arrays)?;
            row += rows;
        }
        if row != self.rows {
            return Err(self.damaged(columns, format!("{row} rows where the footer promises {}", self.rows)));
        }
        Ok(())
    }

    /// The batches of some columns of a Parquet unit, each in the order asked for.
    fn batches<'c>(
        &'c self,
        columns: &'c [&str],
        batch_rows: usize,
    ) -> Result<impl Iterator<Item = Result<Vec<ArrayRef>>> + 'c> {
        let (Source::Parquet { bytes, metadata }, Some(row_group)) = (&self.shard.source, self.row_group) else {
            return Err(self.damaged(columns, "a .npy file, which has no columns".into()));
        };
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone());
        let wanted = columns.iter().filter_map(|name| metadata.schema().index_of(name).ok());
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let reader = builder
            .with_projection(mask)
            .with_row_groups(vec![row_group])
            .with_batch_size(batch_rows)
            .build()
            .map_err(|e| self.damaged(columns, e.to_string()))?;
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

/// The values of some rows' embeddings, one after the other.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Half precision.
    F16(&'a [f16]),
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
    /// Little-endian bytes of any alignment.
    Bytes(&'a [u8], BinaryType),
}

/// A view of an embedding column: checks that there is no null and that every row has `dim` values.
///
/// # Errors
/// The row of the array (second field) and what is wrong with it.
pub(crate) fn embedding_values(
    array: &dyn Array,
    dim: usize,
    dtype: Option<BinaryType>,
) -> Result<Values<'_>, (Error, u64)> {
    if let Some(row) = first_null(array) {
        return Err((null_embedding(), row));
    }
    match array.data_type() {
        DataType::FixedSizeList(..) => {
            let list: &FixedSizeListArray = array.as_fixed_size_list();
            if list.value_length() as usize != dim {
                return Err((wrong_length(dim, list.value_length() as usize), 0));
            }
            let start = list.value_offset_at(0);
            item_values(list.values().as_ref(), start, list.len(), dim)
        }
        DataType::List(_) => list_values::<i32>(array.as_list(), dim),
        DataType::LargeList(_) => list_values::<i64>(array.as_list(), dim),
        DataType::FixedSizeBinary(width) => {
            let binary: &FixedSizeBinaryArray = array.as_fixed_size_binary();
            let dtype = dtype.unwrap_or(BinaryType::F32);
            let width = *width as usize;
            if width != dim * binary_width(dtype).0 {
                return Err((wrong_length(dim, width / binary_width(dtype).0), 0));
            }
            Ok(Values::Bytes(&binary.value_data()[..binary.len() * width], dtype))
        }
        other => Err((
            Error::input("the embedding column changed its type")
                .expected("the type that the first file has")
                .found(other.to_string())
                .remedy("write all files with one schema"),
            0,
        )),
    }
}

fn list_values<O: OffsetSizeTrait>(list: &GenericListArray<O>, dim: usize) -> Result<Values<'_>, (Error, u64)> {
    let offsets = list.value_offsets();
    for (row, pair) in offsets.windows(2).enumerate() {
        let length = (pair[1] - pair[0]).as_usize();
        if length != dim {
            return Err((wrong_length(dim, length), row as u64));
        }
    }
    item_values(list.values().as_ref(), offsets[0].as_usize(), list.len(), dim)
}

fn item_values(items: &dyn Array, start: usize, rows: usize, dim: usize) -> Result<Values<'_>, (Error, u64)> {
    if items.null_count() > 0
        && let Some(item) = (start..start + rows * dim).find(|item| items.is_null(*item))
    {
        let row = (item - start) / dim;
        let error = null_embedding().found(format!("a null at dimension {}", (item - start) % dim));
        return Err((error, row as u64));
    }
    let range = start..start + rows * dim;
    Ok(match items.data_type() {
        DataType::Float16 => Values::F16(&items.as_primitive::<Float16Type>().values()[range]),
        DataType::Float32 => Values::F32(&items.as_primitive::<Float32Type>().values()[range]),
        DataType::Float64 => Values::F64(&items.as_primitive::<Float64Type>().values()[range]),
        other => {
            return Err((
                Error::input("the embedding column holds no floats")
                    .expected("float16, float32 or float64")
                    .found(other.to_string())
                    .remedy("cast the column before mining"),
                0,
            ));
        }
    })
}

fn first_null(array: &dyn Array) -> Option<u64> {
    if array.null_count() == 0 {
        return None;
    }
    (0..array.len()).find(|row| array.is_null(*row)).map(|row| row as u64)
}

fn null_embedding() -> Error {
    Error::input("an embedding is null")
        .expected("a vector in every row")
        .found("a null")
        .remedy("embed the row, or filter it out before mining: nothing is dropped silently")
}

fn wrong_length(dim: usize, found: usize) -> Error {
    Error::input("embeddings differ in their number of dimensions")
        .expected(format!("{dim} dimensions, as in the first row"))
        .found(format!("{found} dimensions"))
        .remedy("embed all rows and both sides with one model")
}

/// Length of the first non-null list of a column whose type does not fix it.
///
/// # Errors
/// The file cannot be decoded, or the first row is null.
pub(super) fn first_length(shard: &Shard, column: &str) -> Result<usize> {
    let Source::Parquet { metadata, .. } = &shard.source else { return Ok(0) };
    let row_groups = metadata.metadata().row_groups();
    let row_group = row_groups.iter().position(|meta| meta.num_rows() > 0).unwrap_or(0);
    let unit = Unit { shard, row_group: Some(row_group), start: 0, rows: 1 };
    let Some(arrays) = unit.batches(&[column], 1)?.next().transpose()? else { return Ok(0) };
    let array = &arrays[0];
    if array.is_null(0) {
        return Err(unit.place(null_embedding(), column, Some(0)));
    }
    Ok(match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value(0).len(),
        _ => array.as_list::<i64>().value(0).len(),
    })
}

impl Values<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Values::F16(v) => v.len(),
            Values::F32(v) => v.len(),
            Values::F64(v) => v.len(),
            Values::Bytes(v, dtype) => v.len() / binary_width(*dtype).0,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies values [from, from + out.len()) as f32. A double out of f32's range becomes infinite.
    pub fn copy_f32(&self, from: usize, out: &mut [f32]) {
        use half::slice::HalfFloatSliceExt;
        let to = from + out.len();
        match self {
            Values::F16(v) => v[from..to].convert_to_f32_slice(out),
            Values::F32(v) => out.copy_from_slice(&v[from..to]),
            Values::F64(v) => out.iter_mut().zip(&v[from..to]).for_each(|(o, v)| *o = *v as f32),
            Values::Bytes(v, BinaryType::F16) => out
                .iter_mut()
                .zip(v[2 * from..2 * to].as_chunks::<2>().0)
                .for_each(|(o, b)| *o = f16::from_le_bytes(*b).to_f32()),
            Values::Bytes(v, BinaryType::F32) => out
                .iter_mut()
                .zip(v[4 * from..4 * to].as_chunks::<4>().0)
                .for_each(|(o, b)| *o = f32::from_le_bytes(*b)),
            Values::Bytes(v, BinaryType::F64) => out
                .iter_mut()
                .zip(v[8 * from..8 * to].as_chunks::<8>().0)
                .for_each(|(o, b)| *o = f64::from_le_bytes(*b) as f32),
        }
    }
}

impl NpyArray {
    /// The values of rows [start, start + rows) of one side (0: queries, 1: positives), with the
    /// distance between two rows' beginnings in values.
    pub fn rows(&self, side: usize, start: u64, rows: u64) -> (Values<'_>, usize) {
        let mapped = if side == 1 { self.positives.as_ref().unwrap_or(&self.queries) } else { &self.queries };
        let stride = if self.paired { 2 * self.dim } else { self.dim };
        let offset = if self.paired { side * self.dim } else { 0 };
        let (width, dtype) = match self.precision[side] {
            StoreType::F16 => (2, BinaryType::F16),
            StoreType::F32 => (4, BinaryType::F32),
        };
        let from = self.data_start[side] + (start as usize * stride + offset) * width;
        let count = (rows as usize - 1) * stride + self.dim;
        (Values::Bytes(&mapped.bytes()[from..from + count * width], dtype), stride)
    }
}
