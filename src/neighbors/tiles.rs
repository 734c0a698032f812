//! One segment of queries against packed base rows: all of them, or the lists that each query probes.
//!
//! Every tile of queries is one thread's from beginning to end, so that nobody waits for anybody.
//! Memory: for each query its candidates and a byte a value; for each thread one gathered tile.

use std::ops::Range;

use rayon::prelude::*;

use super::cpu::bf16::{self, Bf16};
use super::cpu::float::{self, Float};
use super::cpu::int8::{self, Int8, Quantised};
use super::cpu::packed::Packed;
use super::cpu::{PANEL, Ranking, Simd, TileKernel, scan};
use super::partition::Partition;
use super::topk::{Candidate, TopK};
use crate::config::Precision;
use crate::error::Result;
use crate::vectors::store::VectorStore;
use crate::vectors::{Keys, RowId, Scorer, TileScorer, Vectors};

/// Queries of a tile in exact search: their bytes stay in the second cache.
pub const TILE_QUERIES: usize = 96;
/// Queries of a tile in approximate search: more of them probe the same list.
pub const LIST_TILE_QUERIES: usize = 768;
/// Columns that are scanned between two looks at the clock and at how much is ruled out.
const STRETCH_COLUMNS: usize = 128 * PANEL;
/// Columns that are packed in bf16 or f32 at a time, where int8 rules out too little.
pub const PACKED_COLUMNS: usize = 16 * PANEL;
/// Rows that are fetched before they are scored.
const FETCH_AHEAD: usize = 6;
/// A precision gives way to a finer one where it leaves more than one pair in this many.
const LEAST_FILTERED: u64 = 16;

/// What a search works with.
#[derive(Debug, Clone, Copy)]
pub struct Tiles<'a> {
    /// The store.
    pub vectors: &'a Vectors,
    /// Order and lists.
    pub partition: &'a Partition,
    /// Packed base, which int8 needs.
    pub packed: Option<&'a Packed>,
    /// The numbers to begin with; int8 without a packed base is f32.
    pub precision: Precision,
    /// The machine.
    pub simd: Simd,
    /// Whether the metric ignores norms (cosine).
    pub unit: bool,
}

/// Told how many pairs were done; may stop the job.
pub type Watch<'a> = dyn Fn(u64) -> Result<()> + Sync + 'a;

impl Tiles<'_> {
    /// The exact best `ranks` of some rows of one task, by row.
    ///
    /// # Errors
    /// The watch stops the job.
    pub fn exact(
        &self,
        task: Range<RowId>,
        rows: &[RowId],
        ranks: usize,
        watch: &Watch<'_>,
    ) -> Result<Vec<Vec<Candidate>>> {
        self.tiles(rows, ranks, TILE_QUERIES, |tile, _| tile.all(task.clone(), watch))
    }

    /// The best `ranks` among the `probes` nearest lists of each row, by row.
    ///
    /// # Errors
    /// The watch stops the job.
    pub fn approximate(
        &self,
        task: usize,
        rows: &[RowId],
        ranks: usize,
        probes: usize,
        watch: &Watch<'_>,
    ) -> Result<Vec<Vec<Candidate>>> {
        let probed = self.partition.probe(self.simd, self.vectors, task, rows, probes);
        self.tiles(rows, ranks, LIST_TILE_QUERIES, |tile, indices| {
            tile.some(indices.iter().map(|index| &probed[*index as usize][..]), watch)
        })
    }

    fn precision(&self) -> Precision {
        if self.precision == Precision::Int8 && self.packed.is_none() { Precision::F32 } else { self.precision }
    }

    /// What comes after a precision that rules out too little.
    fn finer(&self, precision: Precision) -> Precision {
        if precision == Precision::Int8 && self.simd.multiplies_bf16() { Precision::Bf16 } else { Precision::F32 }
    }

    /// Divides queries into tiles of near ones, searches each, and returns the lists in the order of `rows`.
    fn tiles(
        &self,
        rows: &[RowId],
        ranks: usize,
        tile_queries: usize,
        search: impl Fn(&mut Tile<'_>, &[u32]) -> Result<()> + Sync,
    ) -> Result<Vec<Vec<Candidate>>> {
        let places = self.partition.places();
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_unstable_by_key(|index| places[rows[*index as usize] as usize]);
        let found: Vec<Vec<Vec<Candidate>>> = order
            .par_chunks(tile_queries)
            .map(|indices| {
                let rows: Vec<RowId> = indices.iter().map(|index| rows[*index as usize]).collect();
                let mut tile = Tile {
                    tiles: self,
                    rows: &rows,
                    best: rows.iter().map(|_| TopK::new(ranks)).collect(),
                    keys: self.vectors.rows.keys(),
                    scorer: Scorer::new(self.vectors),
                };
                search(&mut tile, indices)?;
                Ok(tile.finish())
            })
            .collect::<Result<_>>()?;
        let mut lists = vec![Vec::new(); rows.len()];
        order.into_iter().zip(found.into_iter().flatten()).for_each(|(index, list)| lists[index as usize] = list);
        Ok(lists)
    }
}

