//! batches: random clusters of one task united into batches of exactly |B|, written as Parquet.
//!
//! Keys say how many full batches there can be ([`bound`], [`forecast`]). Clusters and rows without one are packed task
//! by task ([`pack`]); where whole clusters make fewer full batches than that, some are divided ([`divide`]). The
//! batches of all tasks are shuffled ([`epoch`]), and the rows are written in that order ([`table`]). Rows of a full
//! batch have one task. O(rows log rows) an epoch, and what it costs to draw hard negatives ([`negatives`]).
//!
//! Memory ([`budget`]): 26 bytes a row (members by cluster, the epoch's order, rows by key), 8 more with `--remainder
//! fill`; one row group of the table; the rank windows of the batches whose hard negatives are being drawn. Then, while
//! a table is published, 20 bytes a row, a store's clients and the open files of a divided table.

pub(crate) mod bound;
pub(crate) mod budget;
mod divide;
pub(crate) mod epoch;
#[cfg(feature = "export")]
pub mod export;
pub(crate) mod forecast;
#[cfg(feature = "lake")]
pub(crate) mod lake;
#[cfg(not(feature = "lake"))]
#[path = "lake_absent.rs"]
pub(crate) mod lake;
pub(crate) mod mask;
pub(crate) mod mix;
mod mixed;
pub(crate) mod negatives;
pub(crate) mod order;
pub(crate) mod pack;
pub(crate) mod read;
mod rows_by_key;
pub(crate) mod sharding;
pub(crate) mod table;
pub(crate) mod texts;
mod units;
mod write;

pub(crate) use budget::epoch_rows;
pub(crate) use forecast::{Forecast, foresee, foresee_labels};
pub use read::{BatchReader, BatchRows};
pub use write::Summary;
pub(crate) use write::{check, recorded, write};
