//! The embeddings of a decoded batch: which values each row has, and which rows cannot be used.
//!
//! Memory: 16 bytes a row of the batch. Where lists differ in length, or a binary column has not the same length
//! throughout, a copy of the batch's values.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, UInt64Array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, Int8Type, UInt8Type};

use super::embedding_type::{list, number_type, of_one_field, vector_field};
use super::row_fault::RowFault;
use super::values::Values;
use crate::config::BinaryType;
use crate::error::{Error, Result};

/// The type of a dense vector in Spark's `VectorUDT`.
const DENSE: i8 = 1;

/// The embeddings of a batch: the values of all rows, one after the other, of as many dimensions each.
#[derive(Debug)]
pub(crate) struct EmbeddingRows {
    items: Items,
    /// First value.
    start: usize,
    values: usize,
    /// What rows cannot be used, and why, by row; their values are there, and mean nothing.
    faults: Vec<(usize, RowFault)>,
}

#[derive(Debug)]
enum Items {
    Numbers(ArrayRef),
    Bytes(Buffer, BinaryType),
    /// There is nothing but nulls.
    Nothing(Vec<f32>),
}

impl EmbeddingRows {
    /// Finds the vectors of a batch, each of `dim` values; `dtype`: what binary embeddings are.
    ///
    /// # Errors
    /// The array is of another type than its column, or lists do not fit their values; the row within the array.
    pub(crate) fn new(array: &ArrayRef, dim: usize, dtype: Option<BinaryType>) -> Result<EmbeddingRows, (Error, u64)> {
        let mut flat = FlatRows::new(array, dtype)?;
        flat.refuse_lengths(dim);
        flat.with_dimensions(dim)
    }

    pub(crate) fn values(&self) -> Values<'_> {
        let range = self.start..self.start + self.values;
        match &self.items {
            Items::Bytes(bytes, dtype) => Values::Bytes(&bytes[range], *dtype),
            Items::Nothing(values) => Values::F32(values),
            Items::Numbers(items) => match items.data_type() {
                DataType::Float16 => Values::F16(&items.as_primitive::<Float16Type>().values()[range]),
                DataType::Float64 => Values::F64(&items.as_primitive::<Float64Type>().values()[range]),
                DataType::Int8 => Values::I8(&items.as_primitive::<Int8Type>().values()[range]),
                DataType::UInt8 => Values::U8(&items.as_primitive::<UInt8Type>().values()[range]),
                _ => Values::F32(&items.as_primitive::<Float32Type>().values()[range]),
            },
        }
    }

    /// Whether the values are integers of a byte.
    pub(crate) fn are_integers(&self) -> bool {
        match &self.items {
            Items::Bytes(_, dtype) => matches!(dtype, BinaryType::Int8 | BinaryType::Uint8),
            Items::Numbers(items) => matches!(items.data_type(), DataType::Int8 | DataType::UInt8),
            Items::Nothing(_) => false,
        }
    }

    /// Rows that cannot be used, in order, and why.
    pub(crate) fn faults(&self) -> &[(usize, RowFault)] {
        &self.faults
    }
}

/// The length that most vectors of a batch have, in values; none where no row has a vector. Of two equally frequent
/// ones the one that comes first.
///
/// # Errors
/// See [`EmbeddingRows::new`].
pub(crate) fn usual_length(array: &ArrayRef, dtype: Option<BinaryType>) -> Result<Option<usize>, (Error, u64)> {
    let flat = FlatRows::new(array, dtype)?;
    let width = flat.value_bytes();
    let mut counts = BTreeMap::<usize, (usize, usize)>::new();
    for (row, span) in flat.spans.iter().enumerate() {
        if !flat.faults.contains_key(&row) && !span.is_empty() {
            counts.entry(span.len() / width).or_insert((0, usize::MAX - row)).0 += 1;
        }
    }
    Ok(counts.into_iter().max_by_key(|(_, rank)| *rank).map(|(length, _)| length))
}

/// The first row of a batch that cannot be used, whatever the length of vectors; and why.
///
/// # Errors
/// See [`EmbeddingRows::new`].
pub(crate) fn first_fault(
    array: &ArrayRef,
    dtype: Option<BinaryType>,
) -> Result<Option<(usize, RowFault)>, (Error, u64)> {
    Ok(FlatRows::new(array, dtype)?.faults.into_iter().next())
}

