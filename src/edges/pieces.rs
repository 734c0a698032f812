//! The graph in pieces: marks, spilled runs and merged ranges that other processes make.
//!
//! The job says step by step in `pieces/` what is to be done ([`wait`]): first the marks of limits for sides, then the
//! runs, then the merge. Each part is a function of the lists and of the parts of the step before, so whoever makes it,
//! its bytes are the same. Memory: that of one run or of the merge ranges of one part, see [`budget`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::budget;
use super::file::{EdgePart, EncodedRange};
use super::marks;
use super::merge::{Merge, degrees_of};
use super::parts::{range_name, run_name, runs_so_far, span};
use super::spill::Reversed;
use crate::budget::process_bytes;
use crate::config::{Config, Settings};
use crate::error::{Error, Result};
use crate::neighbors::marks as side_marks;
use crate::neighbors::{self, Windows};
use crate::run::piece_work::{PieceStep, Waiting, WorkerLimits, nothing_to_do, refuse_little_memory, unsound_task};
use crate::run::pieces::PieceFolder;
use crate::run::record::{EdgesSettings, NeighborsFacts, VectorsFacts};
use crate::run::sealed::PartWriter;
use crate::run::{Run, RunReader, Stage, StageRun, json};
use crate::vectors::{self, PlaceRange, Vectors};
use crate::watch::Watch;

const FORMAT: u32 = 1;

/// What parts are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EdgesStep {
    /// Marks of one block of lists.
    Mark,
    /// Reversed edges of some blocks of lists.
    Spill,
    /// Merge ranges, as places.
    Merge,
}

/// What whoever makes parts of the graph must know beside the run's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EdgesTask {
    format: u32,
    step: EdgesStep,
    /// Of each part its ranges, whose ends are not among them: one of blocks, or several of places.
    parts: Vec<Vec<[u32; 2]>>,
    /// Edges of the longest run.
    run_edges: u64,
}

impl EdgesTask {
    /// The name of a part.
    fn name(&self, number: usize) -> String {
        let of_blocks =
            |ranges: &[[u32; 2]]| ranges.first().map_or(0..0, |[start, end]| *start as usize..*end as usize);
        match self.step {
            EdgesStep::Mark => marks::name(of_blocks(&self.parts[number]).start),
            EdgesStep::Spill => run_name(&of_blocks(&self.parts[number])),
            EdgesStep::Merge => range_name(number),
        }
    }

    /// What decides a part's bytes beside its name and the stage's fingerprint. Names of marks and of runs say their
    /// blocks, whichever others are wanted: so they outlive a job that wants fewer of them when it begins anew. A merge
    /// range's name is its number alone.
    fn rule(&self) -> impl Serialize + '_ {
        (self.format, self.step, (self.step == EdgesStep::Merge).then_some(&self.parts))
    }

    fn names(&self) -> Vec<String> {
        (0..self.parts.len()).map(|number| self.name(number)).collect()
    }

    /// Fails where the ranges are not those of a run of so many rows in so many blocks.
    ///
    /// # Errors
    /// The file is damaged, or of another version.
    fn refuse_unsound(&self, run: &Path, rows: u64, blocks: usize) -> Result<()> {
        let follow = |ranges: &Vec<[u32; 2]>| ranges.windows(2).all(|pair| pair[0][1] == pair[1][0]);
        let rise = |ranges: &Vec<[u32; 2]>, end: u64| {
            !ranges.is_empty() && ranges.iter().all(|[from, to]| from < to && u64::from(*to) <= end)
        };
        let is_sound = self.format == FORMAT
            && self.parts.iter().all(|ranges| match self.step {
                EdgesStep::Mark => rise(ranges, blocks as u64) && ranges.len() == 1 && ranges[0][1] - ranges[0][0] == 1,
                EdgesStep::Spill => rise(ranges, blocks as u64) && ranges.len() == 1,
                EdgesStep::Merge => rise(ranges, rows) && follow(ranges) && ranges.len() <= budget::PART_MERGE_RANGES,
            });
        if is_sound {
            return Ok(());
        }
        Err(unsound_task(
            run,
            format!("format {FORMAT}, ranges of {rows} rows in {blocks} blocks"),
            format!("format {}, {} parts", self.format, self.parts.len()),
        ))
    }
}

/// What a job waits for.
pub(super) struct Wanted {
    pub step: EdgesStep,
    /// See [`EdgesTask`]; all parts, those that are there among them.
    pub parts: Vec<Vec<[u32; 2]>>,
    pub run_edges: u64,
}

