//! The command line: one file for each verb.

pub mod arguments;
mod assumed;
pub mod bench;
pub mod candidates;
pub mod clean;
#[cfg(feature = "export")]
pub mod export;
pub mod generate;
pub mod gpu_worker;
pub mod inspect;
pub mod job_args;
pub mod log;
pub mod mine;
mod piece_scripts;
pub mod pieces;
pub mod plan;
pub mod reference;
pub mod report;
pub mod rows;
pub mod shell;
mod text_args;
pub mod verify;

use clap::{CommandFactory, Parser, Subcommand};

use crate::allocator;
use crate::config::half_of_memory;
use crate::error::Error;
use crate::guard;
use crate::run::bus_error;
use crate::stdio::tell_line;

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
    /// Write the pairs whose judgement as right or wrong answers matters most
    Candidates(candidates::CandidatesArgs),
    /// Parts of a job with --pieces external that can be made now
    Pieces(pieces::PiecesArgs),
    /// Make parts of a job with --pieces external, on this machine or another one
    Work(pieces::WorkArgs),
    /// Delete the files of a finished run that only the job needed
    Clean(clean::CleanArgs),
    /// Write planted data with known clusters, of any size
    Gen(generate::GenerateArgs),
    /// How fast a job is on this machine, beside what the machine can do
    Bench(bench::BenchArgs),
    /// Print shell completions
    Completions(shell::CompletionsArgs),
    /// Print the manual page of batchmine or of a verb, or write them all
    Man(shell::ManArgs),
    /// Print docs/reference.md
    #[command(hide = true)]
    Reference,
    #[command(hide = true)]
    GpuWorker(gpu_worker::GpuWorkerArgs),
}

/// Prepares the process for work: freed memory goes back to the system, a file that becomes shorter while it is read
/// ends the process with a message, and panics of parsers are errors. It may be called again.
pub fn prepare() {
    allocator::keep_arenas_small();
    bus_error::install();
    guard::install(half_of_memory().saturating_mul(2));
}

/// Runs a verb; the exit code tells how it ended.
pub fn run(cli: Cli) -> u8 {
    prepare();
    let output = cli.output.start();
    let done = guard::caught(|| match cli.verb {
        Verb::Mine(mine) => mine.run(&output),
        Verb::Plan(plan) => plan.run(&output),
        Verb::Inspect(inspect) => inspect.run(&output),
        Verb::Verify(verify) => verify.run(&output),
        Verb::Report(report) => report.run(&output),
        #[cfg(feature = "export")]
        Verb::Export(export) => export.run(&output),
        Verb::Candidates(candidates) => candidates.run(&output),
        Verb::Pieces(pieces) => pieces.run(&output),
        Verb::Work(work) => work.run(&output),
        Verb::Clean(clean) => clean.run(&output),
        Verb::Gen(generate) => generate.run(&output),
        Verb::Bench(bench) => bench.run(&output),
        Verb::Completions(completions) => completions.run(Cli::command()),
        Verb::Man(man) => man.run(Cli::command()),
        Verb::Reference => reference::print(&Cli::command()),
        Verb::GpuWorker(worker) => worker.run(),
    });
    match done.and_then(|()| output.all_written()) {
        Ok(()) => 0,
        Err(error) => {
            output.fail(&error);
            error.exit_code()
        }
    }
}

/// Ends a call whose command line is refused; the exit code.
pub fn refuse(error: &Error) -> u8 {
    tell_line(&format!("error: {error}"));
    error.exit_code()
}