/// A batch behind its wrappers.
struct FlatRows {
    items: Items,
    /// Each row's values, or bytes of values.
    spans: Vec<Range<usize>>,
    faults: BTreeMap<usize, RowFault>,
}

impl FlatRows {
    fn new(array: &ArrayRef, dtype: Option<BinaryType>) -> Result<FlatRows, (Error, u64)> {
        let (mut array, mut faults) = (array.clone(), BTreeMap::new());
        loop {
            put_nulls(array.logical_nulls().as_ref(), &mut faults);
            array = match array.data_type() {
                DataType::Struct(fields) => {
                    let outer = array.as_struct();
                    let Some(field) = vector_field(fields) else { return Err((other_type(&array), 0)) };
                    if fields.len() > 1 {
                        put_sparse(outer.column(0), &mut faults);
                    }
                    outer.column_by_name(field.name()).cloned().ok_or_else(|| (other_type(&array), 0))?
                }
                nested if list(nested).is_some_and(|(item, _)| list(of_one_field(item)).is_some()) => {
                    one_vector_each(&array, &mut faults)?
                }
                _ => break,
            }
        }
        if list(array.data_type()).is_some() {
            let (items, spans) = (items_of(&array), spans_of(&array)?);
            if number_type(items.data_type()).is_none() {
                return Err((other_type(&array), 0));
            }
            put_null_values(&items, &spans, &mut faults);
            return Ok(FlatRows { items: Items::Numbers(items), spans, faults });
        }
        binary_rows(&array, dtype, faults)
    }

    /// Bytes of a value, in units of the spans.
    fn value_bytes(&self) -> usize {
        match &self.items {
            Items::Bytes(_, dtype) => dtype.bytes(),
            _ => 1,
        }
    }

    /// Rows whose vectors have not `dim` values are at fault.
    fn refuse_lengths(&mut self, dim: usize) {
        let width = self.value_bytes();
        for (row, span) in self.spans.iter().enumerate().filter(|(_, span)| span.len() != dim * width) {
            let (expected, found) = (dim, span.len());
            let fault = match &self.items {
                Items::Bytes(..) if !found.is_multiple_of(width) => RowFault::Bytes { expected: dim * width, found },
                _ => RowFault::Length { expected, found: found / width },
            };
            self.faults.entry(row).or_insert(fault);
        }
    }

    /// The rows with all values one after the other.
    fn with_dimensions(self, dim: usize) -> Result<EmbeddingRows, (Error, u64)> {
        let length = dim * self.value_bytes();
        let start = self.spans.first().map_or(0, |span| span.start);
        let regular = self.spans.iter().enumerate().all(|(row, span)| {
            let begin = start + row * length;
            *span == (begin..begin + length)
        });
        let (rows, faults) = (self.spans.len(), self.faults.into_iter().collect());
        let values = rows * length;
        if regular || matches!(self.items, Items::Nothing(_)) {
            let items = if let Items::Nothing(_) = self.items { Items::Nothing(vec![0.0; values]) } else { self.items };
            return Ok(EmbeddingRows { items, start, values, faults });
        }
        let items = match self.items {
            Items::Bytes(bytes, dtype) => {
                let mut copy = vec![0u8; values];
                for (row, span) in self.spans.iter().enumerate().filter(|(_, span)| span.len() == length) {
                    copy[row * length..][..length].copy_from_slice(&bytes[span.clone()]);
                }
                Items::Bytes(copy.into(), dtype)
            }
            Items::Numbers(numbers) => {
                let of_row = |span: &Range<usize>| (span.len() == length).then_some(span.start);
                let index = |span| (0..length).map(move |at| of_row(span).map(|start| (start + at) as u64));
                let indices: UInt64Array = self.spans.iter().flat_map(index).collect();
                Items::Numbers(take(&numbers, &indices, None).map_err(|e| (not_there(&e.to_string()), 0))?)
            }
            nothing => nothing,
        };
        Ok(EmbeddingRows { items, start: 0, values, faults })
    }
}

