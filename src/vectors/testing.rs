//! For tests of files that are damaged, and yet sealed.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Kind};
use crate::run::sealed::FileFormat;

/// Writes a file of any content with a header, a footer and the right checksum.
pub(crate) fn write_sealed(path: &Path, format: &FileFormat, fields: [u64; 6], payload: &[u8]) {
    let mut bytes = format.header(fields).to_vec();
    bytes.extend(payload);
    let total = bytes.len() as u64 + 24;
    let checksum = xxh3_64(&bytes);
    bytes.extend(total.to_le_bytes());
    bytes.extend(checksum.to_le_bytes());
    bytes.extend(b"BMSEALED");
    std::fs::write(path, bytes).unwrap();
}

/// Asserts that opening a damaged file failed with an error that names the file.
#[track_caller]
pub(crate) fn refused<T>(path: &Path, opened: Result<T, Error>) {
    let Err(error) = opened else { panic!("a damaged file was opened") };
    let text = error.to_string();
    assert_eq!(error.kind(), Kind::Runtime, "{text}");
    assert!(text.contains(&path.display().to_string()) && text.contains("remedy:"), "{text}");
}
