//! `batchmine verify`: proof that a run keeps its promises.

use std::path::PathBuf;

use clap::Args;

use super::log;
use crate::error::{Error, Kind, Result};
use crate::job::on_threads;
use crate::run::{RunReader, json};
use crate::verify::{CheckShare, verify};
use crate::watch::Watch;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Run folder
    run: PathBuf,
    /// Neighbor lists to recompute by brute force
    #[arg(long, value_name = "N", default_value_t = 100)]
    sample: usize,
    /// Of N shares of the checks this one alone, counted from 0: several processes verify a run together
    #[arg(long, value_name = "I", requires = "of")]
    index: Option<usize>,
    /// N: how many processes share the checks
    #[arg(long, value_name = "N", requires = "index")]
    of: Option<usize>,
    /// Threads [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl VerifyArgs {
    /// Checks and prints.
    ///
    /// # Errors
    /// A fault was found, or stdout cannot be written.
    pub fn run(self, output: &log::Output) -> Result<()> {
        let run = RunReader::open(&self.run)?;
        run.refuse_in_use()?;
        let share = match (self.index, self.of) {
            (Some(index), Some(of)) => CheckShare::new(index, of)?,
            _ => CheckShare::WHOLE,
        };
        let check = || verify(&run, self.sample, share, Watch::silent());
        let outcome = on_threads(self.threads.unwrap_or(0), check)??;
        if output.json {
            log::print(&json::line(&outcome)?)?;
        } else {
            for line in &outcome.checked {
                log::print(&format!("ok     {line}"))?;
            }
            for line in &outcome.unchecked {
                log::print(&format!("-      not checked: {line}"))?;
            }
            for fault in &outcome.faults {
                log::print(&format!("FAULT  {fault}"))?;
            }
        }
        if outcome.faults.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::Fault, "the run does not keep its promises")
            .path(&self.run)
            .found(format!("{} faults, listed on stdout", outcome.faults.len()))
            .remedy(outcome.remedies.iter().map(|remedy| remedy.text()).collect::<Vec<_>>().join("; ")))
    }
}
