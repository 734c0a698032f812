//! The inner loop of the search: packed queries against packed base rows, panel by panel.

use std::ops::Range;

use super::bounds::cutoff;
use crate::neighbors::topk::{TopK, score_exactly};
use crate::vectors::{Keys, RowId, Scorer};

/// Base rows of a panel.
pub(crate) const PANEL: usize = 64;
/// Queries of a group.
pub(crate) const GROUP: usize = 6;
/// Places of a group in tables that kernels read: `GROUP` of them are queries.
pub(crate) const PLACES: usize = 8;
/// f32 or i32 lanes of a cache line.
pub(crate) const LANES: usize = 16;

/// Scores of a group against a panel.
pub(crate) type Scores = [[f32; PANEL]; GROUP];

/// The similarities that a group's queries must reach; infinity for places without a query.
pub(crate) type Thresholds = [f32; PLACES];

/// What a group's scores with a panel must reach, in units of its queries; nothing reaches that of a place without one.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Cutoffs {
    /// Of what is compared first: whole scores, or those of heads with the most that tails can add.
    pub(crate) first: Thresholds,
    /// Of whole scores.
    pub(crate) whole: Thresholds,
}

impl Cutoffs {
    /// The same for heads and for whole scores.
    pub(crate) fn equal(cutoffs: Thresholds) -> Cutoffs {
        Cutoffs { first: cutoffs, whole: cutoffs }
    }
}

/// The pairs of a group and a panel that a kernel could not rule out.
#[derive(Debug, Clone, Copy)]
pub struct PanelHits {
    /// One bit for each column whose similarity may reach the query's threshold; none for places without a query.
    pub hits: [u64; GROUP],
    /// Pairs that the kernel looked at one by one.
    pub singled: u32,
}

/// Packed tiles of one precision, and how to score them.
///
/// A *score* is in units of the query: for unit query x̂ and base row y, x̂·y (cosine: x̂·ŷ) divided by
/// [`TileKernel::unit`] of the query.
pub trait TileKernel: Copy + Send + Sync {
    /// Some packed queries.
    type Queries: Send + Sync;
    type Base: Sync;
    /// One panel of them.
    type Panel<'a>: Copy;

