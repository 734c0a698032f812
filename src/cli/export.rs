//! `batchmine export`: the batches of a run as a trainer's own files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};

use super::log;
use crate::batches::export::{Epochs, ExportSettings, Format, export};
use crate::config::half_of_memory;
use crate::error::Result;
use crate::run::storage::Disk;
use crate::run::{RunReader, json};

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Run folder
    run: PathBuf,
    /// The trainer whose files are written
    #[arg(long, value_enum)]
    format: Format,
    /// Folder to fill
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Column of the queries' texts [default: query or another usual name; text for both sides]
    #[arg(long, value_name = "NAME")]
    query_text: Option<String>,
    /// Column of the positives' texts [default: positive or another usual name]
    #[arg(long, value_name = "NAME")]
    positive_text: Option<String>,
    /// Parquet files, folders or globs with the texts of the mined rows, in their order [default: the mined files]
    #[arg(long, value_name = "PATHS", num_args = 1..)]
    source: Vec<String>,
    /// An epoch from 0, or all, one after the other
    #[arg(long, value_name = "E", default_value = "0")]
    epoch: Epochs,
    /// Hard negatives of each row at most [default: all that were mined]
    #[arg(long, value_name = "N")]
    negatives: Option<u32>,
    /// Memory budget, such as 4GiB [default: half of the machine or its cgroup]
    #[arg(long, value_name = "SIZE", env = "BATCHMINE_MEMORY", hide_env = true)]
    memory: Option<bytesize::ByteSize>,
    /// Put this export in the place of a finished one
    #[arg(long)]
    replace: bool,
}

impl ExportArgs {
    /// Writes the export.
    ///
    /// # Errors
    /// See [`export`].
    pub fn run(self, output: &log::Output) -> Result<()> {
        let run = RunReader::open(&self.run)?;
        let settings = ExportSettings {
            format: self.format,
            epochs: self.epoch,
            query_text: self.query_text,
            positive_text: self.positive_text,
            source: self.source,
            negatives: self.negatives,
            memory_bytes: self.memory.map_or_else(half_of_memory, |size| size.as_u64()),
            replace: self.replace,
        };
        let Some(made) = export(&run, &settings, &self.out, Arc::new(Disk), &output.progress)? else {
            tracing::info!("{} holds this export already; --replace writes it again", self.out.display());
            return Ok(());
        };
        if made.left_out > 0 {
            tracing::warn!(
                "{} rows left out: this trainer cuts rows into batches of one size, and these fill none",
                HumanCount(made.left_out)
            );
        }
        let units = if settings.format == Format::B3 { "clusters" } else { "batches" };
        tracing::info!(
            "{} rows in {} {units}: {} files, {}, in {}; joined in {} chunks, peak {} of {}",
            HumanCount(made.rows),
            HumanCount(made.units),
            HumanCount(made.files),
            HumanBytes(made.bytes),
            self.out.display(),
            made.chunks,
            HumanBytes(made.peak_bytes),
            HumanBytes(settings.memory_bytes),
        );
        if output.json {
            let facts = BTreeMap::from([
                ("rows", made.rows),
                (units, made.units),
                ("left_out", made.left_out),
                ("chunks", made.chunks as u64),
                ("files", made.files),
                ("bytes", made.bytes),
                ("peak_bytes", made.peak_bytes),
            ]);
            log::print(&json::line(&facts)?);
        }
        Ok(())
    }
}
