//! Which files are input: paths become files, with their kinds and the columns that their folders give.
//!
//! A path is a file, a folder or a glob (`paths`, `globs`). A folder may be Hive's (`hive`), a table's (`tables`,
//! `delta`), or one that `datasets` saved (`saved_dataset`). Files are known by their content (`content`, `kinds`), and
//! those that are no input are named for what they are (`foreign`). `.npy` files are paired by their names (`sides`).
//! Files in stores are found by their URLs (`stored`), in the same ways.
//!
//! Memory: the paths of all files, and 4 KiB of the one that is looked at.

mod content;
#[cfg(feature = "lake")]
mod delta;
#[cfg(not(feature = "lake"))]
#[path = "delta_absent.rs"]
mod delta;
mod folder;
mod foreign;
mod globs;
mod hive;
mod kinds;
mod paths;
mod saved_dataset;
mod sides;
mod stored;
mod tables;

pub(crate) use content::FileKind;
pub(crate) use hive::PartitionValue;
pub(crate) use kinds::InputFile;
pub(crate) use paths::{find, recorded_file};
pub(super) use sides::pair;
pub(super) use stored::refuse_other_than_parquet;
