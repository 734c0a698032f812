//! `batchmine pieces` and `batchmine work`: parts of a job that other processes make.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::HumanCount;

use super::log;
use super::mine::interrupt;
use super::piece_scripts::{Workers, kubernetes, slurm};
use crate::config::KernelPrecision;
use crate::error::{Error, Kind, Result};
use crate::job::on_threads;
use crate::pieces::{PartsAsked, WorkAsked, WorkerLimits, open_parts, work};
use crate::regular::utf8_path;
use crate::run::{RunReader, Stage, json};
use crate::watch::Watch;

/// Arguments of `pieces`.
#[derive(Debug, Args)]
pub struct PiecesArgs {
    /// Run folder of a job with --pieces external
    run: PathBuf,
    /// Print a script for workers as an array of SLURM
    #[arg(long, conflicts_with = "kubernetes")]
    slurm: bool,
    /// Print a manifest for workers as an Indexed Job of Kubernetes
    #[arg(long)]
    kubernetes: bool,
    /// Workers of the array
    #[arg(long, value_name = "N", default_value_t = 8)]
    workers: u32,
    /// Threads of a worker [default: all; of an array: 8]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Memory budget of a worker of the array [default: twice what the parts need at least]
    #[arg(long, value_name = "SIZE")]
    memory: Option<bytesize::ByteSize>,
    /// Seconds that a worker of the array waits for parts
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    wait: u64,
    /// Seconds that a worker may run; SLURM ends it then, and it is queued again
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..), requires = "slurm")]
    #[arg(conflicts_with = "kubernetes")]
    time_limit: Option<u32>,
    /// SLURM's MaxArraySize: no array is longer
    #[arg(long, value_name = "N", default_value_t = 1001, conflicts_with = "kubernetes")]
    max_array_size: u32,
    /// Container image that has batchmine
    #[arg(long, value_name = "IMAGE", requires = "kubernetes", required_if_eq("kubernetes", "true"))]
    image: Option<String>,
    /// Claim of the volume that has the run folder
    #[arg(long, value_name = "NAME", requires = "kubernetes", required_if_eq("kubernetes", "true"))]
    claim: Option<String>,
    /// Where the volume is mounted in the container: the run folder lies in it
    #[arg(long, value_name = "DIR", requires = "kubernetes", required_if_eq("kubernetes", "true"))]
    mount: Option<PathBuf>,
}

impl PiecesArgs {
    /// Prints the parts that can be made now, or a script for workers.
    ///
    /// # Errors
    /// The run cannot be read, or nothing is known of the memory that its parts need.
    pub fn run(self, output: &log::Output) -> Result<()> {
        if self.slurm || self.kubernetes {
            return log::print(self.script()?.trim_end()).map(drop);
        }
        let worker = WorkerLimits { threads: self.threads, ..WorkerLimits::default() };
        let open = open_parts(&RunReader::open(&self.run)?, worker)?;
        if output.json {
            return log::print(&json::line(&open)?).map(drop);
        }
        let head = match open.stage {
            None if open.is_over => "the run needs no parts any more".to_owned(),
            None => "the run waits for no parts".to_owned(),
            Some(stage) => format!("{stage}: {} of {} parts can be made", open.parts.len(), open.all),
        };
        for line in std::iter::once(&head).chain(&open.parts) {
            log::print(line)?;
        }
        Ok(())
    }

    /// A script for workers.
    fn script(&self) -> Result<String> {
        if self.workers == 0 || self.threads == Some(0) || self.max_array_size < 2 {
            return Err(Error::input("an array has no workers")
                .expected("--workers and --threads from 1, --max-array-size from 2")
                .found(format!("--workers {} --max-array-size {}", self.workers, self.max_array_size))
                .remedy("ask for one worker of one thread at least"));
        }
        let threads = self.threads.unwrap_or(8);
        let run = match self.kubernetes {
            // It is a path in the container.
            true => self.run.clone(),
            false => std::path::absolute(&self.run).map_err(|e| Error::io("the path has no place", &self.run, e))?,
        };
        let workers = Workers {
            run: utf8_path(&run, "the run folder")?.display().to_string(),
            workers: self.workers,
            threads,
            memory: self.memory.map_or_else(|| self.memory_of(threads), |size| Ok(size.as_u64()))?,
            wait: self.wait,
        };
        let (Some(image), Some(claim), Some(mount)) = (&self.image, &self.claim, &self.mount) else {
            return Ok(slurm(&workers, self.time_limit, self.max_array_size));
        };
        kubernetes(&workers, image, claim, &utf8_path(mount, "the mount")?.display().to_string())
    }