/// Rows that a mask calls null are at fault.
fn put_nulls(nulls: Option<&NullBuffer>, faults: &mut BTreeMap<usize, RowFault>) {
    let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return };
    for row in (0..nulls.len()).filter(|row| nulls.is_null(*row)) {
        faults.entry(row).or_insert(RowFault::Null);
    }
}

/// Rows whose vector is not dense are at fault.
fn put_sparse(kinds: &ArrayRef, faults: &mut BTreeMap<usize, RowFault>) {
    let kinds = kinds.as_primitive::<Int8Type>();
    for row in (0..kinds.len()).filter(|row| kinds.is_null(*row) || kinds.value(*row) != DENSE) {
        faults.entry(row).or_insert(RowFault::Sparse);
    }
}

/// Rows with a null among their values are at fault.
fn put_null_values(items: &ArrayRef, spans: &[Range<usize>], faults: &mut BTreeMap<usize, RowFault>) {
    let Some(nulls) = items.nulls().filter(|nulls| nulls.null_count() > 0) else { return };
    for (row, span) in spans.iter().enumerate() {
        if let Some(item) = span.clone().find(|item| nulls.is_null(*item)) {
            faults.entry(row).or_insert(RowFault::NullValue { dimension: item - span.start });
        }
    }
}

/// The one vector in each row's list of vectors.
fn one_vector_each(array: &ArrayRef, faults: &mut BTreeMap<usize, RowFault>) -> Result<ArrayRef, (Error, u64)> {
    let (spans, vectors) = (spans_of(array)?, list_values(array));
    for (row, span) in spans.iter().enumerate().filter(|(_, span)| span.len() != 1) {
        faults.entry(row).or_insert(RowFault::Vectors { found: span.len() });
    }
    let start = spans.first().map_or(0, |span| span.start);
    if spans.iter().enumerate().all(|(row, span)| *span == (start + row..start + row + 1)) {
        return Ok(vectors.slice(start, spans.len()));
    }
    let indices: UInt64Array = spans.iter().map(|span| (span.len() == 1).then_some(span.start as u64)).collect();
    take(&vectors, &indices, None).map_err(|e| (not_there(&e.to_string()), 0))
}

/// The items of a list array, as they lie.
fn list_values(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().values().clone(),
        DataType::LargeList(_) => array.as_list::<i64>().values().clone(),
        _ => array.as_fixed_size_list().values().clone(),
    }
}

/// The numbers in a list array: its items, out of the structs that hold one each.
fn items_of(array: &ArrayRef) -> ArrayRef {
    let mut items = list_values(array);
    while let Some(outer) = items.as_struct_opt().filter(|outer| outer.num_columns() == 1) {
        let inner = outer.column(0);
        let nulls = NullBuffer::union(outer.nulls(), inner.nulls());
        let data = inner.to_data().into_builder().nulls(nulls).build();
        items = data.map_or_else(|_| inner.clone(), arrow::array::make_array);
    }
    items
}

/// Which items each row of a list array has.
fn spans_of(array: &ArrayRef) -> Result<Vec<Range<usize>>, (Error, u64)> {
    let items = list_values(array).len();
    let spans: Vec<Range<usize>> = match array.data_type() {
        DataType::List(_) => spans_between(array.as_list::<i32>().value_offsets()),
        DataType::LargeList(_) => spans_between(array.as_list::<i64>().value_offsets()),
        _ => {
            let lists = array.as_fixed_size_list();
            let (start, length) = (lists.offset(), usize::try_from(lists.value_length()).unwrap_or(0));
            (0..lists.len()).map(|row| (start + row) * length..(start + row + 1) * length).collect()
        }
    };
    match spans.iter().position(|span| span.start > span.end || span.end > items) {
        Some(row) => Err((not_there("a list that ends before it starts, or beyond the last value"), row as u64)),
        None => Ok(spans),
    }
}

fn spans_between<O: OffsetSizeTrait>(offsets: &[O]) -> Vec<Range<usize>> {
    offsets.windows(2).map(|pair| pair[0].as_usize()..pair[1].as_usize()).collect()
}