/// Waits until others have made all parts that the run has not, and makes each a part of the run; `done` is told of the
/// number of each.
///
/// # Errors
/// The user interrupts, or the disk fails.
pub(super) fn wait(
    run: &Run,
    stage: &StageRun<'_>,
    wanted: Wanted,
    windows: &Windows<'_>,
    done: impl Fn(usize) -> Result<()>,
) -> Result<()> {
    let Wanted { step, parts, run_edges } = wanted;
    let task = EdgesTask { format: FORMAT, step, parts, run_edges };
    let numbered = (0..task.parts.len()).map(|number| (task.name(number), number));
    let missing: BTreeMap<String, usize> = numbered.filter(|(name, _)| !run.has(Stage::Edges, name)).collect();
    run.remove_other_pieces(Stage::Edges)?;
    let folder = run.pieces(Stage::Edges).of_rule(&task.rule())?;
    let waiting = Waiting { run, stage, folder, what: "graph" };
    waiting.wait(
        &json::line(&task)?,
        missing.keys().cloned().collect(),
        |name, path| check(path, &task, missing[name], windows),
        |name| done(missing[name]),
    )
}

/// Waits until others have made the marks of all lists, where limits for sides ask for any.
///
/// # Errors
/// The user interrupts, or the disk fails.
pub(super) fn wait_for_marks(run: &Run, stage: &StageRun<'_>, windows: &Windows<'_>) -> Result<()> {
    if !windows.limited_by_sides() {
        return Ok(());
    }
    let blocks = 0..windows.neighbors().blocks().len() as u32;
    let parts = blocks.map(|block| vec![[block, block + 1]]).collect();
    wait(run, stage, Wanted { step: EdgesStep::Mark, parts, run_edges: 0 }, windows, |_| Ok(()))
}

/// Fails where a file is not a part of a number.
fn check(path: &Path, task: &EdgesTask, number: usize, windows: &Windows<'_>) -> Result<()> {
    let (ranges, neighbors) = (&task.parts[number], windows.neighbors());
    let places = || Ok((EdgePart::open(path)?.places_of(neighbors.row_count()), 0));
    let (found, wanted) = match task.step {
        EdgesStep::Mark => {
            let block = &neighbors.blocks()[ranges[0][0] as usize];
            (side_marks::shape_of(path)?, (block.range(), marks::words(windows)))
        }
        EdgesStep::Spill => (places()?, (windows.places(), 0)),
        EdgesStep::Merge => (places()?, (whole(ranges), 0)),
    };
    if found == wanted {
        return Ok(());
    }
    Err(Error::runtime("a piece is that of others")
        .path(path)
        .expected(format!("places {:?}", wanted.0))
        .found(format!("places {:?}", found.0))
        .remedy("nothing is to be done: the job leaves it out, and a worker makes the part again"))
}

/// All places of ranges that follow each other.
fn whole(ranges: &[[u32; 2]]) -> PlaceRange {
    let end = ranges.last().map_or(0, |range| range[1]);
    ranges.first().map_or(PlaceRange::default(), |range| PlaceRange::new(range[0], end))
}

/// The parts of the graph that others make now; none where the job waits for none.
///
/// # Errors
/// The run's files cannot be read.
pub(crate) fn step(run: &RunReader) -> Result<Option<PieceStep>> {
    Ok(described(run)?.map(|(step, _)| step))
}

/// The parts, and what the job says of them.
fn described(run: &RunReader) -> Result<Option<(PieceStep, EdgesTask)>> {
    if run.manifest().stages.get(&Stage::Edges).is_none_or(|record| record.complete) {
        return Ok(None);
    }
    let folder = run.pieces(Stage::Edges)?;
    if !folder.is_described() {
        return Ok(None);
    }
    let (rows, block_rows) = (run.facts::<VectorsFacts>()?.rows, run.facts::<NeighborsFacts>()?.block_rows);
    let blocks = (rows as usize).div_ceil(block_rows.max(1));
    described_in(folder, run.folder(), (rows, blocks))
}

/// What a folder of a run of so many rows in so many blocks says of pieces.
///
/// # Errors
/// It is not of such a run.
pub(crate) fn described_in(
    folder: PieceFolder,
    run: &Path,
    (rows, blocks): (u64, usize),
) -> Result<Option<(PieceStep, EdgesTask)>> {
    let Some(task) = folder.task::<EdgesTask>()? else { return Ok(None) };
    task.refuse_unsound(run, rows, blocks)?;
    let folder = folder.of_rule(&task.rule())?;
    Ok(Some((PieceStep { stage: Stage::Edges, folder, names: task.names() }, task)))
}

