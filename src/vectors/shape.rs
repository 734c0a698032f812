//! The size of a matrix, and the number types that it can be stored in.

use serde::{Deserialize, Serialize};

/// Most dimensions that a vector can have.
pub(crate) const DIM_MAX: usize = 16_384;

/// Rows and dimensions of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub rows: u64,
    pub dim: usize,
}

/// Number type of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreType {
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
}

impl StoreType {
    /// Bytes of one value.
    pub(crate) fn bytes(self) -> usize {
        match self {
            StoreType::F16 => 2,
            StoreType::F32 => 4,
        }
    }
}
