//! How many bytes the labels of an array have, before they are written out. Pure.
//!
//! A dictionary, runs or views may hold a long value once that many rows have: written out, a small file would be
//! larger than memory. So rows are cut into pieces by what their labels will take, and labels that are too long are
//! found while they are still shared.

use std::ops::Range;

use arrow::array::{AnyDictionaryArray, Array, ArrayRef, AsArray, RunArray};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type, RunEndIndexType};

/// Bytes of text that are written out at a time; a longer label is by itself.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes of each value of an array of text or bytes, nulls as 0; none for other types, whose labels are short.
pub(crate) fn lengths(array: &dyn Array) -> Option<Vec<usize>> {
    let all = 0..array.len();
    let valid = |row: usize| array.is_valid(row);
    let of = |length: &dyn Fn(usize) -> usize| Some(all.map(|row| if valid(row) { length(row) } else { 0 }).collect());
    match array.data_type() {
        DataType::Utf8 => of(&|row| array.as_string::<i32>().value(row).len()),
        DataType::LargeUtf8 => of(&|row| array.as_string::<i64>().value(row).len()),
        DataType::Utf8View => of(&|row| array.as_string_view().value(row).len()),
        DataType::Binary => of(&|row| array.as_binary::<i32>().value(row).len()),
        DataType::LargeBinary => of(&|row| array.as_binary::<i64>().value(row).len()),
        DataType::BinaryView => of(&|row| array.as_binary_view().value(row).len()),
        DataType::FixedSizeBinary(bytes) => of(&|_| usize::try_from(*bytes).unwrap_or(0)),
        DataType::Dictionary(..) => of_dictionary(array.as_any_dictionary()),
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => of_runs(array.as_any().downcast_ref::<RunArray<Int16Type>>()?),
            DataType::Int32 => of_runs(array.as_any().downcast_ref::<RunArray<Int32Type>>()?),
            _ => of_runs(array.as_any().downcast_ref::<RunArray<Int64Type>>()?),
        },
        _ => None,
    }
}

fn of_dictionary(array: &dyn AnyDictionaryArray) -> Option<Vec<usize>> {
    let values = lengths(array.values())?;
    let keys = if values.is_empty() { vec![0; array.len()] } else { array.normalized_keys() };
    let length =
        |(row, key): (usize, usize)| if array.is_valid(row) { values.get(key).copied().unwrap_or(0) } else { 0 };
    Some(keys.into_iter().enumerate().map(length).collect())
}

fn of_runs<R: RunEndIndexType>(array: &RunArray<R>) -> Option<Vec<usize>> {
    let values = lengths(array.values())?;
    Some((0..array.len()).map(|row| values.get(array.get_physical_index(row)).copied().unwrap_or(0)).collect())
}

/// Cuts rows into ranges whose lengths sum up to [`PIECE_BYTES`] at most, or that are one row. O(rows).
pub(crate) fn pieces(lengths: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let (mut ranges, mut start, mut bytes, mut end) = (Vec::new(), 0, 0usize, 0);
    for length in lengths {
        if end > start && bytes.saturating_add(length) > PIECE_BYTES {
            ranges.push(start..end);
            (start, bytes) = (end, 0);
        }
        bytes = bytes.saturating_add(length);
        end += 1;
    }
    if end > start {
        ranges.push(start..end);
    }
    ranges
}

/// A type in which values are not written out while they are read: text and bytes as views.
pub(crate) fn as_views(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, value) if as_views(value) != **value => as_views(value),
        DataType::List(field) => {
            let viewed = as_views(field.data_type());
            DataType::List(std::sync::Arc::new(field.as_ref().clone().with_data_type(viewed)))
        }
        DataType::LargeList(field) => {
            let viewed = as_views(field.data_type());
            DataType::LargeList(std::sync::Arc::new(field.as_ref().clone().with_data_type(viewed)))
        }
        other => other.clone(),
    }
}

/// Values of a range of rows; the elements of such rows lie in the range that is returned.
pub(crate) fn spanned(lists: &[Option<Range<usize>>]) -> Range<usize> {
    let start = lists.iter().flatten().filter(|list| !list.is_empty()).map(|list| list.start).min().unwrap_or(0);
    let end = lists.iter().flatten().filter(|list| !list.is_empty()).map(|list| list.end).max().unwrap_or(start);
    start..end
}

/// The bytes of a row's elements.
pub(crate) fn of_list(lengths: &[usize], list: Option<&Range<usize>>) -> usize {
    let own = list.and_then(|list| lengths.get(list.clone()));
    own.map_or(0, |own| own.iter().fold(0, |sum, length| usize::saturating_add(sum, *length)))
}

/// An array without what lies behind it: the values of other rows.
pub(crate) fn slice(array: &ArrayRef, rows: &Range<usize>) -> ArrayRef {
    array.slice(rows.start, rows.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Int32Array, StringArray, StringViewArray};

    use super::*;

    #[test]
    fn lengths_are_those_of_the_rows_however_they_are_stored() {
        let plain: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("größe"), Some("")]));
        assert_eq!(lengths(&plain), Some(vec![1, 0, 7, 0]));
        assert_eq!(lengths(&slice(&plain, &(2..4))), Some(vec![7, 0]));
        let views: ArrayRef = Arc::new(StringViewArray::from(vec!["abc"; 3]));
        assert_eq!(lengths(&views), Some(vec![3; 3]));
        let coded = DictionaryArray::<Int32Type>::new(
            Int32Array::from(vec![Some(1), Some(0), None, Some(1)]),
            Arc::new(StringArray::from(vec!["x", "long"])),
        );
        assert_eq!(lengths(&coded), Some(vec![4, 1, 0, 4]));
        let runs = RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3]), &StringArray::from(vec!["ab", "c"]));
        assert_eq!(lengths(&runs.unwrap()), Some(vec![2, 2, 1]));
        assert_eq!(lengths(&Int32Array::from(vec![1])), None);
    }

    #[test]
    fn pieces_hold_no_more_than_they_may() {
        assert_eq!(pieces([PIECE_BYTES / 2; 5]), [0..2, 2..4, 4..5]);
        assert_eq!(pieces([1, PIECE_BYTES * 3, usize::MAX, 1]), [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(pieces([]), [] as [Range<usize>; 0]);
    }

    #[test]
    fn elements_of_rows_lie_in_one_range() {
        let lists = [Some(4..6), None, Some(0..0), Some(6..9)];
        assert_eq!(spanned(&lists), 4..9);
        assert_eq!(spanned(&[None]), 0..0);
        assert_eq!(of_list(&[1; 9], lists[3].as_ref()), 3);
    }
}
