//! From the types that a label column has in all shards to the one form in which its values are compared. Pure.

use arrow::datatypes::{DataType, Field};

/// How the labels of a column are written, so that equal values have the same bytes and others have not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelForm {
    /// As arrow writes each shard's type: there is one type, or the types write equal values alike.
    Plain,
    /// Numbers of several types, by value: 7 and 7.0 and 7.00 are `7`.
    Number,
    /// Dates and times of several types, by instant.
    Instant,
    /// 16 bytes, as UUIDs are written.
    Uuid,
    /// Bytes in hex.
    Hex,
}

/// What can be compared with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LabelKind {
    Text,
    Integer,
    Boolean,
    Float,
    Decimal,
    /// Dates, and timestamps without a zone.
    Local,
    /// Timestamps with a zone.
    Zoned,
    Bytes,
    /// Comparable with its own type only: times of day, durations, intervals.
    Alone,
}

/// The kind of a type; none where it holds no labels.
fn kind(data_type: &DataType) -> Option<LabelKind> {
    Some(match data_type {
        integer if integer.is_integer() => LabelKind::Integer,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => LabelKind::Text,
        DataType::Boolean => LabelKind::Boolean,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => LabelKind::Float,
        decimal if decimal.is_decimal() => LabelKind::Decimal,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, None) => LabelKind::Local,
        DataType::Timestamp(_, Some(_)) => LabelKind::Zoned,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            LabelKind::Bytes
        }
        DataType::Time32(_) | DataType::Time64(_) | DataType::Duration(_) | DataType::Interval(_) => LabelKind::Alone,
        _ => return None,
    })
}

/// Whether a column's values of this type are labels.
pub(super) fn holds_labels(leaf: &DataType) -> bool {
    *leaf == DataType::Null || kind(leaf).is_some()
}

/// How many labels a row of a column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelShape {
    /// One: the column can be an id, a task or a key.
    One,
    /// A list of them: the column can be a key.
    List,
}

/// How many labels a row of a column of this type has; none where the type holds no labels.
pub(crate) fn label_shape(data_type: &DataType) -> Option<LabelShape> {
    let (leaf, list) = leaf_type(data_type);
    kind(leaf).map(|_| if list { LabelShape::List } else { LabelShape::One })
}

/// The type of the values behind dictionaries and runs.
pub(crate) fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => value_type(value),
        DataType::RunEndEncoded(_, field) => value_type(field.data_type()),
        other => other,
    }
}

/// The elements of a list type.
fn element(data_type: &DataType) -> Option<&Field> {
    match data_type {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => Some(field),
        _ => None,
    }
}

/// The type of a label, and whether a row has a list of them.
pub(super) fn leaf_type(data_type: &DataType) -> (&DataType, bool) {
    match element(value_type(data_type)) {
        Some(field) => (value_type(field.data_type()), true),
        None => (value_type(data_type), false),
    }
}

/// Whether values of two types can be compared without loss. No two types need a third one to know.
pub(super) fn compare(a: &DataType, b: &DataType) -> bool {
    use LabelKind::{Alone, Boolean, Decimal, Float, Integer, Text};
    let (Some(first), Some(second)) = (kind(a), kind(b)) else {
        return *a == DataType::Null || *b == DataType::Null;
    };
    let is_number = |kind| matches!(kind, Integer | Boolean | Float | Decimal);
    match (first, second) {
        (Alone, Alone) => a == b,
        (Integer, Text) | (Text, Integer) => true,
        _ => first == second || (is_number(first) && is_number(second)),
    }
}

