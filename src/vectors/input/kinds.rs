//! The files of the input: each of them is known by its content, since names may be wrong.

use std::path::{Path, PathBuf};

use super::content::{Ends, FileKind};
use super::foreign::foreign;
use super::hive::{PartitionValue, partitions_of};
use crate::error::{Error, Result};
use crate::objects::StoredFile;

/// Endings of the names of input files, in a folder.
const ENDINGS: [&str; 7] = ["parquet", "pq", "parq", "npy", "arrow", "feather", "ipc"];

/// A file to read.
#[derive(Debug, Clone)]
pub(crate) struct InputFile {
    pub(crate) path: PathBuf,
    pub(crate) kind: FileKind,
    /// Columns that its folders give, or the table that it is a file of.
    pub(crate) partitions: Vec<PartitionValue>,
    /// The file, if it is in a store; the path is its URL then.
    pub(crate) stored: Option<StoredFile>,
}

impl InputFile {
    /// The file of a path, with the columns that its folders give.
    ///
    /// # Errors
    /// The file cannot be read, or is no input.
    pub(super) fn new(path: PathBuf) -> Result<InputFile> {
        let partitions = partitions_of(&path);
        Ok(InputFile { kind: kind_of(&path)?, path, partitions, stored: None })
    }
}

/// Whether a file of a folder is taken for its name.
pub(super) fn has_input_ending(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// The kind of a file that has to be input.
///
/// # Errors
/// The file cannot be read, or is none: the error says what it is.
pub(super) fn kind_of(path: &Path) -> Result<FileKind> {
    kind_by(path, &Ends::read(path)?)
}

/// The same of a file whose ends are known.
///
/// # Errors
/// It is no input.
pub(super) fn kind_by(path: &Path, ends: &Ends) -> Result<FileKind> {
    if let Some(kind) = ends.kind() {
        return Ok(kind);
    }
    let expected = "a Parquet file, an Arrow IPC file or stream (.arrow, .feather), or a .npy array";
    let error = Error::input("the file is no input").path(path).expected(expected);
    Err(match foreign(path, ends) {
        Some(format) => error.found(format.what).remedy(format.remedy(path)),
        None => error.found(first_bytes(ends)).remedy("write or download the file again, as Parquet"),
    })
}

fn first_bytes(ends: &Ends) -> String {
    let shown: Vec<String> = ends.head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes of no known format; the first are {}", ends.bytes, shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_and_not_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let kind = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            kind_of(&path).map_err(|error| error.to_string())
        };
        assert_eq!(kind(b"PAR1 and more"), Ok(FileKind::Parquet));
        assert_eq!(kind(b"damaged at the front, and yet PAR1"), Ok(FileKind::Parquet));
        assert_eq!(kind(b"ARROW1\0\0 and more"), Ok(FileKind::Arrow));
        assert_eq!(kind(b"\xff\xff\xff\xff\x10\0\0\0"), Ok(FileKind::Arrow));
        assert_eq!(kind(b"\x93NUMPY\x01\0"), Ok(FileKind::Npy));
        let text = kind(b"\x01\x02\x03").unwrap_err();
        assert!(text.contains("3 bytes of no known format; the first are 01 02 03"), "{text}");
    }
}
