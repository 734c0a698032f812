//! `batchmine report`: what a run's batches are worth.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::log;
use super::text_args::TextArgs;
use crate::error::{Error, Result};
use crate::job::on_threads;
use crate::regular;
use crate::report::figures::ReportFile;
use crate::report::{self, Options};
use crate::run::progress::Progress;
use crate::run::{RunReader, json};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folder
    run: PathBuf,
    /// Another list of batches to compare with: a Parquet file, or a folder of them, with the columns batch_id and row
    /// or id
    #[arg(long, value_name = "LIST")]
    against: Option<PathBuf>,
    /// Epoch to report
    #[arg(long, value_name = "E", default_value_t = 0)]
    epoch: u32,
    /// Queries to sample for what takes vectors; as many as there are rows: all
    #[arg(long, value_name = "N", default_value_t = report::SAMPLE)]
    sample: u64,
    /// K of the top-K similarity and of Theorem 1's gap [default: the run's cluster size]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// τ of Theorem 1's gap
    #[arg(long, value_name = "TAU", default_value_t = report::TEMPERATURE)]
    temperature: f64,
    #[command(flatten)]
    texts: TextArgs,
    /// Folder for report.json and report.html [default: the run folder]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Threads [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl ReportArgs {
    /// Measures, writes both files and prints the table.
    ///
    /// # Errors
    /// See [`report::measure`]; or a setting is out of range, or the files cannot be written.
    pub fn run(self, output: &log::Output) -> Result<()> {
        if !self.temperature.is_finite() || self.temperature <= 0.0 {
            return Err(Error::input("the temperature is out of range")
                .expected("--temperature above 0")
                .found(self.temperature.to_string())
                .remedy("0.02 is usual"));
        }
        if self.sample == 0 {
            return Err(Error::input("the sample is empty")
                .expected("--sample at least 1")
                .found("--sample 0")
                .remedy("leave --sample out"));
        }
        let begin = Instant::now();
        regular::utf8_path(&self.run, "the run folder")?;
        let run = RunReader::open(&self.run)?;
        let options = Options {
            epoch: self.epoch,
            against: self.against,
            sample: self.sample,
            top: self.top,
            temperature: self.temperature,
            texts: self.texts.into(),
        };
        // With --json the report itself is the one line on stdout.
        let progress = if output.json { Progress::silent() } else { output.progress.clone() };
        let report = on_threads(self.threads.unwrap_or(0), || report::measure(&run, &options, &progress))??;
        let folder = self.out.unwrap_or(self.run);
        let page = report::page(&report);
        let hash = json::hash(page.as_bytes());
        let file = ReportFile::new(&report, &hash)?;
        report::write(&folder.join("report.json"), (json::pretty(&file)? + "\n").as_bytes())?;
        report::write(&folder.join("report.html"), page.as_bytes())?;
        log::print(&if output.json { json::line(&file)? } else { report::table(&report) })?;
        if let Some(why) = &report.examples.no_texts {
            tracing::info!("no texts are shown: {why}");
        }
        tracing::info!(
            "{} and report.html, in {:.1} s",
            folder.join("report.json").display(),
            begin.elapsed().as_secs_f64()
        );
        Ok(())
    }
}
