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

// What the library offers.
pub mod cli;
pub mod config;
pub mod error;
pub mod report;
pub mod run;
pub mod verify;

// The job, and what stands beside the line.
mod budget;
mod cost;
mod job;
mod plan;
mod random;
mod watch;

// The line.
mod vectors;

mod neighbors;

mod edges;

mod clusters;

mod batches;

pub use batches::Summary;
#[cfg(feature = "export")]
pub use batches::export;
pub use job::Job;

/// What the benches measure. Nothing of it is promised.
#[doc(hidden)]
pub mod measured {
    pub use crate::clusters::exact::fix_sizes;
    pub use crate::clusters::propagate::{Communities, propagate};
    pub use crate::clusters::refine::{Swaps, swap};
    pub use crate::clusters::{PassRules, TaskPlaces, weights};
    pub use crate::edges::{Adjacency, EdgeFile, EdgeRows, MemoryEdges, build, codec};
    pub use crate::neighbors::calibrate::random_rows;
    pub use crate::neighbors::cpu::bf16::{Bf16, Bf16Base, Bf16Queries};
    pub use crate::neighbors::cpu::float::{Float, FloatBase, FloatQueries};
    pub use crate::neighbors::cpu::int8::{Int8, PackedBase, Quantised};
    pub use crate::neighbors::cpu::scan::{Nearest, scan};
    pub use crate::neighbors::cpu::simd::Simd;
    pub use crate::neighbors::tiles::TILE_QUERIES;
    pub use crate::neighbors::topk::TopK;
    pub use crate::neighbors::{Neighbors, search};
    pub use crate::vectors::{Keys, Vectors, import};
    pub use crate::watch::Watch;
}

use batches::lake::Lake;
use error::Result;
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
