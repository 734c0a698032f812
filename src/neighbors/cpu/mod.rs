//! The CPU's tile search: packed panels, kernels chosen once at run time, candidates by query.
//!
//! Three precisions: [`int8`] filters at about four times the speed of [`float`], [`bf16`] at twice; all report
//! every pair whose true score can still reach its query's floor, by a proven bound (docs/algorithms.md), so
//! that their results are the same. Where a bound is too wide to filter (one dominant dimension, many equal
//! scores), the search goes over to the next finer precision by itself.

pub mod bf16;
pub mod float;
pub(crate) mod int8;
pub(crate) mod packed;
pub(crate) mod quantise;
mod simd_bf16;
mod simd_float;
mod simd_int8;

use std::ops::Range;

use super::topk::{Candidate, TopK};
use crate::vectors::dot::dot;
use crate::vectors::{Keys, RowId, Scorer, VectorStore};

/// Base rows of a panel.
pub(crate) const PANEL: usize = 64;
/// Queries of a group.
pub(crate) const GROUP: usize = 6;
/// f32 or i32 lanes of a cache line.
pub(crate) const LANES: usize = 16;

/// Scores of a group against a panel.
pub(crate) type Scores = [[f32; PANEL]; GROUP];

/// What the machine can do; chosen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    /// 512-bit registers, with byte and bf16 dot products.
    Avx512Bf16,
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
            if has!("avx512f") && has!("avx512vnni") && has!("avx512bf16") {
                found.push(Simd::Avx512Bf16);
            }
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

    /// Whether there is an instruction for bf16; without it, bf16 is slower than f32.
    pub fn multiplies_bf16(self) -> bool {
        self == Simd::Avx512Bf16
    }
}

/// Rows that can be packed: a store's, or centres.
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
    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
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

/// What a kernel leaves of a group and a panel.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    /// One bit for each column whose similarity may reach the query's floor; none for places without a query.
    pub hits: [u64; GROUP],
    /// Pairs that it had to look at one by one.
    pub singled: u32,
}

/// Packed tiles of one precision, and how to score them.
///
/// A *score* is in units of the query: for unit query x̂ and base row y, x̂·y (cosine: x̂·ŷ) divided by
/// [`TileKernel::unit`] of the query.
pub trait TileKernel: Copy + Send + Sync {
    /// Some packed queries.
    type Queries: Send + Sync;
    /// Packed base rows.
    type Base: Sync;
    /// One panel of them.
    type Panel<'a>: Copy;

    /// A panel, looked up once for all groups.
    fn panel(base: &Self::Base, panel: usize) -> Self::Panel<'_>;
    /// What a query's scores are multiplied with to give similarities.
    fn unit(queries: &Self::Queries, query: usize) -> f64;
    /// A bound of |similarity − score · unit| for a query and every row of a panel; never too small.
    fn error(queries: &Self::Queries, query: usize, panel: Self::Panel<'_>) -> f64;
    /// Scores a group against a panel. `floors` are similarities, one for each query of the group. Row i of
    /// `scores` is written only where a pair of the query is not ruled out.
    fn score(
        self,
        queries: &Self::Queries,
        group: usize,
        panel: Self::Panel<'_>,
        floors: &[f32; GROUP],
        scores: &mut Scores,
    ) -> Left;
}

/// Whoever wants to know which pairs a kernel could not rule out.
pub trait HitSink {
    /// A pair of a query (by its packed place) below this is of no interest.
    fn floor(&self, query: usize) -> f32;
    /// A pair whose similarity lies within `error` of `score` and may reach the floor.
    fn hit(&mut self, query: usize, column: usize, score: f32, error: f32);
}

/// Scans packed columns for `count` packed queries, beginning with the panel of column `begin`: the pure
/// inner loop of the search. Returns the pairs that the kernel looked at one by one. O(count · columns · dim).
pub fn scan<K: TileKernel>(
    kernel: K,
    queries: &K::Queries,
    count: usize,
    base: &K::Base,
    columns: Range<usize>,
    begin: usize,
    sink: &mut impl HitSink,
) -> u64 {
    let (mut scores, mut singled) = ([[0f32; PANEL]; GROUP], 0);
    let panels = columns.start / PANEL..columns.end.div_ceil(PANEL);
    let begin = (begin / PANEL).clamp(panels.start, panels.end);
    for panel in (begin..panels.end).chain(panels.start..begin) {
        let (valid, first_column) = (mask_of(&columns, panel), panel * PANEL);
        let panel = K::panel(base, panel);
        for group in 0..count.div_ceil(GROUP) {
            let first = group * GROUP;
            let inside = GROUP.min(count - first);
            let mut floors = [f32::INFINITY; GROUP];
            (first..).zip(&mut floors[..inside]).for_each(|(query, floor)| *floor = sink.floor(query));
            let left = kernel.score(queries, group, panel, &floors, &mut scores);
            singled += u64::from(left.singled);
            for (query, (hits, scores)) in (first..first + inside).zip(left.hits.iter().zip(&scores)) {
                let mut mask = hits & valid;
                if mask == 0 {
                    continue;
                }
                let unit = K::unit(queries, query) as f32;
                let error = (K::error(queries, query, panel) as f32).next_up();
                while mask != 0 {
                    let column = mask.trailing_zeros() as usize;
                    mask &= mask - 1;
                    sink.hit(query, first_column + column, scores[column] * unit, error);
                }
            }
        }
    }
    singled
}

/// The best of each query, over rows that are no candidates of it.
#[derive(Debug)]
pub(crate) struct Ranking<'a, 'v> {
    /// Place of each packed query in the two slices below.
    pub slots: &'a [u32],
    /// Rows by slot.
    pub rows: &'a [RowId],
    /// Best candidates by slot.
    pub best: &'a mut [TopK],
    /// Row of each column.
    pub base_rows: &'a [RowId],
    /// Who is no negative of whom.
    pub keys: &'a Keys<'v>,
    /// True scores.
    pub scorer: &'a mut Scorer<'v>,
    /// Pairs that were reported.
    pub reported: u64,
}

impl HitSink for Ranking<'_, '_> {
    #[inline]
    fn floor(&self, query: usize) -> f32 {
        self.best[self.slots[query] as usize].floor()
    }

