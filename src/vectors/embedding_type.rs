//! What the type of a column says of the embeddings in it. Pure.
//!
//! Writers wrap vectors: DuckDB 1.1 and older put each value of an array into a struct of one field, Spark's
//! `VectorUDT` is a struct, Hugging Face's `Array2D((1, d))` is a list of one list. What is inside is read.

use arrow::datatypes::{DataType, Field, Fields};

use super::shape::StoreType;
use crate::config::BinaryType;
use crate::error::{Error, Result};

/// What the embeddings of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EmbeddingType {
    /// Values of a vector, where the type fixes them.
    pub(super) dim: Option<usize>,
    /// Their number type; none where the column has nothing but nulls.
    pub(super) number: Option<BinaryType>,
    /// Whether `dtype` said what the number type is.
    pub(super) binary: bool,
}

impl EmbeddingType {
    /// What a column type holds; `dtype`: the number type of binary embeddings.
    ///
    /// # Errors
    /// The type holds no embeddings, or binary ones without a `dtype`.
    pub(super) fn of(data_type: &DataType, dtype: Option<BinaryType>) -> Result<EmbeddingType> {
        let wrong = || {
            Error::input("the embedding column has a type that holds no embeddings")
                .expected(
                    "list, large_list or fixed_size_list of float16, float32, float64, int8 or uint8; or binary with \
                     --dtype",
                )
                .found(data_type.to_string())
                .remedy("name the right column, or cast it before mining")
        };
        let inside = unwrapped(data_type).ok_or_else(wrong)?;
        if let Some((item, length)) = list(inside) {
            let number = number_type(of_one_field(item)).ok_or_else(wrong)?;
            return Ok(EmbeddingType { dim: length, number: Some(number), binary: false });
        }
        let width = match inside {
            DataType::Null => return Ok(EmbeddingType { dim: None, number: None, binary: false }),
            DataType::FixedSizeBinary(width) => Some(usize::try_from(*width).unwrap_or(0)),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => None,
            _ => return Err(wrong()),
        };
        let Some(dtype) = dtype else {
            return Err(wrong().remedy("say what the bytes are: --dtype bf16, f16, f32, f64, int8 or uint8"));
        };
        match width {
            Some(width) if !width.is_multiple_of(dtype.bytes()) => {
                Err(wrong().found(format!("{width} bytes, no multiple of --dtype's {}", dtype.bytes())))
            }
            width => {
                let dim = width.map(|width| width / dtype.bytes());
                Ok(EmbeddingType { dim, number: Some(dtype), binary: true })
            }
        }
    }

    /// The number type that stores the values: without loss, or f64 rounded to f32 and integers times a scale.
    pub(super) fn store_type(self, scale: Option<f32>) -> StoreType {
        match self.number {
            // Integers of a byte are exact in half precision.
            Some(BinaryType::Int8 | BinaryType::Uint8) if scale.is_none() => StoreType::F16,
            Some(BinaryType::F16) | None => StoreType::F16,
            Some(_) => StoreType::F32,
        }
    }

    /// Whether the values are integers, which a scale may belong to.
    pub(super) fn is_integer(self) -> bool {
        matches!(self.number, Some(BinaryType::Int8 | BinaryType::Uint8))
    }
}

/// The number type of a list's items, where they can be values of an embedding.
pub(super) fn number_type(item: &DataType) -> Option<BinaryType> {
    Some(match item {
        DataType::Float16 => BinaryType::F16,
        DataType::Float32 => BinaryType::F32,
        DataType::Float64 => BinaryType::F64,
        DataType::Int8 => BinaryType::Int8,
        DataType::UInt8 => BinaryType::Uint8,
        _ => return None,
    })
}

/// The items of a list type, and how many a list has where the type fixes it.
pub(super) fn list(data_type: &DataType) -> Option<(&DataType, Option<usize>)> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => Some((item.data_type(), None)),
        DataType::FixedSizeList(item, length) => Some((item.data_type(), Some(usize::try_from(*length).unwrap_or(0)))),
        _ => None,
    }
}

/// What is in structs of one field.
pub(super) fn of_one_field(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Struct(fields) if fields.len() == 1 => of_one_field(fields[0].data_type()),
        other => other,
    }
}