    /// Number of packed queries.
    fn count(queries: &Self::Queries) -> usize;
    /// A panel, looked up once for all groups.
    fn panel(base: &Self::Base, panel: usize) -> Self::Panel<'_>;
    /// What a query's scores are multiplied with to give similarities.
    fn unit(queries: &Self::Queries, query: usize) -> f64;
    /// A bound of |similarity − score · unit| for a query and every row of a panel; never too small.
    fn error(queries: &Self::Queries, query: usize, panel: Self::Panel<'_>) -> f64;
    /// What scores with a panel must reach so that similarities can reach the thresholds, for each group of queries.
    fn cutoffs(self, queries: &Self::Queries, panel: Self::Panel<'_>, thresholds: &[Thresholds], to: &mut [Cutoffs]);
    /// Scores a group against a panel. `scores` has the scores of queries with a pair that is not ruled out; rows of
    /// others are written in the same way, or stay as they were.
    fn score(
        self,
        queries: &Self::Queries,
        group: usize,
        panel: Self::Panel<'_>,
        cutoffs: &Cutoffs,
        scores: &mut Scores,
    ) -> PanelHits;
}

/// Takes the pairs that a kernel could not rule out.
pub trait HitSink {
    /// A pair of a query (by its packed place) below this similarity is of no interest.
    fn threshold(&self, query: usize) -> f32;
    /// A pair whose similarity lies within `error` of `score` and may reach the threshold.
    fn hit(&mut self, query: usize, column: usize, score: f32, error: f32);
}

/// Scans packed columns for all packed queries, beginning with the panel of column `begin`. Returns the pairs that
/// the kernel looked at one by one. O(queries · columns · dim).
pub fn scan<K: TileKernel>(
    kernel: K,
    queries: &K::Queries,
    base: &K::Base,
    columns: Range<usize>,
    begin: usize,
    sink: &mut impl HitSink,
) -> u64 {
    let (mut scores, mut singled) = ([[0f32; PANEL]; GROUP], 0);
    let count = K::count(queries);
    // Side by side, since they are read with every panel and seldom change: a query's by its own hits alone.
    let mut thresholds = vec![[f32::INFINITY; PLACES]; count.div_ceil(GROUP)];
    let mut cutoffs = vec![Cutoffs::equal([f32::INFINITY; PLACES]); thresholds.len()];
    for query in 0..count {
        thresholds[query / GROUP][query % GROUP] = sink.threshold(query);
    }
    let panels = columns.start / PANEL..columns.end.div_ceil(PANEL);
    let begin = (begin / PANEL).clamp(panels.start, panels.end);
    for panel in (begin..panels.end).chain(panels.start..begin) {
        let (valid, first_column) = (mask_of(&columns, panel), panel * PANEL);
        let panel = K::panel(base, panel);
        kernel.cutoffs(queries, panel, &thresholds, &mut cutoffs);
        for (group, (cutoffs, thresholds)) in cutoffs.iter().zip(&mut thresholds).enumerate() {
            let found = kernel.score(queries, group, panel, cutoffs, &mut scores);
            singled += u64::from(found.singled);
            for (i, (hits, scores)) in found.hits.iter().zip(&scores).enumerate() {
                let mut mask = hits & valid;
                if mask == 0 {
                    continue;
                }
                let query = group * GROUP + i;
                let unit = K::unit(queries, query) as f32;
                let error = (K::error(queries, query, panel) as f32).next_up();
                while mask != 0 {
                    let column = mask.trailing_zeros() as usize;
                    mask &= mask - 1;
                    sink.hit(query, first_column + column, scores[column] * unit, error);
                }
                thresholds[i] = sink.threshold(query);
            }
        }
    }
    singled
}

/// [`TileKernel::cutoffs`], from its bound, one query after the other.
#[inline]
pub(super) fn cutoffs_one_by_one<K: TileKernel>(
    queries: &K::Queries,
    panel: K::Panel<'_>,
    thresholds: &[Thresholds],
    to: &mut [Cutoffs],
) {
    for query in 0..K::count(queries) {
        let (group, i) = (query / GROUP, query % GROUP);
        let least = cutoff(thresholds[group][i], K::error(queries, query, panel), K::unit(queries, query));
        (to[group].first[i], to[group].whole[i]) = (least, least);
    }
}

/// The best of each query, over rows that may be negatives of it.
#[derive(Debug)]
pub(crate) struct Ranking<'a, 'v> {
    /// Slot of each packed query: its number in `rows` and `best`.
    pub slots: &'a [u32],
    /// Rows by slot.
    pub rows: &'a [RowId],
    /// Best candidates by slot.
    pub best: &'a mut [TopK],
    /// Row of each column.
    pub base_rows: &'a [RowId],
    /// Who may not be a negative of whom.
    pub keys: &'a Keys<'v>,
    /// By slot, whether it shares a key with any row.
    pub shared: &'a [bool],
    pub scorer: &'a mut Scorer<'v>,
    /// Pairs that were reported.
    pub reported: u64,
}

impl HitSink for Ranking<'_, '_> {
    #[inline]
    fn threshold(&self, query: usize) -> f32 {
        self.best[self.slots[query] as usize].threshold()
    }

    #[inline]
    fn hit(&mut self, query: usize, column: usize, score: f32, error: f32) {
        let slot = self.slots[query] as usize;
        let (query, row) = (self.rows[slot], self.base_rows[column]);
        self.reported += 1;
        if row != query && !(self.shared[slot] && self.keys.conflict(query, row)) {
            self.best[slot].push(row, score, error, |list| score_exactly(self.scorer, query, list));
        }
    }
}

/// The best columns of each query by score alone.
#[derive(Debug)]
pub struct Nearest<'a>(pub &'a mut [TopK]);

impl HitSink for Nearest<'_> {
    #[inline]
    fn threshold(&self, query: usize) -> f32 {
        self.0[query].threshold()
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
