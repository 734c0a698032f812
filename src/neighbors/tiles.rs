//! One segment of queries against packed base rows: all of them, or the lists that each query probes.
//!
//! One thread searches a tile of queries from beginning to end, so that no thread waits for another.
//! Memory: for each query its candidates and a byte a value; for each thread one gathered tile.

use std::ops::Range;

use rayon::prelude::*;

use super::columns::BaseColumns;
use super::cpu::bf16::{Bf16, Bf16Base, Bf16Queries};
use super::cpu::float::{Float, FloatBase, FloatQueries};
use super::cpu::int8::{Int8, Int8Queries, PackedBase, Quantised};
use super::cpu::scan::{PANEL, Ranking, TileKernel, scan};
use super::cpu::simd::Simd;
use super::initial_thresholds::{self, Guess, ThresholdSample};
use super::topk::{Candidate, TopK};
use crate::config::{KernelPrecision, Metric};
use crate::error::Result;
use crate::vectors::{Keys, RowId, Scorer, TileScorer, VectorStore, Vectors};
use crate::watch::Watch;

/// Queries of a tile in exact search: their bytes stay in the second-level cache.
pub const TILE_QUERIES: usize = 192;
/// The most queries of a tile in approximate search, where more of them probe the same list, and where base rows
/// are packed for each tile anew.
pub(crate) const LIST_TILE_QUERIES: usize = 768;
/// BaseColumns that are scanned before pairs are counted as done, and the share that was ruled out is looked at.
pub(crate) const STRETCH_COLUMNS: usize = 128 * PANEL;
/// BaseColumns that are packed in bf16 or f32 at a time, where int8 rules out too little.
pub(crate) const PACKED_COLUMNS: usize = 16 * PANEL;
/// Rows that are fetched before they are scored.
const FETCH_AHEAD: usize = 6;
/// A tile goes on in a finer precision where more than one pair in this many is reported.
const LEAST_FILTERED: u64 = 16;
/// The same where the kernel looks at more than one pair in this many one by one.
const LEAST_RULED_OUT: u64 = 4;

/// What a search works with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiles<'a> {
    pub vectors: &'a Vectors,
    /// Who is scored.
    pub columns: BaseColumns<'a>,
    /// Packed base, which int8 needs.
    pub packed: Option<&'a PackedBase>,
    /// The sampled rows, which are packed behind the others.
    pub samples: &'a ThresholdSample,
    /// The numbers to begin with; int8, or `Auto`, without a packed base is f32.
    pub precision: KernelPrecision,
    pub simd: Simd,
    /// How vectors are compared.
    pub metric: Metric,
    /// Most queries of a tile in exact search where base rows are packed for each tile anew.
    pub fine_queries: usize,
}