    /// Twice what a worker needs at least: pages of mapped files are not counted, and should stay.
    fn memory_of(&self, threads: usize) -> Result<u64> {
        let worker = WorkerLimits { threads: Some(threads), ..WorkerLimits::default() };
        let open = RunReader::open(&self.run).and_then(|run| open_parts(&run, worker)).unwrap_or_default();
        match open.least_memory {
            0 => Err(Error::input("nothing is known of the memory that the parts need")
                .path(&self.run)
                .expected("--memory; or a job that waits for parts, in this folder")
                .found("neither")
                .remedy("give --memory: `batchmine plan` says what the job needs")),
            least => Ok(2 * least),
        }
    }
}

/// A stage that is made in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StageInPieces {
    /// Blocks of queries
    Neighbors,
    /// Marks, runs and merge ranges of the graph
    Edges,
}

/// Arguments of `work`.
#[derive(Debug, Args)]
pub struct WorkArgs {
    /// Run folder of a job with --pieces external
    run: PathBuf,
    /// Part to make (repeatable)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["index", "of"], required_unless_present = "index")]
    part: Vec<String>,
    /// Parts of this stage only
    #[arg(long, value_enum, value_name = "STAGE")]
    stage: Option<StageInPieces>,
    /// Make every N-th part, from this one on, counted from 0
    #[arg(long, value_name = "I", requires = "of")]
    index: Option<usize>,
    /// N: how many workers share the parts
    #[arg(long, value_name = "N", requires = "index")]
    of: Option<usize>,
    /// Go on until the job needs no part any more, and make what other workers have left; wait for parts so many
    /// seconds at most
    #[arg(long, value_name = "SECONDS", requires = "index")]
    wait: Option<u64>,
    /// Memory budget, such as 4GiB [default: half of the machine or its cgroup]
    #[arg(long, value_name = "SIZE")]
    memory: Option<bytesize::ByteSize>,
    /// Threads [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Folder on a disk of this machine, for copies of the vectors and the packed base
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
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
        let parts = match (self.index, self.of) {
            (Some(index), Some(of)) if index < of && self.wait.is_some() => PartsAsked::RestAndOthers { index, of },
            (Some(index), Some(of)) if index < of => PartsAsked::Rest { index, of },
            (Some(index), of) => {
                return Err(Error::input("there is no worker of this number")
                    .expected("--index from 0, below --of")
                    .found(format!("--index {index} --of {}", of.unwrap_or(0)))
                    .remedy("workers are counted from 0"));
            }
            _ => PartsAsked::Named(self.part),
        };
        let interrupted = interrupt()?;
        let listen = |_| match interrupted.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::Interrupted, "interrupted: parts that were finished are kept")
                .path(&self.run)
                .remedy("run the same command again to go on")),
            false => Ok(()),
        };
        let stage = self.stage.map(|stage| match stage {
            StageInPieces::Neighbors => Stage::Neighbors,
            StageInPieces::Edges => Stage::Edges,
        });
        let worker = WorkerLimits {
            memory: self.memory.map(|size| size.as_u64()),
            threads: self.threads,
            precision: self.precision,
        };
        let asked =
            WorkAsked { parts, stage, worker, scratch: self.scratch, patience: self.wait.map(Duration::from_secs) };
        let threads = self.threads.unwrap_or(0);
        let worked = on_threads(threads, || work(&self.run, &asked, Watch::new(&listen)))??;
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
