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

// What the library offers; beside it the names below.
pub mod cli;
pub mod config;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod guard;
pub mod report;
pub mod run;
pub mod verify;

// The job, and what all stages use.
mod allocator;
mod bench;
mod budget;
mod cost;
mod inspect;
mod job;
mod objects;
mod pairs;
mod pieces;
mod plan;
mod planted;
mod random;
mod regular;
mod stdio;
mod watch;

// The stages. Of the stages, a later one imports earlier ones only; `tests/integration/imports.rs` holds which module
// may import which.
mod batches;
mod clusters;
mod edges;
mod neighbors;
mod vectors;

#[cfg(feature = "export")]
pub use batches::export;
pub use batches::{BatchReader, BatchRows, Summary};
pub use clusters::labels_by_input_row;
pub use job::{Job, mine, on_threads};
pub use objects::stopped_by;
pub use pairs::{PairsAsked, PairsWritten, write as write_pairs};
pub use pieces::{OpenParts, PartsAsked, WorkAsked, Worked, WorkerLimits, open_parts, work};
pub use vectors::MemoryRows;
pub use watch::Watch;

/// What the benches and some tests measure. Nothing of it is part of the library's interface.
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
    pub use crate::neighbors::cpu::frame::Frame;
    pub use crate::neighbors::cpu::int8::{Int8, PackedBase, Quantised};
    pub use crate::neighbors::cpu::scan::{Nearest, scan};
    pub use crate::neighbors::cpu::simd::Simd;
    pub use crate::neighbors::tiles::TILE_QUERIES;
    pub use crate::neighbors::topk::TopK;
    pub use crate::neighbors::{Neighbors, search};
    pub use crate::planted::{Planted, Spectrum, Type, write as write_planted};
    pub use crate::vectors::{Keys, KeysByPlace, Place, PlaceRange, Vectors, import};
    pub use crate::watch::Watch;
}
