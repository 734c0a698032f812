//! `batchmine candidates`: the pairs whose judgement matters most.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use indicatif::HumanCount;
use serde::Serialize;

use super::log;
use super::text_args::TextArgs;
use crate::error::Result;
use crate::job::on_threads;
use crate::pairs::{self, PairsAsked, PairsWritten};
use crate::run::{RunReader, json};

/// Arguments of `candidates`.
#[derive(Debug, Args)]
pub struct CandidatesArgs {
    /// Run folder
    run: PathBuf,
    /// Pairs to write, at most
    #[arg(long, value_name = "N")]
    budget: u64,
    /// Parquet file to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Share of the budget that is drawn evenly from the pairs beyond the closest
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    sample: f64,
    /// Seed of that draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    texts: TextArgs,
    /// Put the file in the place of one that is there
    #[arg(long)]
    replace: bool,
    /// Threads [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl CandidatesArgs {
    /// Writes the pairs and says which they are.
    ///
    /// # Errors
    /// Those of [`pairs::write`].
    pub fn run(self, output: &log::Output) -> Result<()> {
        let begin = Instant::now();
        let run = RunReader::open(&self.run)?;
        let asked = PairsAsked {
            budget: self.budget,
            sample: self.sample,
            seed: self.seed,
            replace: self.replace,
            texts: self.texts.into(),
        };
        let written = on_threads(self.threads.unwrap_or(0), || pairs::write(&run, &asked, &self.out))??;
        if output.json {
            let summary = PairsFile { out: &self.out, written };
            log::print(&json::line(&summary)?)?;
        }
        say(&written);
        tracing::info!("{} in {:.1} s", self.out.display(), begin.elapsed().as_secs_f64());
        Ok(())
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct PairsFile<'a> {
    out: &'a Path,
    #[serde(flatten)]
    written: PairsWritten,
}

fn say(written: &PairsWritten) {
    let PairsWritten { pairs, sampled, scores, meeting, draws, .. } = *written;
    let range = scores.map_or(String::new(), |[best, last]| format!(" (scores {best:.4} to {last:.4})"));
    tracing::info!(
        "{} pairs that were not judged, of {} that meet in batches and {} hard negatives: the {} closest{range}, and \
         {} drawn evenly",
        HumanCount(pairs),
        HumanCount(meeting),
        HumanCount(draws),
        HumanCount(pairs - sampled),
        HumanCount(sampled)
    );
}
