//! A search by blocks of queries: what it is prepared with, and the lists of a block. Whoever searches a block, the job
//! or a worker, gets the same lists.

use std::ops::Range;
use std::path::PathBuf;

use super::budget::NeighborsCounts;
use super::candidates::{CANDIDATES_FILE, Candidates};
use super::columns::BaseColumns;
use super::cpu::int8::PackedBase;
use super::cpu::simd::Simd;
use super::engine::SearchEngine;
use super::initial_thresholds::ThresholdSample;
use super::ivf::{IVF_FILE, IvfIndex};
use super::tiles::Tiles;
use super::topk::Candidate;
use crate::config::Config;
use crate::error::Result;
use crate::vectors::{Place, RowId, Tasks, Vectors};
use crate::watch::Watch;

/// Name of the packed base in the run folder.
pub(super) const BASE: &str = "base.pak";

/// What every search works with.
pub(super) struct Prepared {
    pub ivf: IvfIndex,
    pub candidates: Option<Candidates>,
    pub samples: ThresholdSample,
    pub packed: Option<PackedBase>,
}

impl Prepared {
    pub(super) fn tiles<'a>(
        &'a self,
        vectors: &'a Vectors,
        config: &Config,
        counts: &NeighborsCounts,
        simd: Simd,
    ) -> Tiles<'a> {
        let Prepared { samples, packed, .. } = self;
        let columns = self.columns(&vectors.tasks);
        let (precision, metric, fine_queries) = (config.precision, config.metric, counts.fine_tile_queries);
        Tiles { vectors, columns, packed: packed.as_ref(), samples, precision, simd, metric, fine_queries }
    }
}

impl Prepared {
    /// What a job has prepared, for others: `part` gives the path of a part; whether there are candidates, and a packed
    /// base, whose panels are checked as they are read ([`Prepared::check_read`]).
    ///
    /// # Errors
    /// A file is damaged.
    pub(super) fn open(
        part: &dyn Fn(&str) -> Result<PathBuf>,
        vectors: &Vectors,
        [candidates, packed]: [bool; 2],
        simd: Simd,
    ) -> Result<Prepared> {
        let ivf = IvfIndex::open(&part(IVF_FILE)?, vectors)?;
        let candidates = open_candidates(part, vectors, candidates)?;
        let columns = BaseColumns { ivf: &ivf, tasks: &vectors.tasks, chosen: candidates.as_ref() };
        let samples = ThresholdSample::new(columns);
        let sizes = [columns.rows().len() as u64, samples.rows().len() as u64];
        let open = || PackedBase::open(&part(BASE)?, simd, sizes[0], vectors.shape().dim, sizes[1]);
        let packed = packed.then(open).transpose()?.map(PackedBase::checked_by_panel);
        Ok(Prepared { ivf, candidates, samples, packed })
    }

    /// Fails where what was read of the packed base is not what was written.
    ///
    /// # Errors
    /// The file is damaged: what was made of it must not be kept.
    pub(super) fn check_read(&self) -> Result<()> {
        self.packed.as_ref().map_or(Ok(()), PackedBase::check_read)
    }

    pub(super) fn columns<'a>(&'a self, tasks: &'a Tasks) -> BaseColumns<'a> {
        BaseColumns { ivf: &self.ivf, tasks, chosen: self.candidates.as_ref() }
    }
}

/// Searches blocks of queries, to so many ranks in each task.
pub(super) struct BlockSearch<'a> {
    pub tiles: &'a Tiles<'a>,
    pub engine: &'a SearchEngine,
    pub ranks: &'a [usize],
    pub block_rows: usize,
}

impl BlockSearch<'_> {
    /// How many blocks there are.
    pub(super) fn count(&self) -> usize {
        (self.tiles.vectors.row_count() as usize).div_ceil(self.block_rows)
    }

    /// The places of a block.
    pub(super) fn block(&self, index: usize) -> Range<RowId> {
        let rows = self.tiles.vectors.row_count() as usize;
        (index * self.block_rows) as RowId..((index + 1) * self.block_rows).min(rows) as RowId
    }

    /// The longest list.
    pub(super) fn most(&self) -> usize {
        self.ranks.iter().copied().max().unwrap_or(0)
    }

    /// The lists of a block.
    ///
    /// # Errors
    /// The engine fails, or the watch stops the job.
    pub(super) fn lists(&self, block: Range<RowId>, watch: Watch<'_>) -> Result<Vec<Vec<(Place, f32)>>> {
        let Tiles { vectors, columns, .. } = *self.tiles;
        let ivf = columns.ivf;
        let mut lists = Vec::with_capacity(block.len());
        for (task, segment) in segments(&vectors.tasks, block) {
            let queries = &ivf.order()[segment.start as usize..segment.end as usize];
            let found = self.engine.segment(self.tiles, task, queries, self.ranks[task], watch)?;
            lists.extend(found.into_iter().map(|list| by_place(list, ivf.places())));
        }
        Ok(lists)
    }
}

/// Which rows share a positive, where that was found out.
pub(super) fn open_candidates(
    part: &dyn Fn(&str) -> Result<PathBuf>,
    vectors: &Vectors,
    are_there: bool,
) -> Result<Option<Candidates>> {
    let tasks: Vec<_> = vectors.tasks.ranges().collect();
    let ivf = || IvfIndex::open(&part(IVF_FILE)?, vectors);
    are_there.then(|| Candidates::open(&part(CANDIDATES_FILE)?, ivf()?.list_order(), &tasks)).transpose()
}

/// A list as it is written. Ranks are by row, where scores tie; in files a row is known by its place.
fn by_place(list: Vec<Candidate>, places: &[Place]) -> Vec<(Place, f32)> {
    list.into_iter().map(|candidate| (places[candidate.row as usize], candidate.score)).collect()
}

/// The tasks that a block of places touches, and their places in the block.
fn segments(tasks: &Tasks, block: Range<RowId>) -> impl Iterator<Item = (usize, Range<RowId>)> + '_ {
    let mut place = block.start;
    std::iter::from_fn(move || {
        if place == block.end {
            return None;
        }
        let task = tasks.of(place);
        let segment = place..tasks.range(task).end.min(block.end);
        place = segment.end;
        Some((task, segment))
    })
}

/// Pairs that an exact search for the rows of some places scores.
pub(super) fn pairs_of(columns: BaseColumns<'_>, rows: Range<RowId>) -> u64 {
    let pairs = |(task, segment): (usize, Range<RowId>)| match columns.of_task(task).len() {
        1 => 0,
        others => others as u64 * segment.len() as u64,
    };
    segments(columns.tasks, rows).map(pairs).sum()
}
