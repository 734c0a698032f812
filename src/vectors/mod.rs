//! vectors: Parquet and `.npy` shards become one mapped, row-major store, grouped by task.

pub(crate) mod budget;
mod columns;
pub(crate) mod decode;
pub(crate) mod dot;
pub mod import;
pub(crate) mod labels;
mod row_writer;
pub(crate) mod rows;
mod scatter;
pub(crate) mod scorer;
pub(crate) mod shard;
pub(crate) mod store;

pub use import::import;
pub(crate) use import::{open, refuse_unknown_tasks, task_sizes};
pub use rows::Keys;
pub(crate) use rows::Tasks;
pub(crate) use scorer::{Scorer, TileScorer};
pub(crate) use shard::Shards;
pub use store::Vectors;
pub(crate) use store::{RowId, Shape};
