//! The search in pieces: blocks of queries that other processes search, on this machine or on others.
//!
//! The job imports, makes the IVF lists, the candidates and the packed base, and says in `pieces/` what is to be done
//! ([`wait`]). Each block is a function of these files alone, so whoever makes it, its bytes are the same. Memory: that
//! of a search, see [`budget`](super::budget).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::blocks::{BASE, BlockSearch, Prepared};
use super::budget::{self, NeighborsCounts};
use super::cpu::simd::Simd;
use super::engine::SearchEngine;
use super::file::{Block, block_name, write_block};
use super::trial;
use crate::budget::process_bytes;
use crate::config::{Backend, Config, KernelPrecision, Method, Settings, WINDOW_MAX, Width};
use crate::error::{Error, Result};
use crate::run::piece_work::{PieceStep, Waiting, WorkerLimits, nothing_to_do, refuse_little_memory, unsound_task};
use crate::run::pieces::PieceFolder;
use crate::run::record::{VectorsFacts, VectorsSettings};
use crate::run::sealed::PartWriter;
use crate::run::{Run, RunReader, Stage, StageRun, json};
use crate::vectors::{self, Place, RowId, Vectors};
use crate::watch::Watch;

const FORMAT: u32 = 1;
/// Files that a search reads again and again, whatever block it is for.
pub(crate) const READ_OFTEN: [&str; 2] = [BASE, vectors::POSITIVES];

/// What whoever searches blocks must know beside the run's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlockTask {
    format: u32,
    /// Queries of a block.
    block_rows: usize,
    /// How many blocks there are.
    blocks: usize,
    /// IVF lists that a query looks into; null: all.
    probes: Option<usize>,
    /// Ranks are those of distinct positives in some task, or there is a corpus.
    candidates: bool,
    /// There is a packed base.
    packed: bool,
    /// Ranks of the lists, by task.
    ranks: Vec<usize>,
    /// Instructions of the job's machine, and the numbers that its search would filter with: a worker with the same
    /// instructions needs no trial of its own.
    instructions: String,
    precision: KernelPrecision,
}

impl BlockTask {
    /// All that decides the bytes of blocks, and nothing else.
    fn rule(&self) -> BlockTask {
        BlockTask { packed: false, instructions: String::new(), precision: KernelPrecision::Auto, ..self.clone() }
    }

    /// Fails where the numbers are not those of a run of so many rows and tasks.
    ///
    /// # Errors
    /// The file is damaged, or of another version.
    fn refuse_unsound(&self, run: &Path, rows: RowId, tasks: usize) -> Result<()> {
        let blocks = (rows as usize).checked_div(self.block_rows).map(|whole| (whole, rows as usize % self.block_rows));
        let is_sound = self.format == FORMAT
            && blocks.is_some_and(|(whole, rest)| whole + usize::from(rest > 0) == self.blocks)
            && self.ranks.len() == tasks
            && self.ranks.iter().all(|ranks| *ranks <= WINDOW_MAX as usize)
            && self.probes.is_none_or(|probes| (1..=rows as usize).contains(&probes));
        if is_sound {
            return Ok(());
        }
        let BlockTask { format, blocks, block_rows, .. } = self;
        Err(unsound_task(
            run,
            format!("format {FORMAT}, blocks of {rows} rows in {tasks} tasks"),
            format!("format {format}, {blocks} blocks of {block_rows} rows, {} tasks", self.ranks.len()),
        ))
    }
}

