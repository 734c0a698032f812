//! `batchmine gpu-worker`: what a search on GPUs starts for each device; not for people.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::neighbors::gpu::{process, worker};

/// Arguments of `gpu-worker`.
#[derive(Debug, Args)]
pub struct GpuWorkerArgs {
    /// The plugin
    plugin: PathBuf,
}

/// Says by which command workers are started, where the process has another executable than batchmine's.
pub fn started_by(command: Vec<OsString>) {
    process::started_by(command);
}

impl GpuWorkerArgs {
    /// Obeys commands on standard input until it ends.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn run(self) -> Result<()> {
        worker::run(&self.plugin)
    }
}
