//! The CPU's tile search: packed panels, kernels chosen once at run time, candidates by query.
//!
//! Two precisions: [`int8`] filters at about four times the speed of [`float`]; both report every pair
//! whose true score can still reach its query's floor, by a proven bound (docs/algorithms.md), so that
//! their results are the same. Where int8's bound is too wide to filter (one dominant dimension, many
//! equal scores), the search goes over to float by itself.

pub mod float;
pub mod int8;
mod simd_float;
mod simd_int8;

use super::topk::{Candidate, TopK};
use crate::vectors::store::VectorStore;
use crate::vectors::{Keys, RowId, Scorer};

/// Base rows of a panel.
pub const PANEL: usize = 64;
/// Queries of a group.
pub const GROUP: usize = 6;
/// f32 or i32 lanes of a cache line.
pub const LANES: usize = 16;

/// Scores of a group against a panel.
pub type Scores = [[f32; PANEL]; GROUP];

/// What the machine can do; chosen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    /// 512-bit registers, with byte dot products.
    Avx512Vnni,
    /// 512-bit registers.
    Avx512,
    /// 256-bit registers with fused multiply-add.
    Avx2,
    /// Portable reference.
    Scalar,
}

impl Simd {
    /// The fastest of this machine.
    pub fn detect() -> Simd {
        Simd::all()[0]
    }

    /// All that this machine can run, the fastest first.
    pub fn all() -> Vec<Simd> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512vnni") {
                found.push(Simd::Avx512Vnni);
            }
            if has!("avx512f") {
                found.push(Simd::Avx512);
            }
            if has!("avx2") && has!("fma") {
                found.push(Simd::Avx2);
            }
        }
        found.push(Simd::Scalar);
        found
    }
}

/// Packed tiles of one precision, and how to score them.
///
/// A *score* is in units of the query: for unit query x̂ and base row y, x̂·y (cosine: x̂·ŷ) divided by
/// [`TileKernel::unit`] of the query.
pub trait TileKernel: Copy + Send + Sync {
    /// Some packed queries.
    type Queries: Send + Sync;
    /// A packed tile of base rows.
    type Base: Send + Sync;

    /// Packs queries. `unit`: the metric ignores norms (cosine).
    fn queries(self, store: &VectorStore, rows: std::ops::Range<RowId>, unit: bool) -> Self::Queries;
    /// An empty tile that takes `rows` rows without growing.
    fn base(self, rows: usize, dim: usize) -> Self::Base;
    /// Packs base rows in place of what was there, in parallel.
    fn repack(self, base: &mut Self::Base, store: &VectorStore, rows: std::ops::Range<RowId>, unit: bool);
    /// What a query's scores are multiplied with to give similarities.
    fn unit(queries: &Self::Queries, query: usize) -> f64;
    /// A bound of |similarity − score · unit| for a query and every row of a panel; never too small.
    fn error(queries: &Self::Queries, query: usize, base: &Self::Base, panel: usize) -> f64;
    /// Scores a group against a panel. Row i of `scores` is written only where a score reaches
    /// `thresholds[i]`; the result has one bit for each column that does.
    fn score(
        self,
        queries: &Self::Queries,
        group: usize,
        base: &Self::Base,
        panel: usize,
        thresholds: &[f32; GROUP],
        scores: &mut Scores,
    ) -> [u64; GROUP];
}

/// A tile of queries beside what was found for each.
#[derive(Debug)]
pub struct QueryTile<'a, Q> {
    /// Packed queries.
    pub queries: &'a Q,
    /// The first query's row.
    pub first_row: RowId,
    /// Best candidates of each.
    pub best: &'a mut [TopK],
}

/// Scans base rows for one tile of queries: the pure inner loop of the search. Returns how many pairs
/// the kernel could not rule out. O(queries · base rows · dim).
pub fn scan<K: TileKernel>(
    kernel: K,
    tile: QueryTile<'_, K::Queries>,
    base: &K::Base,
    rows: std::ops::Range<RowId>,
    keys: &Keys<'_>,
    scorer: &mut Scorer<'_>,
) -> u64 {
    let count = tile.best.len();
    let mut reported = 0;
    let mut scores = [[0f32; PANEL]; GROUP];
    let panels = rows.len().div_ceil(PANEL);
    // Begin where the queries themselves lie, if they do: near rows raise the floors early.
    let own = if rows.contains(&tile.first_row) { (tile.first_row - rows.start) as usize / PANEL } else { 0 };
    for panel in (own..panels).chain(0..own) {
        let valid = match rows.len() - panel * PANEL {
            left if left >= PANEL => u64::MAX,
            left => (1 << left) - 1,
        };
        for group in 0..count.div_ceil(GROUP) {
            let first = group * GROUP;
            let inside = GROUP.min(count - first);
            let mut thresholds = [f32::INFINITY; GROUP];
            for (query, slot) in (first..).zip(&mut thresholds[..inside]) {
                let error = K::error(tile.queries, query, base, panel);
                *slot = threshold(tile.best[query].floor(), error, K::unit(tile.queries, query));
            }
            let hits = kernel.score(tile.queries, group, base, panel, &thresholds, &mut scores);
            for i in 0..inside {
                let mut mask = hits[i] & valid;
                if mask == 0 {
                    continue;
                }
                reported += u64::from(mask.count_ones());
                let query_row = tile.first_row + (first + i) as RowId;
                let unit = K::unit(tile.queries, first + i) as f32;
                let error = (K::error(tile.queries, first + i, base, panel) as f32).next_up();
                let best = &mut tile.best[first + i];
                while mask != 0 {
                    let column = mask.trailing_zeros() as usize;
                    mask &= mask - 1;
                    let row = rows.start + (panel * PANEL + column) as RowId;
                    if row != query_row && !keys.conflict(query_row, row) {
                        best.push(row, scores[i][column] * unit, error, |list| score_exactly(scorer, query_row, list));
                    }
                }
            }
        }
    }
    reported
}

/// Puts true scores into candidates.
pub fn score_exactly(scorer: &mut Scorer<'_>, query: RowId, list: &mut [Candidate]) {
    scorer.pairs(query, list, |candidate| candidate.row, |candidate, score| candidate.score = score);
}

/// What a score must reach so that the similarity can reach `floor`.
#[inline]
fn threshold(floor: f32, error: f64, unit: f64) -> f32 {
    (((f64::from(floor) - error) / unit) as f32).next_down()
}

/// Loads a row at unit length; returns its norm.
fn load_unit(store: &VectorStore, row: RowId, out: &mut [f32]) -> f64 {
    store.load(row, out);
    let norm = crate::vectors::dot::dot(out, out).sqrt();
    let scale = norm.recip();
    out.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    norm
}

/// What underflow can take from a similarity: nothing that matters, but not nothing.
fn underflow(query_norm: f64, base_norm: f64) -> f64 {
    (1.0 + query_norm + base_norm) * f64::from(f32::from_bits(1 << 15))
}
