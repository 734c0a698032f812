//! batchmine mines training batches for contrastive learning, streaming and out of core.
//!
//! ```text
//!  Parquet / .npy shards                                                        batch tables
//!         │ decode once        │ tile × tile        │ spill, merge        │ rescan        ▲ pack, sort
//!         ▼                    ▼                    ▼                     ▼               │
//!      vectors  ───────────▶ neighbors ─────────▶ edges ───────────▶ clusters ───────▶ batches
//!    row-major mmap,       top-(p+m) ids and    sorted compressed    label per row,    Parquet,
//!    grouped by task       scores per query     adjacency, blocks    size exactly K    lake-ready
//! ```
//!
//! The method is that of Thirukovalluru et al., *Breaking the Batch Barrier (B3) of Contrastive Learning
//! via Smart Batch Mining* (2025, arXiv 2505.11293). Each stage is a module; [`mine`] is their order.

#![warn(missing_docs)]

pub mod config;
pub mod error;
pub mod plan;
pub mod run;

pub mod vectors;

pub mod neighbors;

pub mod edges;

pub mod clusters;

pub mod batches;

pub mod cli;
pub mod report;
pub mod verify;

use config::Config;
use error::Result;
use plan::Plan;
use run::Run;
use vectors::Shards;

/// What a job made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Rows of the input.
    pub rows: u64,
    /// Tasks.
    pub tasks: usize,
    /// Clusters.
    pub clusters: u32,
    /// Batches of exactly |B|, over all epochs.
    pub full_batches: u64,
    /// Smaller batches, over all epochs.
    pub short_batches: u64,
    /// Rows that `--remainder drop` left out, over all epochs.
    pub dropped_rows: u64,
}

/// The whole job: shards in, batch tables out. Parts that the run folder already has are not made again.
///
/// # Errors
/// A budget that is too small, a task that the input does not have, settings other than those of the run folder (without `replace`), bad input
/// named by file and row, an interrupt, or a disk that fails.
pub fn mine(run: &Run, shards: &Shards, config: &Config, replace: bool) -> Result<Summary> {
    let plan = Plan::new(config, shards.shape)?; // all memory is decided here
    vectors::refuse_unknown_tasks(config, shards)?;
    #[cfg(feature = "lake")] // a place that cannot be written is refused now, not after the search
    let lake = config.table.as_ref().map(|rules| batches::lake::Lake::open(rules, run)).transpose()?;
    run.adopt(config.by_stage(shards), replace)?;
    let vectors = vectors::import(run, shards, config, &plan)?;
    #[cfg(feature = "lake")]
    lake.as_ref().map(|lake| lake.look(run, &vectors, config)).transpose()?;
    let neighbors = neighbors::search(run, &vectors, config, &plan)?;
    let edges = edges::build(run, &vectors, &neighbors, config, &plan)?;
    let clusters = clusters::cluster(run, &vectors, &neighbors, &edges, config)?;
    let summary = batches::write(run, &vectors, &neighbors, &clusters, config, &plan)?;
    #[cfg(feature = "lake")]
    lake.map(|lake| lake.publish(run, &vectors, config, &plan, replace)).transpose()?;
    run.succeed()?;
    Ok(summary)
}