/// Packed queries, and the packed base where there is one.
enum Queries<'a> {
    Bytes(&'a Packed, int8::Queries),
    Halves(bf16::Queries),
    Floats(float::Queries),
}

/// A tile of queries.
struct Tile<'a> {
    tiles: &'a Tiles<'a>,
    rows: &'a [RowId],
    best: Vec<TopK>,
    keys: Keys<'a>,
    scorer: Scorer<'a>,
}

impl<'a> Tile<'a> {
    fn ranking<'t>(&'t mut self, slots: &'t [u32]) -> Ranking<'t, 'a> {
        Ranking {
            slots,
            rows: self.rows,
            best: &mut self.best,
            base_rows: self.tiles.partition.order(),
            keys: &self.keys,
            scorer: &mut self.scorer,
            reported: 0,
        }
    }

    /// Gives the survivors true scores and returns each query's list. Pairs are scored by row: near queries
    /// want the same rows.
    fn finish(mut self) -> Vec<Vec<Candidate>> {
        let mut pairs: Vec<(RowId, u32, u32)> = Vec::new();
        for (slot, best) in self.best.iter_mut().enumerate() {
            let unsure = best.unsure().iter().enumerate();
            pairs.extend(unsure.map(|(index, candidate)| (candidate.row, slot as u32, index as u32)));
        }
        pairs.sort_unstable();
        let groups: Vec<&[(RowId, u32, u32)]> = pairs.chunk_by(|a, b| a.0 == b.0).collect();
        let mut scorer = TileScorer::new(self.tiles.vectors, self.rows);
        for (number, group) in groups.iter().enumerate() {
            if let Some(next) = groups.get(number + FETCH_AHEAD) {
                scorer.fetch(next[0].0);
            }
            let mut indices = group.iter();
            scorer.score(group[0].0, group.iter().map(|(_, slot, _)| *slot as usize), |slot, score| {
                if let Some((.., index)) = indices.next() {
                    self.best[slot].unsure_at(*index as usize).score = score;
                }
            });
        }
        let sure = self.best.into_iter().map(|mut best| {
            best.are_sure();
            best.finish(|_| {})
        });
        sure.collect()
    }

    /// Scans a task's columns, beginning with the queries' own. (Nearest lists first was tried: it left a fifth
    /// fewer pairs to look at, and lost more to panels scanned in part.)
    fn all(&mut self, task: Range<RowId>, watch: &Watch<'_>) -> Result<()> {
        let tiles = self.tiles;
        let columns = task.start as usize..task.end as usize;
        let slots: Vec<u32> = (0..self.rows.len() as u32).collect();
        let mut precision = tiles.precision();
        let mut queries = self.pack(precision, self.quantised().as_ref(), &slots);
        let own = tiles.partition.places()[self.rows[self.rows.len() / 2] as usize] as usize;
        for (index, stretch) in stretches(columns, own).into_iter().enumerate() {
            let pairs = (stretch.len() * self.rows.len()) as u64;
            let reported = self.scan(&queries, &slots, stretch, own);
            // The first stretch fills the lists; later ones that leave too much are not filtered.
            if index > 0 && reported * LEAST_FILTERED > pairs && precision != Precision::F32 {
                precision = tiles.finer(precision);
                queries = self.pack(precision, None, &slots);
            }
            watch(pairs)?;
        }
        Ok(())
    }

    /// Scans, list by list, the queries that probe it.
    fn some<'l>(&mut self, probed: impl Iterator<Item = &'l [u32]>, watch: &Watch<'_>) -> Result<()> {
        let tiles = self.tiles;
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for (slot, lists) in probed.enumerate() {
            pairs.extend(lists.iter().map(|list| (*list, slot as u32)));
        }
        pairs.sort_unstable();
        let (precision, quantised) = (tiles.precision(), self.quantised());
        for group in pairs.chunk_by(|a, b| a.0 == b.0) {
            let list = group[0].0 as usize;
            let columns = tiles.partition.starts()[list] as usize..tiles.partition.starts()[list + 1] as usize;
            let slots: Vec<u32> = group.iter().map(|(_, slot)| *slot).collect();
            let done = (columns.len() * slots.len()) as u64;
            let queries = self.pack(precision, quantised.as_ref(), &slots);
            let begin = columns.start;
            self.scan(&queries, &slots, columns, begin);
            watch(done)?;
        }
        Ok(())
    }

    /// All queries in bytes, if the search begins with bytes.
    fn quantised(&self) -> Option<Quantised> {
        let tiles = self.tiles;
        let begins = tiles.precision() == Precision::Int8;
        begins.then(|| Quantised::new(&tiles.vectors.queries, self.rows, tiles.unit))
    }

    /// Packs some of the queries.
    fn pack(&self, precision: Precision, quantised: Option<&Quantised>, slots: &[u32]) -> Queries<'a> {
        let (source, unit) = (&self.tiles.vectors.queries, self.tiles.unit);
        if let (Precision::Int8, Some(packed), Some(quantised)) = (precision, self.tiles.packed, quantised) {
            return Queries::Bytes(packed, quantised.gather(slots));
        }
        let rows: Vec<RowId> = slots.iter().map(|slot| self.rows[*slot as usize]).collect();
        match precision {
            Precision::Bf16 => Queries::Halves(bf16::Queries::pack(source, &rows, unit)),
            Precision::Int8 | Precision::F32 => Queries::Floats(float::Queries::pack(source, &rows, unit)),
        }
    }

    /// Scans columns with packed queries; how many pairs were reported.
    fn scan(&mut self, queries: &Queries<'_>, slots: &[u32], columns: Range<usize>, begin: usize) -> u64 {
        let simd = self.tiles.simd;
        match queries {
            Queries::Bytes(packed, queries) => {
                let mut ranking = self.ranking(slots);
                scan(Int8(simd), queries, slots.len(), packed, columns, begin, &mut ranking);
                ranking.reported
            }
            Queries::Halves(queries) => self.scan_packing(Bf16(simd), queries, slots, columns, bf16::Base::pack),
            Queries::Floats(queries) => self.scan_packing(Float(simd), queries, slots, columns, float::Base::pack),
        }
    }

    /// The same, where base rows are packed as they come.
    fn scan_packing<K: TileKernel>(
        &mut self,
        kernel: K,
        queries: &K::Queries,
        slots: &[u32],
        columns: Range<usize>,
        pack: impl Fn(&VectorStore, &[RowId], bool) -> K::Base,
    ) -> u64 {
        let tiles = self.tiles;
        let mut reported = 0;
        for base_rows in tiles.partition.order()[columns].chunks(PACKED_COLUMNS) {
            let base = pack(&tiles.vectors.positives, base_rows, tiles.unit);
            let mut ranking = self.ranking(slots);
            ranking.base_rows = base_rows;
            scan(kernel, queries, slots.len(), &base, 0..base_rows.len(), 0, &mut ranking);
            reported += ranking.reported;
        }
        reported
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
