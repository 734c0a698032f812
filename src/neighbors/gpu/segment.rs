//! One segment of queries against their task, tile by tile, on all devices; exact in the end.
//!
//! Two driver threads a device take turns: while one waits for a tile, the other makes its last answers exact and
//! fills its next tile ([`super::layout::SLOTS`]). Drivers only wait; all that they compute runs on a pool of as many
//! threads as the job has. [`crate::neighbors::answers`] certifies answers. Queries for which a tile may hide a row,
//! and those of tiles that no device could search, are searched by the CPU's own kernels at the end.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use rayon::ThreadPool;
use rayon::prelude::*;

use super::base::DeviceBase;
use super::device::{DeviceHandle, TileSlot};
use super::judge::{Answers, Judge, RawAnswers};
use super::layout::{BASE_ROWS_MIN, Resident, SLOTS, TileLayout, TilePair};
use super::process::Fault;
use super::protocol::{SearchRequest, SlotLayout};
use super::rounding::{RoundedQuery, round_query};
use crate::config::Metric;
use crate::error::Result;
use crate::neighbors::answers::{CertifiedTopK, SPARE, TileAnswers, is_permitted};
use crate::neighbors::tiles::Tiles;
use crate::neighbors::topk::{Candidate, score_exactly};
use crate::vectors::{RowId, Scorer};
use crate::watch::Watch;

/// How often a pair of tiles is quartered before the CPU takes its queries.
const QUARTERINGS_MAX: u32 = 2;

/// A search on devices.
#[derive(Debug)]
pub(crate) struct GpuSearch {
    base: DeviceBase,
    layout: TileLayout,
    handles: Vec<DeviceHandle>,
    metric: Metric,
    /// Runs the drivers' computation.
    pool: ThreadPool,
    /// Most base rows of a tile from now on: fewer where a device had too little memory.
    base_rows: AtomicUsize,
    /// Number of the next segment.
    next_segment: AtomicUsize,
    /// Queries that the CPU searched.
    left_to_cpu: AtomicUsize,
    /// The log says that no device is left.
    said_none_left: AtomicBool,
}

impl GpuSearch {
    /// `pool` has as many threads as the job.
    pub(crate) fn new(
        base: DeviceBase,
        layout: TileLayout,
        handles: Vec<DeviceHandle>,
        metric: Metric,
        pool: ThreadPool,
    ) -> GpuSearch {
        let base_rows = AtomicUsize::new(layout.base_rows);
        let (next_segment, left_to_cpu, said_none_left) = Default::default();
        GpuSearch { base, layout, handles, metric, pool, base_rows, next_segment, left_to_cpu, said_none_left }
    }

    /// Queries of this job that the CPU had to search.
    pub(crate) fn left_to_cpu(&self) -> usize {
        self.left_to_cpu.load(Ordering::Relaxed)
    }

    /// The exact best `ranks` of some rows of one task. `watch` counts pairs.
    ///
    /// # Errors
    /// The watch stops the job.
    pub(crate) fn segment(
        &self,
        tiles: &Tiles<'_>,
        task: Range<RowId>,
        queries: &[RowId],
        ranks: usize,
        watch: Watch<'_>,
    ) -> Result<Vec<Vec<Candidate>>> {
        let handles: Vec<&DeviceHandle> = self.handles.iter().filter(|handle| handle.is_there()).collect();
        if handles.is_empty() {
            if !self.said_none_left.swap(true, Ordering::Relaxed) {
                tracing::warn!("no GPU is left: the CPU searches the rest");
            }
            self.left_to_cpu.fetch_add(queries.len(), Ordering::Relaxed);
            return tiles.exact(task.start as usize..task.end as usize, queries, ranks, watch);
        }
        let rows = task.start as usize..task.end as usize;
        let pairs = self.layout.pairs(rows, queries.len(), self.base_rows.load(Ordering::Relaxed));
        let segment = Segment::new(self, tiles, Search { queries, ranks, watch }, pairs);
        let drivers = if self.layout.resident == Resident::Base { SLOTS } else { 1 };
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for handle in handles {
                for slot in &handle.slots[..drivers] {
                    let segment = &segment;
                    threads.push(scope.spawn(move || segment.drive(handle, slot)));
                }
            }
            let results: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a driver panicked")).collect();
            results.into_iter().collect::<Result<()>>()
        })?;
        segment.finish(task)
    }
}

