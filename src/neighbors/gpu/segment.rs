//! One segment of queries against their task, tile by tile, on all devices; exact in the end.
//!
//! Two threads a device take turns at it: while one waits for a tile, the other makes the last one's answers
//! exact and fills the next one ([`super::layout::SLOTS`]). What the answers are worth is for
//! [`crate::neighbors::answers`] to say; queries for which a tile may hide a row, and those of tiles that no device
//! could search, are searched by the CPU's own kernels at the end. Before answers are taken, the first and the
//! last of each query are scored by the reference: a device that errs by more than the bound is not believed.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use rayon::prelude::*;

use super::base::{Bounds, DeviceBase, Query, round_query};
use super::device::{DeviceHandle, TileSlot};
use super::layout::{BASE_ROWS_MIN, Resident, SLOTS, TileLayout, TilePair};
use super::process::Fault;
use super::protocol::{SearchRequest, SlotLayout as Places};
use crate::error::Result;
use crate::neighbors::answers::{CertifiedTopK, SPARE, TileAnswers, is_permitted, sum_error};
use crate::neighbors::tiles::Tiles;
use crate::neighbors::topk::{Candidate, score_exactly};
use crate::vectors::{RowId, Scorer};
use crate::watch::Watch;

/// Times that a pair of tiles is quartered before the CPU takes it.
const QUARTERED: u32 = 2;
/// Unit roundoff that sums of products of halves are taken to have on a device. Tensor cores cut off what they
/// do not keep, with bits to spare beyond the 24 of f32 (Fasi et al., *Numerical behavior of NVIDIA tensor
/// cores*, 2021); this is four times as much.
const HALF_ROUNDOFF: f64 = 1.0 / (1u64 << 21) as f64;
/// The same for singles, twice that of one rounding to nearest.
const SINGLE_ROUNDOFF: f64 = 1.0 / (1u64 << 23) as f64;

/// The devices of a search.
#[derive(Debug)]
pub(crate) struct GpuSearch {
    base: DeviceBase,
    layout: TileLayout,
    devices_held: Vec<DeviceHandle>,
    unit: bool,
    /// Base rows of a tile from now on: less where a device had too little memory.
    base_rows: AtomicUsize,
    turn: AtomicUsize,
    /// Queries that the CPU searched.
    left: AtomicUsize,
    idle: AtomicBool,
}

impl GpuSearch {
    pub(super) fn new(base: DeviceBase, layout: TileLayout, devices_held: Vec<DeviceHandle>, unit: bool) -> GpuSearch {
        let base_rows = AtomicUsize::new(layout.base_rows);
        let (turn, left, idle) = Default::default();
        GpuSearch { base, layout, devices_held, unit, base_rows, turn, left, idle }
    }

    /// Queries of this job that the CPU had to search.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// The exact best `ranks` of some rows of one task.
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
        let devices_held: Vec<&DeviceHandle> = self.devices_held.iter().filter(|handle| handle.is_there()).collect();
        if devices_held.is_empty() {
            if !self.idle.swap(true, Ordering::Relaxed) {
                tracing::warn!("no GPU is left: the CPU searches the rest");
            }
            self.left.fetch_add(queries.len(), Ordering::Relaxed);
            return tiles.exact(task, queries, ranks, watch);
        }
        let rows = task.start as usize..task.end as usize;
        let pairs = self.layout.pairs(rows, queries.len(), self.base_rows.load(Ordering::Relaxed));
        let segment = Segment::new(self, tiles, queries, ranks, pairs, watch);
        let drivers = if self.layout.resident == Resident::Base { SLOTS } else { 1 };
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for handle in devices_held {
                for slot in &handle.slots[..drivers] {
                    let segment = &segment;
                    threads.push(scope.spawn(move || segment.drive(handle, slot)));
                }
            }
            let results: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a driver's panic")).collect();
            results.into_iter().collect::<Result<()>>()
        })?;
        segment.finish(task)
    }
}

