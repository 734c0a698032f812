//! The arguments that describe a job.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, Settings};
use crate::error::Result;

/// Input files and settings, as `mine` and `plan` take them.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Parquet or Arrow files, folders or globs; or .npy files, paired by their names or with --query-file and
    /// --positive-file
    #[arg(value_name = "PAIRS")]
    pub pairs: Vec<String>,
    /// TOML file with flags' names as keys; flags and BATCHMINE_* variables are stronger, but not than a [task.NAME]
    /// table
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
        let (pairs, settings) = self.settings()?;
        Config::new(pairs, settings)
    }

    /// The paths, and flags, environment and file as one.
    ///
    /// # Errors
    /// The file is not valid.
    pub(super) fn settings(self) -> Result<(Vec<String>, Settings)> {
        let file = self.config.as_deref().map(Settings::from_file).transpose()?.unwrap_or_default();
        Ok((self.pairs, self.settings.or(file)))
    }
}
