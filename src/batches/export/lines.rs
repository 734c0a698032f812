//! A file of JSON objects, one a line.

use std::io::Write;

use serde::Serialize;

use super::folder::{Folder, OutFile};
use crate::error::Result;

/// A file being written.
pub struct LinesFile(OutFile);

impl LinesFile {
    /// Starts a file.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(folder: &mut Folder, name: &str) -> Result<LinesFile> {
        Ok(LinesFile(folder.create(name)?))
    }

    /// Writes an object.
    ///
    /// # Errors
    /// The disk fails.
    pub fn write(&mut self, object: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(object).map_err(|e| self.0.failed(e.into()))?;
        line.push(b'\n');
        self.0.write_all(&line).map_err(|e| self.0.failed(e))
    }

    /// Ends the file and puts it into its place.
    ///
    /// # Errors
    /// The disk fails.
    pub fn finish(self, folder: &mut Folder) -> Result<()> {
        folder.commit(self.0)
    }
}
