//! `batchmine mine`: the whole job.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use indicatif::{HumanBytes, HumanCount};

use super::job_args::JobArgs;
use super::plan::{PlanEstimate, describe};
use super::{assumed, log};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::job::Job;
use crate::objects::stopped_by;
use crate::run::storage::Disk;
use crate::run::{Run, Stage};
use crate::stdio::tell_line;
use crate::watch::Watch;

/// Arguments of `mine`.
#[derive(Debug, Args)]
pub struct MineArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Run folder; a folder of an unfinished run is resumed
    #[arg(short, long, value_name = "RUN")]
    out: PathBuf,
    /// Put everything but the batch tables into a folder of the run's own in here
    #[arg(long, value_name = "DIR", env = "BATCHMINE_WORK", hide_env = true)]
    work: Option<PathBuf>,
    /// Redo the stages that changed settings touch, keep those before
    #[arg(long)]
    replace: bool,
    /// Check every row of the inputs, and settings; print the plan, write nothing
    #[arg(long)]
    dry_run: bool,
}

impl MineArgs {
    /// Runs the job.
    ///
    /// # Errors
    /// See [`crate::mine`].
    pub fn run(self, output: &log::Output) -> Result<()> {
        let interrupted = interrupt()?;
        let config = self.job.config()?;
        let job = stopped_by(&interrupted, || Job::open(config))?;
        if self.dry_run {
            assumed::tell(&job);
            return dry_run(&job, output, &interrupted);
        }
        let run = Run::open(&self.out, self.work.as_deref(), Arc::new(Disk), output.progress.clone(), interrupted)?;
        let Job { config, shards, .. } = &job;
        tracing::info!(
            "{} rows x {} dimensions in {} files ({}), budget {}, {} threads",
            HumanCount(shards.shape.rows),
            shards.shape.dim,
            shards.list.len(),
            HumanBytes(shards.input_bytes()),
            HumanBytes(config.memory_bytes),
            config.threads,
        );
        assumed::tell(&job);
        let summary = job.run(&run, self.replace)?;
        if summary.was_finished {
            tracing::info!(
                "this job was finished already: nothing was mined; {} batches are in {}",
                HumanCount(summary.full_batches + summary.short_batches),
                self.out.join("batches").display()
            );
            return Ok(());
        }
        let short = match summary.short_batches {
            0 => String::new(),
            n => format!(" and {n} smaller"),
        };
        let (full, clusters) = (HumanCount(summary.full_batches), HumanCount(u64::from(summary.clusters)));
        let folder = self.out.join("batches");
        let folder = folder.display();
        if config.sizes().tasks.is_empty() {
            let (batch_size, size) = (config.batches.size, config.clusters.size);
            tracing::info!("{full} batches of {batch_size}{short} from {clusters} clusters of {size} in {folder}");
        } else {
            tracing::info!("{full} batches of their tasks' sizes{short} from {clusters} clusters in {folder}");
        }
        stage_table(&run, config);
        Ok(())
    }
}

/// Checks every row and prints the plan.
fn dry_run(job: &Job, output: &log::Output, interrupted: &AtomicBool) -> Result<()> {
    let documents = job.corpus.as_ref().map_or(0, |corpus| corpus.shape.rows);
    let meter = output.progress.meter("check", job.shards.shape.rows + documents, "rows");
    let listen = |rows| match interrupted.load(Ordering::Relaxed) {
        true => Err(Error::new(Kind::Interrupted, "stopped while the input was checked").remedy("run it again")),
        false => meter.add(rows),
    };
    let checked = job.check_input(Watch::new(&listen))?;
    log::print(&describe(job, &PlanEstimate::new(job, Some(&checked))?))?;
    log::print(&format!("checked  {}", checked.words()))?;
    Ok(())
}

/// Logs time, memory and bytes of each stage, over all calls.
fn stage_table(run: &Run, config: &Config) {
    for stage in Stage::ALL {
        let record = run.record(stage);
        tracing::info!(
            "{:>10} {:>9.2} s   peak {:>10} of {}   {:>10} on disk",
            stage.name(),
            record.seconds,
            HumanBytes(record.peak_bytes).to_string(),
            HumanBytes(config.memory_bytes),
            HumanBytes(record.bytes()).to_string(),
        );
    }
}

/// The flag that Ctrl-C and SIGTERM set. A second signal ends the process at once: finished parts are kept, the one
/// that is being written is lost.
pub(super) fn interrupt() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = flag.clone();
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        tell_line("stopping after the work in hand; once more to stop at once");
    })
    .map_err(|e| Error::runtime("the signal handler cannot be set").found(e.to_string()))?;
    Ok(flag)
}
