//! `batchmine pieces` and `batchmine work`: parts of a job that other processes make.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;
use indicatif::HumanCount;
use serde::Serialize;

use super::log;
use super::mine::interrupt;
use crate::config::KernelPrecision;
use crate::error::{Error, Kind, Result};
use crate::job::on_threads;
use crate::neighbors::pieces::{PartsAsked, WorkerLimits, open_parts, work};
use crate::run::{RunReader, Stage, json};
use crate::watch::Watch;

/// Arguments of `pieces`.
#[derive(Debug, Args)]
pub struct PiecesArgs {
    /// Run folder of a job with --pieces external
    run: PathBuf,
}

/// What `pieces --json` prints.
#[derive(Debug, Serialize)]
struct OpenParts {
    /// The stage under way; null where the job waits for no parts.
    stage: Option<&'static str>,
    /// Names of parts that can be made now.
    parts: Vec<String>,
    /// All parts of the stage.
    all: usize,
}

impl PiecesArgs {
    /// Prints the parts that can be made now.
    ///
    /// # Errors
    /// The run cannot be read.
    pub fn run(self, output: &log::Output) -> Result<()> {
        let open = open_parts(&RunReader::open(&self.run)?)?;
        let stage = open.is_some().then_some(Stage::Neighbors.name());
        let (parts, all) = open.unwrap_or_default();
        if output.json {
            log::print(&json::line(&OpenParts { stage, parts, all })?)?;
            return Ok(());
        }
        let head = match stage {
            None => "the run waits for no parts".to_owned(),
            Some(stage) => format!("{stage}: {} of {all} parts can be made", parts.len()),
        };
        for line in std::iter::once(&head).chain(&parts) {
            log::print(line)?;
        }
        Ok(())
    }
}

/// Arguments of `work`.
#[derive(Debug, Args)]
pub struct WorkArgs {
    /// Run folder of a job with --pieces external
    run: PathBuf,
    /// Part to make (repeatable)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["index", "of"], required_unless_present = "index")]
    part: Vec<String>,
    /// Make every N-th part, from this one on, counted from 0
    #[arg(long, value_name = "I", requires = "of")]
    index: Option<usize>,
    /// N: how many workers share the parts
    #[arg(long, value_name = "N", requires = "index")]
    of: Option<usize>,
    /// Memory budget, such as 4GiB [default: half of the machine or its cgroup]
    #[arg(long, value_name = "SIZE")]
    memory: Option<bytesize::ByteSize>,
    /// Threads [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Numbers that the search filters with; the result is the same [default: auto]
    #[arg(long, value_enum)]
    precision: Option<KernelPrecision>,
}

impl WorkArgs {
    /// Makes the parts.
    ///
    /// # Errors
    /// The job waits for no parts, numbers are out of range, the memory is too small, or the disk fails.
    pub fn run(self, output: &log::Output) -> Result<()> {
        let asked = match (self.index, self.of) {
            (Some(index), Some(of)) if index < of => PartsAsked::Rest { index, of },
            (Some(index), of) => {
                return Err(Error::input("there is no worker of this number")
                    .expected("--index from 0, below --of")
                    .found(format!("--index {index} --of {}", of.unwrap_or(0)))
                    .remedy("workers are counted from 0"));
            }
            _ => PartsAsked::Named(self.part),
        };
        let run = RunReader::open(&self.run)?;
        let interrupted = interrupt()?;
        let listen = |_| match interrupted.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::Interrupted, "interrupted: parts that were finished are kept")
                .path(&self.run)
                .remedy("run the same command again to go on")),
            false => Ok(()),
        };
        let worker = WorkerLimits { memory: self.memory, threads: self.threads, precision: self.precision };
        let threads = self.threads.unwrap_or(0);
        let worked = on_threads(threads, || work(&run, &asked, worker, Watch::new(&listen)))??;
        if output.json {
            log::print(&json::line(&worked)?)?;
        }
        tracing::info!(
            "{} of {} parts were made; the others were there",
            HumanCount(worked.made as u64),
            HumanCount(worked.asked as u64)
        );
        Ok(())
    }
}
