//! The command line: one file for each verb.

#[cfg(feature = "export")]
pub mod export;
pub mod generate;
pub mod gpu_worker;
pub mod inspect;
pub mod log;
pub mod mine;
pub mod plan;
pub mod reference;
pub mod report;
pub mod rows;
pub mod shell;
pub mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Settings};
use crate::error::Result;

/// Mine hard training batches for contrastive learning: streaming, out of core, on one machine
#[derive(Debug, Parser)]
#[command(
    name = "batchmine",
    version,
    propagate_version = true,
    after_help = reference::exit_codes()
)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    output: log::OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The whole job: embedding shards in, batch tables out; run again to resume
    Mine(mine::MineArgs),
    /// What a job will cost; writes nothing
    Plan(plan::PlanArgs),
    /// What a shard, a run folder or one artefact holds
    Inspect(inspect::InspectArgs),
    /// Check every checksum of a run, and every promise about its batches
    Verify(verify::VerifyArgs),
    /// What a run's batches are worth: report.json, report.html, and a table
    Report(report::ReportArgs),
    /// Write the batches as a trainer's own files, joined to their texts
    #[cfg(feature = "export")]
    Export(export::ExportArgs),
    /// Write planted data with known clusters, of any size
    Gen(generate::GenerateArgs),
    /// Print shell completions
    Completions(shell::CompletionsArgs),
    /// Print the manual page
    Man,
    /// Print docs/reference.md
    #[command(hide = true)]
    Reference,
    #[command(hide = true)]
    GpuWorker(gpu_worker::GpuWorkerArgs),
}

/// Input files and settings, as `mine` and `plan` take them.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Parquet files, folders or globs; or .npy files
    #[arg(required = true, value_name = "PAIRS")]
    pub pairs: Vec<String>,
    /// TOML file with flags' names as keys; flags and BATCHMINE_* variables are stronger, but not than a [task.NAME] table
    #[arg(long, value_name = "FILE", env = "BATCHMINE_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl JobArgs {
    /// Flags, environment and file as one validated job.
    ///
    /// # Errors
    /// A setting is out of range, or the file is not valid.
    pub fn config(self) -> Result<Config> {
        let file = self.config.as_deref().map(Settings::from_file).transpose()?.unwrap_or_default();
        Config::new(self.pairs, self.settings.or(file))
    }
}

/// Runs a verb; the exit code tells how it ended.
pub fn run(cli: Cli) -> ExitCode {
    let output = cli.output.start();
    let done = match cli.verb {
        Verb::Mine(mine) => mine.run(&output),
        Verb::Plan(plan) => plan.run(&output),
        Verb::Inspect(inspect) => inspect.run(),
        Verb::Verify(verify) => verify.run(&output),
        Verb::Report(report) => report.run(&output),
        #[cfg(feature = "export")]
        Verb::Export(export) => export.run(&output),
        Verb::Gen(generate) => generate.run(&output),
        Verb::Completions(completions) => completions.run(),
        Verb::Man => shell::man(),
        Verb::Reference => reference::print(),
        Verb::GpuWorker(worker) => worker.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.fail(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Sets the number of threads of all parallel work.
///
/// # Errors
/// The threads cannot be started.
pub fn start_threads(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|e| {
        crate::error::Error::runtime("the worker threads cannot be started")
            .found(e.to_string())
            .remedy("lower --threads")
    })
}