/// The rows of a binary array, or of one that has only nulls.
fn binary_rows(
    array: &ArrayRef,
    dtype: Option<BinaryType>,
    faults: BTreeMap<usize, RowFault>,
) -> Result<FlatRows, (Error, u64)> {
    let dtype = dtype.unwrap_or(BinaryType::F32);
    let (bytes, spans) = match array.data_type() {
        DataType::FixedSizeBinary(width) => {
            let (fixed, width) = (array.as_fixed_size_binary(), usize::try_from(*width).unwrap_or(0));
            let spans = (0..fixed.len()).map(|row| row * width..(row + 1) * width).collect();
            (fixed.values().clone(), spans)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let large = cast(array, &DataType::LargeBinary).map_err(|e| (not_there(&e.to_string()), 0))?;
            let large = large.as_binary::<i64>();
            (large.values().clone(), spans_between(large.value_offsets()))
        }
        DataType::Null => {
            let spans = vec![0..0; array.len()];
            return Ok(FlatRows { items: Items::Nothing(Vec::new()), spans, faults });
        }
        _ => return Err((other_type(array), 0)),
    };
    match spans.iter().position(|span: &Range<usize>| span.start > span.end || span.end > bytes.len()) {
        Some(row) => Err((not_there("a value that ends before it starts, or beyond the last byte"), row as u64)),
        None => Ok(FlatRows { items: Items::Bytes(bytes, dtype), spans, faults }),
    }
}

fn other_type(array: &ArrayRef) -> Error {
    Error::input("the embedding column changed its type")
        .expected("the type that the first file has")
        .found(array.data_type().to_string())
        .remedy("write all files with one schema")
}

