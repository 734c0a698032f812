//! vectors: Parquet and `.npy` shards become one mapped, row-major store, grouped by task.

pub mod decode;
pub mod dot;
pub mod import;
pub mod labels;
pub mod shard;
pub mod store;

pub use import::{import, open};
pub use shard::Shards;
pub use store::{Keys, RowId, Scorer, Shape, Tasks, Vectors};
