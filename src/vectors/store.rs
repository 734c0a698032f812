//! The row-major vector store, mapped: what `import` wrote and every later stage reads.
//!
//! Rows are grouped by task and keep the input's order within a task; [`RowId`] counts in that order.
//! Values are the input's own (f16 stays f16, f64 becomes f32); a row's reciprocal norm stands beside
//! them as f64, so that cosine scores are those of the input's exact values and not of rounded,
//! normalised ones.
//!
//! Memory: none but the maps; every page is the kernel's to evict.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::dot::widen;
use super::rows::{Ids, RowTable, Tasks};
use crate::error::Result;
use crate::run::sealed::{FileFormat, HEADER_BYTES, Sealed};

/// A row in task-grouped order.
pub(crate) type RowId = u32;
/// Most rows that a job can have.
pub(crate) const ROWS_MAX: u64 = i32::MAX as u64;
/// Most dimensions that a vector can have.
pub(crate) const DIM_MAX: usize = 16_384;

/// Format of `queries.vec` and `positives.vec`.
pub(crate) const VECTORS: FileFormat = FileFormat { magic: *b"BMVECTOR", version: 1, name: "vector" };

/// Rows and dimensions of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Rows.
    pub rows: u64,
    /// Dimensions of a row.
    pub dim: usize,
}

/// Number type of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreType {
    /// IEEE half.
    F16,
    /// IEEE single.
    F32,
}

impl StoreType {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            StoreType::F16 => 2,
            StoreType::F32 => 4,
        }
    }
}

/// One side's vectors.
#[derive(Debug, Clone)]
pub struct VectorStore {
    sealed: Sealed,
    shape: Shape,
    precision: StoreType,
}

impl VectorStore {
    /// Header fields of a store.
    pub fn header(shape: Shape, precision: StoreType) -> [u64; 6] {
        [shape.rows, shape.dim as u64, precision.bytes() as u64, 0, 0, 0]
    }

    /// Bytes of header and payload.
    pub fn file_bytes(shape: Shape, precision: StoreType) -> u64 {
        HEADER_BYTES as u64 + shape.rows * (shape.dim * precision.bytes()) as u64
    }

    /// Maps a store.
    ///
    /// # Errors
    /// The file is not a complete store.
    pub fn open(path: &Path) -> Result<VectorStore> {
        let sealed = Sealed::open(path, &VECTORS)?;
        let [rows, dim, width, ..] = sealed.fields;
        let payload = rows.checked_mul(dim).and_then(|n| n.checked_mul(width));
        sealed.expect_payload(payload.filter(|_| rows <= ROWS_MAX && (2..=4).contains(&width)))?;
        let precision = if width == 2 { StoreType::F16 } else { StoreType::F32 };
        Ok(VectorStore { sealed, shape: Shape { rows, dim: dim as usize }, precision })
    }

    /// Rows and dimensions.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Number type.
    pub fn precision(&self) -> StoreType {
        self.precision
    }

    /// The mapped file.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    /// A row's bytes, as stored.
    pub fn row_bytes(&self, row: RowId) -> &[u8] {
        let width = self.shape.dim * self.precision.bytes();
        &self.sealed.payload()[row as usize * width..][..width]
    }

    /// A row's values as f32, without normalisation, into `out` (length: dimensions).
    pub fn load(&self, row: RowId, out: &mut [f32]) {
        let bytes = self.row_bytes(row);
        match self.precision {
            StoreType::F16 => widen(bytemuck::cast_slice(bytes), out),
            StoreType::F32 => out.copy_from_slice(bytemuck::cast_slice(bytes)),
        }
    }
}

/// Everything that `import` made.
#[derive(Debug, Clone)]
pub struct Vectors {
    /// Query vectors.
    pub queries: VectorStore,
    /// Positive vectors; the same store where one column serves both sides.
    pub positives: VectorStore,
    /// What is known of each row.
    pub rows: RowTable,
    /// Task names and ranges.
    pub tasks: Tasks,
    /// Ids by input row.
    pub ids: Ids,
    /// Whether tasks have names: there is a task column. Without one there is one task, without a name.
    pub named_tasks: bool,
}

impl Vectors {
    /// Rows and dimensions.
    pub fn shape(&self) -> Shape {
        self.queries.shape()
    }

    /// Number of rows.
    pub fn row_count(&self) -> RowId {
        self.shape().rows as RowId
    }
}
