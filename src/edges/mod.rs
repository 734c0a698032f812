//! edges: the sparse graph of rank windows, sorted, compressed, on disk.
//!
//! An edge {i, j} says in how many directions (0..2) one row is in the other's rank window and in how many it is the
//! other's suspect. Algorithm ([`mod@build`]): the list of row j gives an edge j → i for each of its candidates i.
//! These are reversed, sorted in memory, by counting, and spilled as runs ([`spill`]). All sources of a run come before
//! those of the next, so the k-way merge copies each row's edges run after run and joins them with the row's own list
//! ([`merge`]). O(edges).
//!
//! Memory: 4 bytes a row for in-degrees, the spill buffer, one merge range of edges for each thread; all of
//! them are counts of [`crate::plan::Plan`], but for one row's edges, which are held whole.

pub(crate) mod budget;
pub(crate) mod build;
pub mod codec;
pub(crate) mod file;
pub(crate) mod merge;
pub(crate) mod rows;
mod spill;

pub use build::build;
pub(crate) use build::open;
pub use file::EdgeFile;
pub use rows::{Adjacency, EdgeRows, MemoryEdges};
pub(crate) use rows::{Edge, Relation};
