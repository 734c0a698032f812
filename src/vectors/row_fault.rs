//! Why a row's embedding cannot be used. Pure.

use std::fmt;

use crate::error::Error;

/// Why a row's embedding cannot be used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RowFault {
    /// There is no embedding.
    Null,
    NullValue {
        dimension: usize,
    },
    Length {
        expected: usize,
        found: usize,
    },
    /// Binary of a length that no vector of the input has.
    Bytes {
        expected: usize,
        found: usize,
    },
    /// A list of vectors that has not exactly one.
    Vectors {
        found: usize,
    },
    /// Spark's sparse form of a vector.
    Sparse,
    NotFinite {
        dimension: usize,
        value: f64,
    },
    /// Finite, and beyond f32.
    TooLarge {
        dimension: usize,
        value: f64,
    },
    /// Every value is closer to zero than the least normal f32, and some are not zero.
    TooSmall {
        largest: f64,
    },
    /// All values are zero.
    Zero,
}

impl RowFault {
    /// The kind of fault, as counts and lists name it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            RowFault::Null => "null",
            RowFault::NullValue { .. } => "null value",
            RowFault::Length { .. } | RowFault::Bytes { .. } => "other length",
            RowFault::Vectors { .. } => "not one vector",
            RowFault::Sparse => "sparse",
            RowFault::NotFinite { .. } => "not finite",
            RowFault::TooLarge { .. } => "beyond float32",
            RowFault::TooSmall { .. } => "below float32",
            RowFault::Zero => "zero",
        }
    }

    /// The error for one row.
    pub(crate) fn error(self) -> Error {
        let (what, expected, remedy) = match self {
            RowFault::Null => (
                "an embedding is null",
                "a vector in every row".to_owned(),
                "embed the row, or leave such rows out with --bad-rows drop",
            ),
            RowFault::NullValue { .. } => (
                "an embedding has null values",
                "a number in every dimension (pandas writes NaN as null)".to_owned(),
                "embed the row again, or leave such rows out with --bad-rows drop",
            ),
            RowFault::Length { expected, .. } => (
                "embeddings differ in their number of dimensions",
                format!("{expected} dimensions, as in the first rows"),
                "embed all rows and both sides with one model, or leave such rows out with --bad-rows drop",
            ),
            RowFault::Bytes { expected, .. } => (
                "binary embeddings differ in their length",
                format!("{expected} bytes, as in the first rows"),
                "embed all rows and both sides with one model, or leave such rows out with --bad-rows drop",
            ),
            RowFault::Vectors { .. } => (
                "a row has not exactly one embedding",
                "one vector in the list of each row".to_owned(),
                "give each vector a row of its own, or leave such rows out with --bad-rows drop",
            ),
            RowFault::Sparse => (
                "a vector is sparse",
                "dense vectors".to_owned(),
                "convert the column in Spark: vector_to_array(col), or leave such rows out with --bad-rows drop",
            ),
            RowFault::NotFinite { .. } => (
                "an embedding has a value that is not a finite number",
                "finite numbers within f32's range".to_owned(),
                "embed the row again, or leave such rows out with --bad-rows drop",
            ),
            RowFault::TooLarge { .. } => (
                "an embedding has a value beyond the range of f32",
                "finite numbers within f32's range".to_owned(),
                "scale the column down, or leave such rows out with --bad-rows drop",
            ),
            RowFault::TooSmall { .. } => (
                "an embedding's values are below the range of f32",
                format!("a value of {:e} at least", f32::MIN_POSITIVE),
                "scale the column up, or leave such rows out with --bad-rows drop",
            ),
            RowFault::Zero => (
                "an embedding has zero length",
                "a vector with a norm above zero".to_owned(),
                "embed the row again (empty text?), or leave such rows out with --bad-rows drop",
            ),
        };
        Error::input(what).expected(expected).found(self.to_string()).remedy(remedy)
    }
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RowFault::Null => write!(f, "a null"),
            RowFault::NullValue { dimension } => write!(f, "a null at dimension {dimension}"),
            RowFault::Length { found, .. } => write!(f, "{found} dimensions"),
            RowFault::Bytes { found, .. } => write!(f, "{found} bytes"),
            RowFault::Vectors { found } => write!(f, "a list of {found} vectors"),
            RowFault::Sparse => write!(f, "a sparse vector"),
            RowFault::NotFinite { dimension, value } => write!(f, "{value} at dimension {dimension}"),
            RowFault::TooLarge { dimension, value } => write!(f, "{value:e} at dimension {dimension}"),
            RowFault::TooSmall { largest } => write!(f, "{largest:e} as the largest value"),
            RowFault::Zero => write!(f, "all values zero"),
        }
    }
}
