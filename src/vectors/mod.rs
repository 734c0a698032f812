//! vectors: Parquet, Arrow and `.npy` shards become one mapped, row-major store, grouped by task.
//!
//! From the ground up: plain numbers and types (`row`, `shape`, `shard`); input files (`input`, `input_bytes`,
//! `stored_bytes`, `file_content`, `npy`, `npy_rows`, `arrow_ipc`, `thrift`, `parquet_footer`, `parquet_pages`,
//! `parquet_batches`, `parquet`, `columns`, `embedding_type`, `embedding_rows`, `values`, `decode`, `content`,
//! `dimensions`, `page_sizes`, `labels`, `label_arrays`, `in_memory`, `shards`, `stream`, `recognise`); what the stage
//! made (`store`, `row_table`, `keys`, `key_lists`, `tasks`, `documents`, `ids`, `open`); making it (`import`); scores
//! (`dot`, `scorer`).

mod arrow_ipc;
pub(crate) mod budget;
mod columns;
mod content;
mod decode;
mod dimensions;
mod documents;
pub(crate) mod dot;
mod embedding_rows;
mod embedding_type;
mod file_content;
mod ids;
mod import;
mod in_memory;
mod input;
mod input_bytes;
mod key_lists;
mod keys;
mod label_arrays;
mod labels;
mod npy;
mod npy_rows;
mod open;
mod page_sizes;
mod parquet;
mod parquet_batches;
mod parquet_footer;
mod parquet_pages;
mod recognise;
mod row;
mod row_fault;
mod row_table;
mod scorer;
mod shape;
mod shard;
mod shards;
mod side_scorer;
mod store;
mod stored_bytes;
mod stream;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
mod thrift;
mod values;

pub(crate) use content::content_hash;
pub(crate) use decode::Unit;
pub(crate) use documents::{DOCUMENTS, TaskDocuments};
pub(crate) use embedding_rows::EmbeddingRows;
pub(crate) use ids::{INT_IDS, Ids, TEXT_IDS};
pub use import::import;
pub(crate) use import::{
    CheckedInput, RowMarks, check_input, label_keys, refuse_unknown_tasks, task_sizes, words_on_key,
};
pub(crate) use in_memory::IN_MEMORY;
pub use in_memory::MemoryRows;
pub(crate) use input::{FileKind, InputFile, find, recorded_file};
pub(crate) use key_lists::{KEY_LISTS, KeyListFile, write_row_codes};
pub use keys::{Keys, KeysByPlace};
pub(crate) use keys::{PositiveCodes, RowPositives};
#[cfg(feature = "export")]
pub(crate) use label_arrays::for_each_label_array;
#[cfg(feature = "export")]
pub(crate) use labels::lengths;
pub(crate) use labels::{LabelShape, ListElements, label_shape};
pub use open::Vectors;
#[cfg(feature = "lake")]
pub(crate) use open::tasks;
pub(crate) use open::{POSITIVES, TASK_TABLE, open};
pub(crate) use parquet_batches::{GuardedBatches, guarded_batches, open_table, read_metadata};
pub(crate) use recognise::{is_same, recognise};
pub use row::{Place, PlaceRange};
pub(crate) use row::{ROWS_MAX, RowId, UNIQUE};
pub(crate) use row_table::ROWS;
pub(crate) use row_table::RowTable;
#[cfg(test)]
pub(crate) use row_table::{BothSides, RowLayout};
pub(crate) use scorer::{Scorer, TileScorer};
pub(crate) use shape::{DIM_MAX, Shape, StoreType};
pub(crate) use shard::{Shard, ShardFile, Source};
pub(crate) use shards::{Shards, open_file, open_files};
pub(crate) use side_scorer::SideScorer;
pub(crate) use store::{VECTORS, VectorStore};
pub(crate) use stream::keep_stream;
pub(crate) use tasks::{TASKS, Tasks};
