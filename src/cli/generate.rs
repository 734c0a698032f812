//! `batchmine gen`: planted data with known clusters, streaming.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;

use super::log;
use crate::error::Result;
use crate::planted::{Planted, Spectrum, Type, write};
use crate::run::storage::Disk;

/// Arguments of `gen`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Rows
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..1 << 31))]
    rows: u64,
    /// Dimensions
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    dim: u32,
    /// Folder for the Parquet files; a folder that was begun with these settings is gone on with
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Planted clusters, at most one a row [default: rows / 100]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    clusters: Option<u64>,
    /// Tasks, at most one a cluster; cluster c belongs to task c mod tasks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    tasks: u64,
    /// Length of the noise, where a centre has length 1; from 0 to 1000000
    #[arg(long, default_value_t = 1.0)]
    noise: f32,
    /// How variance falls from axis to axis; falling: with a mean and principal axes like those of real sentence
    /// embeddings
    #[arg(long, value_enum, default_value = "flat")]
    spectrum: Spectrum,
    /// Number type
    #[arg(long, value_enum, default_value = "f16")]
    dtype: Type,
    /// Seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl GenerateArgs {
    /// Writes the files.
    ///
    /// # Errors
    /// A number cannot be meant, the folder holds something else, or the disk fails.
    pub fn run(self, output: &log::Output) -> Result<()> {
        let planted = Planted {
            clusters: self.clusters.unwrap_or(self.rows.div_ceil(100)),
            dim: self.dim,
            dtype: self.dtype,
            noise: self.noise,
            rows: self.rows,
            seed: self.seed,
            spectrum: self.spectrum,
            tasks: self.tasks,
        }
        .checked()?;
        let folder = self.out.display();
        if write(&planted, &self.out, &Disk, &output.progress)? {
            tracing::info!("{} rows in {folder}", HumanCount(planted.rows));
        } else {
            tracing::info!("{folder} holds these {} rows already", HumanCount(planted.rows));
        }
        Ok(())
    }
}
