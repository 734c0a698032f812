//! The two sides of a batch of pairs, decoded: the vectors of a row, or why it has none that can be used.

use super::context::Input;
use crate::error::Result;
use crate::vectors::decode::Unit;
use crate::vectors::dot::dot;
use crate::vectors::embedding_rows::EmbeddingRows;
use crate::vectors::row_fault::RowFault;
use crate::vectors::shard::Source;
use crate::vectors::shards::Shards;
use crate::vectors::values::Values;

/// One side of a batch.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    values: Values<'a>,
    /// Values from the beginning of a row to the beginning of the next.
    stride: usize,
    /// What values are multiplied by.
    scale: Option<f32>,
    /// Rows without a vector, in order, and why.
    faults: &'a [(usize, RowFault)],
}

impl<'a> Side<'a> {
    /// The embeddings of a batch; `scale`: of integers.
    fn of(rows: &'a EmbeddingRows, dim: usize, scale: Option<f32>) -> Side<'a> {
        let scale = scale.filter(|_| rows.are_integers());
        Side { values: rows.values(), stride: dim, scale, faults: rows.faults() }
    }

    /// Reads a row's vector; its norm, or why it cannot be used.
    pub(super) fn load(&self, row: usize, vector: &mut [f32]) -> Result<f64, RowFault> {
        if let Ok(at) = self.faults.binary_search_by_key(&row, |(row, _)| *row) {
            return Err(self.faults[at].1);
        }
        self.values.copy_f32(row * self.stride, vector);
        if let Some(scale) = self.scale {
            vector.iter_mut().for_each(|value| *value *= scale);
        }
        let norm = dot(vector, vector).sqrt();
        // A vector of normal numbers is longer than this: the rest is looked at.
        if norm >= f64::from(f32::MIN_POSITIVE) && norm.is_finite() {
            return Ok(norm);
        }
        self.fault(row, vector).map_or(Ok(norm), Err)
    }

    /// What is wrong with a vector whose norm is not finite, or tiny: `vector` as f32.
    fn fault(&self, row: usize, vector: &[f32]) -> Option<RowFault> {
        let scale = f64::from(self.scale.unwrap_or(1.0));
        let exact = |dimension: usize| self.values.value(row * self.stride + dimension) * scale;
        if let Some(dimension) = vector.iter().position(|value| !value.is_finite()) {
            let value = exact(dimension);
            return Some(match value.is_finite() {
                true => RowFault::TooLarge { dimension, value },
                false => RowFault::NotFinite { dimension, value },
            });
        }
        let largest = (0..vector.len()).map(|dimension| exact(dimension).abs()).fold(0.0, f64::max);
        if largest == 0.0 {
            return Some(RowFault::Zero);
        }
        // Singles below the normal ones are what they are; doubles lose digits there.
        let lost = (0..vector.len()).any(|dimension| exact(dimension) != f64::from(vector[dimension]));
        (lost && largest < f64::from(f32::MIN_POSITIVE)).then_some(RowFault::TooSmall { largest })
    }
}

/// Names of the columns of both sides; empty in `.npy` files.
pub(super) fn side_names(shards: &Shards) -> [&str; 2] {
    [&shards.roles.query, &shards.roles.positive].map(|name| name.as_deref().unwrap_or(""))
}

/// Decodes a unit's two sides batch by batch: calls `each(first row within the unit, sides, rows)`.
///
/// # Errors
/// The data cannot be decoded, or the closure fails.
pub(super) fn for_each_pair_batch(
    input: &Input<'_>,
    unit: &Unit<'_>,
    batch_rows: usize,
    mut each: impl FnMut(u64, [Side<'_>; 2], usize) -> Result<()>,
) -> Result<()> {
    let (shards, columns) = (input.shards, &input.config.columns);
    let dim = shards.shape.dim;
    if let Source::Npy(array) = &unit.shard.source {
        let mut row = 0;
        let mut copies = [Vec::new(), Vec::new()];
        while row < unit.rows {
            let rows = (unit.rows - row).min(batch_rows as u64);
            let [first, second] = &mut copies;
            let sides = [(0, first), (1, second)].map(|(side, copy)| {
                let (values, stride) = array.rows(side, unit.start + row, rows, copy);
                Side { values, stride, scale: None, faults: &[] }
            });
            each(row, sides, rows as usize)?;
            row += rows;
        }
        return Ok(());
    }
    let names = side_names(shards);
    let wanted = if shards.roles.shared { &names[..1] } else { &names[..] };
    unit.for_each_batch(wanted, batch_rows, |row, arrays| {
        let read = |side: usize| {
            EmbeddingRows::new(&arrays[side], dim, columns.dtype)
                .map_err(|(error, at)| unit.place(error, names[side], Some(row + at)))
        };
        let (queries, positives) = (read(0)?, if arrays.len() > 1 { Some(read(1)?) } else { None });
        let query = Side::of(&queries, dim, columns.scale);
        let positive = positives.as_ref().map_or(query, |rows| Side::of(rows, dim, columns.scale));
        each(row, [query, positive], arrays[0].len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(values: Values<'_>, scale: Option<f32>) -> Result<f64, RowFault> {
        let faults = [(0, RowFault::Null)];
        let side = Side { values, stride: 2, scale, faults: &faults };
        assert_eq!(side.load(0, &mut [0.0; 2]), Err(RowFault::Null));
        side.load(1, &mut [0.0; 2])
    }

    #[test]
    fn a_row_has_a_norm_or_a_fault() {
        assert_eq!(load(Values::F32(&[0.0, 0.0, 3.0, 4.0]), None), Ok(5.0));
        assert_eq!(load(Values::I8(&[0, 0, -3, 4]), Some(0.5)), Ok(2.5));
        assert_eq!(load(Values::F32(&[0.0, 0.0, 0.0, -0.0]), None), Err(RowFault::Zero));
        let infinite = RowFault::NotFinite { dimension: 1, value: f64::NEG_INFINITY };
        assert_eq!(load(Values::F32(&[0.0, 0.0, 1.0, f32::NEG_INFINITY]), None), Err(infinite));
        let nan = load(Values::F64(&[0.0, 0.0, f64::NAN, 1.0]), None);
        assert!(matches!(nan, Err(RowFault::NotFinite { dimension: 0, value }) if value.is_nan()));
        let large = RowFault::TooLarge { dimension: 1, value: 1e300 };
        assert_eq!(load(Values::F64(&[0.0, 0.0, 1.0, 1e300]), None), Err(large));
        assert_eq!(load(Values::F64(&[0.0, 0.0, 1e-50, -3e-50]), None), Err(RowFault::TooSmall { largest: 3e-50 }));
        assert_eq!(load(Values::F64(&[0.0, 0.0, 1e-40, 1e-50]), None), Err(RowFault::TooSmall { largest: 1e-40 }));
        assert!(load(Values::F64(&[0.0, 0.0, 1.0, 1e-50]), None).is_ok());
        // A single of this size is exact.
        assert!(load(Values::F32(&[0.0, 0.0, 1e-40, 0.0]), None).is_ok());
    }
}
