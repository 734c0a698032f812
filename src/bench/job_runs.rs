//! The whole job, some times over, and what its stages did.
//!
//! Memory: that of the job, within its budget.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::ceilings::{DISK_WRITE, peak_of};
use super::measured::Repeated;
use super::record::{Ceiling, Share, StageFigures, WholeFigures};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::run::json::hash;
use crate::run::record::EdgesFacts;
use crate::run::{Disk, Progress, Run, Stage};

/// What one job left.
struct OneJob {
    /// In the order of the stages.
    seconds: [f64; 5],
    peak_bytes: [u64; 5],
    bytes: [u64; 5],
    edges: EdgesFacts,
    /// What the input files contain.
    contents: String,
    /// The settings of each stage but the first, as text.
    settings: Vec<(Stage, String)>,
}

/// What the same job did, some times over.
pub(super) struct JobRuns {
    runs: Vec<OneJob>,
    rows: u64,
    operations: f64,
    input_bytes: u64,
}

/// How often a job is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeats {
    pub(super) times: usize,
    /// Another one only begins where it would end before, if it takes as long as the last one.
    pub(super) until: Option<Instant>,
}

/// Runs a job in fresh folders inside `folder`, which are removed.
///
/// # Errors
/// Those of the job.
pub(super) fn run(job: &Job, folder: &Path, repeats: Repeats, interrupted: &Arc<AtomicBool>) -> Result<JobRuns> {
    let mut runs = Vec::new();
    let mut last = Duration::ZERO;
    for number in 1..=repeats.times {
        if number > 1 && repeats.until.is_some_and(|until| Instant::now() + last > until) {
            tracing::info!(
                "bench: {} of {} jobs fit into the time; --repeats says how many are run",
                number - 1,
                repeats.times
            );
            break;
        }
        tracing::info!("bench: job {number} of {}", repeats.times);
        let start = Instant::now();
        let path = folder.join(format!("run-{number}"));
        runs.push(one(job, &path, interrupted)?);
        last = start.elapsed();
        std::fs::remove_dir_all(&path).map_err(|e| Error::io("a folder cannot be removed", &path, e))?;
    }
    Ok(JobRuns {
        runs,
        rows: job.shards.shape.rows,
        operations: job.cost()?.operations as f64,
        input_bytes: job.shards.input_bytes(),
    })
}

fn one(job: &Job, path: &Path, interrupted: &Arc<AtomicBool>) -> Result<OneJob> {
    let run = Run::open(path, None, Arc::new(Disk), Progress::silent(), interrupted.clone())?;
    job.run(&run, false)?;
    let records = Stage::ALL.map(|stage| run.record(stage));
    let identities = run.known_inputs().map(|(identities, _)| identities).unwrap_or_default();
    let contents: Vec<String> = identities.into_iter().filter_map(|file| file.content).collect();
    Ok(OneJob {
        seconds: records.each_ref().map(|record| record.seconds),
        peak_bytes: records.each_ref().map(|record| record.peak_bytes),
        bytes: records.each_ref().map(|record| record.bytes()),
        edges: run.facts()?,
        contents: hash(contents.join(" ").as_bytes()),
        settings: Stage::ALL.into_iter().zip(&records).skip(1).map(|(s, record)| (s, record.settings_text())).collect(),
    })
}

impl JobRuns {
    /// A hash of what the input files contain.
    pub(super) fn contents(&self) -> String {
        self.runs[0].contents.clone()
    }

    /// The settings of each stage but the first, as text.
    pub(super) fn settings(&self) -> impl Iterator<Item = (String, String)> {
        self.runs[0].settings.iter().map(|(stage, text)| (stage.name().to_owned(), text.clone()))
    }

    /// The figures of each stage, beside the ceilings of this machine.
    pub(super) fn stages(&self, config: &Config, ceilings: &[Ceiling]) -> Vec<StageFigures> {
        let first = &self.runs[0];
        let disk = ceilings.iter().find(|ceiling| ceiling.name == DISK_WRITE);
        // What a GPU does is no share of what the CPU can do.
        let peak = peak_of(config.precision, ceilings).filter(|_| !config.seeks_gpus());
        let figures = Stage::ALL.into_iter().enumerate().map(|(at, stage)| {
            let seconds = Repeated::new(self.runs.iter().map(|run| run.seconds[at]).collect());
            let per_second = |amount: f64| amount / seconds.median;
            let gop = per_second(self.operations / 1e9);
            let written = per_second(first.bytes[at] as f64 / 1e9);
            let arcs = first.edges.arcs;
            let share = |ceiling: Option<&Ceiling>, rate: f64| {
                let ceiling = ceiling?;
                Some(Share { ceiling: ceiling.name.clone(), percent: 100.0 * rate / ceiling.rate.median })
            };
            StageFigures {
                stage,
                rows_per_second: per_second(self.rows as f64),
                gop_per_second: (stage == Stage::Neighbors).then_some(gop),
                arcs_per_second: matches!(stage, Stage::Edges | Stage::Clusters).then(|| per_second(arcs as f64)),
                bytes_per_arc: (stage == Stage::Edges && arcs > 0).then(|| first.edges.bytes as f64 / arcs as f64),
                read_gb_per_second: (stage == Stage::Vectors).then(|| per_second(self.input_bytes as f64 / 1e9)),
                written_gb_per_second: written,
                of_ceiling: match stage {
                    Stage::Neighbors => share(peak, gop),
                    // Its time goes into the graph, not into what it writes.
                    Stage::Clusters => None,
                    Stage::Vectors | Stage::Edges | Stage::Batches => share(disk, written),
                },
                peak_bytes: self.runs.iter().map(|run| run.peak_bytes[at]).max().unwrap_or(0),
                seconds,
            }
        });
        figures.collect()
    }

    /// The figures of the whole job.
    pub(super) fn whole(&self) -> WholeFigures {
        let seconds = Repeated::new(self.runs.iter().map(|run| run.seconds.iter().sum()).collect());
        let peaks = self.runs.iter().flat_map(|run| run.peak_bytes);
        WholeFigures {
            rows_per_second: self.rows as f64 / seconds.median,
            peak_bytes: peaks.max().unwrap_or(0),
            seconds,
        }
    }
}