    #[inline]
    fn hit(&mut self, query: usize, column: usize, score: f32, error: f32) {
        let slot = self.slots[query] as usize;
        let (query, row) = (self.rows[slot], self.base_rows[column]);
        self.reported += 1;
        if row != query && !self.keys.conflict(query, row) {
            self.best[slot].push(row, score, error, |list| score_exactly(self.scorer, query, list));
        }
    }
}

/// The best columns of each query by score alone.
#[derive(Debug)]
pub struct Nearest<'a>(pub &'a mut [TopK]);

impl HitSink for Nearest<'_> {
    #[inline]
    fn floor(&self, query: usize) -> f32 {
        self.0[query].floor()
    }

    #[inline]
    fn hit(&mut self, query: usize, column: usize, score: f32, _: f32) {
        // The kernel's own scores decide: any choice of lists is sound, and kernels agree to the bit.
        self.0[query].push(column as RowId, score, 0.0, |_| {});
    }
}

/// One bit for each column of a panel that lies in the range.
fn mask_of(columns: &Range<usize>, panel: usize) -> u64 {
    let start = columns.start.saturating_sub(panel * PANEL).min(PANEL);
    let end = (columns.end - panel * PANEL).min(PANEL);
    let below = |count: usize| if count == PANEL { u64::MAX } else { (1 << count) - 1 };
    below(end) & !below(start)
}

/// Puts true scores into candidates.
pub(crate) fn score_exactly(scorer: &mut Scorer<'_>, query: RowId, list: &mut [Candidate]) {
    scorer.pairs(query, list, |candidate| candidate.row, |candidate, score| candidate.score = score);
}

/// What the scores of a group must reach, where `count` queries are packed; infinity past these.
#[inline]
fn thresholds<K: TileKernel>(
    queries: &K::Queries,
    count: usize,
    group: usize,
    panel: K::Panel<'_>,
    floors: &[f32; GROUP],
) -> [f32; GROUP] {
    let mut thresholds = [f32::INFINITY; GROUP];
    for ((query, floor), threshold) in (group * GROUP..count).zip(floors).zip(&mut thresholds) {
        *threshold = least_score(*floor, K::error(queries, query, panel), K::unit(queries, query));
    }
    thresholds
}

/// What a score must reach so that the similarity can reach `floor`.
#[inline]
fn least_score(floor: f32, error: f64, unit: f64) -> f32 {
    (((f64::from(floor) - error) / unit) as f32).next_down()
}

/// What underflow can take from a similarity: nothing that matters, but not nothing.
fn underflow(query_norm: f64, base_norm: f64) -> f64 {
    (1.0 + query_norm + base_norm) * f64::from(f32::from_bits(1 << 15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hold_the_columns_of_the_range() {
        assert_eq!(mask_of(&(0..64), 0), u64::MAX);
        assert_eq!(mask_of(&(0..200), 2), u64::MAX);
        assert_eq!(mask_of(&(66..70), 1), 0b111100);
        assert_eq!(mask_of(&(10..200), 3), 0xFF);
    }
}
