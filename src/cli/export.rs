//! `batchmine export`: the batches of a run as a trainer's own files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};

use super::log;
use super::text_args::TextArgs;
use crate::batches::export::{Epochs, ExportSettings, ExportSummary, Format, export};
use crate::batches::texts::TextSource;
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
    #[command(flatten)]
    texts: TextArgs,
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
        let TextSource { query, positive, document, source, corpus } = self.texts.into();
        let settings = ExportSettings {
            format: self.format,
            epochs: self.epoch,
            query_text: query,
            positive_text: positive,
            document_text: document,
            source,
            corpus_source: corpus,
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
        warn_of_few_negatives(&made);
        let units = if settings.format == Format::B3 { "clusters" } else { "batches" };
        let of_units = match settings.format {
            Format::Neighbors => String::new(),
            _ => format!(" in {} {units}", HumanCount(made.units)),
        };
        tracing::info!(
            "{} rows{of_units}: {} files, {}, in {}; joined in {} chunks, peak {} of {}",
            HumanCount(made.rows),
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
                ("rows_short_of_negatives", made.rows_short),
                ("rows_without_negatives", made.rows_without),
                ("rows_filled", made.rows_filled),
                ("chunks", made.chunks as u64),
                ("files", made.files),
                ("bytes", made.bytes),
                ("peak_bytes", made.peak_bytes),
            ]);
            log::print(&json::line(&facts)?)?;
        }
        Ok(())
    }
}

fn warn_of_few_negatives(made: &ExportSummary) {
    let (without, some) = (made.rows_without, made.rows_short - made.rows_without);
    if made.rows_filled > 0 {
        tracing::warn!(
            "{} rows have no hard negative: they got positives of other rows of their batch, since this trainer reads \
             no row without",
            HumanCount(made.rows_filled)
        );
    } else if without > 0 {
        tracing::warn!("{} rows have no hard negative, and are written without", HumanCount(without));
    }
    if some > 0 {
        tracing::warn!("{} rows have fewer hard negatives than others; docs/training.md says what comes of it", some);
    }
}
