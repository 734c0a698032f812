//! `batchmine bench`: how fast a job is on this machine.

use std::path::{Path, PathBuf};

use clap::Args;

use super::job_args::JobArgs;
use super::log;
use super::mine::interrupt;
use crate::bench::{self, BenchOptions, BenchRecord, PLANTED_DIM, PlantedShape};
use crate::config::{Config, Settings, WINDOW_MAX, Width};
use crate::error::{Error, Result};
use crate::regular;
use crate::run::json;
use crate::run::storage::{Disk, Storage, folder_of, replace_file};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Rows of planted data, which are measured where no PAIRS are given [default: at most 100000, fewer on slow
    /// machines]
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "pairs",
        help_heading = "Measuring",
        value_parser = clap::value_parser!(u64).range(1..1 << 31)
    )]
    rows: Option<u64>,
    /// Dimensions of planted data [default: 384]
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "pairs",
        help_heading = "Measuring",
        value_parser = clap::value_parser!(u32).range(1..=16_384)
    )]
    dim: Option<u32>,
    /// k: candidates kept of each query, in the place of --window, which is k less --skip
    #[arg(long, value_name = "N", conflicts_with = "window", help_heading = "Measuring")]
    k: Option<u32>,
    /// Jobs to run; figures are medians [default: 2, or 1 where a second one takes too long]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Measuring",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    repeats: Option<u32>,
    /// Folder on the disk that is measured; files are made in it and removed [default: the folder for temporary files]
    #[arg(long, value_name = "DIR", env = "BATCHMINE_WORK", hide_env = true, help_heading = "Measuring")]
    work: Option<PathBuf>,
    /// An earlier record: what is slower than its noise is named
    #[arg(long, value_name = "FILE", help_heading = "Measuring")]
    baseline: Option<PathBuf>,
    /// Write the record into a new file, as --json prints it
    #[arg(short, long, value_name = "FILE", help_heading = "Measuring")]
    out: Option<PathBuf>,
    /// Show an earlier record, and measure nothing
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["pairs", "rows", "dim", "k", "repeats", "out"],
        help_heading = "Measuring"
    )]
    show: Option<PathBuf>,
}

impl BenchArgs {
    /// Measures, and prints the table or the record.
    ///
    /// # Errors
    /// See `bench::measure`; or a record cannot be read or written.
    pub fn run(self, output: &log::Output) -> Result<()> {
        let baseline = self.baseline.as_deref().map(BenchRecord::read).transpose()?;
        if let Some(out) = &self.out {
            refuse_taken(out)?;
        }
        let out = self.out.as_deref().map(|out| regular::utf8_path(out, "the record")).transpose()?;
        let record = match &self.show {
            Some(path) => BenchRecord::read(path)?,
            None => self.measure(baseline.as_ref())?,
        };
        let compared = baseline.map(|old| bench::compare(&record, &old).describe());
        if output.json {
            log::print(&json::line(&record)?)?;
            // Data alone are on stdout.
            if let Some(compared) = compared {
                compared.lines().for_each(|line| tracing::info!("{line}"));
            }
        } else {
            let compared = compared.map_or_else(String::new, |compared| format!("\n\n{compared}"));
            log::print(&(bench::describe_record(&record) + &compared))?;
        }
        // After the print: what was measured is not lost with the file.
        match &out {
            Some(out) => write(out, &(json::pretty(&record)? + "\n")),
            None => Ok(()),
        }
    }

    fn measure(self, baseline: Option<&BenchRecord>) -> Result<BenchRecord> {
        let is_planted = self.job.pairs.is_empty();
        let (pairs, mut settings) = self.job.settings()?;
        let files = [&settings.query_file, &settings.positive_file];
        let is_planted = is_planted && files.into_iter().all(Vec::is_empty);
        if !is_planted && (self.rows.is_some() || self.dim.is_some()) {
            return Err(Error::input("planted data have a shape, and there are data of your own")
                .expected("either --rows and --dim, or input files")
                .found("both")
                .remedy("leave --rows and --dim out, or the files"));
        }
        if let Some(k) = self.k {
            settings.window = Some(Width::Ranks(window_of(k, &settings)?));
        }
        let planted = is_planted.then(|| PlantedShape {
            // The same job as the baseline's, where that was of planted data.
            rows: self.rows.or_else(|| baseline.and_then(BenchRecord::planted_rows)),
            dim: self.dim.or_else(|| baseline.and_then(BenchRecord::planted_dim)).unwrap_or(PLANTED_DIM),
        });
        let config = |path: Option<String>| -> Result<Config> {
            let pairs = path.map_or_else(|| pairs.clone(), |path| vec![path]);
            let config = Config::new(pairs, settings.clone())?;
            bench::refuse_publishing(&config)?;
            Ok(config)
        };
        let options = BenchOptions { planted, repeats: self.repeats.map(|repeats| repeats as usize) };
        let work = self.work.unwrap_or_else(std::env::temp_dir);
        let work = regular::utf8_path(&work, "the folder for measuring")?;
        bench::measure(&options, &config, &work, &interrupt()?)
    }
}

/// m of a k.
fn window_of(k: u32, settings: &Settings) -> Result<u32> {
    let skip = settings.skip.unwrap_or(10);
    match k.checked_sub(skip).filter(|window| *window > 0 && k <= WINDOW_MAX) {
        Some(window) => Ok(window),
        None => Err(Error::input("k is out of range")
            .expected(format!("--k above --skip ({skip}), and at most {WINDOW_MAX}"))
            .found(format!("--k {k}"))
            .remedy("k is p + m: give a larger --k, or a smaller --skip")),
    }
}

/// Refuses a place for the record that cannot be written, before the work.
fn refuse_taken(out: &Path) -> Result<()> {
    let folder = folder_of(out);
    let refused = |found: &str, remedy: &str| {
        Err(Error::input("the record cannot be written there")
            .path(out)
            .expected("a file that is not there yet, in a folder that is")
            .found(found)
            .remedy(remedy))
    };
    if out.symlink_metadata().is_ok() {
        return refused("something of this name", "give another name to --out, or remove it first");
    }
    if !folder.is_dir() {
        return refused("no such folder", "make the folder first");
    }
    Ok(())
}

/// Writes the record, whole or not at all.
fn write(out: &Path, text: &str) -> Result<()> {
    let failed = |e| Error::io("the record cannot be written", out, e);
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let temp = out.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    replace_file(&Disk, &temp, out, text.as_bytes()).map_err(|e| {
        let _ = Disk.remove(&temp);
        failed(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_is_skip_and_window() {
        let settings = |skip| Settings { skip, ..Settings::default() };
        assert_eq!(window_of(110, &settings(None)).unwrap(), 100);
        assert_eq!(window_of(31, &settings(Some(30))).unwrap(), 1);
        assert_eq!(window_of(WINDOW_MAX, &settings(Some(0))).unwrap(), WINDOW_MAX);
        for (k, skip) in [(30, 30), (0, 0), (5, 10), (WINDOW_MAX + 1, 10)] {
            let error = window_of(k, &settings(Some(skip))).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("--k"), "{error}");
        }
    }
}
