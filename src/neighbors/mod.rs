//! neighbors: for every query, the exact best p + m positives of its task.
//!
//! Algorithm: tile × tile. Rows are brought into list order ([`ivf`]) and packed once; tiles of queries go through
//! the packed rows ([`tiles`]); the kernel scores 6 queries against 64 base rows in registers and reports only the
//! pairs that can still reach their query's threshold, its current p + m-th best ([`cpu`]). Kernels may err within a
//! proven bound: what survives is scored again by the reference ([`crate::vectors::Scorer`]), so that ids and scores
//! are exact, ties included (score descending, row ascending). O(rows² · dim) per task; approximate search looks into
//! some IVF lists only ([`probes`]). Every search measures its recall on a sample ([`recall`]).
//!
//! Memory: 12 bytes a row while the IVF lists are made; one block of finished lists; for each thread one tile of
//! queries with its candidates. All are counted in [`budget`].

pub(crate) mod answers;
#[cfg(feature = "faiss")]
mod blas;
mod blocks;
pub(crate) mod budget;
pub(crate) mod calibrate;
pub(crate) mod candidates;
pub(crate) mod columns;
pub(crate) mod cpu;
mod documents;
pub(crate) mod engine;
#[cfg(feature = "faiss")]
pub(crate) mod faiss;
pub(crate) mod file;
#[cfg(test)]
mod given_vectors;
pub(crate) mod gpu;
pub(crate) mod head;
pub(crate) mod initial_thresholds;
pub(crate) mod ivf;
mod k_means;
pub(crate) mod marks;
pub(crate) mod own_ranks;
pub(crate) mod pieces;
pub(crate) mod probes;
pub(crate) mod recall;
pub(crate) mod search;
pub(crate) mod tiles;
pub(crate) mod topk;
pub(crate) mod trial;
pub(crate) mod verdicts;
pub(crate) mod window;

pub(crate) use candidates::count_distinct;
pub use file::Neighbors;
pub(crate) use search::open;
pub use search::search;
pub(crate) use window::{Window, Windows};
