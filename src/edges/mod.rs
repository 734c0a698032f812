//! edges: the sparse graph of rank windows, sorted, compressed, on disk.
//!
//! An arc {i, j} says in how many directions (0..2) one row stands in the other's rank window and in how
//! many it is the other's suspect. Algorithm ([`mod@build`]): every list gives arcs j → i; they are sorted
//! in memory, by counting, and spilled as runs ([`spill`]). A run holds sources that all come before the next run's, so
//! the k-way merge is a stable scatter, run after run, into each row's place ([`merge`]), where the row's
//! own list joins. O(arcs).
//!
//! Memory: 4 bytes a row for in-degrees, the spill buffer, one window of arcs for each thread; all of
//! them counts in [`crate::plan::Plan`], but for one row's arcs, which are held whole.

pub(crate) mod budget;
pub(crate) mod build;
pub mod codec;
pub(crate) mod file;
pub(crate) mod merge;
pub(crate) mod rows;
pub(crate) mod spill;

pub use build::build;
pub(crate) use build::open;
pub use file::EdgeFile;
pub use rows::{Adjacency, EdgeRows, MemoryEdges};
pub(crate) use rows::{Edge, Relation};