impl Tiles<'_> {
    /// The exact best `ranks` of some rows of one task, whose columns these are, by row.
    ///
    /// # Errors
    /// The watch stops the job.
    pub(crate) fn exact(
        &self,
        columns: Range<usize>,
        rows: &[RowId],
        ranks: usize,
        watch: Watch<'_>,
    ) -> Result<Vec<Vec<Candidate>>> {
        // As large as leaves a tile for each thread.
        let fair = rows.len().div_ceil(rayon::current_num_threads());
        let tile_queries = fair.clamp(TILE_QUERIES, self.most_queries());
        self.by_tiles(rows, tile_queries, |rows, _| self.exact_tile(columns.clone(), rows, ranks, watch))
    }

    /// Most queries of a tile in exact search.
    pub(crate) fn most_queries(&self) -> usize {
        match self.precision() {
            KernelPrecision::Auto | KernelPrecision::Int8 => TILE_QUERIES,
            KernelPrecision::Bf16 | KernelPrecision::F32 => self.fine_queries,
        }
    }

    /// The same of one tile. Queries whose initial threshold was too high are searched again without one.
    pub(crate) fn exact_tile(
        &self,
        columns: Range<usize>,
        rows: &[RowId],
        ranks: usize,
        watch: Watch<'_>,
    ) -> Result<Vec<Vec<Candidate>>> {
        let mut tile = QueryTile::new(self, rows, ranks);
        let queries = tile.pack_all();
        let guesses = tile.guess_thresholds(&columns, &queries);
        tile.scan_task(columns.clone(), queries, watch)?;
        let mut lists = tile.finish();
        let reached = |slot: usize| lists[slot].get(ranks - 1).is_some_and(|last| last.score >= guesses[slot]);
        let missed: Vec<usize> =
            (0..rows.len()).filter(|slot| guesses[*slot] > f32::NEG_INFINITY && !reached(*slot)).collect();
        if !missed.is_empty() {
            let rows: Vec<RowId> = missed.iter().map(|slot| rows[*slot]).collect();
            let mut again = QueryTile::new(self, &rows, ranks);
            let queries = again.pack_all();
            // These pairs are counted already.
            again.scan_task(columns, queries, Watch::new(&|_| watch.add(0)))?;
            missed.into_iter().zip(again.finish()).for_each(|(slot, list)| lists[slot] = list);
        }
        Ok(lists)
    }

    /// The best `ranks` among the `probes` nearest lists of each row, by row.
    ///
    /// # Errors
    /// The watch stops the job.
    pub(crate) fn approximate(
        &self,
        task: usize,
        rows: &[RowId],
        ranks: usize,
        probes: usize,
        watch: Watch<'_>,
    ) -> Result<Vec<Vec<Candidate>>> {
        let probed = self.columns.ivf.probe(self.simd, self.vectors, task, rows, probes);
        self.by_tiles(rows, LIST_TILE_QUERIES, |rows, indices| {
            let mut tile = QueryTile::new(self, rows, ranks);
            tile.scan_lists(indices.iter().map(|index| &probed[*index as usize][..]), watch)?;
            Ok(tile.finish())
        })
    }

    fn precision(&self) -> KernelPrecision {
        match (self.precision, self.packed) {
            (KernelPrecision::Auto | KernelPrecision::Int8, None) => KernelPrecision::F32,
            (KernelPrecision::Auto | KernelPrecision::Int8, Some(_)) => KernelPrecision::Int8,
            (precision, _) => precision,
        }
    }

    /// What comes after a precision that rules out too little.
    fn finer(&self, precision: KernelPrecision) -> KernelPrecision {
        if precision == KernelPrecision::Int8 && self.simd.multiplies_bf16() {
            KernelPrecision::Bf16
        } else {
            KernelPrecision::F32
        }
    }

    /// Divides queries into tiles of near ones and searches each, given its rows and their indices in `rows`. Returns
    /// the lists in the order of `rows`.
    fn by_tiles(
        &self,
        rows: &[RowId],
        tile_queries: usize,
        search: impl Fn(&[RowId], &[u32]) -> Result<Vec<Vec<Candidate>>> + Sync,
    ) -> Result<Vec<Vec<Candidate>>> {
        let places = self.columns.ivf.places();
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_unstable_by_key(|index| places[rows[*index as usize] as usize]);
        let found: Vec<Vec<Vec<Candidate>>> = order
            .par_chunks(tile_queries)
            .map(|indices| {
                let rows: Vec<RowId> = indices.iter().map(|index| rows[*index as usize]).collect();
                search(&rows, indices)
            })
            .collect::<Result<_>>()?;
        let mut lists = vec![Vec::new(); rows.len()];
        order.into_iter().zip(found.into_iter().flatten()).for_each(|(index, list)| lists[index as usize] = list);
        Ok(lists)
    }
}

/// Packed queries, and the packed base where there is one.
enum PackedQueries<'a> {
    Bytes(&'a PackedBase, Box<Int8Queries>),
    Halves(Bf16Queries),
    Floats(FloatQueries),
}

/// What a scan cost.
#[derive(Default)]
struct Work {
    /// Pairs that the kernel reported.
    reported: u64,
    /// Pairs that the kernel looked at one by one.
    singled: u64,
}

/// A tile of queries.
struct QueryTile<'a> {
    tiles: &'a Tiles<'a>,
    rows: &'a [RowId],
    ranks: usize,
    best: Vec<TopK>,
    keys: Keys<'a>,
    /// Whether a query shares a key with any row.
    shared: Vec<bool>,
    scorer: Scorer<'a>,
}

