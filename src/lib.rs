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

pub mod error;

pub mod watch;

pub mod config;

pub mod run;

pub mod vectors;

pub mod neighbors;

pub mod edges;

pub mod clusters;

pub mod batches;

pub mod budget;
pub mod cost;
pub mod plan;
mod random;

pub mod job;

pub mod report;
pub mod verify;

pub mod cli;

use batches::Summary;
use batches::lake::Lake;
use error::Result;
use job::Job;
use run::Run;

/// The whole job: shards in, batch tables out. Parts that the run folder already has are not made again.
///
/// It works on the threads of the pool that calls it; [`Job::run`] brings one.
///
/// # Errors
/// Settings other than those of the run folder (without `replace`), bad input named by file and row, an interrupt, or a
/// disk that fails.
pub fn mine(run: &Run, job: &Job, replace: bool) -> Result<Summary> {
    let Job { config, shards, plan, .. } = job;
    let lake = Lake::open(config.table.as_ref(), run)?; // a place that cannot be written is refused before the search
    run.apply_settings(&job.settings(), replace)?;
    let vectors = vectors::import(run, shards, config, &plan.vectors)?;
    lake.check_target(run, &vectors, config)?;
    let neighbors = neighbors::search(run, &vectors, config, &plan.neighbors)?;
    let edges = edges::build(run, &vectors, &neighbors, config, &plan.edges)?;
    let clusters = clusters::cluster(run, &vectors, &neighbors, &edges, config)?;
    let summary = batches::write(run, &vectors, &neighbors, &clusters, config, &plan.batches)?;
    lake.publish(run, &vectors, config, &plan.batches, replace)?;
    run.succeed()?;
    Ok(summary)
}