/// What is known of a tile of queries.
struct SegmentTile {
    best: Vec<CertifiedTopK>,
    /// For the CPU.
    left: Vec<bool>,
    /// Pairs that it is still in.
    waiting: usize,
    /// Finished lists.
    lists: Vec<Vec<Candidate>>,
}

/// A segment under way.
struct Segment<'a> {
    engine: &'a GpuSearch,
    tiles: &'a Tiles<'a>,
    queries: &'a [RowId],
    ranks: usize,
    waiting: Mutex<Vec<TilePair>>,
    found: Vec<Mutex<SegmentTile>>,
    turn: u64,
    watch: Watch<'a>,
}

impl<'a> Segment<'a> {
    fn new(
        engine: &'a GpuSearch,
        tiles: &'a Tiles<'a>,
        queries: &'a [RowId],
        ranks: usize,
        pairs: Vec<TilePair>,
        watch: Watch<'a>,
    ) -> Self {
        let found = queries.chunks(engine.layout.query_rows).enumerate().map(|(number, queries)| {
            let waiting = pairs.iter().filter(|pair| pair.tile == number).count();
            Mutex::new(SegmentTile { best: Vec::new(), left: vec![false; queries.len()], waiting, lists: Vec::new() })
        });
        let (found, turn) = (found.collect(), engine.turn.fetch_add(1, Ordering::Relaxed) as u64);
        Segment { engine, tiles, queries, ranks, waiting: Mutex::new(pairs), found, turn, watch }
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
            self.watch.add((pair.base.len() * pair.queries.len()) as u64)?;
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
            self.engine.devices_held.iter().filter(|other| !std::ptr::eq(*other, handle)).map(held).collect();
        let of_own = waiting.iter().position(|pair| side(pair) == own);
        let of_nobody = || waiting.iter().position(|pair| !others.contains(&side(pair)));
        let at = of_own.or_else(of_nobody).unwrap_or(0);
        let pair = (at < waiting.len()).then(|| waiting.remove(at))?;
        *handle.held.lock().expect("no thread panics while it holds a range") = side(&pair);
        Some(pair)
    }

    /// Searches a pair, or its quarters, or leaves its queries to the CPU.
    fn run(&self, handle: &DeviceHandle, slot: &mut TileSlot, pair: &TilePair, quartered: u32) -> Result<()> {
        let Err(fault) = self.attempt(handle, slot, pair)? else { return Ok(()) };
        let k = self.ranks + SPARE;
        if let Fault::OutOfMemory(_) = fault {
            let fewer = (self.engine.layout.base_rows.min(pair.base.len()) / 2).max(BASE_ROWS_MIN.max(k));
            self.engine.base_rows.fetch_min(fewer, Ordering::Relaxed);
        }
        let quarters = if handle.is_there() && quartered < QUARTERED { pair.quarters(k) } else { Vec::new() };
        let size = format!("{} queries against {} rows", pair.queries.len(), pair.base.len());
        let name = &handle.device.name;
        if quarters.is_empty() {
            tracing::warn!("{name} cannot search {size}: {fault}; the CPU takes these queries");
            let first = self.tile_start(pair);
            self.tile(pair.tile).left[pair.queries.start - first..pair.queries.end - first].fill(true);
            return Ok(());
        }
        tracing::warn!("{name} cannot search {size}: {fault}; they are tried in {} parts", quarters.len());
        quarters.iter().try_for_each(|quarter| self.run(handle, slot, quarter, quartered + 1))
    }

    /// The first query of a pair's tile.
    fn tile_start(&self, pair: &TilePair) -> usize {
        pair.tile * self.engine.layout.query_rows
    }

