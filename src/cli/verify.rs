//! `batchmine verify`: proof that a run keeps its promises.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{log, start_threads};
use crate::error::{Error, Kind, Result};
use crate::run::RunReader;
use crate::verify::verify;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Run folder
    run: PathBuf,
    /// Neighbor lists to recompute by brute force
    #[arg(long, value_name = "N", default_value_t = 100)]
    sample: usize,
    /// Threads [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl VerifyArgs {
    /// Checks and prints.
    ///
    /// # Errors
    /// A fault was found.
    pub fn run(self, output: &log::Output) -> Result<()> {
        if let Some(threads) = self.threads {
            start_threads(threads)?;
        }
        let run = RunReader::open(&self.run)?;
        let outcome = verify(&run, self.sample);
        if output.json {
            log::print(&json!({"faults": outcome.faults, "checked": outcome.checked}).to_string());
        } else {
            for line in &outcome.checked {
                log::print(&format!("ok     {line}"));
            }
            for fault in &outcome.faults {
                log::print(&format!("FAULT  {fault}"));
            }
        }
        if outcome.faults.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::Fault, "the run does not keep its promises")
            .path(&self.run)
            .found(format!("{} faults, listed on stdout", outcome.faults.len()))
            .remedy("delete the files named there and run the same `mine` command again"))
    }
}