fn not_there(found: &str) -> Error {
    Error::input("the embedding column's lists do not fit its values")
        .expected("each list within the values")
        .found(found)
        .remedy("write or download the file again")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Float64Array, Int8Array, Int32Array,
        ListArray, NullArray, StructArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Field, Fields};

    use super::*;

    fn field(data_type: &DataType) -> Arc<Field> {
        Arc::new(Field::new("element", data_type.clone(), true))
    }

    fn lists(items: ArrayRef, offsets: &[i32], nulls: Option<&[bool]>) -> ArrayRef {
        let nulls = nulls.map(|valid| NullBuffer::from(valid.to_vec()));
        Arc::new(ListArray::new(field(items.data_type()), OffsetBuffer::new(offsets.to_vec().into()), items, nulls))
    }

    fn floats(count: u8) -> ArrayRef {
        Arc::new(Float32Array::from_iter_values((0..count).map(f32::from)))
    }

    fn of_struct(fields: Vec<(&str, ArrayRef)>) -> ArrayRef {
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = fields
            .into_iter()
            .map(|(name, column)| (Field::new(name, column.data_type().clone(), true), column))
            .unzip();
        Arc::new(StructArray::new(Fields::from(fields), columns, None))
    }

    /// The values of a batch of two or three dimensions, and what is wrong with its rows.
    fn read(array: &ArrayRef, dim: usize) -> (Vec<f32>, Vec<(usize, RowFault)>) {
        let rows = EmbeddingRows::new(array, dim, Some(BinaryType::F16)).unwrap_or_else(|(error, _)| panic!("{error}"));
        let mut out = vec![0.0; array.len() * dim];
        rows.values().copy_f32(0, &mut out);
        (out, rows.faults().to_vec())
    }

    #[test]
    fn vectors_are_read_out_of_what_wraps_them() {
        let expected = (vec![2.0, 3.0, 4.0, 5.0, 6.0, 7.0], vec![]);
        let plain = lists(floats(8), &[2, 5, 8], None);
        assert_eq!(read(&plain, 3), expected);
        assert_eq!(read(&of_struct(vec![("only", plain.clone())]), 3), expected);
        let wrapped = of_struct(vec![("element", floats(8))]);
        assert_eq!(read(&lists(wrapped, &[2, 5, 8], None), 3), expected);
        let inner = lists(floats(8), &[0, 2, 5, 8], None);
        assert_eq!(read(&lists(inner.clone(), &[1, 2, 3], None), 3), expected);
        let one = FixedSizeListArray::new(field(inner.data_type()), 1, inner, None).slice(1, 2);
        assert_eq!(read(&(Arc::new(one) as ArrayRef), 3), expected);
        let fixed = FixedSizeListArray::new(field(&DataType::Float32), 2, floats(8), None).slice(1, 3);
        assert_eq!(read(&(Arc::new(fixed) as ArrayRef), 2), expected);
        let bytes: ArrayRef = Arc::new(Int8Array::from(vec![0, 1, -2, 3, 4]));
        assert_eq!(read(&lists(bytes, &[1, 3, 5], None), 2), (vec![1.0, -2.0, 3.0, 4.0], vec![]));
    }

    #[test]
    fn sparks_vectors_are_read_where_they_are_dense() {
        let kinds: ArrayRef = Arc::new(Int8Array::from(vec![1, 0, 1]));
        let sizes: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(2), None]));
        let indices = lists(Arc::new(Int32Array::from(vec![1])), &[0, 0, 1, 1], Some(&[false, true, false]));
        let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 9.0, 3.0, 4.0]));
        let values = lists(values, &[0, 2, 3, 5], None);
        let column = of_struct(vec![("type", kinds), ("size", sizes), ("indices", indices), ("values", values)]);
        let (values, faults) = read(&column, 2);
        assert_eq!(faults, [(1, RowFault::Sparse)]);
        assert_eq!([&values[..2], &values[4..]], [[1.0, 2.0], [3.0, 4.0]]);
    }

    #[test]
    fn each_row_that_cannot_be_used_is_named_and_the_others_are_read() {
        // A row of two, one of three, a null, one with a null value, an empty one, one of two.
        let items = Float32Array::from(vec![Some(1.0), Some(2.0), Some(7.0), Some(7.0), Some(7.0)]);
        let rest = Float32Array::from(vec![Some(7.0), None, Some(3.0), Some(4.0)]);
        let items = arrow::compute::concat(&[&items, &rest]).unwrap();
        let column = lists(items, &[0, 2, 5, 5, 7, 7, 9], Some(&[true, true, false, true, true, true]));
        let (values, faults) = read(&column, 2);
        let length = |found| RowFault::Length { expected: 2, found };
        let null = RowFault::NullValue { dimension: 1 };
        assert_eq!(faults, [(1, length(3)), (2, RowFault::Null), (3, null), (4, length(0))]);
        assert_eq!([&values[..2], &values[10..]], [[1.0, 2.0], [3.0, 4.0]]);
        let nested = lists(lists(floats(6), &[0, 2, 4, 6], None), &[0, 1, 1, 3], None);
        let (values, faults) = read(&nested, 2);
        assert_eq!(faults, [(1, RowFault::Vectors { found: 0 }), (2, RowFault::Vectors { found: 2 })]);
        assert_eq!(values[..2], [0.0, 1.0]);
        let (_, faults) = read(&(Arc::new(NullArray::new(2)) as ArrayRef), 2);
        assert_eq!(faults, [(0, RowFault::Null), (1, RowFault::Null)]);
    }

    #[test]
    fn binary_is_read_where_it_has_one_length() {
        let one = half::f16::ONE.to_le_bytes();
        let row = [one, one].concat();
        let fixed: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([&row, &row].into_iter()).unwrap());
        assert_eq!(read(&fixed, 2), (vec![1.0; 4], vec![]));
        let rows: Vec<Option<&[u8]>> = vec![Some(&row), Some(&row[..3]), None, Some(&row[..2]), Some(&row)];
        let (values, faults) = read(&(Arc::new(BinaryArray::from(rows)) as ArrayRef), 2);
        let bytes = RowFault::Bytes { expected: 4, found: 3 };
        assert_eq!(faults, [(1, bytes), (2, RowFault::Null), (3, RowFault::Length { expected: 2, found: 1 })]);
        assert_eq!([&values[..2], &values[8..]], [[1.0; 2]; 2]);
    }

    #[test]
    fn the_usual_length_is_that_of_most_rows() {
        let usual = |array: &ArrayRef| usual_length(array, Some(BinaryType::F16)).unwrap_or_else(|_| panic!());
        let ragged = lists(floats(9), &[0, 3, 5, 7, 7, 9], Some(&[true, true, true, false, true]));
        assert_eq!(usual(&ragged), Some(2));
        assert_eq!(usual(&lists(floats(5), &[0, 3, 5], None)), Some(3), "the first of two");
        assert_eq!(usual(&lists(floats(0), &[0, 0], None)), None);
        assert_eq!(usual(&(Arc::new(BinaryArray::from(vec![&[0u8; 6][..]])) as ArrayRef)), Some(3));
    }
}
