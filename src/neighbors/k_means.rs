//! Spherical k-means on a sample of a task's positives (Dhillon, Modha, 2001): the centres of its IVF lists, and which
//! of them are nearest. Pure.
//!
//! O(sample · lists · dim) a round. Memory: the sample's numbers, and the centres twice.

use std::ops::Range;

use rand::RngExt;
use rayon::prelude::*;

use super::cpu::float::{Float, FloatBase, FloatQueries};
use super::cpu::matrix::{Matrix, UnitRows, to_unit};
use super::cpu::scan::{Nearest, scan};
use super::cpu::simd::Simd;
use super::topk::{Candidate, TopK};
use crate::config::Metric;
use crate::random::{Purpose, stream};
use crate::vectors::RowId;

/// Sampled rows for each list.
const SAMPLE_ROWS: usize = 32;
const ROUNDS: usize = 4;
/// Queries that one thread packs at a time.
const CHUNK_ROWS: usize = 96;

/// The `count` nearest centres of each row, the nearest first. O(rows · lists · dim).
pub(super) fn nearest(
    simd: Simd,
    source: &impl UnitRows,
    rows: &[RowId],
    centres: &FloatBase,
    lists: usize,
    count: usize,
) -> Vec<Vec<Candidate>> {
    rows.par_chunks(CHUNK_ROWS)
        .flat_map_iter(|rows| {
            let queries = FloatQueries::pack(source, rows, Metric::Cosine);
            let mut best: Vec<TopK> = rows.iter().map(|_| TopK::new(count)).collect();
            scan(Float(simd), &queries, centres, 0..lists, 0, &mut Nearest(&mut best));
            best.into_iter().map(|best| best.finish(|_| {}))
        })
        .collect()
}

/// Some rows, one drawn at random out of each stretch of equal length: spread evenly, without a period that the input's
/// order may have too.
pub(crate) fn spread(rows: Range<RowId>, count: usize) -> Vec<RowId> {
    let length = rows.len() as u64;
    let mut random = stream(Purpose::SpreadRows { length, count: count as u64 });
    let stretch = |index: u64| rows.start as u64 + index * length / count as u64;
    (0..count as u64).map(|index| random.random_range(stretch(index)..stretch(index + 1)) as RowId).collect()
}

/// Finds a task's centres. Deterministic: sums run in row order, centre by centre.
pub(super) fn find_centres(simd: Simd, source: &impl UnitRows, members: &TaskMembers, lists: usize) -> Matrix {
    let dim = source.dim();
    let sample = members.spread(members.len().min(SAMPLE_ROWS * lists));
    let mut centres = Matrix { values: vec![0.0; lists * dim], dim };
    for (row, centre) in members.spread(lists).iter().zip(centres.values.chunks_exact_mut(dim)) {
        source.load_unit(*row, centre);
    }
    let all: Vec<RowId> = (0..lists as RowId).collect();
    for _ in 0..ROUNDS {
        let base = FloatBase::pack(&centres, &all, Metric::Cosine);
        let mut members: Vec<(RowId, RowId)> = nearest(simd, source, &sample, &base, lists, 1)
            .iter()
            .zip(&sample)
            .map(|(found, row)| (found[0].row, *row))
            .collect();
        members.sort_unstable();
        let groups: Vec<&[(RowId, RowId)]> = members.chunk_by(|a, b| a.0 == b.0).collect();
        let means: Vec<(RowId, Vec<f32>)> = groups
            .par_iter()
            .map(|group| {
                let (mut mean, mut values) = (vec![0f32; dim], vec![0f32; dim]);
                for (_, row) in *group {
                    source.load_unit(*row, &mut values);
                    mean.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
                }
                (group[0].0, mean)
            })
            .collect();
        for (list, mut mean) in means {
            // Members that cancel out leave the centre where it was.
            if to_unit(&mut mean).is_normal() {
                centres.values[list as usize * dim..][..dim].copy_from_slice(&mean);
            }
        }
    }
    centres
}

/// The rows of a task, and its documents.
pub(super) struct TaskMembers {
    pub(super) rows: Range<RowId>,
    pub(super) documents: Range<RowId>,
}

impl TaskMembers {
    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.documents.len()
    }

    /// Some of them, see [`spread`].
    fn spread(&self, count: usize) -> Vec<RowId> {
        // Numbers go on where the rows end.
        let behind = self.documents.start.wrapping_sub(self.rows.end);
        let mut chosen = spread(self.rows.start..self.rows.start + self.len() as RowId, count);
        chosen.iter_mut().filter(|row| **row >= self.rows.end).for_each(|row| *row += behind);
        chosen
    }
}
