//! Typed views of decoded embeddings.

use std::ops::Range;

use arrow::array::{Array, AsArray, FixedSizeBinaryArray, FixedSizeListArray, GenericListArray, OffsetSizeTrait};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use half::f16;

use crate::config::BinaryType;
use crate::error::{Error, Result};

/// The values of some rows' embeddings, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values<'a> {
    F16(&'a [f16]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    /// Little-endian bytes of any alignment.
    Bytes(&'a [u8], BinaryType),
}

/// What is wrong with an array, and in which of its rows.
type Wrong = (Error, u64);

impl Values<'_> {
    /// Copies values [from, from + out.len()) as f32. A double out of f32's range becomes infinite.
    pub(crate) fn copy_f32(&self, from: usize, out: &mut [f32]) {
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

/// A view of an embedding column: checks that there is no null and that every row has `dim` values.
///
/// # Errors
/// What is wrong with the first row that is not so, and its index in the array.
pub(crate) fn embedding_values(
    array: &dyn Array,
    dim: usize,
    dtype: Option<BinaryType>,
) -> Result<Values<'_>, (Error, u64)> {
    if let Some(row) = first_null(array) {
        return Err((null_embedding(), row));
    }
    match array.data_type() {
        DataType::FixedSizeList(..) => fixed_list_values(array.as_fixed_size_list(), dim),
        DataType::List(_) => list_values::<i32>(array.as_list(), dim),
        DataType::LargeList(_) => list_values::<i64>(array.as_list(), dim),
        DataType::FixedSizeBinary(_) => {
            binary_values(array.as_fixed_size_binary(), dim, dtype.unwrap_or(BinaryType::F32))
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

fn fixed_list_values(list: &FixedSizeListArray, dim: usize) -> Result<Values<'_>, Wrong> {
    let length = usize::try_from(list.value_length()).unwrap_or(0);
    if length != dim {
        return Err((wrong_length(dim, length), 0));
    }
    let start = list.value_offset_at(0);
    item_values(list.values().as_ref(), start, list.len(), dim)
}

fn list_values<O: OffsetSizeTrait>(list: &GenericListArray<O>, dim: usize) -> Result<Values<'_>, Wrong> {
    let offsets = list.value_offsets();
    for (row, pair) in offsets.windows(2).enumerate() {
        let length = pair[1].as_usize().checked_sub(pair[0].as_usize());
        let length = length.ok_or_else(|| (not_there(), row as u64))?;
        if length != dim {
            return Err((wrong_length(dim, length), row as u64));
        }
    }
    let start = offsets.first().map_or(0, |offset| offset.as_usize());
    item_values(list.values().as_ref(), start, list.len(), dim)
}

fn binary_values(binary: &FixedSizeBinaryArray, dim: usize, dtype: BinaryType) -> Result<Values<'_>, Wrong> {
    let width = usize::try_from(binary.value_length()).unwrap_or(0);
    if width != dim * dtype.bytes() {
        return Err((wrong_length(dim, width / dtype.bytes()), 0));
    }
    let bytes = binary.value_data().get(..binary.len() * width).ok_or_else(|| (not_there(), 0))?;
    Ok(Values::Bytes(bytes, dtype))
}

/// The items of `rows` rows from item `start` on.
fn item_values(items: &dyn Array, start: usize, rows: usize, dim: usize) -> Result<Values<'_>, Wrong> {
    let range = rows.checked_mul(dim).and_then(|count| start.checked_add(count)).map(|end| start..end);
    let range: Range<usize> = range.filter(|range| range.end <= items.len()).ok_or_else(|| (not_there(), 0))?;
    if items.null_count() > 0
        && let Some(item) = range.clone().find(|item| items.is_null(*item))
    {
        let row = (item - start) / dim;
        let error = null_embedding().found(format!("a null at dimension {}", (item - start) % dim));
        return Err((error, row as u64));
    }
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

pub(super) fn null_embedding() -> Error {
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

fn not_there() -> Error {
    Error::input("the embedding column's lists do not fit its values")
        .expected("each list within the values")
        .found("a list that ends before it starts, or beyond the last value")
        .remedy("write or download the file again")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, ListArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn lists_are_viewed_from_their_first_offset() {
        let items = Arc::new(Float32Array::from_iter_values((0..8).map(|value| value as f32)));
        let field = Arc::new(Field::new_list_field(DataType::Float32, true));
        let list = ListArray::new(field.clone(), OffsetBuffer::new(vec![2, 5, 8].into()), items.clone(), None);
        let mut out = [0f32; 3];
        embedding_values(&list, 3, None).unwrap().copy_f32(3, &mut out);
        assert_eq!(out, [5.0, 6.0, 7.0]);
        let (error, row) = embedding_values(&list, 2, None).unwrap_err();
        assert!(row == 0 && error.to_string().contains("3 dimensions"), "{error}");
        let fixed = FixedSizeListArray::new(field, 4, items, None).slice(1, 1);
        embedding_values(&fixed, 4, None).unwrap().copy_f32(0, &mut out);
        assert_eq!(out, [4.0, 5.0, 6.0]);
        assert!(embedding_values(&fixed, 3, None).is_err());
    }

    #[test]
    fn items_beyond_the_last_are_refused() {
        let items = Float32Array::from_iter_values([1.0, 2.0, 3.0]);
        assert!(item_values(&items, 0, 1, 3).is_ok());
        for (start, rows, dim) in [(1, 1, 3), (0, 2, 2), (usize::MAX, 1, 3), (0, usize::MAX, 2)] {
            assert!(item_values(&items, start, rows, dim).is_err(), "{start} {rows} {dim}");
        }
    }
}