/// Bytes that a worker needs at least.
///
/// # Errors
/// The run's files cannot be read.
pub(crate) fn least_memory(run: &RunReader, worker: WorkerLimits) -> Result<u64> {
    let Some((_, task)) = described(run)? else { return Ok(0) };
    least_of(&task, &config_of(worker)?, &vectors::open(run)?, run)
}

fn least_of(task: &EdgesTask, config: &Config, vectors: &Vectors, run: &RunReader) -> Result<u64> {
    let (shape, threads) = (vectors.shape(), config.threads as u64);
    let facts: NeighborsFacts = run.facts()?;
    let need = match task.step {
        EdgesStep::Mark => budget::marking_bytes(shape, facts.block_rows, facts.ranks as u64, threads),
        EdgesStep::Spill => budget::worker_spilling(shape, task.run_edges),
        EdgesStep::Merge => budget::worker_merging(threads),
    };
    Ok(need + process_bytes(config.threads))
}

/// Makes parts of some numbers that are not there; how many. `watch` is asked before each whether to stop.
///
/// # Errors
/// The job waits for none, the memory is too small, or the disk fails.
pub(crate) fn work(run: &RunReader, missing: &[usize], worker: WorkerLimits, watch: Watch<'_>) -> Result<usize> {
    let Some((step, task)) = described(run)? else { return Err(nothing_to_do(run.folder())) };
    let vectors = &vectors::open(run)?.checked_by_row();
    let config = config_of(worker)?;
    refuse_little_memory(config.memory_bytes, least_of(&task, &config, vectors, run)?)?;
    let neighbors = &neighbors::open(run, vectors)?;
    let settings: EdgesSettings = run.settings_so_far()?;
    let blocks = |number: usize| -> Range<usize> {
        let [start, end] = task.parts[number][0];
        start as usize..end as usize
    };
    if task.step == EdgesStep::Mark {
        let windows = Windows::by_task(vectors, neighbors, &settings.windows);
        return step.make(run, missing, |number| {
            watch.add(0)?;
            let block = &neighbors.blocks()[blocks(number).start];
            neighbors.check_lists_of(block.range())?;
            let made = marks::of_block(vectors, &windows, block);
            vectors.check_read()?;
            let words = marks::words(&windows);
            Ok(move |out: &mut PartWriter| side_marks::write(out, block.range(), words, &made))
        });
    }
    let windows = marks::windows_so_far(run, vectors, neighbors, &settings)?;
    let (all, rows) = (windows.places(), windows.places().len());
    if task.step == EdgesStep::Spill {
        return step.make(run, missing, |number| {
            watch.add(0)?;
            let places = span(&neighbors.blocks()[blocks(number)]);
            neighbors.check_lists_of(places)?;
            let encoded = Reversed::new(&windows, places).encode()?;
            Ok(move |out: &mut PartWriter| encoded.write(out, all, rows))
        });
    }
    let runs = &runs_so_far(run)?;
    let merge = Merge { runs, windows: &windows, rule: settings.edges };
    step.make(run, missing, |number| {
        let places = whole(&task.parts[number]);
        neighbors.check_lists_of(places)?;
        let merged = |range: &[u32; 2]| {
            watch.add(0)?;
            let places = PlaceRange::new(range[0], range[1]);
            merge.range(places, &degrees_of(runs, places)?)
        };
        let merged: Vec<EncodedRange> = task.parts[number].par_iter().map(merged).collect::<Result<_>>()?;
        let encoded = EncodedRange::joined(merged);
        Ok(move |out: &mut PartWriter| encoded.write(out, places, rows))
    })
}

/// What of a worker's machine the graph needs.
fn config_of(worker: WorkerLimits) -> Result<Config> {
    Config::without_files(Settings {
        memory: worker.memory.map(bytesize::ByteSize),
        threads: worker.threads,
        ..Settings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_whose_names_say_their_blocks_do_not_depend_on_others() {
        let rule = |step, parts: &[[u32; 2]], run_edges| {
            let parts = parts.iter().map(|range| vec![*range]).collect();
            json::line(&EdgesTask { format: FORMAT, step, parts, run_edges }.rule()).unwrap()
        };
        let (all, rest) = ([[0, 1], [1, 2], [2, 3]], [[1, 2], [2, 3]]);
        for step in [EdgesStep::Mark, EdgesStep::Spill] {
            assert_eq!(rule(step, &all, 9), rule(step, &rest, 5));
        }
        assert_ne!(rule(EdgesStep::Merge, &all, 9), rule(EdgesStep::Merge, &rest, 9));
        assert_ne!(rule(EdgesStep::Mark, &all, 9), rule(EdgesStep::Spill, &all, 9));
    }
}
