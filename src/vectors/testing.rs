//! For tests of files that are damaged, and yet sealed.

use std::path::Path;

use crate::error::{Error, Kind};
use crate::run::sealed::FileFormat;

/// Writes a file with a header and a footer; the checksum is 0, for opening does not compare it.
pub(super) fn write_sealed(path: &Path, format: &FileFormat, fields: [u64; 6], payload: &[u8]) {
    let mut bytes = format.header(fields).to_vec();
    bytes.extend(payload);
    let total = bytes.len() as u64 + 24;
    bytes.extend(total.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(b"BMSEALED");
    std::fs::write(path, bytes).unwrap();
}

/// Asserts that opening a damaged file failed with an error that names the file.
#[track_caller]
pub(super) fn refused<T>(path: &Path, opened: Result<T, Error>) {
    let Err(error) = opened else { panic!("a damaged file was opened") };
    let text = error.to_string();
    assert_eq!(error.kind(), Kind::Runtime, "{text}");
    assert!(text.contains(&path.display().to_string()) && text.contains("remedy:"), "{text}");
}
