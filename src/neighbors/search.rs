//! The tile loop: blocks of queries against the base tiles of their task, a part for each block.

use std::ops::Range;

use rayon::prelude::*;
use serde_json::json;

use super::cpu::float::{self, Float};
use super::cpu::int8::{self, Int8};
use super::cpu::{PANEL, QueryTile, Simd, TileKernel, scan, score_exactly};
use super::file::{Neighbors, block_name, write_block};
use super::topk::{Candidate, TopK};
use crate::config::{Config, Metric, Precision};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::run::progress::Meter;
use crate::run::{FinishedRun, Run, Stage};
use crate::vectors::{RowId, Scorer, Vectors};

/// int8 gives way to f32 where it leaves more than one pair in this many.
const LEAST_FILTERED: u64 = 16;

/// Finds the exact best p + m positives of every query, or opens the lists that are there.
///
/// # Errors
/// No query can have a preferred negative, the user interrupts, or the disk fails.
pub fn search(run: &Run, vectors: &Vectors, config: &Config, plan: &Plan) -> Result<Neighbors> {
    let (rows, block_rows) = (vectors.row_count(), plan.block_rows);
    let folder = run.stage_folder(Stage::Neighbors);
    let largest_task = vectors.tasks.ranges().map(|range| range.len()).max().unwrap_or(0);
    refuse_empty_windows(config, largest_task)?;
    if run.is_complete(Stage::Neighbors) {
        let recorded = run.record(Stage::Neighbors).facts["block_rows"].as_u64().unwrap_or(0) as usize;
        return Neighbors::open(&folder, u64::from(rows), recorded);
    }
    let stage = run.begin(Stage::Neighbors);
    let ranks = config.window.ranks() as usize;
    let unit = config.metric == Metric::Cosine;
    let search = Search { run, vectors, simd: Simd::detect(), precision: config.precision, unit, plan, ranks };
    tracing::debug!("search kernel: {:?}, {:?}", search.precision, search.simd);
    let meter = run.meter(Stage::Neighbors, pairs_of(vectors, 0..rows), "pairs");
    let mut bases = search.bases(largest_task);
    for index in 0..(rows as usize).div_ceil(block_rows) {
        let block = (index * block_rows) as RowId..((index + 1) * block_rows).min(rows as usize) as RowId;
        if run.has(Stage::Neighbors, &block_name(index)) {
            meter.skip(pairs_of(vectors, block));
            continue;
        }
        let mut lists = Vec::with_capacity(block.len());
        for (task, segment) in segments(vectors, block.clone()) {
            lists.extend(search.segment(task, segment, &mut bases, &meter)?);
        }
        stage.commit(&block_name(index), |out| write_block(out, block.start, ranks, &lists))?;
    }
    drop(meter);
    let neighbors = Neighbors::open(&folder, u64::from(rows), block_rows)?;
    let [short, idle] = count_short(&neighbors, ranks, config.window.skip as usize);
    if short > 0 {
        tracing::warn!(
            "{short} rows have fewer than p + m = {ranks} candidates in their task: their rank window is shorter, \
             and {idle} have no preferred negative"
        );
    }
    let facts = json!({"block_rows": block_rows, "ranks": ranks, "short_rows": short, "rows_without_window": idle});
    stage.finish(facts, |_| true)?;
    Ok(neighbors)
}

/// Opens the lists of a finished run.
///
/// # Errors
/// The stage is not finished, or a file is damaged.
pub fn open(run: &FinishedRun, rows: u64) -> Result<Neighbors> {
    let record = run.stage(Stage::Neighbors)?;
    let block_rows = record.facts["block_rows"].as_u64().unwrap_or(0).max(1) as usize;
    Neighbors::open(&run.stage_folder(Stage::Neighbors), rows, block_rows)
}

/// Fails where even the largest task is too small for one preferred negative.
///
/// # Errors
/// `skip` leaves nobody.
pub fn refuse_empty_windows(config: &Config, largest_task: usize) -> Result<()> {
    if largest_task > config.window.skip as usize + 1 {
        return Ok(());
    }
    Err(Error::input("no row can have a preferred negative")
        .expected(format!("a task of more than --skip + 1 = {} rows", config.window.skip + 1))
        .found(format!("{largest_task} rows in the largest task"))
        .remedy("lower --skip, mine more rows, or mine without --task-column"))
}

/// The tasks that a block of rows touches: (rows of the task, its rows in the block).
fn segments(vectors: &Vectors, block: Range<RowId>) -> impl Iterator<Item = (Range<RowId>, Range<RowId>)> + '_ {
    let mut row = block.start;
    std::iter::from_fn(move || {
        if row == block.end {
            return None;
        }
        let task = vectors.tasks.range(vectors.tasks.of(row));
        let segment = row..task.end.min(block.end);
        row = segment.end;
        Some((task, segment))
    })
}

/// Pairs that a search of some rows scores.
fn pairs_of(vectors: &Vectors, rows: Range<RowId>) -> u64 {
    segments(vectors, rows).map(|(task, segment)| task.len() as u64 * segment.len() as u64).sum()
}

