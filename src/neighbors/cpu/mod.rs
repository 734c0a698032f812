//! The CPU's tile search: packed panels, a kernel chosen once at run time, candidates by query.
//!
//! Vectors are packed at unit length (f32), 64 base rows a panel and 6 queries a group, interleaved by
//! dimension. The kernel's sums err by at most γ(d + 4) = (d + 4)u / (1 − (d + 4)u), u = 2⁻²⁴, times the
//! norms (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1, and the
//! Cauchy–Schwarz inequality): two roundings when packed, one a fused step, two at the end.

pub mod kernel;
pub mod pack;
mod simd;

use super::topk::TopK;
use crate::vectors::{Keys, RowId, Scorer};
use kernel::Kernel;
use pack::{Base, GROUP, PANEL, Queries};

/// A tile of queries beside what was found for each.
#[derive(Debug)]
pub struct QueryTile<'a> {
    /// Packed queries.
    pub queries: &'a Queries,
    /// The query's row of each.
    pub first_row: RowId,
    /// Best candidates of each.
    pub best: &'a mut [TopK],
}

/// Scans one base tile for one tile of queries: the pure inner loop of the search.
/// O(queries · base rows · dim).
pub fn scan(kernel: Kernel, tile: QueryTile<'_>, base: &Base, keys: &Keys<'_>, scorer: &mut Scorer<'_>) {
    let relative = relative_error(base.dim());
    let count = tile.best.len();
    for panel in 0..base.panels() {
        let valid = base.valid(panel);
        for group in 0..count.div_ceil(GROUP) {
            let first = group * GROUP;
            let inside = GROUP.min(count - first);
            let mut thresholds = [f32::INFINITY; GROUP];
            let mut errors = [0f32; GROUP];
            for i in 0..inside {
                let norm = tile.queries.norm(first + i);
                errors[i] = bound(relative, norm, base.largest_norm(panel));
                thresholds[i] = threshold(tile.best[first + i].floor(), errors[i], norm);
            }
            let mut scores = [[0f32; PANEL]; GROUP];
            let hits =
                kernel.score(tile.queries.group(group), base.panel(panel), base.norms(panel), &thresholds, &mut scores);
            for i in 0..inside {
                let mut mask = hits[i] & valid;
                if mask == 0 {
                    continue;
                }
                let query_row = tile.first_row + (first + i) as RowId;
                let norm = tile.queries.norm(first + i) as f32;
                let best = &mut tile.best[first + i];
                while mask != 0 {
                    let column = mask.trailing_zeros() as usize;
                    mask &= mask - 1;
                    let row = base.first_row() + (panel * PANEL + column) as RowId;
                    if row != query_row && !keys.conflict(query_row, row) {
                        best.push(row, scores[i][column] * norm, errors[i], |row| scorer.pair(query_row, row));
                    }
                }
            }
        }
    }
}

/// Largest error of a score between unit vectors.
fn relative_error(dim: usize) -> f64 {
    let terms = (dim + 4) as f64 * f64::from(f32::EPSILON) / 2.0;
    terms / (1.0 - terms) * 1.001
}

/// Largest error of a score, given both norms; the second term stands for underflow.
fn bound(relative: f64, query_norm: f64, base_norm: f64) -> f32 {
    let error = relative * query_norm * base_norm + (1.0 + query_norm) * f64::from(f32::from_bits(64));
    (error as f32).next_up()
}

/// What the kernel's score must reach so that the true score can reach `floor`.
fn threshold(floor: f32, error: f32, query_norm: f64) -> f32 {
    (((f64::from(floor) - f64::from(error)) / query_norm) as f32).next_down()
}
