//! What every trainer's format does: rows come in, files go into the folder.

use super::folder::Folder;
use super::join::{Id, Joined};
use crate::error::{Error, Result};

/// Turns rows into a trainer's files.
pub(crate) trait Trainer {
    /// Takes the next rows of the order.
    ///
    /// # Errors
    /// The disk fails, or a row lacks what the format needs.
    fn write(&mut self, rows: &Joined, folder: &mut Folder) -> Result<()>;

    /// Ends the files that are open.
    ///
    /// # Errors
    /// The disk fails.
    fn finish(self: Box<Self>, folder: &mut Folder) -> Result<()>;
}

/// The error of a row without negatives, which the trainer cannot read.
pub(crate) fn needs_negatives(id: Id<'_>) -> Error {
    Error::input("a row has no hard negative")
        .expected("at least one for each row: the trainer cannot read a row without")
        .found(format!("none for the row with id {id}"))
        .remedy("export without negatives (--negatives 0), or mine with a wider --window")
}
