//! Parts of a job that other processes make, whichever stage waits for them.
//!
//! The job says in its run folder what can be made now (`mine --pieces external`); a worker looks there
//! ([`open_parts`]) and makes some of it ([`work`]). It changes nothing but the folder of pieces.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::edges::pieces as graph;
use crate::error::{Error, Kind, Result};
use crate::neighbors::pieces as search;
pub use crate::run::piece_work::{PartsAsked, Worked, WorkerLimits};
use crate::run::piece_work::{PieceStep, nothing_to_do};
use crate::run::{RunReader, Stage};
use crate::watch::Watch;

/// Time between two looks for parts of a worker that waits.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a worker that has made nothing looks at a run that needs no parts: its job may be about to begin anew.
const GRACE: Duration = Duration::from_secs(15);

/// What can be made now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OpenParts {
    /// The stage under way; null where the job waits for no parts.
    pub stage: Option<&'static str>,
    /// Names of parts that can be made now.
    pub parts: Vec<String>,
    /// All parts of the stage's step.
    pub all: usize,
    /// Least bytes of `--memory` for a worker.
    pub least_memory: u64,
    /// Ends the name of each piece's file, behind a dot.
    pub tag: String,
    /// No part will be wanted any more: the stages that are made in pieces are complete.
    pub is_over: bool,
}

/// The stages that are made in pieces, in their order.
const STAGES: [Stage; 2] = [Stage::Neighbors, Stage::Edges];

/// The parts that the job waits for; none where it waits for none.
fn step_of(run: &RunReader) -> Result<Option<PieceStep>> {
    match search::step(run)? {
        None => graph::step(run),
        step => Ok(step),
    }
}

/// Whether no part will be wanted any more.
fn is_over(run: &RunReader) -> bool {
    STAGES.iter().all(|stage| run.manifest().stages.get(stage).is_some_and(|record| record.complete))
}

/// The parts that can be made now, and what a worker with these limits needs.
///
/// # Errors
/// The run's files cannot be read.
pub fn open_parts(run: &RunReader, worker: WorkerLimits) -> Result<OpenParts> {
    let Some(step) = step_of(run)? else { return Ok(OpenParts { is_over: is_over(run), ..OpenParts::default() }) };
    let least_memory = match step.stage {
        Stage::Edges => graph::least_memory(run, worker)?,
        _ => search::least_memory(run, worker)?,
    };
    let parts = step.open_parts(run)?.into_iter().map(|number| step.names[number].clone()).collect();
    let (stage, all, tag) = (Some(step.stage.name()), step.names.len(), step.folder.tag().to_owned());
    Ok(OpenParts { stage, parts, all, least_memory, tag, is_over: false })
}

/// What a worker is asked for.
#[derive(Debug, Clone)]
pub struct WorkAsked {
    pub parts: PartsAsked,
    /// Of this stage only.
    pub stage: Option<Stage>,
    pub worker: WorkerLimits,
    /// A folder on a disk of the worker's machine, for copies of what it reads again and again.
    pub scratch: Option<PathBuf>,
    /// How long a worker waits for parts that it can make, until no more will be wanted; else it makes what is there.
    pub patience: Option<Duration>,
}

/// Makes parts for the job of a run folder that waits for them. Parts that are there are not made again. `watch` is
/// asked now and then whether to stop.
///
/// # Errors
/// The job waits for no parts, or has none of a name; the memory is too small; the disk fails; or a worker that waits
/// has waited in vain.
pub fn work(folder: &Path, asked: &WorkAsked, watch: Watch<'_>) -> Result<Worked> {
    let Some(patience) = asked.patience else { return work_once(&open(folder, asked)?, asked, watch) };
    let (mut all, mut since) = (Worked::default(), Instant::now());
    let grace = patience.min(GRACE);
    loop {
        // Before the job has come so far there may be no run.
        let error = match open(folder, asked) {
            // A worker that comes before the job may find the run of an earlier one.
            Ok(run) if is_over(&run) && (all.made > 0 || since.elapsed() >= grace) => return Ok(all),
            Ok(run) if is_over(&run) => nothing_to_do(folder),
            Ok(run) => match work_once(&run, asked, watch) {
                Ok(Worked { made: 0, .. }) => nothing_to_do(folder),
                Ok(Worked { made, .. }) => {
                    all = Worked { asked: all.asked + made, made: all.made + made };
                    since = Instant::now();
                    continue;
                }
                Err(error) if error.kind() == Kind::Runtime => error,
                Err(error) => return Err(error),
            },
            // It may come yet: this is no wrong call.
            Err(error) => nothing_to_do(folder).found(error.to_string()),
        };
        if since.elapsed() > patience {
            return Err(error);
        }
        watch.add(0)?;
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The run, as a worker reads it.
fn open(folder: &Path, asked: &WorkAsked) -> Result<RunReader> {
    Ok(RunReader::open(folder)?.with_scratch(asked.scratch.as_deref(), &search::READ_OFTEN))
}

/// Makes what can be made now.
fn work_once(run: &RunReader, asked: &WorkAsked, watch: Watch<'_>) -> Result<Worked> {
    if let Some(done) = recorded(run, asked) {
        return Ok(done);
    }
    let step = step_of(run)?.ok_or_else(|| nothing_to_do(run.folder()))?;
    if let Some(stage) = asked.stage.filter(|stage| *stage != step.stage) {
        return Err(Error::runtime(format!("the run waits for no parts of the {} stage", stage.name()))
            .path(run.folder())
            .expected(format!("a job that waits for parts of the {} stage", stage.name()))
            .found(format!("one that waits for parts of the {} stage", step.stage.name()))
            .remedy("try again later, or leave out --stage"));
    }
    let wanted = asked.parts.numbers(&step.names)?;
    let open = step.open_parts(run)?;
    let missing: Vec<usize> = wanted.iter().copied().filter(|number| open.binary_search(number).is_ok()).collect();
    let made = match (missing.is_empty(), step.stage) {
        (true, _) => 0,
        (false, Stage::Edges) => graph::work(run, &missing, asked.worker, watch)?,
        (false, _) => search::work(run, &missing, asked.worker, watch)?,
    };
    Ok(Worked { asked: wanted.len(), made })
}

/// Parts by name that the run has already: nothing is to be done.
fn recorded(run: &RunReader, asked: &WorkAsked) -> Option<Worked> {
    let PartsAsked::Named(names) = &asked.parts else { return None };
    let stages = asked.stage.map_or_else(|| STAGES.to_vec(), |stage| vec![stage]);
    let records: Vec<_> = stages.iter().filter_map(|stage| run.manifest().stages.get(stage)).collect();
    let is_there = |name: &String| records.iter().any(|record| record.parts.contains_key(name));
    let is_over = asked.stage.is_some() && records.iter().any(|record| record.complete);
    (is_over || names.iter().all(is_there)).then_some(Worked { asked: names.len(), made: 0 })
}
