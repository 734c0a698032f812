//! neighbors: for every query, the exact best p + m positives of its task.
//!
//! Algorithm: tile × tile. A block of queries and a tile of base rows are packed for the kernel; the
//! kernel scores 6 queries against 64 base rows in registers and reports only the pairs that can still
//! reach their query's current p + m-th best ([`cpu`]). Kernels may err within a proven bound: what
//! survives is scored again by the reference ([`crate::vectors::Scorer`]), so that ids and scores are
//! exact, ties included (score descending, row ascending). O(rows² · dim) per task.
//!
//! Memory: one packed block of queries with its candidates, one packed tile of base rows; both are
//! counts in [`crate::plan::Plan`].

pub mod cpu;
pub mod file;
pub mod search;
pub mod topk;

pub use file::Neighbors;
pub use search::{open, search};
