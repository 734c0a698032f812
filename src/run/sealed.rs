//! The frame of every binary artefact: a 64-byte header, a payload, a 24-byte footer.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | magic, one for each format |
//! | 8 | 4 | version of the format, u32 |
//! | 12 | 4 | zero |
//! | 16 | 48 | six u64 fields, their meaning given by the format |
//! | 64 | n | payload |
//! | 64 + n | 8 | length of the whole file, u64 |
//! | 72 + n | 8 | xxh3-64 of every byte before the footer, u64 |
//! | 80 + n | 8 | `BMSEALED` |
//!
//! All numbers are little-endian. Opening checks magic, version and length; [`Sealed::check`] re-reads
//! everything for the checksum.

use std::io::Write;
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::mapped::Mapped;
use super::storage::StorageFile;
use crate::error::{Error, Result};

/// Bytes before the payload; payloads are thus aligned to a cache line.
pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes after the payload.
pub(crate) const FOOTER_BYTES: usize = 24;
const END_MAGIC: [u8; 8] = *b"BMSEALED";

/// A format: its magic, its version and its name in messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileFormat {
    /// First eight bytes of the file.
    pub magic: [u8; 8],
    /// Version that this build writes and reads.
    pub version: u32,
    /// Name in messages.
    pub name: &'static str,
}

impl FileFormat {
    /// The header of a file of this format.
    pub(crate) fn header(&self, fields: [u64; 6]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&self.magic);
        header[8..12].copy_from_slice(&self.version.to_le_bytes());
        for (slot, field) in header[16..].chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        header
    }
}

fn footer(total_bytes: u64, checksum: u64) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    footer[..8].copy_from_slice(&total_bytes.to_le_bytes());
    footer[8..16].copy_from_slice(&checksum.to_le_bytes());
    footer[16..].copy_from_slice(&END_MAGIC);
    footer
}

/// Writes a file front to back and keeps its length and checksum. Holds one 256 KiB buffer.
pub(crate) struct PartWriter {
    file: std::io::BufWriter<Box<dyn StorageFile>>,
    hash: Box<Xxh3>,
    bytes: u64,
}

impl PartWriter {
    pub(super) fn new(file: Box<dyn StorageFile>) -> Self {
        PartWriter { file: std::io::BufWriter::with_capacity(256 << 10, file), hash: Box::new(Xxh3::new()), bytes: 0 }
    }

    /// Appends the footer; what was written so far must begin with [`FileFormat::header`].
    pub(crate) fn seal(&mut self) -> std::io::Result<()> {
        let footer = footer(self.bytes + FOOTER_BYTES as u64, self.hash.digest());
        self.write_all(&footer)
    }

