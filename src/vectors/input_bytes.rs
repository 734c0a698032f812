//! The bytes of an input file, mapped.

use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::regular;
use crate::run::mapped::Mapped;

/// A regular file's bytes, mapped; of an empty file none.
///
/// # Errors
/// The file is no regular one, or cannot be opened.
pub(super) fn map_file(path: &Path) -> Result<Bytes> {
    let file = regular::open(path)?;
    let length = file.metadata().map_err(|e| Error::io("a file cannot be examined", path, e))?.len();
    if length == 0 {
        return Ok(Bytes::new());
    }
    Ok(Bytes::from_owner(Mapped::open(path)?))
}
