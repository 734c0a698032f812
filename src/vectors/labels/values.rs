//! An array's labels as bytes, in the form of their column. Pure.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, LargeBinaryArray, LargeBinaryBuilder, OffsetSizeTrait, PrimitiveArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, TimeUnit};
use half::f16;

use super::form::{LabelForm, value_type};
use super::instants::text_of_instant;
use super::numbers::{digits_of_float, without_trailing_zeros};

/// Why a row has no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Null,
    /// A float that is no number.
    NaN,
}

/// The labels of an array.
#[derive(Debug, Clone)]
pub(crate) struct LabelValues {
    /// Null where a label is missing.
    bytes: LargeBinaryArray,
    /// Whether a missing label is a NaN; none where no value can be one.
    nan: Option<Vec<bool>>,
}

/// A value that has no label in the column's form, and its index in the array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unlabelled {
    pub(crate) row: usize,
    pub(crate) found: String,
}

impl LabelValues {
    /// Writes an array's values in a form.
    ///
    /// # Errors
    /// The first value that the form cannot hold without loss.
    pub(crate) fn new(array: &ArrayRef, form: LabelForm) -> Result<LabelValues, Unlabelled> {
        let array = flat(array)?;
        if *array.data_type() == DataType::Null {
            return Ok(LabelValues { bytes: no_labels(array.len()), nan: None });
        }
        let (bytes, nan) = match form {
            LabelForm::Plain => plain(&array)?,
            LabelForm::Number => number(&array)?,
            LabelForm::Instant => (instants(&array)?, None),
            LabelForm::Uuid => (written_bytes(&array, uuid)?, None),
            LabelForm::Hex => (written_bytes(&array, hex)?, None),
        };
        // What the input has and the labels have not was lost on the way: it must not pass for missing.
        let is_nan = |row: usize| nan.as_ref().is_some_and(|nan: &Vec<bool>| nan[row]);
        let lost = |row: &usize| bytes.is_null(*row) && array.is_valid(*row) && !is_nan(*row);
        match (0..array.len()).find(lost) {
            Some(row) => Err(Unlabelled { row, found: format!("a {} that has no text", array.data_type()) }),
            None => Ok(LabelValues { bytes, nan }),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A row's label.
    pub(crate) fn get(&self, row: usize) -> Result<&[u8], Missing> {
        if self.bytes.is_valid(row) {
            return Ok(self.bytes.value(row));
        }
        let is_nan = self.nan.as_ref().is_some_and(|nan| nan[row]);
        Err(if is_nan { Missing::NaN } else { Missing::Null })
    }
}

/// Which elements each row of an array has; none where it has no list.
pub(crate) type RowElements = Vec<Option<Range<usize>>>;

/// The elements of a column of lists, and which of them each row has. A column without lists: each row has its own
/// value.
///
/// # Errors
/// The array is of another type than its column.
pub(crate) fn elements(array: &ArrayRef) -> Result<(ArrayRef, RowElements), Unlabelled> {
    let array = flat(array)?;
    let valid = |row: usize| array.is_valid(row);
    let of_rows = |range: &dyn Fn(usize) -> Range<usize>| -> RowElements {
        (0..array.len()).map(|row| valid(row).then(|| range(row))).collect()
    };
    fn offsets<O: OffsetSizeTrait>(offsets: &[O]) -> impl Fn(usize) -> Range<usize> {
        move |row| offsets[row].as_usize()..offsets[row + 1].as_usize()
    }
    fn views<O: OffsetSizeTrait>(offsets: &[O], sizes: &[O]) -> impl Fn(usize) -> Range<usize> {
        move |row| offsets[row].as_usize()..offsets[row].as_usize() + sizes[row].as_usize()
    }
    Ok(match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            (list.values().clone(), of_rows(&offsets(list.value_offsets())))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            (list.values().clone(), of_rows(&offsets(list.value_offsets())))
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            (list.values().clone(), of_rows(&views(list.value_offsets(), list.value_sizes())))
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            (list.values().clone(), of_rows(&views(list.value_offsets(), list.value_sizes())))
        }
        DataType::FixedSizeList(_, length) => {
            let (list, length) = (array.as_fixed_size_list(), usize::try_from(*length).unwrap_or(0));
            (list.values().clone(), of_rows(&|row| row * length..(row + 1) * length))
        }
        _ => {
            let rows = (0..array.len()).map(|row| Some(row..row + 1)).collect();
            (array, rows)
        }
    })
}

fn no_labels(rows: usize) -> LargeBinaryArray {
    new_null_array(&DataType::LargeBinary, rows).as_binary::<i64>().clone()
}

/// The values behind dictionaries and runs.
fn flat(array: &ArrayRef) -> Result<ArrayRef, Unlabelled> {
    match value_type(array.data_type()) {
        same if same == array.data_type() => Ok(array.clone()),
        leaf => cast_all(array, leaf),
    }
}

