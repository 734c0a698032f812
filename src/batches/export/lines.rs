//! A file of JSON objects, one on each line.

use std::io::Write;

use serde::Serialize;

use super::folder::{Folder, OutFile};
use crate::error::Result;

/// A file of lines while it is written.
pub(crate) struct LinesFile(OutFile);

impl LinesFile {
    /// # Errors
    /// It cannot be created.
    pub(crate) fn create(folder: &mut Folder, name: &str) -> Result<LinesFile> {
        Ok(LinesFile(folder.create(name)?))
    }

    /// # Errors
    /// The disk fails.
    pub(crate) fn write(&mut self, object: &impl Serialize) -> Result<()> {
        // Straight into the file: a line is as long as its texts.
        serde_json::to_writer(&mut self.0, object).map_err(|e| self.0.failed(e.into()))?;
        self.0.write_all(b"\n").map_err(|e| self.0.failed(e))
    }

    /// # Errors
    /// The disk fails.
    pub(crate) fn finish(self, folder: &mut Folder) -> Result<()> {
        folder.commit(self.0)
    }
}