impl<'a> QueryTile<'a> {
    fn new(tiles: &'a Tiles<'a>, rows: &'a [RowId], ranks: usize) -> QueryTile<'a> {
        let best = rows.iter().map(|_| TopK::new(ranks)).collect();
        let (keys, scorer) = (tiles.vectors.rows.keys(), Scorer::new(tiles.vectors));
        let shared = rows.iter().map(|row| keys.is_shared(*row)).collect();
        QueryTile { tiles, rows, ranks, best, keys, shared, scorer }
    }

    /// Gives each query the initial threshold that a sample of its task suggests, and returns these thresholds.
    fn guess_thresholds(&mut self, columns: &Range<usize>, queries: &PackedQueries<'_>) -> Vec<f32> {
        let sample = self.tiles.samples.of(self.tiles.vectors.tasks.of(self.rows[0]));
        let rank = initial_thresholds::rank(self.ranks, columns.len(), sample.len());
        let (PackedQueries::Bytes(packed, queries), Some(rank)) = (queries, rank) else {
            return vec![f32::NEG_INFINITY; self.rows.len()];
        };
        let mut best: Vec<TopK> = self.rows.iter().map(|_| TopK::new(rank)).collect();
        let first = packed.sample_column();
        let columns = first + sample.start..first + sample.end;
        let mut guess =
            Guess { queries: self.rows, best: &mut best, rows: self.tiles.samples.rows(), first, keys: &self.keys };
        scan(Int8(self.tiles.simd), queries, packed, columns, first, &mut guess);
        let last_score = |best: TopK| best.finish(|_| {}).get(rank - 1).map_or(f32::NEG_INFINITY, |last| last.score);
        let thresholds: Vec<f32> = best.into_iter().map(last_score).collect();
        self.best.iter_mut().zip(&thresholds).for_each(|(best, threshold)| best.begin_with(*threshold));
        thresholds
    }

    fn ranking<'t>(&'t mut self, slots: &'t [u32]) -> Ranking<'t, 'a> {
        Ranking {
            slots,
            rows: self.rows,
            best: &mut self.best,
            base_rows: self.tiles.columns.rows(),
            keys: &self.keys,
            shared: &self.shared,
            scorer: &mut self.scorer,
            reported: 0,
        }
    }

    /// Gives the candidates that are left true scores and returns each query's list. Pairs are scored base row by base
    /// row, since near queries share many of them.
    fn finish(mut self) -> Vec<Vec<Candidate>> {
        // A candidate's row in the upper half, its index among all candidates in the lower.
        let mut pairs: Vec<u64> = Vec::new();
        let mut slots: Vec<u32> = Vec::new();
        for (slot, best) in self.best.iter_mut().enumerate() {
            for candidate in best.unsure() {
                pairs.push(u64::from(candidate.row) << 32 | slots.len() as u64);
                slots.push(slot as u32);
            }
        }
        // By digits of the row alone: there are many pairs, and those of a row need no order.
        radsort::sort_by_key(&mut pairs, |pair| (*pair >> 32) as RowId);
        let row_of = |pair: u64| (pair >> 32) as RowId;
        let groups = || pairs.chunk_by(|a, b| row_of(*a) == row_of(*b));
        let mut ahead = groups().skip(FETCH_AHEAD);
        let mut scorer = TileScorer::new(self.tiles.vectors, self.rows);
        let index_of = |pair: u64| pair as u32 as usize;
        let (mut wanted, mut scores): (Vec<u32>, Vec<f32>) = (Vec::new(), vec![0.0; slots.len()]);
        for group in groups() {
            if let Some(next) = ahead.next() {
                scorer.fetch(row_of(next[0]));
            }
            wanted.clear();
            wanted.extend(group.iter().map(|pair| slots[index_of(*pair)]));
            scorer.score(row_of(group[0]), &wanted, |index, score| scores[index_of(group[index])] = score);
        }
        let mut scores = scores.into_iter();
        let resolved = self.best.into_iter().map(|mut best| {
            best.resolve(&mut scores);
            best.finish(|_| {})
        });
        resolved.collect()
    }

    /// Scans a task's columns, beginning with the queries' own. (Nearest lists first was tried: it left a fifth fewer
    /// pairs to look at, but panels that are scanned in part cost more than that saved.)
    fn scan_task(&mut self, columns: Range<usize>, mut queries: PackedQueries<'a>, watch: Watch<'_>) -> Result<()> {
        let tiles = self.tiles;
        let slots: Vec<u32> = (0..self.rows.len() as u32).collect();
        let mut precision = tiles.precision();
        let own = tiles.columns.near(tiles.columns.ivf.places()[self.rows[self.rows.len() / 2] as usize]);
        for (index, stretch) in stretches(columns, own).into_iter().enumerate() {
            let pairs = (stretch.len() * self.rows.len()) as u64;
            let work = self.scan(&queries, &slots, stretch, own);
            // In the first stretch, which fills the lists, no filter can rule out much.
            let filters_little = work.reported * LEAST_FILTERED > pairs || work.singled * LEAST_RULED_OUT > pairs;
            if index > 0 && filters_little && precision != KernelPrecision::F32 {
                precision = tiles.finer(precision);
                queries = self.pack(precision, None, &slots);
            }
            watch.add(pairs)?;
        }
        Ok(())
    }