/// What is known of a tile of queries.
struct SegmentTile {
    /// Empty until the first answers come.
    best: Vec<CertifiedTopK>,
    /// Which queries are left to the CPU.
    left: Vec<bool>,
    /// Pairs of this tile that are not searched yet.
    waiting: usize,
    /// Finished lists; empty until the last pair is searched.
    lists: Vec<Vec<Candidate>>,
}

/// What a segment searches.
#[derive(Clone, Copy)]
struct Search<'a> {
    queries: &'a [RowId],
    ranks: usize,
    watch: Watch<'a>,
}

/// A segment while it is searched.
struct Segment<'a> {
    engine: &'a GpuSearch,
    tiles: &'a Tiles<'a>,
    search: Search<'a>,
    waiting: Mutex<Vec<TilePair>>,
    found: Vec<Mutex<SegmentTile>>,
    number: u64,
}

impl<'a> Segment<'a> {
    fn new(engine: &'a GpuSearch, tiles: &'a Tiles<'a>, search: Search<'a>, pairs: Vec<TilePair>) -> Segment<'a> {
        let found = search.queries.chunks(engine.layout.query_rows).enumerate().map(|(number, queries)| {
            let waiting = pairs.iter().filter(|pair| pair.tile == number).count();
            Mutex::new(SegmentTile { best: Vec::new(), left: vec![false; queries.len()], waiting, lists: Vec::new() })
        });
        let (found, number) = (found.collect(), engine.next_segment.fetch_add(1, Ordering::Relaxed) as u64);
        Segment { engine, tiles, search, waiting: Mutex::new(pairs), found, number }
    }

    fn tile(&self, number: usize) -> MutexGuard<'_, SegmentTile> {
        self.found[number].lock().expect("no thread panics while it holds a tile")
    }

    /// Takes pairs while there are any and the device is there.
    fn drive(&self, handle: &DeviceHandle, slot: &Mutex<TileSlot>) -> Result<()> {
        let mut slot = slot.lock().expect("no thread panics while it holds a slot");
        while handle.is_there()
            && let Some(pair) = self.next(handle)
        {
            self.run(handle, &mut slot, &pair, 0)?;
            self.settle(&pair);
            self.search.watch.add((pair.base.len() * pair.queries.len()) as u64)?;
        }
        Ok(())
    }

    /// The next pair for a device: one of the tile that it holds, else of a tile that no other device holds.
    fn next(&self, handle: &DeviceHandle) -> Option<TilePair> {
        let mut waiting = self.waiting.lock().expect("no thread panics while it holds the pairs");
        let held = |handle: &DeviceHandle| handle.held.lock().expect("no thread panics while it holds a range").clone();
        let side = |pair: &TilePair| match self.engine.layout.resident {
            Resident::Base => pair.base.clone(),
            Resident::Queries => pair.queries.clone(),
        };
        let own = held(handle);
        let others: Vec<Range<usize>> =
            self.engine.handles.iter().filter(|other| !std::ptr::eq(*other, handle)).map(held).collect();
        let of_own = waiting.iter().position(|pair| side(pair) == own);
        let of_none = || waiting.iter().position(|pair| !others.contains(&side(pair)));
        let at = of_own.or_else(of_none).unwrap_or(0);
        let pair = (at < waiting.len()).then(|| waiting.remove(at))?;
        *handle.held.lock().expect("no thread panics while it holds a range") = side(&pair);
        Some(pair)
    }

    /// Searches a pair, or its quarters, or leaves its queries to the CPU.
    fn run(&self, handle: &DeviceHandle, slot: &mut TileSlot, pair: &TilePair, quarterings: u32) -> Result<()> {
        let Err(fault) = self.attempt(handle, slot, pair)? else { return Ok(()) };
        let k = self.search.ranks + SPARE;
        if let Fault::OutOfMemory(_) = fault {
            let fewer = (self.engine.layout.base_rows.min(pair.base.len()) / 2).max(BASE_ROWS_MIN.max(k));
            self.engine.base_rows.fetch_min(fewer, Ordering::Relaxed);
        }
        let quarters = if handle.is_there() && quarterings < QUARTERINGS_MAX { pair.quarters(k) } else { Vec::new() };
        let size = format!("{} queries against {} rows", pair.queries.len(), pair.base.len());
        let name = &handle.device.name;
        if quarters.is_empty() {
            tracing::warn!("{name} cannot search {size}: {fault}; the CPU takes these queries");
            let first = self.tile_start(pair);
            self.tile(pair.tile).left[pair.queries.start - first..pair.queries.end - first].fill(true);
            return Ok(());
        }
        tracing::warn!("{name} cannot search {size}: {fault}; they are tried in {} parts", quarters.len());
        quarters.iter().try_for_each(|quarter| self.run(handle, slot, quarter, quarterings + 1))
    }

    /// The first query of a pair's tile.
    fn tile_start(&self, pair: &TilePair) -> usize {
        pair.tile * self.engine.layout.query_rows
    }

    /// Lets a device search a pair, and takes its answers.
    fn attempt(&self, handle: &DeviceHandle, slot: &mut TileSlot, pair: &TilePair) -> Result<Result<(), Fault>> {
        let base = &self.engine.base;
        let (count, k) = (pair.queries.len(), pair.base.len().min(self.search.ranks + SPARE));
        let places = SlotLayout::new(count, base.width() * base.dim(), k).filter(|it| it.end <= slot.bytes.len());
        let Some(places) = places else {
            return Ok(Err(Fault::OutOfMemory(format!("a slot of {} bytes is too small", slot.bytes.len()))));
        };
        let rows = &self.search.queries[pair.queries.clone()];
        let rounded = self.engine.pool.install(|| self.round(rows, slot));
        let request = SearchRequest {
            base_start: pair.base.start,
            base_rows: pair.base.len(),
            offset: slot.offset,
            queries: count,
            // Differs from any other tile's: a block has fewer than 2²⁰ queries.
            tag: (self.number + 1) << 40 | (pair.queries.start as u64) << 20 | count as u64,
            k,
        };
        let worker = match handle.search(request, self.search.watch)? {
            Ok(worker) => worker,
            Err(fault) => return Ok(Err(fault)),
        };
        let scores: &[f32] = bytemuck::cast_slice(&slot.bytes[places.scores..][..count * k * 4]);
        let numbers: &[u32] = bytemuck::cast_slice(&slot.bytes[places.places..][..count * k * 4]);
        let judge = Judge::new(base, pair.base.clone());
        let judged = self.engine.pool.install(|| {
            let raw = scores.par_chunks_exact(k).zip(numbers.par_chunks_exact(k));
            let answers = raw.zip(rows).zip(&rounded).map_init(
                || Scorer::new(self.tiles.vectors),
                |scorer, (((scores, places), row), query)| {
                    judge.read(*row, query, RawAnswers { scores, places }, scorer)
                },
            );
            answers.collect::<Result<Vec<Answers>, String>>()
        });
        Ok(match judged {
            Ok(answers) => {
                self.take(pair, rows, answers);
                Ok(())
            }
            Err(text) => {
                let fault = Fault::Broken(text);
                handle.dismiss(worker, &fault);
                Err(fault)
            }
        })
    }

    /// Rounds queries into a slot.
    fn round(&self, rows: &[RowId], slot: &mut TileSlot) -> Vec<RoundedQuery> {
        let row_bytes = self.engine.base.width() * self.engine.base.dim();
        let (store, scales) = (&self.tiles.vectors.queries, self.tiles.vectors.rows.query_scales());
        let pieces = slot.bytes[..rows.len() * row_bytes].par_chunks_exact_mut(row_bytes).zip(rows);
        pieces.map(|(out, row)| round_query(store, scales, self.engine.metric, *row, out)).collect()
    }

    /// Adds the answers of a pair to the best of its queries. The driver holds the tile's lock, and only the work on
    /// queries goes to the pool: a thread of the pool that waits takes up other work, which may want the same lock.
    fn take(&self, pair: &TilePair, rows: &[RowId], answers: Vec<Answers>) {
        let ranks = self.search.ranks;
        let mut tile = self.tile(pair.tile);
        let SegmentTile { best, left, .. } = &mut *tile;
        if best.is_empty() {
            best.resize_with(left.len(), || CertifiedTopK::new(ranks));
        }
        let keys = self.tiles.vectors.rows.keys();
        let first = pair.queries.start - self.tile_start(pair);
        let known = best[first..][..rows.len()].par_iter_mut().zip(&mut left[first..][..rows.len()]);
        self.engine.pool.install(|| {
            known.zip(rows).zip(answers).for_each_init(
                || Scorer::new(self.tiles.vectors),
                |scorer, (((best, left), row), Answers { list, error })| {
                    let answers = TileAnswers { list: &list, is_whole: list.len() == pair.base.len(), error };
                    let permitted = |other| is_permitted(&keys, *row, other);
                    let exact = |list: &mut [Candidate]| score_exactly(scorer, *row, list);
                    *left |= !best.take(answers, permitted, exact);
                },
            );
        });
    }

    /// Counts a pair as searched; finishes the tile's lists after its last pair.
    fn settle(&self, pair: &TilePair) {
        let mut tile = self.tile(pair.tile);
        tile.waiting -= 1;
        if tile.waiting > 0 {
            return;
        }
        let best = std::mem::take(&mut tile.best);
        let rows = &self.search.queries[self.tile_start(pair)..][..tile.left.len()];
        let left = &tile.left;
        let lists = self.engine.pool.install(|| {
            let lists = best.into_par_iter().zip(rows).zip(left).map_init(
                || Scorer::new(self.tiles.vectors),
                |scorer, ((best, row), left)| {
                    if *left { Vec::new() } else { best.kept.finish(|list| score_exactly(scorer, *row, list)) }
                },
            );
            lists.collect::<Vec<Vec<Candidate>>>()
        });
        tile.lists = lists;
    }

    /// Searches what was left on the CPU, and puts all lists together.
    fn finish(self, task: Range<RowId>) -> Result<Vec<Vec<Candidate>>> {
        let Search { queries, ranks, watch } = self.search;
        let mut lists = vec![Vec::new(); queries.len()];
        let mut left: Vec<usize> = Vec::new();
        let tiles = self.found.into_iter().map(|tile| tile.into_inner().expect("no thread is left to panic"));
        let starts = (0..).step_by(self.engine.layout.query_rows);
        for (start, tile) in starts.zip(tiles) {
            let finished = !tile.lists.is_empty();
            left.extend((start..).zip(&tile.left).filter(|(_, left)| **left || !finished).map(|(query, _)| query));
            lists[start..].iter_mut().zip(tile.lists).for_each(|(list, found)| *list = found);
        }
        if !left.is_empty() {
            tracing::debug!("the CPU searches {} of {} queries", left.len(), queries.len());
            self.engine.left_to_cpu.fetch_add(left.len(), Ordering::Relaxed);
            let rows: Vec<RowId> = left.iter().map(|query| queries[*query]).collect();
            // Pairs of finished tiles are counted already; where all devices are lost, too few are counted.
            let found = self.tiles.exact(
                task.start as usize..task.end as usize,
                &rows,
                ranks,
                Watch::new(&|_| watch.add(0)),
            )?;
            left.into_iter().zip(found).for_each(|(query, list)| lists[query] = list);
        }
        Ok(lists)
    }
}
