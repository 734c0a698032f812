use std::sync::Arc;

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float16Array,
    Float32Array, Float64Array, Int64Array, ListArray, NullArray, StringArray, TimestampMillisecondArray,
    TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{Int8Type, Int32Type};

use super::*;

/// Labels as text, and why they are missing.
fn labels(array: impl Array + 'static, form: LabelForm) -> Vec<String> {
    let values = LabelValues::new(&(Arc::new(array) as ArrayRef), form).unwrap();
    let text = |row| match values.get(row) {
        Ok(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Err(missing) => format!("{missing:?}"),
    };
    (0..values.len()).map(text).collect()
}

fn refused(array: impl Array + 'static, form: LabelForm) -> Unlabelled {
    LabelValues::new(&(Arc::new(array) as ArrayRef), form).unwrap_err()
}

#[test]
fn one_type_is_written_as_arrow_writes_it() {
    let floats = [Some(7.0), Some(75.25), Some(-0.0), Some(0.0), None, Some(f64::NAN), Some(1e20), Some(f64::INFINITY)];
    let expected = ["7.0", "75.25", "0.0", "0.0", "Null", "NaN", "1e20", "inf"];
    assert_eq!(labels(Float64Array::from(floats.to_vec()), LabelForm::Plain), expected);
    assert_eq!(labels(Float32Array::from(vec![-0.0, 7.5, f32::NAN]), LabelForm::Plain), ["0.0", "7.5", "NaN"]);
    let halves = [f16::NEG_ZERO, f16::from_f32(7.5), f16::NAN];
    assert_eq!(labels(Float16Array::from(halves.to_vec()), LabelForm::Plain), ["0", "7.5", "NaN"]);
    assert_eq!(labels(UInt64Array::from(vec![u64::MAX]), LabelForm::Plain), ["18446744073709551615"]);
    assert_eq!(labels(BooleanArray::from(vec![true, false]), LabelForm::Plain), ["true", "false"]);
    let decimals = Decimal128Array::from(vec![750]).with_precision_and_scale(9, 2).unwrap();
    assert_eq!(labels(decimals, LabelForm::Plain), ["7.50"]);
    assert_eq!(labels(Date32Array::from(vec![19_675]), LabelForm::Plain), ["2023-11-14"]);
    assert_eq!(labels(TimestampSecondArray::from(vec![0]), LabelForm::Plain), ["1970-01-01T00:00:00"]);
    assert_eq!(labels(StringArray::from(vec![Some("00075"), Some(""), None]), LabelForm::Plain), ["00075", "", "Null"]);
    assert_eq!(labels(NullArray::new(2), LabelForm::Number), ["Null", "Null"]);
}

#[test]
fn bytes_are_themselves_whether_they_are_text_or_not() {
    let bytes: [&[u8]; 3] = [b"\xff\x00", b"\xff\x01", b"doc"];
    let values =
        LabelValues::new(&(Arc::new(BinaryArray::from(bytes.to_vec())) as ArrayRef), LabelForm::Plain).unwrap();
    assert_eq!([0, 1, 2].map(|row| values.get(row)), bytes.map(Ok));
    let fixed = FixedSizeBinaryArray::try_from_iter(bytes[..2].iter()).unwrap();
    let values = LabelValues::new(&(Arc::new(fixed) as ArrayRef), LabelForm::Plain).unwrap();
    assert_eq!([0, 1].map(|row| values.get(row)), [Ok(bytes[0]), Ok(bytes[1])]);
}

#[test]
fn numbers_of_every_type_are_one_text() {
    let all = [
        labels(Int64Array::from(vec![7, 0]), LabelForm::Number),
        labels(Float64Array::from(vec![7.0, -0.0]), LabelForm::Number),
        labels(Float32Array::from(vec![7.0, 0.0]), LabelForm::Number),
        labels(Decimal128Array::from(vec![700, 0]).with_precision_and_scale(9, 2).unwrap(), LabelForm::Number),
    ];
    assert!(all.iter().all(|labels| *labels == ["7", "0"]), "{all:?}");
    assert_eq!(labels(BooleanArray::from(vec![Some(true), Some(false), None]), LabelForm::Number), ["1", "0", "Null"]);
    let decimals = Decimal128Array::from(vec![750, -75]).with_precision_and_scale(9, 3).unwrap();
    assert_eq!(labels(decimals, LabelForm::Number), ["0.75", "-0.075"]);
    assert_eq!(labels(Float64Array::from(vec![Some(f64::NAN), None]), LabelForm::Number), ["NaN", "Null"]);
    let found = refused(Float64Array::from(vec![7.0, 75.25]), LabelForm::Number);
    assert_eq!(found, Unlabelled { row: 1, found: "75.25".into() });
    assert_eq!(refused(Float64Array::from(vec![1e16]), LabelForm::Number).found, "1e16");
    assert_eq!(refused(Float32Array::from(vec![16_777_216.0]), LabelForm::Number).found, "16777216.0");
}

#[test]
fn a_date_is_its_midnight() {
    let expected = ["2023-11-14T00:00:00"];
    assert_eq!(labels(Date32Array::from(vec![19_675]), LabelForm::Instant), expected);
    assert_eq!(labels(TimestampSecondArray::from(vec![19_675 * 86_400]), LabelForm::Instant), expected);
    let zoned = TimestampMillisecondArray::from(vec![250]).with_timezone("Europe/Berlin");
    assert_eq!(labels(zoned, LabelForm::Instant), ["1970-01-01T00:00:00.25Z"]);
}

#[test]
fn what_arrow_cannot_write_is_refused_with_its_row() {
    let dates = Date32Array::from(vec![Some(0), None, Some(i32::MAX)]);
    assert_eq!(refused(dates, LabelForm::Plain).row, 2);
    // A null behind a dictionary is a null.
    let keys = arrow::array::Int8Array::from(vec![0, 1, 0]);
    let values = Arc::new(StringArray::from(vec![Some("a"), None]));
    let dictionary = DictionaryArray::<Int8Type>::try_new(keys, values).unwrap();
    assert_eq!(labels(dictionary, LabelForm::Plain), ["a", "Null", "a"]);
}

#[test]
fn rows_have_the_elements_of_their_lists() {
    let rows = [Some(vec![Some(3), None]), None, Some(vec![]), Some(vec![Some(4)])];
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows));
    let expected = vec![Some(0..2), None, Some(2..2), Some(2..3)];
    let wide = DataType::LargeList(Arc::new(arrow::datatypes::Field::new("item", DataType::Int32, true)));
    for list in [cast(&list, &wide).unwrap(), list.clone()] {
        let (values, ranges) = elements(&list).unwrap();
        assert_eq!((values.len(), &ranges), (3, &expected));
    }
    let (_, ranges) = elements(&list.slice(1, 3)).unwrap();
    assert_eq!(ranges, expected[1..]);
    let single: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    assert_eq!(elements(&single).unwrap().1, [Some(0..1), Some(1..2)]);
}