    /// Makes the file durable; its length and checksum.
    pub(crate) fn finish(mut self) -> std::io::Result<(u64, u64)> {
        self.file.flush()?;
        self.file.get_ref().sync()?;
        Ok((self.bytes, self.hash.digest()))
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Seals a file whose header and payload were written in any order: reads it once for the checksum,
/// appends the footer and makes it durable. Returns the length and the checksum of the whole file.
///
/// # Errors
/// The file is not as long as `payload_end`, or cannot be read or written.
pub(super) fn seal_scattered(path: &Path, file: &dyn StorageFile, payload_end: u64) -> Result<(u64, u64)> {
    let mapped = Mapped::open(path)?;
    mapped.advise_sequential();
    let bytes = mapped.bytes();
    if bytes.len() as u64 != payload_end {
        return Err(Error::runtime("a file did not get all of its bytes")
            .path(path)
            .expected(format!("{payload_end} bytes"))
            .found(format!("{} bytes", bytes.len()))
            .remedy("run the same command again"));
    }
    let mut hash = Xxh3::new();
    hash.update(bytes);
    let footer = footer(payload_end + FOOTER_BYTES as u64, hash.digest());
    hash.update(&footer);
    let failed = |e| Error::io("a file cannot be written", path, e);
    file.write_all_at(&footer, payload_end).map_err(failed)?;
    file.sync().map_err(failed)?;
    Ok((payload_end + FOOTER_BYTES as u64, hash.digest()))
}

/// A mapped artefact whose header, version and length are right.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    mapped: Mapped,
    /// The six fields of the header.
    pub fields: [u64; 6],
}

impl Sealed {
    /// Maps an artefact and checks magic, version and length.
    ///
    /// # Errors
    /// Another format, another version, or a file that was cut or grew.
    pub(crate) fn open(path: &Path, format: &FileFormat) -> Result<Sealed> {
        let mapped = Mapped::open(path)?;
        let bytes = mapped.bytes();
        let remedy = "the file is damaged or not batchmine's: delete it and run `mine` again";
        let wrong = |what: String, expected: String, found: String| {
            Error::runtime(what).path(path).expected(expected).found(found).remedy(remedy)
        };
        if bytes.len() < HEADER_BYTES + FOOTER_BYTES {
            return Err(wrong(
                format!("a {} file is too short", format.name),
                format!("at least {} bytes", HEADER_BYTES + FOOTER_BYTES),
                format!("{} bytes", bytes.len()),
            ));
        }
        if bytes[..8] != format.magic {
            return Err(wrong(
                format!("not a {} file", format.name),
                format!("magic {:?}", String::from_utf8_lossy(&format.magic)),
                format!("{:?}", String::from_utf8_lossy(&bytes[..8])),
            ));
        }
        let version = u32_at(bytes, 8);
        if version != format.version {
            return Err(wrong(
                format!("a {} file of another version", format.name),
                format!("version {}", format.version),
                format!("version {version}"),
            )
            .remedy("use the batchmine that wrote it, or mine again into a new folder"));
        }
        let end = bytes.len() - FOOTER_BYTES;
        if bytes[end + 16..] != END_MAGIC || u64_at(bytes, end) != bytes.len() as u64 {
            return Err(wrong(
                format!("a {} file was cut short or overwritten", format.name),
                "a footer that gives the file's own length".into(),
                format!("{} bytes without such a footer", bytes.len()),
            ));
        }
        let fields = std::array::from_fn(|i| u64_at(bytes, 16 + 8 * i));
        Ok(Sealed { mapped, fields })
    }

    pub(crate) fn payload(&self) -> &[u8] {
        let bytes = self.mapped.bytes();
        &bytes[HEADER_BYTES..bytes.len() - FOOTER_BYTES]
    }

    pub(crate) fn path(&self) -> &Path {
        self.mapped.path()
    }

    /// Re-reads the file and compares its checksum.
    ///
    /// # Errors
    /// The content is not what was written.
    pub(crate) fn check(&self) -> Result<()> {
        let bytes = self.mapped.bytes();
        let end = bytes.len() - FOOTER_BYTES;
        let (expected, found) = (u64_at(bytes, end + 8), xxh3_64(&bytes[..end]));
        if expected == found {
            return Ok(());
        }
        Err(Error::new(crate::error::Kind::Runtime, "a file's checksum does not match its content")
            .path(self.path())
            .expected(format!("xxh3 {expected:016x}"))
            .found(format!("xxh3 {found:016x}"))
            .remedy("the file is damaged: delete it and run `mine` again"))
    }

    /// Fails unless the payload has exactly `expected` bytes.
    ///
    /// # Errors
    /// The header's counts and the payload's length disagree.
    pub(crate) fn expect_payload(&self, expected: Option<u64>) -> Result<()> {
        let found = self.payload().len() as u64;
        if expected == Some(found) {
            return Ok(());
        }
        Err(Error::runtime("a file's header does not fit its length")
            .path(self.path())
            .expected(expected.map_or("counts within range".into(), |n| format!("{n} bytes of payload")))
            .found(format!("{found} bytes"))
            .remedy("the file is damaged: delete it and run `mine` again"))
    }
}

/// The little-endian u32 at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

/// The little-endian u64 at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}
