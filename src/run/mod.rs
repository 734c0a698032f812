//! The run folder: numbered immutable parts, a manifest, a lock.
//!
//! ```text
//! RUN/  manifest.json  lock  _SUCCESS  tmp/
//!       vectors/ neighbors/ edges/ clusters/     (in a folder of --work, where that is given)
//!       batches/part-*.parquet
//! ```
//!
//! Every artefact is a part: written to `tmp/`, made durable, renamed into its stage's folder, then
//! recorded in the manifest, which is itself replaced atomically. A job that is killed at any time leaves
//! each part whole or absent, and the next call makes the absent ones. Files that the manifest does not
//! list are removed when the folder is opened.
//!
//! Memory: the manifest, some hundred bytes a part.

pub(crate) mod block_hash;
pub(crate) mod bus_error;
mod checked_parts;
mod folder;
mod inputs;
mod interrupt;
pub(crate) mod json;
mod layout;
pub(crate) mod lock;
pub(crate) mod manifest;
pub(crate) mod mapped;
pub(crate) mod memory;
pub(crate) mod piece_work;
pub(crate) mod pieces;
pub(crate) mod progress;
mod reader;
pub(crate) mod record;
mod scratch;
pub(crate) mod sealed;
mod stage;
mod stage_run;
pub(crate) mod storage;
mod work_folder;

pub use folder::Run;
pub(crate) use layout::STREAM;
pub use manifest::{Manifest, PartRecord, StageRecord};
pub use progress::Progress;
pub use reader::RunReader;
pub use stage::Stage;
pub(crate) use stage_run::{ScatteredPart, StageRun, WrittenPart};
pub use storage::{Disk, Storage, StorageFile};
