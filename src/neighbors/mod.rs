//! neighbors: for every query, the exact best p + m positives of its task.
//!
//! Algorithm: tile × tile. Rows are brought into a coarse order ([`ivf`]) and packed once; tiles of
//! queries go through the packed rows ([`tiles`]); the kernel scores 6 queries against 64 base rows in
//! registers and reports only the pairs that can still reach their query's current p + m-th best ([`cpu`]).
//! Kernels may err within a proven bound: what survives is scored again by the reference
//! ([`crate::vectors::Scorer`]), so that ids and scores are exact, ties included (score descending, row
//! ascending). O(rows² · dim) per task; approximate search looks into some lists of the partition only.
//! Every search measures its recall on a sample.
//!
//! Memory: 12 bytes a row while the partition is made; one block of finished lists; for each thread one
//! tile of queries with its candidates. All are counts in [`crate::plan::Plan`].

pub(crate) mod answers;
#[cfg(feature = "faiss")]
mod blas;
pub(crate) mod budget;
pub mod calibrate;
pub(crate) mod cpu;
#[cfg(feature = "faiss")]
pub mod faiss;
pub(crate) mod file;
pub(crate) mod gpu;
pub(crate) mod head;
pub(crate) mod initial_thresholds;
pub(crate) mod ivf;
pub(crate) mod recall;
pub(crate) mod rotation;
pub(crate) mod search;
pub(crate) mod tiles;
pub(crate) mod topk;
pub(crate) mod window;

pub use file::Neighbors;
pub(crate) use search::open;
pub use search::search;
pub(crate) use window::{Window, Windows};
