//! vectors: Parquet and `.npy` shards become one mapped, row-major store, grouped by task.

pub mod budget;
mod columns;
pub mod decode;
pub mod dot;
pub mod import;
pub mod labels;
mod row_writer;
pub mod rows;
mod scatter;
pub mod scorer;
pub mod shard;
pub mod store;

pub use import::{import, open, refuse_unknown_tasks, task_sizes};
pub use rows::{Keys, Tasks};
pub use scorer::{Scorer, TileScorer};
pub use shard::Shards;
pub use store::{RowId, Shape, Vectors};
