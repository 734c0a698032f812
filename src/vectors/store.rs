//! The row-major vector store, mapped: what `import` wrote and every later stage reads.
//!
//! Rows are grouped by task and keep the input's order within a task; [`RowId`] counts in that order.
//! Values are the input's own (f16 stays f16, f64 becomes f32); a row's reciprocal norm stands beside
//! them as f64, so that cosine scores are those of the input's exact values and not of rounded,
//! normalised ones.
//!
//! Memory: none but the maps; every page is the kernel's to evict.

use std::path::Path;

use super::dot::widen;
use super::row::{ROWS_MAX, RowId};
use super::shape::{DIM_MAX, Shape, StoreType};
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, HEADER_BYTES, Sealed};

/// Format of `queries.vec` and `positives.vec`.
pub(crate) const VECTORS: FileFormat = FileFormat { magic: *b"BMVECTOR", version: 2, name: "vector" };

/// The vectors of one side, row after row, as the file holds them.
#[derive(Debug, Clone)]
pub(crate) struct VectorStore {
    sealed: Sealed,
    shape: Shape,
    precision: StoreType,
    /// Rows are checked as they are read.
    by_row: bool,
}

impl VectorStore {
    /// The fields of a store's header.
    pub(crate) fn header(shape: Shape, precision: StoreType) -> [u64; 6] {
        [shape.rows, shape.dim as u64, precision.bytes() as u64, 0, 0, 0]
    }

    /// Bytes of header and payload.
    pub(crate) fn file_bytes(shape: Shape, precision: StoreType) -> u64 {
        HEADER_BYTES as u64 + shape.rows * (shape.dim * precision.bytes()) as u64
    }

    /// Maps a file and checks its header.
    ///
    /// # Errors
    /// The file is not a complete store, or its counts are out of range.
    pub(crate) fn open(path: &Path) -> Result<VectorStore> {
        let sealed = Sealed::open(path, &VECTORS)?;
        let [rows, dim, width, ..] = sealed.fields;
        let precision = [StoreType::F16, StoreType::F32].into_iter().find(|known| known.bytes() as u64 == width);
        let in_range = (1..=ROWS_MAX).contains(&rows) && (1..=DIM_MAX as u64).contains(&dim);
        let Some(precision) = precision.filter(|_| in_range) else {
            return Err(out_of_range(path, [rows, dim, width]));
        };
        let shape = Shape { rows, dim: dim as usize };
        sealed.expect_payload(Some(VectorStore::file_bytes(shape, precision) - HEADER_BYTES as u64))?;
        Ok(VectorStore { sealed, shape, precision, by_row: false })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn precision(&self) -> StoreType {
        self.precision
    }

    pub(crate) fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    /// Checks that a row is what was written, for those who read few.
    ///
    /// # Errors
    /// The file is damaged.
    pub(crate) fn check_row(&self, row: RowId) -> Result<()> {
        let width = self.shape.dim * self.precision.bytes();
        self.sealed.check_range(row as usize * width..(row as usize + 1) * width)
    }

    /// The store for those who read some rows, and know only later which: each is checked when it is first read, and
    /// [`VectorStore::check_read`] says whether all were sound.
    pub(crate) fn checked_by_row(self) -> VectorStore {
        VectorStore { by_row: true, ..self }
    }

    /// Fails where a row that was read is not what was written.
    ///
    /// # Errors
    /// The file is damaged: what was made of its rows must not be kept.
    pub(crate) fn check_read(&self) -> Result<()> {
        self.sealed.check_noted()
    }

    /// A row's bytes, as stored.
    #[inline]
    pub(crate) fn row_bytes(&self, row: RowId) -> &[u8] {
        let width = self.shape.dim * self.precision.bytes();
        let start = row as usize * width;
        if self.by_row {
            self.sealed.note_range(start..start + width);
        }
        &self.sealed.payload()[start..][..width]
    }

    /// A row's values as f32, without normalisation, into `out` (length: dimensions).
    pub(crate) fn load(&self, row: RowId, out: &mut [f32]) {
        let bytes = self.row_bytes(row);
        match self.precision {
            StoreType::F16 => widen(bytemuck::cast_slice(bytes), out),
            StoreType::F32 => out.copy_from_slice(bytemuck::cast_slice(bytes)),
        }
    }
}

fn out_of_range(path: &Path, [rows, dim, width]: [u64; 3]) -> Error {
    Error::runtime("a vector file's header is out of range")
        .path(path)
        .expected(format!("1 to {ROWS_MAX} rows, 1 to {DIM_MAX} dimensions, 2 or 4 bytes a value"))
        .found(format!("{rows} rows, {dim} dimensions, {width} bytes a value"))
        .remedy("the file is damaged: delete it and run `mine` again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::{refused, write_sealed};

    #[test]
    fn headers_that_do_not_fit_are_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queries.vec");
        let open = |rows: u64, dim: u64, width: u64, bytes: usize| {
            write_sealed(&path, &VECTORS, [rows, dim, width, 0, 0, 0], &vec![0; bytes]);
            VectorStore::open(&path)
        };
        let mut row = [1f32; 3];
        for width in [2, 4] {
            open(2, 3, width, 6 * width as usize).unwrap().load(1, &mut row);
            assert_eq!(row, [0.0; 3]);
        }
        let max = u64::MAX;
        let cases = [
            (2, 3, 3, 18),
            (2, 3, 0, 0),
            (2, 3, 8, 48),
            (0, 3, 4, 0),
            (2, 0, 4, 0),
            (1, 1 << 15, 2, 1 << 16),
            (2, 3, 4, 23),
            (2, 3, 4, 25),
            (max, 3, 4, 24),
            (2, max, 4, 24),
            (1 << 62, 1 << 62, 4, 0),
            (2, 3, max, 24),
        ];
        for (rows, dim, width, bytes) in cases {
            refused(&path, open(rows, dim, width, bytes));
        }
    }
}