/// The form in which labels of these types are compared; each type [`compare`]s with each other one.
pub(super) fn form(leaves: &[&DataType]) -> LabelForm {
    let leaves: Vec<&DataType> = leaves.iter().copied().filter(|leaf| **leaf != DataType::Null).collect();
    let Some(first) = leaves.first() else { return LabelForm::Plain };
    let all = |like: fn(&DataType, &DataType) -> bool| leaves.iter().all(|leaf| like(first, leaf));
    match kind(first) {
        // Digits of integers are digits in text, too.
        Some(LabelKind::Text | LabelKind::Bytes | LabelKind::Alone) | None => LabelForm::Plain,
        Some(LabelKind::Integer)
            if leaves.iter().all(|leaf| matches!(kind(leaf), Some(LabelKind::Integer | LabelKind::Text))) =>
        {
            LabelForm::Plain
        }
        Some(LabelKind::Decimal) if all(|a, b| scale(a) == scale(b)) => LabelForm::Plain,
        Some(LabelKind::Boolean | LabelKind::Float) if all(|a, b| a == b) => LabelForm::Plain,
        Some(LabelKind::Boolean | LabelKind::Float | LabelKind::Decimal | LabelKind::Integer) => LabelForm::Number,
        // Arrow, as it is built here, cannot write a zone that has a name.
        Some(LabelKind::Local | LabelKind::Zoned) if all(|a, b| a == b) && !has_named_zone(first) => LabelForm::Plain,
        Some(LabelKind::Local | LabelKind::Zoned) => LabelForm::Instant,
    }
}

