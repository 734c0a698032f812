//! What a file is, by its first and last bytes.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result};
use crate::regular;

/// First bytes of a file that are looked at.
pub(super) const HEAD_BYTES: u64 = 4096;
/// Last bytes of a file that are looked at.
pub(super) const TAIL_BYTES: u64 = 8;

/// The kinds of files that are input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Parquet,
    /// Arrow IPC: a file with a footer, or a stream.
    Arrow,
    Npy,
}

/// The first bytes of a file, its last ones, and its length.
pub(super) struct Ends {
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
    pub(super) bytes: u64,
}

impl Ends {
    /// Reads them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(path: &Path) -> Result<Ends> {
        let mut file = regular::open(path)?;
        let read = || {
            let bytes = file.metadata()?.len();
            let (mut head, mut tail) = (Vec::new(), Vec::new());
            (&file).take(HEAD_BYTES).read_to_end(&mut head)?;
            file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES)))?;
            file.take(TAIL_BYTES).read_to_end(&mut tail)?;
            Ok(Ends { head, tail, bytes })
        };
        read().map_err(|e| Error::io("a file cannot be read", path, e))
    }

    /// Whether a file that ends so is Parquet.
    pub(super) fn is_parquet_tail(tail: &[u8]) -> bool {
        tail.ends_with(b"PAR1")
    }

    /// The kind of input that the bytes are; `None`: they are none.
    pub(super) fn kind(&self) -> Option<FileKind> {
        let begins = |magic: &[u8]| self.head.starts_with(magic);
        if begins(b"PAR1") || Ends::is_parquet_tail(&self.tail) {
            Some(FileKind::Parquet)
        } else if begins(b"ARROW1") || begins(b"\xff\xff\xff\xff") {
            Some(FileKind::Arrow)
        } else if begins(b"\x93NUMPY") {
            Some(FileKind::Npy)
        } else {
            None
        }
    }
}
