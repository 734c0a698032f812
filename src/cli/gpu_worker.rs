//! `batchmine gpu-worker`: what a search on GPUs starts for each device; not for people.

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::neighbors::gpu::worker;

/// Arguments of `gpu-worker`.
#[derive(Debug, Args)]
pub struct GpuWorkerArgs {
    /// The plugin
    plugin: PathBuf,
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