fn scale(decimal: &DataType) -> Option<i8> {
    match decimal {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

fn has_named_zone(data_type: &DataType) -> bool {
    let DataType::Timestamp(_, Some(zone)) = data_type else { return false };
    zone.parse::<arrow::array::timezone::Tz>().is_err()
}

/// What ids are, where their types let a column have any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdForm {
    Integer,
    Text,
}

/// What ids of these types are; none where they hold none. Floats are ids beside integers only: pandas writes integers
/// with holes so.
pub(super) fn id_form(leaves: &[&DataType]) -> Option<IdForm> {
    let has = |wanted| leaves.iter().any(|leaf| kind(leaf) == Some(wanted));
    let only = |wanted: &[LabelKind]| leaves.iter().all(|leaf| kind(leaf).is_none_or(|kind| wanted.contains(&kind)));
    if only(&[LabelKind::Integer, LabelKind::Float]) && (has(LabelKind::Integer) || !has(LabelKind::Float)) {
        return Some(IdForm::Integer);
    }
    (only(&[LabelKind::Text, LabelKind::Integer]) || only(&[LabelKind::Bytes])).then_some(IdForm::Text)
}

/// The form in which bytes are ids; none where the values are no bytes. Binary of any length is text that a writer did
/// not call so: Impala and Spark do.
pub(super) fn id_bytes_form(leaves: &[&DataType]) -> Option<LabelForm> {
    let mut leaves = leaves.iter().filter(|leaf| **leaf != &DataType::Null).peekable();
    leaves.peek()?;
    let is_fixed = |leaf: &&DataType| matches!(leaf, DataType::FixedSizeBinary(_));
    let is_bytes = leaves.clone().all(|leaf| kind(leaf) == Some(LabelKind::Bytes));
    is_bytes.then(|| if leaves.any(is_fixed) { LabelForm::Hex } else { LabelForm::Plain })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::DataType::*;
    use arrow::datatypes::TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};

    use super::*;

    fn zoned(unit: arrow::datatypes::TimeUnit, zone: &str) -> DataType {
        Timestamp(unit, Some(zone.into()))
    }

    /// The form of columns with these types, or nothing where they do not compare.
    fn outcome(types: &[DataType]) -> Option<LabelForm> {
        let leaves: Vec<&DataType> = types.iter().map(|data_type| leaf_type(data_type).0).collect();
        let all = leaves.iter().all(|a| holds_labels(a) && leaves.iter().all(|b| compare(a, b)));
        all.then(|| form(&leaves))
    }

    #[test]
    fn types_have_one_form_or_do_not_compare() {
        use LabelForm::{Instant, Number, Plain};
        let dictionary = Dictionary(Box::new(Int16), Box::new(Utf8));
        let cases: Vec<(Vec<DataType>, Option<LabelForm>)> = vec![
            (vec![Int64], Some(Plain)),
            (vec![Int64, UInt8], Some(Plain)),
            (vec![Utf8, LargeUtf8, Utf8View, dictionary.clone()], Some(Plain)),
            (vec![Null, Float64], Some(Plain)),
            (vec![Null], Some(Plain)),
            (vec![Int64, Utf8], Some(Plain)),
            (vec![dictionary, Int8, Null], Some(Plain)),
            (vec![Boolean], Some(Plain)),
            (vec![Float32], Some(Plain)),
            (vec![Decimal128(9, 2), Decimal128(12, 2), Decimal256(40, 2)], Some(Plain)),
            (vec![Binary, LargeBinary, BinaryView, FixedSizeBinary(16)], Some(Plain)),
            (vec![Date32], Some(Plain)),
            (vec![Timestamp(Second, None)], Some(Plain)),
            (vec![zoned(Second, "+02:00")], Some(Plain)),
            (vec![Time64(Nanosecond)], Some(Plain)),
            (vec![Int64, Float64], Some(Number)),
            (vec![Null, Float64, Int64], Some(Number)),
            (vec![Boolean, Int64], Some(Number)),
            (vec![Float32, Float64], Some(Number)),
            (vec![Decimal128(9, 2), Decimal128(9, 0)], Some(Number)),
            (vec![Decimal128(9, 0), Int64], Some(Number)),
            (vec![Decimal128(9, 2), Float64], Some(Number)),
            (vec![Int64, Int32, Float64], Some(Number)),
            (vec![Date32, Date64], Some(Instant)),
            (vec![Date32, Timestamp(Microsecond, None)], Some(Instant)),
            (vec![Timestamp(Millisecond, None), Timestamp(Nanosecond, None)], Some(Instant)),
            (vec![zoned(Second, "+02:00"), zoned(Second, "+00:00")], Some(Instant)),
            (vec![zoned(Second, "UTC")], Some(Instant)),
            (vec![Timestamp(Second, None), zoned(Second, "UTC")], None),
            (vec![Date32, zoned(Second, "UTC")], None),
            (vec![Int64, Float64, Utf8], None),
            (vec![Boolean, Int64, Utf8], None),
            (vec![Float64, Utf8], None),
            (vec![Boolean, Utf8], None),
            (vec![Decimal128(9, 2), Utf8], None),
            (vec![Date32, Utf8], None),
            (vec![Date32, Int32], None),
            (vec![Binary, Utf8], None),
            (vec![Time32(Second), Time32(Millisecond)], None),
            (vec![Struct(Vec::<Field>::new().into())], None),
        ];
        for (mut types, expected) in cases {
            assert_eq!(outcome(&types), expected, "{types:?}");
            types.reverse();
            assert_eq!(outcome(&types), expected, "{types:?}");
        }
    }

    #[test]
    fn a_list_has_the_type_of_its_elements_and_a_nested_list_no_labels() {
        let item = |data_type| Arc::new(Field::new("item", data_type, true));
        for list in [List(item(Int64)), LargeList(item(Int64)), FixedSizeList(item(Int64), 3), ListView(item(Int64))] {
            assert_eq!(leaf_type(&list), (&Int64, true));
            let nested = List(item(list));
            assert!(!holds_labels(leaf_type(&nested).0), "{nested}");
        }
        assert_eq!(leaf_type(&List(item(Dictionary(Box::new(Int8), Box::new(Utf8))))), (&Utf8, true));
    }

    #[test]
    fn ids_are_integers_or_text() {
        let integer = [vec![Int64], vec![UInt64, Int8, Null], vec![Int64, Float64], vec![Float32, Int64]];
        let text = [vec![Utf8], vec![Int64, Utf8], vec![Utf8, LargeUtf8, Null], vec![Binary], vec![FixedSizeBinary(4)]];
        let none = [
            vec![Float64],
            vec![Boolean],
            vec![Binary, Utf8],
            vec![Utf8, Float64, Int64],
            vec![Timestamp(Second, None)],
        ];
        let of = |types: &Vec<DataType>| id_form(&types.iter().collect::<Vec<_>>());
        integer.iter().for_each(|types| assert_eq!(of(types), Some(IdForm::Integer), "{types:?}"));
        text.iter().for_each(|types| assert_eq!(of(types), Some(IdForm::Text), "{types:?}"));
        none.iter().for_each(|types| assert_eq!(of(types), None, "{types:?}"));
        let bytes = |types: &[DataType]| id_bytes_form(&types.iter().collect::<Vec<_>>());
        assert_eq!(bytes(&[FixedSizeBinary(16), Null]), Some(LabelForm::Hex));
        assert_eq!(bytes(&[Binary, LargeBinary]), Some(LabelForm::Plain));
        assert_eq!([bytes(&[Utf8]), bytes(&[Null]), bytes(&[])], [None; 3]);
    }
}