/// Casts an array; where arrow refuses, says which row it refuses.
fn cast_all(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Unlabelled> {
    cast(array, to).map_err(|error| {
        let refused = |row: &usize| cast(&array.slice(*row, 1), to).is_err();
        Unlabelled { row: (0..array.len()).find(refused).unwrap_or(0), found: error.to_string() }
    })
}

type LabelBytes = (LargeBinaryArray, Option<Vec<bool>>);

/// As arrow writes the type; bytes as they are.
fn plain(array: &ArrayRef) -> Result<LabelBytes, Unlabelled> {
    let (array, nan) = match array.data_type() {
        // 0 and -0 are equal: a sum with 0 is never -0.
        DataType::Float16 => {
            let unsigned = |value: f16| if value == f16::ZERO { f16::ZERO } else { value };
            let floats: PrimitiveArray<Float16Type> = array.as_primitive::<Float16Type>().unary(unsigned);
            without_nan(&floats, |value| value.is_nan())
        }
        DataType::Float32 => {
            let floats: PrimitiveArray<Float32Type> = array.as_primitive::<Float32Type>().unary(|value| value + 0.0);
            without_nan(&floats, |value| value.is_nan())
        }
        DataType::Float64 => {
            let floats: PrimitiveArray<Float64Type> = array.as_primitive::<Float64Type>().unary(|value| value + 0.0);
            without_nan(&floats, |value| value.is_nan())
        }
        DataType::FixedSizeBinary(_) | DataType::Binary | DataType::BinaryView | DataType::LargeBinary => {
            return Ok((cast_all(array, &DataType::LargeBinary)?.as_binary::<i64>().clone(), None));
        }
        _ => (array.clone(), None),
    };
    let text = cast_all(&array, &DataType::LargeUtf8)?;
    Ok((cast_all(&text, &DataType::LargeBinary)?.as_binary::<i64>().clone(), nan))
}

/// Floats with nulls in place of NaNs, and where these were.
fn without_nan<T: arrow::datatypes::ArrowPrimitiveType>(
    floats: &PrimitiveArray<T>,
    is_nan: impl Fn(T::Native) -> bool,
) -> (ArrayRef, Option<Vec<bool>>) {
    let nan: Vec<bool> = floats.iter().map(|value| value.is_some_and(&is_nan)).collect();
    let numbers: PrimitiveArray<T> = floats.iter().map(|value| value.filter(|value| !is_nan(*value))).collect();
    (Arc::new(numbers), Some(nan))
}

/// By value, as an integer or a decimal number.
fn number(array: &ArrayRef) -> Result<LabelBytes, Unlabelled> {
    if array.data_type().is_floating() {
        return whole_floats(array);
    }
    let array = match array.data_type() {
        DataType::Boolean => cast_all(array, &DataType::Int8)?,
        _ => array.clone(),
    };
    let text = cast_all(&array, &DataType::LargeUtf8)?;
    let text = text.as_string::<i64>();
    let values: LargeBinaryArray =
        text.iter().map(|number| number.map(|number| without_trailing_zeros(number).as_bytes())).collect();
    Ok((values, None))
}

/// Floats that are integers.
fn whole_floats(array: &ArrayRef) -> Result<LabelBytes, Unlabelled> {
    let bits = match array.data_type() {
        DataType::Float16 => 11,
        DataType::Float32 => 24,
        _ => 53,
    };
    let floats = cast_all(array, &DataType::Float64)?;
    let floats = floats.as_primitive::<Float64Type>();
    let mut bytes = LargeBinaryBuilder::new();
    let mut nan = vec![false; floats.len()];
    for (row, value) in floats.iter().enumerate() {
        match value {
            None => bytes.append_null(),
            Some(value) if value.is_nan() => {
                nan[row] = true;
                bytes.append_null();
            }
            Some(value) => match digits_of_float(value, bits) {
                Some(digits) => bytes.append_value(digits),
                None => return Err(Unlabelled { row, found: format!("{value:?}") }),
            },
        }
    }
    Ok((bytes.finish(), Some(nan)))
}

/// Bytes as text.
fn written_bytes(array: &ArrayRef, text: fn(&[u8]) -> String) -> Result<LargeBinaryArray, Unlabelled> {
    let bytes = cast_all(array, &DataType::LargeBinary)?;
    Ok(bytes.as_binary::<i64>().iter().map(|bytes| bytes.map(text)).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As RFC 9562 writes 16 bytes: 8, 4, 4, 4 and 12 digits.
fn uuid(bytes: &[u8]) -> String {
    let digits = hex(bytes);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, digits.len())].join("-")
}

/// By instant.
fn instants(array: &ArrayRef) -> Result<LargeBinaryArray, Unlabelled> {
    let (counts, unit, zoned): (Vec<Option<i64>>, _, _) = match array.data_type() {
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>();
            (days.iter().map(|day| day.map(|day| i64::from(day) * 86_400)).collect(), TimeUnit::Second, false)
        }
        DataType::Date64 => (array.as_primitive::<Date64Type>().iter().collect(), TimeUnit::Millisecond, false),
        DataType::Timestamp(unit, zone) => {
            let counts = cast_all(array, &DataType::Int64)?;
            let counts = counts.as_primitive::<arrow::datatypes::Int64Type>().iter().collect();
            (counts, *unit, zone.is_some())
        }
        other => return Err(Unlabelled { row: 0, found: format!("a {other} among dates") }),
    };
    Ok(counts.into_iter().map(|count| count.map(|count| text_of_instant(count, unit, zoned))).collect())
}

#[cfg(test)]
mod tests;
