//! Scores of two rows' queries with each other, and of their positives: what a pair of examples is to each other, and
//! not to be right answers.
//!
//! Memory: two rows in f32.

use super::dot::{dot, dot_half};
use super::open::Vectors;
use super::row::RowId;
use super::shape::StoreType;
use super::store::VectorStore;

/// Scores one row with many others, side by side, as [`super::Scorer`] scores queries with positives.
#[derive(Debug)]
pub(crate) struct SideScorer<'a> {
    vectors: &'a Vectors,
    row: Option<RowId>,
    query: Vec<f32>,
    positive: Vec<f32>,
}

impl<'a> SideScorer<'a> {
    /// A scorer that has no row yet.
    pub(crate) fn new(vectors: &'a Vectors) -> Self {
        let dim = vectors.shape().dim;
        SideScorer { vectors, row: None, query: vec![0.0; dim], positive: vec![0.0; dim] }
    }

    /// The scores of both rows' queries, and of their positives: the same whichever row comes first; fast while the
    /// first one stays. A document has no query: its score is lower than any limit. O(dim).
    pub(crate) fn pair(&mut self, row: RowId, other: RowId) -> [f32; 2] {
        let Vectors { queries, positives, rows, .. } = self.vectors;
        if self.row != Some(row) {
            queries.load(row, &mut self.query);
            positives.load(row, &mut self.positive);
            self.row = Some(row);
        }
        let scaled = |sum: f64, scales: &[f64]| (sum * (scales[row as usize] * scales[other as usize])) as f32 + 0.0;
        let of_queries = match other < rows.row_count() {
            true => scaled(product(&self.query, queries, other), rows.query_scales()),
            false => f32::NEG_INFINITY,
        };
        [of_queries, scaled(product(&self.positive, positives, other), rows.positive_scales())]
    }
}

/// The inner product of a vector with a row of a store.
fn product(values: &[f32], store: &VectorStore, row: RowId) -> f64 {
    match store.precision() {
        StoreType::F32 => dot(values, bytemuck::cast_slice(store.row_bytes(row))),
        StoreType::F16 => dot_half(values, bytemuck::cast_slice(store.row_bytes(row))),
    }
}
