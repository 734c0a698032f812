//! Stands in for `delta` in builds without the feature `lake`: a Delta table is refused.

use std::path::Path;

use super::kinds::InputFile;
use super::tables::TableFolder;
use crate::error::{Error, Result};

/// The files of a Delta table.
///
/// # Errors
/// Always: this build cannot read the table's log.
pub(super) fn table_files(folder: &Path) -> Result<Vec<InputFile>> {
    Err(Error::input("the folder is a Delta table, and this build cannot read its log")
        .path(folder)
        .expected("a build with Delta Lake in it, or a folder of Parquet files")
        .found("a Delta table")
        .remedy(format!(
            "build it with Delta Lake: `cargo build --release --features lake`; or {}",
            TableFolder::Delta.conversion(folder)
        )))
}
