//! Decoded rows are checked, measured, encoded and written into the store.
//!
//! Memory: one batch of both sides, encoded.

use std::sync::Mutex;

use half::f16;
use half::vec::HalfFloatVecExt;
use xxhash_rust::xxh3::xxh3_64;

use super::equal_vectors::VectorHashes;
use super::row_marks::RowMarks;
use super::sides::Side;
use crate::config::Metric;
use crate::error::Result;
use crate::run::ScatteredPart;
use crate::run::sealed::HEADER_BYTES;
use crate::vectors::decode::Unit;
use crate::vectors::dot::dot;
use crate::vectors::row::{NO_ROW, RowId};
use crate::vectors::row_table::RowLayout;
use crate::vectors::shape::{Shape, StoreType};

/// Checks decoded rows and writes them into the stores and the row table. Threads share it.
pub(super) struct RowWriter<'a> {
    pub(super) shape: Shape,
    /// The number of the input's first row among rows and documents of the files.
    pub(super) first_number: u64,
    /// These are documents: there is no query.
    pub(super) documents: bool,
    /// Number type of each side's store.
    pub(super) precision: [StoreType; 2],
    pub(super) metric: Metric,
    /// By input row.
    pub(super) row_ids: &'a [RowId],
    /// One, or one for each side.
    pub(super) stores: &'a [ScatteredPart],
    pub(super) table: &'a ScatteredPart,
    pub(super) layout: RowLayout,
    pub(super) hashes: &'a VectorHashes,
    /// Largest norm of each side so far.
    pub(super) largest: Mutex<[f64; 2]>,
    /// Input rows that cannot be used. Nothing is written of them.
    pub(super) bad: &'a RowMarks,
}

impl RowWriter<'_> {
    /// Checks, measures and writes one batch; `first` counts within the unit. Rows that are left out are not looked at,
    /// and those that cannot be used are marked.
    ///
    /// # Errors
    /// The disk fails.
    pub(super) fn batch(&self, unit: &Unit<'_>, first: u64, sides: [Side<'_>; 2], rows: usize) -> Result<()> {
        let input_row = unit.first_input_row() + first;
        let row_ids = &self.row_ids[input_row as usize..][..rows];
        let mut order: Vec<usize> = (0..rows).filter(|row| row_ids[*row] != NO_ROW).collect();
        order.sort_unstable_by_key(|row| row_ids[*row]);
        let first_number = self.first_number + input_row;
        let mut measured = self.measure(&order, sides);
        for row in std::mem::take(&mut measured.bad) {
            self.bad.mark(input_row + row as u64);
        }
        let sorted: Vec<RowId> = measured.order.iter().map(|row| row_ids[*row]).collect();
        let inputs: Vec<u32> = measured.order.iter().map(|row| (first_number as usize + row) as u32).collect();
        let mut start = 0;
        for run in sorted.chunk_by(|a, b| a + 1 == *b) {
            let range = start..start + run.len();
            self.write_run(run[0], &measured, &inputs, range.clone())?;
            start = range.end;
        }
        Ok(())
    }

    /// Encodes the rows of a batch, in `order`, and measures their norms and scores.
    fn measure(&self, order: &[usize], sides: [Side<'_>; 2]) -> MeasuredRows {
        let dim = self.shape.dim;
        let mut measured = MeasuredRows::default();
        let mut vectors = [vec![0f32; dim], vec![0f32; dim]];
        let mut largest = [0f64; 2];
        for &row in order {
            let [query, positive] = &mut vectors;
            let (Ok(query), Ok(positive)) = (sides[0].load(row, query), sides[1].load(row, positive)) else {
                measured.bad.push(row);
                continue;
            };
            let norms = [query, positive];
            measured.order.push(row);
            for (side, vector) in vectors.iter().enumerate() {
                largest[side] = largest[side].max(norms[side]);
                let bytes = &mut measured.bytes[side];
                match self.precision[side] {
                    StoreType::F32 => bytes.extend(bytemuck::cast_slice(vector)),
                    StoreType::F16 => bytes.extend(bytemuck::cast_slice::<f16, u8>(&Vec::from_f32_slice(vector))),
                }
            }
            let scales = match self.metric {
                Metric::Cosine => norms.map(f64::recip),
                Metric::Dot => [1.0; 2],
            };
            let score = (dot(&vectors[0], &vectors[1]) * (scales[0] * scales[1])) as f32;
            let (query_scale, score) = if self.documents { (1.0, 0.0) } else { (scales[0], score) };
            (0..2).for_each(|side| measured.scales[side].push([query_scale, scales[1]][side]));
            measured.scores.push(score);
            measured.hashes.push(self.hashes_of(&vectors, &measured.bytes));
        }
        let mut all = self.largest.lock().expect("no thread panics while it holds the norms");
        *all = [all[0].max(largest[0]), all[1].max(largest[1])];
        measured
    }

    /// Hashes of the vectors that were encoded last: equal ones have equal hashes, on whichever side. Queries that are
    /// not looked at have none.
    fn hashes_of(&self, vectors: &[Vec<f32>; 2], encoded: &[Vec<u8>; 2]) -> [u64; 2] {
        let of_side = |side: usize| {
            if self.precision[0] != self.precision[1] {
                return xxh3_64(bytemuck::cast_slice(&vectors[side]));
            }
            let row_bytes = self.shape.dim * self.precision[side].bytes();
            xxh3_64(&encoded[side][encoded[side].len() - row_bytes..])
        };
        [if self.hashes.has_queries() { of_side(0) } else { 0 }, of_side(1)]
    }

    /// Writes consecutive rows, from `row` on, out of a range of a measured batch.
    fn write_run(
        &self,
        row: RowId,
        measured: &MeasuredRows,
        inputs: &[u32],
        range: std::ops::Range<usize>,
    ) -> Result<()> {
        (row..).zip(&measured.hashes[range.clone()]).for_each(|(row, hashes)| self.hashes.put(row, *hashes));
        let row = u64::from(row);
        // Documents are in the last store alone.
        let first = if self.documents { self.stores.len() - 1 } else { 0 };
        for (side, store) in self.stores.iter().enumerate().skip(first) {
            let width = self.shape.dim * self.precision[side].bytes();
            let bytes = &measured.bytes[side][range.start * width..range.end * width];
            store.write_at(bytes, HEADER_BYTES as u64 + row * width as u64)?;
        }
        let put = |bytes: &[u8], offset: u64| self.table.write_at(bytes, offset);
        put(bytemuck::cast_slice(&inputs[range.clone()]), self.layout.input_row() + 4 * row)?;
        put(bytemuck::cast_slice(&measured.scales[0][range.clone()]), self.layout.query_scale() + 8 * row)?;
        put(bytemuck::cast_slice(&measured.scales[1][range.clone()]), self.layout.positive_scale() + 8 * row)?;
        put(bytemuck::cast_slice(&measured.scores[range]), self.layout.score() + 4 * row)?;
        Ok(())
    }
}

/// A batch, in store order: encoded rows of both sides and what was measured of them.
#[derive(Default)]
pub(super) struct MeasuredRows {
    /// Which rows of the batch these are.
    order: Vec<usize>,
    /// Rows of the batch that cannot be used.
    bad: Vec<usize>,
    bytes: [Vec<u8>; 2],
    scales: [Vec<f64>; 2],
    scores: Vec<f32>,
    hashes: Vec<[u64; 2]>,
}