    /// Has a device search a pair, and takes its answers.
    fn attempt(&self, handle: &DeviceHandle, slot: &mut TileSlot, pair: &TilePair) -> Result<Result<(), Fault>> {
        let base = &self.engine.base;
        let row_bytes = base.width() * base.dim();
        let (count, k) = (pair.queries.len(), pair.base.len().min(self.ranks + SPARE));
        let places = Places::new(count, row_bytes, k);
        let rows = &self.queries[pair.queries.clone()];
        let (store, scales) = (&self.tiles.vectors.queries, self.tiles.vectors.rows.query_scales());
        let rounded = slot.bytes[..count * row_bytes].par_chunks_exact_mut(row_bytes).zip(rows);
        let rounded: Vec<Query> =
            rounded.map(|(out, row)| round_query(store, scales, self.engine.unit, *row, out)).collect();
        let search = SearchRequest {
            base_start: pair.base.start,
            base_rows: pair.base.len(),
            offset: slot.offset,
            queries: count,
            // Unlike any other tile's: a block has fewer than 2²⁰ queries.
            tag: (self.turn + 1) << 40 | (pair.queries.start as u64) << 20 | count as u64,
            k,
        };
        let worker = match handle.search(search, &|| self.watch.add(0))? {
            Ok(worker) => worker,
            Err(fault) => return Ok(Err(fault)),
        };
        let scores: &[f32] = bytemuck::cast_slice(&slot.bytes[places.scores..][..count * k * 4]);
        let numbers: &[u32] = bytemuck::cast_slice(&slot.bytes[places.places..][..count * k * 4]);
        let judge = Judge::new(self, pair);
        let answers = scores.par_chunks_exact(k).zip(numbers.par_chunks_exact(k)).zip(rows).zip(&rounded);
        let judged = answers.map_init(
            || Scorer::new(self.tiles.vectors),
            |scorer, (((scores, numbers), row), query)| judge.read(*row, query, scores, numbers, scorer),
        );
        match judged.collect::<Result<Vec<Answers>, String>>() {
            Ok(answers) => self.take(pair, rows, answers),
            Err(text) => {
                let fault = Fault::Broken(text);
                handle.dismiss(worker, &fault);
                return Ok(Err(fault));
            }
        }
        Ok(Ok(()))
    }

    fn take(&self, pair: &TilePair, rows: &[RowId], answers: Vec<Answers>) {
        let mut tile = self.tile(pair.tile);
        let SegmentTile { best, left, .. } = &mut *tile;
        if best.is_empty() {
            best.resize_with(left.len(), || CertifiedTopK::new(self.ranks));
        }
        let keys = self.tiles.vectors.rows.keys();
        let first = pair.queries.start - self.tile_start(pair);
        let sides = best[first..][..rows.len()].par_iter_mut().zip(&mut left[first..][..rows.len()]);
        sides.zip(rows).zip(answers).for_each_init(
            || Scorer::new(self.tiles.vectors),
            |scorer, (((best, left), row), Answers { list, error })| {
                let answers = TileAnswers { list: &list, is_whole: list.len() == pair.base.len(), error };
                let permitted = |other| is_permitted(&keys, *row, other);
                let exact = |list: &mut [Candidate]| score_exactly(scorer, *row, list);
                *left |= !best.take(answers, permitted, exact);
            },
        );
    }

    /// Counts a pair as done, and finishes the queries that were in no other.
    fn settle(&self, pair: &TilePair) {
        let mut tile = self.tile(pair.tile);
        tile.waiting -= 1;
        if tile.waiting > 0 {
            return;
        }
        let best = std::mem::take(&mut tile.best);
        let rows = &self.queries[self.tile_start(pair)..][..tile.left.len()];
        let lists = best.into_par_iter().zip(rows).zip(&tile.left).map_init(
            || Scorer::new(self.tiles.vectors),
            |scorer, ((best, row), left)| {
                if *left { Vec::new() } else { best.kept.finish(|list| score_exactly(scorer, *row, list)) }
            },
        );
        let lists: Vec<Vec<Candidate>> = lists.collect();
        tile.lists = lists;
    }

