//! edges: the sparse graph of rank windows, sorted, compressed, on disk.
//!
//! An edge {i, j} says in how many directions (0..2) one row is in the other's rank window and in how many it is the
//! other's suspect. Algorithm ([`mod@build`]): the list of row j gives an edge j → i for each of its candidates i.
//! These are reversed, sorted in memory, by counting, and spilled as runs ([`spill`]). All sources of a run come before
//! those of the next, so the k-way merge copies each row's edges run after run and joins them with the row's own list
//! ([`merge`]). O(edges).
//!
//! Memory ([`budget`]): 8 bytes a row for in-degrees, those of all lists and of a run; the edges of a run while they
//! are spilled, or one merge range of edges for each thread; one row's edges are held whole.

pub(crate) mod budget;
pub(crate) mod build;
pub mod codec;
pub(crate) mod file;
pub(crate) mod judged;
mod marks;
pub(crate) mod merge;
pub(crate) mod own_ranks;
mod parts;
pub(crate) mod pieces;
pub(crate) mod rows;
mod spill;
pub(crate) mod verdicts;

pub use build::build;
pub(crate) use build::open;
pub use file::EdgeFile;
pub(crate) use judged::JudgedFiles;
pub(crate) use marks::{open_windows, windows};
pub use rows::{Adjacency, EdgeRows, MemoryEdges};
pub(crate) use rows::{Edge, Relation};