/// The field of a vector's values, where a struct is a vector: of one field, or Spark's `VectorUDT`.
pub(super) fn vector_field(fields: &Fields) -> Option<&Field> {
    match &fields[..] {
        [only] => Some(only),
        [kind, size, indices, values] => {
            let names = [kind, size, indices, values].map(|field| field.name().as_str());
            let is_vector = names == ["type", "size", "indices", "values"] && *kind.data_type() == DataType::Int8;
            is_vector.then_some(values)
        }
        _ => None,
    }
}

/// The innermost type that holds vectors: a list of numbers, or binary. None where lists have more than one list.
fn unwrapped(data_type: &DataType) -> Option<&DataType> {
    if let DataType::Struct(fields) = data_type {
        return unwrapped(vector_field(fields)?.data_type());
    }
    match list(data_type) {
        Some((item, length)) if list(of_one_field(item)).is_some() => {
            if length.is_none_or(|length| length == 1) {
                unwrapped(item)
            } else {
                None
            }
        }
        _ => Some(data_type),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::DataType::*;

    use super::*;

    fn item(data_type: DataType) -> Arc<Field> {
        Arc::new(Field::new("element", data_type, true))
    }

    fn one_field(data_type: DataType) -> DataType {
        Struct(vec![item(data_type)].into())
    }

    fn of(data_type: DataType, dtype: Option<BinaryType>) -> Option<(Option<usize>, BinaryType)> {
        let found = EmbeddingType::of(&data_type, dtype).ok()?;
        Some((found.dim, found.number?))
    }

    #[test]
    fn vectors_are_found_in_what_writers_wrap_them_in() {
        let floats = List(item(Float32));
        assert_eq!(of(floats.clone(), None), Some((None, BinaryType::F32)));
        assert_eq!(of(FixedSizeList(item(Int8), 5), None), Some((Some(5), BinaryType::Int8)));
        assert_eq!(of(List(item(one_field(Float32))), None), Some((None, BinaryType::F32)));
        assert_eq!(of(one_field(floats.clone()), None), Some((None, BinaryType::F32)));
        assert_eq!(of(List(item(floats.clone())), None), Some((None, BinaryType::F32)));
        assert_eq!(of(FixedSizeList(item(FixedSizeList(item(UInt8), 4)), 1), None), Some((Some(4), BinaryType::Uint8)));
        assert_eq!(of(List(item(one_field(floats.clone()))), None), Some((None, BinaryType::F32)));
        let spark = |kind| {
            let field = |name, data_type| Field::new(name, data_type, true);
            let indices = List(item(Int32));
            let fields = [("type", kind), ("size", Int32), ("indices", indices), ("values", List(item(Float64)))];
            Struct(fields.map(|(name, data_type)| field(name, data_type)).to_vec().into())
        };
        assert_eq!(of(spark(Int8), None), Some((None, BinaryType::F64)));
        assert_eq!(of(spark(Int64), None), None);
        assert_eq!(of(FixedSizeBinary(6), Some(BinaryType::Bf16)), Some((Some(3), BinaryType::Bf16)));
        assert_eq!(of(LargeBinary, Some(BinaryType::F32)), Some((None, BinaryType::F32)));
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        let two = Struct(vec![item(Float32), item(Float32)].into());
        let refused = [
            Int64,
            Utf8,
            List(item(Utf8)),
            List(item(Int64)),
            List(item(two.clone())),
            two,
            FixedSizeList(item(List(item(Float32))), 2),
            Binary,
            FixedSizeBinary(6),
        ];
        for data_type in refused {
            assert!(EmbeddingType::of(&data_type, None).is_err(), "{data_type}");
        }
        let text = EmbeddingType::of(&FixedSizeBinary(7), Some(BinaryType::Bf16)).unwrap_err().to_string();
        assert!(text.contains("7 bytes"), "{text}");
    }

    #[test]
    fn bytes_are_stored_in_half_precision_unless_they_are_scaled() {
        let store = |data_type: DataType, scale| EmbeddingType::of(&data_type, None).unwrap().store_type(scale);
        assert_eq!(store(List(item(Int8)), None), StoreType::F16);
        assert_eq!(store(List(item(Int8)), Some(0.5)), StoreType::F32);
        assert_eq!(store(List(item(Float16)), None), StoreType::F16);
        assert_eq!(store(List(item(Float64)), None), StoreType::F32);
        assert_eq!(
            EmbeddingType::of(&FixedSizeBinary(4), Some(BinaryType::Bf16)).unwrap().store_type(None),
            StoreType::F32
        );
    }
}
