//! The search in pieces: blocks of queries that other processes search, on this machine or on others.
//!
//! The job imports, makes the IVF lists, the candidates and the packed base, and says in `pieces/` what is to be done
//! ([`wait`]). Each block is a function of these files alone, so whoever makes it, its bytes are the same. Memory: that
//! of a search, see [`budget`](super::budget).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::blocks::{BlockSearch, Prepared};
use super::budget;
use super::cpu::simd::Simd;
use super::engine::SearchEngine;
use super::file::{Block, block_name, write_block};
use super::trial;
use crate::budget::process_bytes;
use crate::config::{Backend, Config, KernelPrecision, Method, Settings, WINDOW_MAX, Width};
use crate::error::{Error, Kind, Result};
use crate::run::pieces::PieceFolder;
use crate::run::record::{VectorsFacts, VectorsSettings};
use crate::run::{Run, RunReader, Stage, StageRun};
use crate::vectors::{self, Place, RowId};
use crate::watch::Watch;

/// Time between two looks for pieces.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time between two words on what is missing.
const TELL_EVERY: Duration = Duration::from_secs(60);
const FORMAT: u32 = 1;

/// What whoever searches blocks must know beside the run's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockTask {
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
    /// Fails where the numbers are not those of a run of so many rows and tasks.
    ///
    /// # Errors
    /// The file is damaged, or of another version.
    fn refuse_unsound(&self, run: &RunReader, rows: RowId, tasks: usize) -> Result<()> {
        let blocks = (rows as usize).checked_div(self.block_rows).map(|whole| (whole, rows as usize % self.block_rows));
        let is_sound = self.format == FORMAT
            && blocks.is_some_and(|(whole, rest)| whole + usize::from(rest > 0) == self.blocks)
            && self.ranks.len() == tasks
            && self.ranks.iter().all(|ranks| *ranks <= WINDOW_MAX as usize)
            && self.probes.is_none_or(|probes| (1..=rows as usize).contains(&probes));
        if is_sound {
            return Ok(());
        }
        Err(Error::runtime("the description of a run's pieces is not of this run")
            .path(run.folder())
            .expected(format!("format {FORMAT}, blocks of {rows} rows in {tasks} tasks"))
            .found(format!(
                "format {}, {} blocks of {} rows, {} tasks",
                self.format,
                self.blocks,
                self.block_rows,
                self.ranks.len()
            ))
            .remedy("use the batchmine that runs `mine`; or run its command again, which writes it anew"))
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
    let tiles = search.tiles;
    let task = BlockTask {
        format: FORMAT,
        block_rows: search.block_rows,
        blocks: search.count(),
        probes: search.engine.probes(),
        candidates: tiles.columns.chosen.is_some(),
        packed: tiles.packed.is_some(),
        ranks: search.ranks.to_vec(),
        instructions: format!("{:?}", tiles.simd),
        precision: tiles.precision,
    };
    let folder = run.begin_pieces(Stage::Neighbors, &task)?;
    let mut missing: BTreeSet<usize> = missing.into_iter().collect();
    let tell = |missing: &BTreeSet<usize>| {
        tracing::info!(
            "waiting for {} of {} parts of the search: batchmine work {} --index I --of N",
            missing.len(),
            search.count(),
            run.folder().display()
        );
    };
    tell(&missing);
    let mut told = Instant::now();
    while !missing.is_empty() {
        // One look at the folder, however many parts are missing.
        let names = folder.names()?;
        let there: Vec<usize> = missing.iter().copied().filter(|index| names.contains(&block_name(*index))).collect();
        for index in there {
            if adopt(run, stage, search, &folder, index)? {
                missing.remove(&index);
                done(index)?;
            }
        }
        if told.elapsed() > TELL_EVERY && !missing.is_empty() {
            tell(&missing);
            told = Instant::now();
        }
        if !missing.is_empty() {
            run.check_interrupt()?;
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(())
}

/// Makes a piece a part of the run, if it is sound; else it is removed.
///
/// # Errors
/// The disk fails.
pub(super) fn adopt(
    run: &Run,
    stage: &StageRun<'_>,
    search: &BlockSearch<'_>,
    folder: &PieceFolder,
    index: usize,
) -> Result<bool> {
    let name = block_name(index);
    if let Err(error) = check(&folder.path(&name), search, index).and_then(|()| folder.check(&name)) {
        tracing::warn!("a piece is not what was written, and is made again: {error}");
        run.remove_piece(folder, &name)?;
        return Ok(false);
    }
    stage.adopt(&name, folder)?;
    Ok(true)
}

/// Fails where a file is not the block of an index.
fn check(path: &std::path::Path, search: &BlockSearch<'_>, index: usize) -> Result<()> {
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

/// What of a machine a worker may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerLimits {
    /// Bytes.
    pub memory: Option<bytesize::ByteSize>,
    pub threads: Option<usize>,
    pub precision: Option<KernelPrecision>,
}

/// Which parts are asked for.
#[derive(Debug, Clone)]
pub(crate) enum PartsAsked {
    /// Those of a number, counted from 0, that leaves this rest.
    Rest {
        index: usize,
        of: usize,
    },
    Named(Vec<String>),
}

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Worked {
    /// Parts that were asked for.
    pub asked: usize,
    /// Those that were made.
    pub made: usize,
}

/// The parts of the search that can be made now, and how many there are; none where the job waits for none.
///
/// # Errors
/// The run's files cannot be read.
pub(crate) fn open_parts(run: &RunReader) -> Result<Option<(Vec<String>, usize)>> {
    let Some(record) = run.manifest().stages.get(&Stage::Neighbors).filter(|record| !record.complete) else {
        return Ok(None);
    };
    let folder = run.pieces(Stage::Neighbors)?;
    let Some(task) = folder.task::<BlockTask>()? else { return Ok(None) };
    let rows = run.facts::<VectorsFacts>()?;
    task.refuse_unsound(run, RowId::try_from(rows.rows).unwrap_or(RowId::MAX), rows.tasks)?;
    let there = folder.names()?;
    let names = (0..task.blocks).map(block_name);
    let open = names.filter(|name| !record.parts.contains_key(name) && !there.contains(name)).collect();
    Ok(Some((open, task.blocks)))
}

/// Makes parts of the search for a job that waits for them. Parts that are there are not made again. `watch` is asked
/// now and then whether to stop.
///
/// # Errors
/// The job waits for no parts, or has none of a name; the memory is too small; or the disk fails.
pub(crate) fn work(run: &RunReader, asked: &PartsAsked, worker: WorkerLimits, watch: Watch<'_>) -> Result<Worked> {
    let Some((open, blocks)) = open_parts(run)? else { return Err(nothing_to_do(run)) };
    let names: Vec<String> = (0..blocks).map(block_name).collect();
    let wanted: Vec<usize> = match asked {
        PartsAsked::Rest { index, of } => (0..blocks).filter(|block| block % of == *index).collect(),
        PartsAsked::Named(parts) => {
            let number =
                |part: &String| names.iter().position(|name| name == part).ok_or_else(|| unknown(part, blocks));
            parts.iter().map(number).collect::<Result<_>>()?
        }
    };
    let mut worked = Worked { asked: wanted.len(), made: 0 };
    let open: BTreeSet<&String> = open.iter().collect();
    let missing: Vec<usize> = wanted.into_iter().filter(|index| open.contains(&names[*index])).collect();
    if missing.is_empty() {
        return Ok(worked);
    }
    let vectors = vectors::open(run)?;
    vectors.check()?;
    let folder = run.pieces(Stage::Neighbors)?;
    let task: BlockTask = folder.task()?.ok_or_else(|| nothing_to_do(run))?;
    task.refuse_unsound(run, vectors.row_count(), vectors.tasks.len())?;
    let config = &config_of(run, &task, worker)?;
    let documents = u64::from(vectors.candidate_count() - vectors.row_count());
    let room = config.memory_bytes.saturating_sub(process_bytes(config.threads));
    let (counts, need) = budget::divide(config, vectors.shape(), documents, room);
    refuse_little_memory(config, need.least())?;
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
    for index in missing {
        if folder.has(&names[index]) {
            continue;
        }
        let block = search.block(index);
        let lists = search.lists(block.clone(), watch)?;
        let put = folder.put(&names[index], |out| write_block(out, Place::new(block.start), search.most(), &lists));
        // The job may have got the part from another, and need none any more.
        if let Err(error) = put {
            return if is_over(run)? { Ok(worked) } else { Err(error) };
        }
        worked.made += 1;
    }
    Ok(worked)
}

/// Whether the run's search is complete by now.
fn is_over(run: &RunReader) -> Result<bool> {
    let now = RunReader::open(run.folder())?;
    Ok(now.manifest().stages.get(&Stage::Neighbors).is_some_and(|record| record.complete))
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
        memory: worker.memory,
        threads: worker.threads,
        ..Settings::default()
    })
}

fn refuse_little_memory(config: &Config, least: u64) -> Result<()> {
    let least = least + process_bytes(config.threads);
    if config.memory_bytes >= least {
        return Ok(());
    }
    let mib = least.div_ceil(1 << 20);
    Err(Error::new(Kind::OverBudget, "the memory budget is too small for parts of this search")
        .expected(format!("--memory {mib}MiB or more"))
        .found(format!("--memory {}MiB", config.memory_bytes >> 20))
        .remedy(format!("raise --memory to {mib}MiB, or lower --threads")))
}

fn nothing_to_do(run: &RunReader) -> Error {
    Error::runtime("the run waits for no parts")
        .path(run.folder())
        .expected("a job that waits: `batchmine mine ... --pieces external`")
        .found("none that has come so far, or one that has them all")
        .remedy("try again later, or look with `batchmine pieces`")
}

fn unknown(part: &str, blocks: usize) -> Error {
    Error::input("the search has no such part")
        .expected(format!("{} to {}", block_name(0), block_name(blocks.saturating_sub(1))))
        .found(part.to_owned())
        .remedy("`batchmine pieces` lists the parts")
}