    /// Scans, list by list, the queries that probe it.
    fn scan_lists<'l>(&mut self, probed: impl Iterator<Item = &'l [u32]>, watch: Watch<'_>) -> Result<()> {
        let tiles = self.tiles;
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for (slot, lists) in probed.enumerate() {
            pairs.extend(lists.iter().map(|list| (*list, slot as u32)));
        }
        pairs.sort_unstable();
        let (precision, quantised) = (tiles.precision(), self.quantised());
        for group in pairs.chunk_by(|a, b| a.0 == b.0) {
            let list = group[0].0 as usize;
            let columns = tiles.columns.of_list(list);
            let slots: Vec<u32> = group.iter().map(|(_, slot)| *slot).collect();
            let done = (columns.len() * slots.len()) as u64;
            let queries = self.pack(precision, quantised.as_ref(), &slots);
            let begin = columns.start;
            self.scan(&queries, &slots, columns, begin);
            watch.add(done)?;
        }
        Ok(())
    }

    /// All queries, as the search begins.
    fn pack_all(&self) -> PackedQueries<'a> {
        let slots: Vec<u32> = (0..self.rows.len() as u32).collect();
        self.pack(self.tiles.precision(), self.quantised().as_ref(), &slots)
    }

    /// All queries in bytes, if the search begins in int8.
    fn quantised(&self) -> Option<Quantised> {
        let tiles = self.tiles;
        let begins = tiles.precision() == KernelPrecision::Int8;
        tiles
            .packed
            .filter(|_| begins)
            .map(|packed| Quantised::new(tiles.simd, &tiles.vectors.queries, self.rows, packed.frame(), tiles.metric))
    }

    /// Packs the queries of some slots.
    fn pack(&self, precision: KernelPrecision, quantised: Option<&Quantised>, slots: &[u32]) -> PackedQueries<'a> {
        let (source, metric) = (&self.tiles.vectors.queries, self.tiles.metric);
        if let (KernelPrecision::Int8, Some(packed), Some(quantised)) = (precision, self.tiles.packed, quantised) {
            return PackedQueries::Bytes(packed, Box::new(quantised.gather(slots)));
        }
        let rows: Vec<RowId> = slots.iter().map(|slot| self.rows[*slot as usize]).collect();
        match precision {
            KernelPrecision::Bf16 => PackedQueries::Halves(Bf16Queries::pack(source, &rows, metric)),
            KernelPrecision::Auto | KernelPrecision::Int8 | KernelPrecision::F32 => {
                PackedQueries::Floats(FloatQueries::pack(source, &rows, metric))
            }
        }
    }

    /// Scans columns with packed queries.
    fn scan(&mut self, queries: &PackedQueries<'_>, slots: &[u32], columns: Range<usize>, begin: usize) -> Work {
        let simd = self.tiles.simd;
        match queries {
            PackedQueries::Bytes(packed, queries) => {
                let mut ranking = self.ranking(slots);
                let singled = scan(Int8(simd), queries, packed, columns, begin, &mut ranking);
                Work { reported: ranking.reported, singled }
            }
            PackedQueries::Halves(queries) => self.scan_packing(Bf16(simd), queries, slots, columns, Bf16Base::pack),
            PackedQueries::Floats(queries) => self.scan_packing(Float(simd), queries, slots, columns, FloatBase::pack),
        }
    }

    /// The same, where base rows are packed piece by piece.
    fn scan_packing<K: TileKernel>(
        &mut self,
        kernel: K,
        queries: &K::Queries,
        slots: &[u32],
        columns: Range<usize>,
        pack: impl Fn(&VectorStore, &[RowId], Metric) -> K::Base,
    ) -> Work {
        let tiles = self.tiles;
        let mut work = Work::default();
        for base_rows in tiles.columns.rows()[columns].chunks(PACKED_COLUMNS) {
            let base = pack(&tiles.vectors.positives, base_rows, tiles.metric);
            let mut ranking = self.ranking(slots);
            ranking.base_rows = base_rows;
            work.singled += scan(kernel, queries, &base, 0..base_rows.len(), 0, &mut ranking);
            work.reported += ranking.reported;
        }
        work
    }
}

/// Cuts columns into stretches, beginning with the one that holds `own`.
fn stretches(columns: Range<usize>, own: usize) -> Vec<Range<usize>> {
    let mut stretches: Vec<Range<usize>> = Vec::new();
    let mut start = columns.start;
    while start < columns.end {
        // Whole panels: a panel that two stretches share would be scored twice.
        let end = ((start / PANEL) * PANEL + STRETCH_COLUMNS).min(columns.end);
        stretches.push(start..end);
        start = end;
    }
    let first = stretches.iter().position(|stretch| stretch.contains(&own)).unwrap_or(0);
    stretches.rotate_left(first);
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_all_columns_in_whole_panels() {
        let cut = stretches(100..20_000, 9000);
        assert!(cut[0].contains(&9000));
        let mut sorted = cut.clone();
        sorted.sort_by_key(|stretch| stretch.start);
        assert_eq!((sorted[0].start, sorted[sorted.len() - 1].end), (100, 20_000));
        assert!(sorted.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].end % PANEL == 0));
    }
}