fn count_short(neighbors: &Neighbors, ranks: usize, skip: usize) -> [u64; 2] {
    let lengths = neighbors.blocks().iter().flat_map(|block| block.range().map(|row| block.neighbors(row).len()));
    lengths.fold([0; 2], |[short, idle], length| [short + u64::from(length < ranks), idle + u64::from(length <= skip)])
}

struct Search<'a> {
    run: &'a Run,
    vectors: &'a Vectors,
    simd: Simd,
    precision: Precision,
    unit: bool,
    plan: &'a Plan,
    ranks: usize,
}

/// Packed base tiles, one for each precision; that of the one not used stays empty.
struct Bases {
    int8: int8::Base,
    float: float::Base,
}

/// Some queries, and the best found for each.
type Found = Vec<(RowId, Vec<TopK>)>;

impl Search<'_> {
    fn bases(&self, largest_task: usize) -> Bases {
        let rows = self.plan.base_tile_rows.min(largest_task);
        let dim = self.vectors.shape().dim;
        let int8 = if self.precision == Precision::F32 { 0 } else { rows };
        Bases { int8: Int8(self.simd).base(int8, dim), float: Float(self.simd).base(0, dim) }
    }

    /// The lists of some queries of one task.
    fn segment(
        &self,
        task: Range<RowId>,
        queries: Range<RowId>,
        bases: &mut Bases,
        meter: &Meter,
    ) -> Result<Vec<Vec<Candidate>>> {
        let ranks = self.ranks.min(task.len() - 1);
        if ranks == 0 {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        let tile_rows = self.plan.query_tile_rows;
        let starts: Vec<RowId> = queries.clone().step_by(tile_rows).collect();
        let rows_of = |start: RowId| start..queries.end.min(start + tile_rows as RowId);
        let mut found: Found =
            starts.iter().map(|start| (*start, rows_of(*start).map(|_| TopK::new(ranks)).collect())).collect();
        let (int8, float) = (Int8(self.simd), Float(self.simd));
        let mut precision = self.precision;
        let bytes = match precision {
            Precision::F32 => Vec::new(),
            Precision::Int8 => self.pack(int8, &starts, rows_of),
        };
        let mut floats = Vec::new();
        for (index, rows) in self.base_tiles(task, queries.start).into_iter().enumerate() {
            self.run.check_interrupt()?;
            let pairs = rows.len() as u64 * queries.len() as u64;
            match precision {
                Precision::Int8 => {
                    let reported = self.tile(int8, &bytes, &mut bases.int8, rows, &mut found);
                    // The first tile fills the lists; later ones that report too much are not filtered.
                    if index > 0 && reported * LEAST_FILTERED > pairs + queries.len() as u64 * ranks as u64 {
                        tracing::debug!(
                            "int8 rules out too little ({reported} of {pairs} pairs are left): f32 from here"
                        );
                        precision = Precision::F32;
                    }
                }
                Precision::F32 => {
                    if floats.is_empty() {
                        floats = self.pack(float, &starts, rows_of);
                    }
                    let step = self.plan.base_tile_rows.div_ceil(4).next_multiple_of(PANEL) as RowId;
                    for start in rows.clone().step_by(step as usize) {
                        let rows = start..rows.end.min(start + step);
                        self.tile(float, &floats, &mut bases.float, rows, &mut found);
                    }
                }
            }
            meter.add(pairs);
        }
        let lists = found.into_par_iter().flat_map_iter(|(first_row, best)| {
            let mut scorer = Scorer::new(self.vectors);
            (first_row..)
                .zip(best)
                .map(move |(query, best)| best.finish(|list| score_exactly(&mut scorer, query, list)))
        });
        Ok(lists.collect())
    }

    fn pack<K: TileKernel>(
        &self,
        kernel: K,
        starts: &[RowId],
        rows_of: impl Fn(RowId) -> Range<RowId> + Sync,
    ) -> Vec<K::Queries> {
        starts.par_iter().map(|start| kernel.queries(&self.vectors.queries, rows_of(*start), self.unit)).collect()
    }

    /// One base tile for all queries; returns how many pairs were not ruled out.
    fn tile<K: TileKernel>(
        &self,
        kernel: K,
        queries: &[K::Queries],
        base: &mut K::Base,
        rows: Range<RowId>,
        found: &mut Found,
    ) -> u64 {
        kernel.repack(base, &self.vectors.positives, rows.clone(), self.unit);
        let keys = self.vectors.rows.keys();
        let base = &*base;
        found
            .par_iter_mut()
            .zip(queries)
            .map_init(
                || Scorer::new(self.vectors),
                |scorer, ((first_row, best), queries)| {
                    let tile = QueryTile { queries, first_row: *first_row, best };
                    scan(kernel, tile, base, rows.clone(), &keys, scorer)
                },
            )
            .sum()
    }

    /// The task's base tiles, beginning with the queries' own: near rows raise the thresholds early.
    fn base_tiles(&self, task: Range<RowId>, first_query: RowId) -> Vec<Range<RowId>> {
        let rows = self.plan.base_tile_rows as RowId;
        let mut tiles: Vec<Range<RowId>> =
            task.clone().step_by(rows as usize).map(|start| start..task.end.min(start + rows)).collect();
        let own = tiles.iter().position(|tile| tile.contains(&first_query)).unwrap_or(0);
        tiles.rotate_left(own);
        tiles
    }
}
