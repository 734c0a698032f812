//! `batchmine clean`: gives back the disk of what only the job needed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use indicatif::HumanBytes;
use serde::Serialize;

use super::log;
use crate::error::{Error, Result};
use crate::run::storage::Disk;
use crate::run::{Run, RunReader, Stage, json};
use crate::vectors::TASK_TABLE;

/// A stage whose files can be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kept {
    /// The input's vectors, row by row.
    Vectors,
    /// The best candidates of each query.
    Neighbors,
    /// The graph.
    Edges,
    /// The cluster of each row.
    Clusters,
}

impl Kept {
    fn stage(self) -> Stage {
        match self {
            Kept::Vectors => Stage::Vectors,
            Kept::Neighbors => Stage::Neighbors,
            Kept::Edges => Stage::Edges,
            Kept::Clusters => Stage::Clusters,
        }
    }
}

/// Arguments of `clean`.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Run folder of a finished run
    run: PathBuf,
    /// Stage whose files stay (repeatable)
    #[arg(long, value_enum, value_name = "STAGE", value_delimiter = ',')]
    keep: Vec<Kept>,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// What was deleted, or would be.
#[derive(Debug, Serialize)]
struct Cleaned {
    /// Names of stages.
    stages: Vec<&'static str>,
    files: u64,
    bytes: u64,
    /// Nothing was deleted.
    dry_run: bool,
}

impl CleanArgs {
    /// Deletes the files of all stages but the last, and those that are kept.
    ///
    /// # Errors
    /// The run is not finished or in use, or a file cannot be removed.
    pub fn run(self, output: &log::Output) -> Result<()> {
        let reader = RunReader::open(&self.run)?;
        if !reader.succeeded() {
            return Err(unfinished(&self.run));
        }
        let goes = |stage: &Stage| *stage != Stage::Batches && !self.keep.iter().any(|kept| kept.stage() == *stage);
        let stages: Vec<Stage> = Stage::ALL.into_iter().filter(goes).collect();
        let (mut cleaned, mut left) = (Cleaned { stages: Vec::new(), files: 0, bytes: 0, dry_run: self.dry_run }, 0);
        for (stage, record) in &reader.manifest().stages {
            left += record.bytes();
            let parts: Vec<u64> =
                record.parts.iter().filter(|(name, _)| !stays(*stage, name)).map(|(_, part)| part.bytes).collect();
            if stages.contains(stage) && !record.cleaned {
                cleaned.stages.push(stage.name());
                cleaned.files += parts.len() as u64;
                cleaned.bytes += parts.iter().sum::<u64>();
            }
        }
        left -= cleaned.bytes;
        if !self.dry_run {
            let run =
                Run::open(&self.run, None, Arc::new(Disk), output.progress.clone(), Arc::new(AtomicBool::new(false)))?;
            // Opening finds files that are gone.
            if !run.is_finished() {
                return Err(unfinished(&self.run));
            }
            run.clean(&stages, stays)?;
        }
        if output.json {
            log::print(&json::line(&cleaned)?)?;
        }
        tell(&cleaned, left);
        Ok(())
    }
}

/// Whether a part is small, and a published table needs it.
fn stays(stage: Stage, name: &str) -> bool {
    stage == Stage::Batches || (stage, name) == (Stage::Vectors, TASK_TABLE)
}

fn unfinished(run: &PathBuf) -> Error {
    Error::input("the run is not finished: its files are still needed")
        .path(run)
        .expected("a finished run")
        .found("one that was interrupted, is under way, or has lost files")
        .remedy("run the `mine` command again to finish it")
}

/// Says what was deleted, what works on, and what does not.
fn tell(cleaned: &Cleaned, left: u64) {
    let verb = if cleaned.dry_run { "would be deleted" } else { "deleted" };
    if cleaned.stages.is_empty() {
        tracing::info!("nothing to delete: the files of these stages were cleaned before, or are kept");
        return;
    }
    tracing::info!(
        "{} in {} files of {} {verb}; {} stay",
        HumanBytes(cleaned.bytes),
        cleaned.files,
        cleaned.stages.join(", "),
        HumanBytes(left)
    );
    tracing::info!("works on: the batch table, `export`, `mine --table`, `verify` of the table alone");
    let lost: Vec<&str> = [
        (["vectors", "neighbors"].iter().any(|name| cleaned.stages.contains(name)), "`report`"),
        (true, "`inspect --rows`"),
        (true, "the checks of `verify` against these files"),
    ]
    .into_iter()
    .filter_map(|(is, what)| is.then_some(what))
    .collect();
    tracing::info!(
        "not any more: {}. Another seed or window, and `mine --replace`, make these files again",
        lost.join(", ")
    );
}
