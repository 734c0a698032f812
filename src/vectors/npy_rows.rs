//! The rows of mapped `.npy` arrays.
//!
//! Memory: of an array in Fortran order the rows asked for are copied; of others nothing is.

use std::ops::Range;

use super::shape::StoreType;
use super::values::Values;
use crate::config::BinaryType;
use crate::run::mapped::Mapped;

/// A mapped `.npy` array of little-endian floats. The files hold all rows that the shard has.
#[derive(Debug, Clone)]
pub(crate) struct NpyArray {
    /// The file of the queries, or of both sides.
    pub(crate) queries: NpySide,
    /// The file of the positives, where they lie in a file of their own.
    pub(crate) positives: Option<NpySide>,
    /// Each row holds a query and then a positive.
    pub(crate) paired: bool,
    /// Dimensions of one vector.
    pub(crate) dim: usize,
}

/// One file of an array.
#[derive(Debug, Clone)]
pub(crate) struct NpySide {
    pub(crate) mapped: Mapped,
    /// Where the values begin.
    pub(crate) data_start: usize,
    pub(crate) number: BinaryType,
    /// Rows of the array, where the first index changes fastest.
    pub(crate) fortran_rows: Option<usize>,
}

impl NpyArray {
    /// Whether one vector serves as a row's query and positive.
    pub(crate) fn is_shared(&self) -> bool {
        !self.paired && self.positives.is_none()
    }

    /// The number type that stores a side without loss (f64: f32).
    pub(crate) fn store_type(&self, side: usize) -> StoreType {
        match self.side(side).number {
            BinaryType::F16 => StoreType::F16,
            _ => StoreType::F32,
        }
    }

    /// The bytes of some rows in one file; none where rows do not lie one after the other.
    pub(super) fn byte_range(&self, file: &NpySide, start: u64, rows: u64) -> Range<usize> {
        let vectors = if self.paired { 2 } else { 1 };
        let row_bytes = vectors * self.dim * file.number.bytes();
        let from = file.data_start + start as usize * row_bytes;
        if file.fortran_rows.is_some() { 0..0 } else { from..from + rows as usize * row_bytes }
    }

    fn side(&self, side: usize) -> &NpySide {
        if side == 1 { self.positives.as_ref().unwrap_or(&self.queries) } else { &self.queries }
    }

    /// The values of rows [start, start + rows) of one side (0: queries, 1: positives), with the distance between two
    /// rows' beginnings in values. The rows must be the shard's. `copy` takes rows that do not lie one after the other.
    pub(super) fn rows<'a>(&'a self, side: usize, start: u64, rows: u64, copy: &'a mut Vec<u8>) -> (Values<'a>, usize) {
        let file = self.side(side);
        let (vectors, second) = if self.paired { (2, side) } else { (1, 0) };
        let (start, rows, width) = (start as usize, rows as usize, file.number.bytes());
        if let Some(all) = file.fortran_rows {
            file.copy_rows(all, start..start + rows, |dimension| second + vectors * dimension, self.dim, copy);
            return (Values::Bytes(copy, file.number), self.dim);
        }
        let stride = vectors * self.dim;
        let from = file.data_start + (start * stride + second * self.dim) * width;
        let count = if rows == 0 { 0 } else { (rows - 1) * stride + self.dim };
        (Values::Bytes(&file.mapped.bytes()[from..from + count * width], file.number), stride)
    }
}

impl NpySide {
    /// Copies rows of an array of `all` rows in Fortran order; `column`: where a dimension lies among its columns.
    fn copy_rows(
        &self,
        all: usize,
        rows: Range<usize>,
        column: impl Fn(usize) -> usize,
        dim: usize,
        copy: &mut Vec<u8>,
    ) {
        let width = self.number.bytes();
        let values = &self.mapped.bytes()[self.data_start..];
        copy.clear();
        copy.resize(rows.len() * dim * width, 0);
        for dimension in (0..dim).filter(|_| !rows.is_empty()) {
            let from = (column(dimension) * all + rows.start) * width;
            let values = values[from..from + rows.len() * width].chunks_exact(width);
            let places = copy[dimension * width..].chunks_mut(dim * width);
            places.zip(values).for_each(|(place, value)| place[..width].copy_from_slice(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(array: &NpyArray, side: usize, start: u64, rows: u64) -> Vec<f32> {
        let mut copy = Vec::new();
        let (values, stride) = array.rows(side, start, rows, &mut copy);
        let mut out = vec![0f32; rows as usize * array.dim];
        for (row, out) in out.chunks_exact_mut(array.dim).enumerate() {
            values.copy_f32(row * stride, out);
        }
        out
    }

    #[test]
    fn both_orders_of_an_array_have_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        let (all, vectors, dim) = (5, 2, 3);
        let value = |row: usize, side: usize, dimension: usize| (100 * row + 10 * side + dimension) as f64;
        let (mut c, mut fortran) = (vec![0f64; all * vectors * dim], vec![0f64; all * vectors * dim]);
        for row in 0..all {
            for side in 0..vectors {
                for dimension in 0..dim {
                    c[(row * vectors + side) * dim + dimension] = value(row, side, dimension);
                    fortran[row + all * (side + vectors * dimension)] = value(row, side, dimension);
                }
            }
        }
        let open = |name: &str, values: &[f64], fortran_rows| {
            let path = folder.path().join(name);
            std::fs::write(&path, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()).unwrap();
            let mapped = Mapped::open(&path).unwrap();
            let queries = NpySide { mapped, data_start: 0, number: BinaryType::F64, fortran_rows };
            NpyArray { queries, positives: None, paired: true, dim }
        };
        let (c, fortran) = (open("c", &c, None), open("f", &fortran, Some(all)));
        for side in 0..2 {
            let expected: Vec<f32> =
                (1..4).flat_map(|row| (0..dim).map(move |at| value(row, side, at) as f32)).collect();
            assert_eq!(rows_of(&c, side, 1, 3), expected);
            assert_eq!(rows_of(&fortran, side, 1, 3), expected);
            assert!(rows_of(&fortran, side, 4, 0).is_empty());
        }
    }
}