/// Waits until others have made all blocks of `missing`, and makes each a part; `done` is told of each. One that is
/// damaged is removed, and waited for anew.
///
/// # Errors
/// The user interrupts, or the disk fails.
pub(super) fn wait(
    run: &Run,
    stage: &StageRun<'_>,
    search: &BlockSearch<'_>,
    missing: Vec<usize>,
    done: impl Fn(usize) -> Result<()>,
) -> Result<()> {
    let task = task_of(search);
    run.remove_other_pieces(Stage::Neighbors)?;
    let folder = run.pieces(Stage::Neighbors).of_rule(&task.rule())?;
    let waiting = Waiting { run, stage, folder, what: "search" };
    let indices: BTreeMap<String, usize> = missing.into_iter().map(|index| (block_name(index), index)).collect();
    waiting.wait(
        &json::line(&task)?,
        indices.keys().cloned().collect(),
        |name, path| check(path, search, indices[name]),
        |name| done(indices[name]),
    )
}

/// What the job says of its blocks.
fn task_of(search: &BlockSearch<'_>) -> BlockTask {
    let tiles = search.tiles;
    BlockTask {
        format: FORMAT,
        block_rows: search.block_rows,
        blocks: search.count(),
        probes: search.engine.probes(),
        candidates: tiles.columns.chosen.is_some(),
        packed: tiles.packed.is_some(),
        ranks: search.ranks.to_vec(),
        instructions: format!("{:?}", tiles.simd),
        precision: tiles.precision,
    }
}

/// Makes the blocks of `missing` that are there parts of the run; which they were. Those that are not sound go.
///
/// # Errors
/// The disk fails.
pub(super) fn adopt(
    run: &Run,
    stage: &StageRun<'_>,
    search: &BlockSearch<'_>,
    missing: &[usize],
) -> Result<BTreeSet<usize>> {
    let folder = run.pieces(Stage::Neighbors).of_rule(&task_of(search).rule())?;
    let waiting = Waiting { run, stage, folder, what: "search" };
    let there = missing.iter().map(|index| (block_name(*index), *index));
    let there: BTreeMap<String, usize> = there.filter(|(name, _)| waiting.folder.has(name)).collect();
    let names: Vec<String> = there.keys().cloned().collect();
    let taken = waiting.adopt(&names, |name, path| check(path, search, there[name]))?;
    Ok(taken.iter().map(|name| there[name]).collect())
}

/// Fails where a file is not the block of an index.
fn check(path: &Path, search: &BlockSearch<'_>, index: usize) -> Result<()> {
    let block = Block::open(path)?;
    let wanted = search.block(index);
    let places = block.range();
    let found = (places.start.number()..places.start.number() + places.len() as u32, block.stride());
    if found == (wanted.clone(), search.most()) {
        return Ok(());
    }
    Err(Error::runtime("a piece has the lists of others")
        .path(path)
        .expected(format!("places {wanted:?}, {} ranks", search.most()))
        .found(format!("places {:?}, {} ranks", found.0, found.1)))
}

/// The parts of the search that others make; none where the job waits for none.
///
/// # Errors
/// The run's files cannot be read.
pub(crate) fn step(run: &RunReader) -> Result<Option<PieceStep>> {
    Ok(described(run)?.map(|(step, _)| step))
}

/// The parts, and what the job says of them.
fn described(run: &RunReader) -> Result<Option<(PieceStep, BlockTask)>> {
    if run.manifest().stages.get(&Stage::Neighbors).is_none_or(|record| record.complete) {
        return Ok(None);
    }
    let folder = run.pieces(Stage::Neighbors)?;
    if !folder.is_described() {
        return Ok(None);
    }
    let VectorsFacts { rows, tasks, .. } = run.facts()?;
    described_in(folder, run.folder(), (RowId::try_from(rows).unwrap_or(RowId::MAX), tasks))
}

/// What a folder of a run of so many rows and tasks says of pieces.
///
/// # Errors
/// It is not of such a run.
pub(crate) fn described_in(
    folder: PieceFolder,
    run: &Path,
    (rows, tasks): (RowId, usize),
) -> Result<Option<(PieceStep, BlockTask)>> {
    let Some(task) = folder.task::<BlockTask>()? else { return Ok(None) };
    task.refuse_unsound(run, rows, tasks)?;
    let names = (0..task.blocks).map(block_name).collect();
    let folder = folder.of_rule(&task.rule())?;
    Ok(Some((PieceStep { stage: Stage::Neighbors, folder, names }, task)))
}

