//! Rows that can be packed: a store's, or rows in memory.

use crate::config::Metric;
use crate::vectors::RowId;
use crate::vectors::dot::dot;
use crate::vectors::store::VectorStore;

/// Rows that can be packed.
pub trait UnitRows: Sync {
    /// Values of a row.
    fn dim(&self) -> usize;
    /// Loads a row at unit length; returns its norm.
    fn load_unit(&self, row: RowId, out: &mut [f32]) -> f64;
}

impl UnitRows for VectorStore {
    fn dim(&self) -> usize {
        self.shape().dim
    }

    fn load_unit(&self, row: RowId, out: &mut [f32]) -> f64 {
        self.load(row, out);
        to_unit(out)
    }
}

/// Rows in memory, one after the other.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// All values.
    pub values: Vec<f32>,
    /// Values of a row.
    pub dim: usize,
}

impl Matrix {
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..][..self.dim]
    }
}

impl UnitRows for Matrix {
    fn dim(&self) -> usize {
        self.dim
    }

    fn load_unit(&self, row: RowId, out: &mut [f32]) -> f64 {
        out.copy_from_slice(self.row(row as usize));
        to_unit(out)
    }
}

/// Scales a vector to unit length; returns its norm.
pub(crate) fn to_unit(values: &mut [f32]) -> f64 {
    let norm = dot(values, values).sqrt();
    let scale = norm.recip();
    values.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    norm
}

/// The norm that a metric multiplies a unit vector's scores with.
pub(super) fn norm_in(metric: Metric, norm: f64) -> f64 {
    if metric.ignores_norms() { 1.0 } else { norm }
}
