//! vectors: Parquet and `.npy` shards become one mapped, row-major store, grouped by task.

mod columns;
pub mod decode;
pub mod dot;
pub mod import;
pub mod labels;
pub mod rows;
mod scatter;
pub mod scorer;
pub mod shard;
mod sink;
pub mod store;

pub use import::{import, open, refuse_unknown_tasks};
pub use rows::{Keys, Tasks};
pub use scorer::{Scorer, TileScorer};
pub use shard::Shards;
pub use store::{RowId, Shape, Vectors};