/// Bytes that a worker needs at least.
///
/// # Errors
/// The run's files cannot be read.
pub(crate) fn least_memory(run: &RunReader, worker: WorkerLimits) -> Result<u64> {
    let Some((_, task)) = described(run)? else { return Ok(0) };
    let config = &config_of(run, &task, worker)?;
    Ok(counts_of(config, &vectors::open(run)?).1)
}

/// The counts of a search with the worker's memory, and the bytes that it needs at least.
fn counts_of(config: &Config, vectors: &Vectors) -> (NeighborsCounts, u64) {
    let documents = u64::from(vectors.candidate_count() - vectors.row_count());
    let process = process_bytes(config.threads);
    let (counts, need) =
        budget::divide(config, vectors.shape(), documents, config.memory_bytes.saturating_sub(process));
    (counts, need.least() + process)
}

/// Makes blocks of some numbers that are not there; how many. `watch` is asked now and then whether to stop.
///
/// # Errors
/// The job waits for none, the memory is too small, or the disk fails.
pub(crate) fn work(run: &RunReader, missing: &[usize], worker: WorkerLimits, watch: Watch<'_>) -> Result<usize> {
    let Some((step, task)) = described(run)? else { return Err(nothing_to_do(run.folder())) };
    // Of many rows a worker reads a few: each is checked when it is first read.
    let vectors = vectors::open(run)?.checked_by_row();
    let config = &config_of(run, &task, worker)?;
    let (counts, least) = counts_of(config, &vectors);
    refuse_little_memory(config.memory_bytes, least)?;
    let part = |name: &str| run.part_so_far(Stage::Neighbors, name);
    let simd = Simd::detect();
    let packs = task.packed && matches!(config.precision, KernelPrecision::Auto | KernelPrecision::Int8);
    let prepared = Prepared::open(&part, &vectors, [task.candidates, packs], simd)?;
    let mut tiles = prepared.tiles(&vectors, config, &counts, simd);
    let ranks = &task.ranks[..];
    let same = task.instructions == format!("{simd:?}") && task.precision != KernelPrecision::Auto;
    tiles.precision = match (config.precision, packs) {
        // Bytes are those of the job's packed base.
        (KernelPrecision::Auto | KernelPrecision::Int8, false) => KernelPrecision::F32,
        (KernelPrecision::Auto, true) if same => task.precision,
        (KernelPrecision::Auto, true) => trial::fastest(&tiles, ranks, watch)?,
        (own, _) => own,
    };
    let engine = task.probes.map_or(SearchEngine::Exact, SearchEngine::Lists);
    let search = BlockSearch { tiles: &tiles, engine: &engine, ranks, block_rows: task.block_rows };
    step.make(run, missing, |index| {
        let block = search.block(index);
        let (lists, most) = (search.lists(block.clone(), watch)?, search.most());
        vectors.check_read()?;
        prepared.check_read()?;
        Ok(move |out: &mut PartWriter| write_block(out, Place::new(block.start), most, &lists))
    })
}

/// The settings of the search, on this machine.
fn config_of(run: &RunReader, task: &BlockTask, worker: WorkerLimits) -> Result<Config> {
    let search = match task.probes {
        None => Method::Exact,
        // Probes are known: no recall is aimed at.
        Some(probes) => Method::Lists { probes: Some(probes as u32), recall: 0.5 },
    };
    Config::without_files(Settings {
        skip: Some(0),
        window: Some(Width::Ranks(task.ranks.iter().copied().max().unwrap_or(1).max(1) as u32)),
        metric: Some(run.settings_so_far::<VectorsSettings>()?.metric),
        search: Some(search),
        backend: Some(Backend::Cpu),
        precision: worker.precision,
        memory: worker.memory.map(bytesize::ByteSize),
        threads: worker.threads,
        ..Settings::default()
    })
}