    /// Searches what was left on the CPU, and puts all lists together.
    fn finish(self, task: Range<RowId>) -> Result<Vec<Vec<Candidate>>> {
        let mut lists = vec![Vec::new(); self.queries.len()];
        let mut left: Vec<usize> = Vec::new();
        let tiles = self.found.into_iter().map(|tile| tile.into_inner().expect("no thread is left to panic"));
        let starts = (0..).step_by(self.engine.layout.query_rows);
        for (start, tile) in starts.zip(tiles) {
            let finished = !tile.lists.is_empty();
            left.extend((start..).zip(&tile.left).filter(|(_, left)| **left || !finished).map(|(query, _)| query));
            lists[start..].iter_mut().zip(tile.lists).for_each(|(list, found)| *list = found);
        }
        if !left.is_empty() {
            tracing::debug!("the CPU searches {} of {} queries", left.len(), self.queries.len());
            self.engine.left.fetch_add(left.len(), Ordering::Relaxed);
            let rows: Vec<RowId> = left.iter().map(|query| self.queries[*query]).collect();
            // Pairs of finished tiles are counted already; a job that lost its devices counts too few.
            let found = self.tiles.exact(task, &rows, self.ranks, Watch::new(&|_| self.watch.add(0)))?;
            left.into_iter().zip(found).for_each(|(query, list)| lists[query] = list);
        }
        Ok(lists)
    }
}

/// A query's answers, in rows and true units, and the most that they err by.
struct Answers {
    list: Vec<Candidate>,
    error: f64,
}

/// Reads a device's answers of a pair.
struct Judge<'a> {
    base: &'a DeviceBase,
    rows: Range<usize>,
    bounds: Bounds,
    roundoff: f64,
}

impl<'a> Judge<'a> {
    fn new(segment: &Segment<'a>, pair: &TilePair) -> Self {
        let base = &segment.engine.base;
        let roundoff = if base.width() == 2 { HALF_ROUNDOFF } else { SINGLE_ROUNDOFF };
        Judge { base, rows: pair.base.clone(), bounds: base.bounds(pair.base.clone()), roundoff }
    }

    /// Largest difference between a device's score and the reference's.
    fn error(&self, query: &Query) -> f64 {
        let (query, base) = (query.bounds, self.bounds);
        let sum = sum_error(self.base.dim(), self.roundoff, query.norm, base.norm);
        sum + query.norm * base.residual + query.residual * base.norm
    }

    /// A query's answers; or what cannot be about them.
    fn read(
        &self,
        row: RowId,
        query: &Query,
        scores: &[f32],
        numbers: &[u32],
        scorer: &mut Scorer<'_>,
    ) -> Result<Answers, String> {
        let scale = f64::from(-(query.exponent + self.base.exponent())).exp2();
        // The last term is for scores that are subnormal in true units.
        let error = self.error(query) * scale + f64::from(f32::MIN_POSITIVE);
        // Sums of such rows may be too large for an f32, on the device as in the reference.
        let fits = query.bounds.norm * self.bounds.norm < f64::from(f32::MAX) / 2.0;
        if !fits {
            return Ok(Answers { list: Vec::new(), error: f64::INFINITY });
        }
        let wrong = |what: &str| Err(format!("the GPU's answers to row {row} cannot be: {what}"));
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) || sorted[sorted.len() - 1] as usize >= self.rows.len() {
            return wrong("not so many rows of the tile");
        }
        if scores.iter().any(|score| !score.is_finite()) || scores.windows(2).any(|pair| pair[0] < pair[1]) {
            return wrong("scores that do not fall");
        }
        let answers = scores.iter().zip(numbers).map(|(score, number)| Candidate {
            score: (f64::from(*score) * scale) as f32,
            row: (self.rows.start + *number as usize) as RowId,
        });
        let list: Vec<Candidate> = answers.collect();
        for answer in [list[0], list[list.len() - 1]] {
            let truth = scorer.pair(row, answer.row);
            if (f64::from(truth) - f64::from(answer.score)).abs() > error {
                return wrong(&format!("row {} scores {}, not {} (± {error:.2e})", answer.row, truth, answer.score));
            }
        }
        Ok(Answers { list, error })
    }
}
