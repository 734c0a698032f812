//! vectors: Parquet and `.npy` shards become one mapped, row-major store, grouped by task.
//!
//! From the ground up: plain numbers and types (`row`, `shape`, `shard`); input files (`paths`, `npy`, `parquet`,
//! `columns`, `values`, `decode`, `dimensions`, `labels`, `shards`); what the stage made (`store`, `row_table`, `keys`,
//! `key_lists`, `tasks`, `ids`, `open`); making it (`import`); scores (`dot`, `scorer`).

pub(crate) mod budget;
mod columns;
mod decode;
mod dimensions;
pub(crate) mod dot;
mod ids;
mod import;
mod key_lists;
mod keys;
mod labels;
mod npy;
mod open;
mod parquet;
mod paths;
mod row;
mod row_table;
mod scorer;
mod shape;
mod shard;
mod shards;
mod store;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
mod values;

pub(crate) use decode::Unit;
pub(crate) use ids::{INT_IDS, Ids, TEXT_IDS};
pub use import::import;
pub(crate) use import::{label_keys, refuse_unknown_tasks, task_sizes, words_on_key};
pub(crate) use key_lists::{KEY_LISTS, KeyListFile};
pub use keys::{Keys, KeysByPlace};
pub(crate) use labels::{LabelShape, ListElements, label_shape};
pub use open::Vectors;
pub(crate) use open::open;
pub(crate) use parquet::open_parquet;
pub(crate) use paths::{find, is_npy};
#[cfg(test)]
pub(crate) use row::UNIQUE;
pub use row::{Place, PlaceRange};
pub(crate) use row::{ROWS_MAX, RowId};
pub(crate) use row_table::ROWS;
#[cfg(test)]
pub(crate) use row_table::{BothSides, RowLayout, RowTable};
pub(crate) use scorer::{Scorer, TileScorer};
pub(crate) use shape::{DIM_MAX, Shape, StoreType};
pub(crate) use shard::{Shard, Source};
pub(crate) use shards::Shards;
pub(crate) use store::{VECTORS, VectorStore};
pub(crate) use tasks::{TASKS, Tasks};
pub(crate) use values::embedding_values;
