//! The frame of every binary artefact: a 64-byte header, a payload, the hashes of its blocks, a 24-byte footer.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | magic, one for each format |
//! | 8 | 4 | version of the format, u32 |
//! | 12 | 4 | zero |
//! | 16 | 48 | six u64 fields, their meaning given by the format |
//! | 64 | n | payload |
//! | 64 + n | 8 b | xxh3-64 of each of the b blocks of 64 KiB that header and payload are cut into, u64 |
//! | 64 + n + 8 b | 8 | length of the whole file, u64 |
//! | 72 + n + 8 b | 8 | xxh3-64 of the b hashes, u64: the file's hash, as the manifest has it |
//! | 80 + n + 8 b | 8 | `BMBLOCKS` |
//!
//! All numbers are little-endian. Opening checks magic, version, length, the table of hashes and the header's block.
//! [`Sealed::check`] reads everything, [`Sealed::check_range`] the blocks of a range; each block is hashed once.
//! Kernels, which cannot fail, note what they read ([`Sealed::note_range`]); their caller then asks whether that was
//! sound.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::block_hash::{self, BLOCK_BYTES, BlockHasher, ENTRY_BYTES};
use super::mapped::Mapped;
use super::storage::StorageFile;
use crate::error::{Error, Result};

/// Bytes before the payload; payloads are thus aligned to a cache line.
pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes after the hashes of the blocks.
const FOOTER_BYTES: usize = 24;
const END_MAGIC: [u8; 8] = *b"BMBLOCKS";
const DAMAGED: &str = "the file is damaged: delete it and run the same `mine` command again";

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

/// What follows header and payload of so many bytes: the hashes of the blocks, and the footer.
pub(crate) fn seal_of(payload_end: u64, table: &[u8]) -> Vec<u8> {
    let total = payload_end + (table.len() + FOOTER_BYTES) as u64;
    [table, &total.to_le_bytes(), &block_hash::root(table).to_le_bytes(), &END_MAGIC].concat()
}

/// Where header and payload end in a sealed file of so many bytes; `None` where no sealed file has this length.
fn payload_end(bytes: usize) -> Option<usize> {
    let rest = bytes.checked_sub(FOOTER_BYTES)?;
    let blocks = rest.div_ceil(BLOCK_BYTES + ENTRY_BYTES);
    let end = rest.checked_sub(blocks * ENTRY_BYTES)?;
    (end >= HEADER_BYTES && end.div_ceil(BLOCK_BYTES) == blocks).then_some(end)
}

/// Header and payload of a sealed file, and the hashes of their blocks; `None` where the file is not sealed.
pub(super) fn blocks_of(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = payload_end(bytes.len())?;
    let at = bytes.len() - FOOTER_BYTES;
    let sealed = bytes[at + 16..] == END_MAGIC && u64_at(bytes, at) == bytes.len() as u64;
    sealed.then(|| (&bytes[..end], &bytes[end..at]))
}

/// The hash that a file's footer gives, and that of the table before it; `None` where the file is not sealed. O(table).
pub(super) fn root_of(bytes: &[u8]) -> Option<[u64; 2]> {
    let (_, table) = blocks_of(bytes)?;
    Some([u64_at(bytes, bytes.len() - FOOTER_BYTES + 8), block_hash::root(table)])
}

/// Writes a file front to back and keeps its length and its hash. Holds one 256 KiB buffer, and the hashes of blocks.
pub(crate) struct PartWriter {
    file: std::io::BufWriter<Box<dyn StorageFile>>,
    hasher: BlockHasher,
    bytes: u64,
}

impl PartWriter {
    pub(super) fn new(file: Box<dyn StorageFile>) -> Self {
        PartWriter { file: std::io::BufWriter::with_capacity(256 << 10, file), hasher: BlockHasher::new(), bytes: 0 }
    }

    /// Appends hashes and footer; what was written so far must begin with [`FileFormat::header`], and nothing follows.
    pub(crate) fn seal(&mut self) -> std::io::Result<()> {
        let seal = seal_of(self.bytes, self.hasher.table());
        self.bytes += seal.len() as u64;
        self.file.write_all(&seal)
    }

    /// Gives all bytes to the file, which a loss of power may take; its length.
    pub(crate) fn unsynced(mut self) -> std::io::Result<u64> {
        self.file.flush()?;
        Ok(self.bytes)
    }

    /// Makes the file durable; its length and its hash.
    pub(crate) fn finish(mut self) -> std::io::Result<(u64, u64)> {
        self.file.flush()?;
        self.file.get_ref().sync()?;
        Ok((self.bytes, self.hasher.root()))
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Seals a file whose header and payload were written in any order: reads it once, on all threads, appends hashes and
/// footer and makes it durable. Returns the length and the hash of the file.
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
    let table = block_hash::table(bytes);
    let seal = seal_of(payload_end, &table);
    let failed = |e| Error::io("a file cannot be written", path, e);
    file.write_all_at(&seal, payload_end).map_err(failed)?;
    file.sync().map_err(failed)?;
    Ok((payload_end + seal.len() as u64, block_hash::root(&table)))
}

const NO_BLOCK: u64 = u64::MAX;

/// A mapped artefact whose header, version and length are right.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    mapped: Mapped,
    /// Where the payload ends.
    end: usize,
    /// A bit for each block that was hashed, and is what was written.
    checked: Arc<[AtomicU64]>,
    /// A block that was noted, and is not what was written; [`NO_BLOCK`] where there is none.
    damaged: Arc<AtomicU64>,
    /// The six fields of the header.
    pub fields: [u64; 6],
}

impl Sealed {
    /// Maps an artefact and checks magic, version, length, the hashes of its blocks against the footer, and the block
    /// of its header.
    ///
    /// # Errors
    /// Another format, another version, or a file that was cut, grew or was overwritten.
    pub(crate) fn open(path: &Path, format: &FileFormat) -> Result<Sealed> {
        let mapped = Mapped::open(path)?;
        let bytes = mapped.bytes();
        let wrong = |what: String, expected: String, found: String| {
            Error::runtime(what).path(path).expected(expected).found(found).remedy(DAMAGED)
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
        let sound = root_of(bytes).is_some_and(|[footer, table]| footer == table);
        let Some(end) = payload_end(bytes.len()).filter(|_| sound) else {
            return Err(wrong(
                format!("a {} file was cut short or overwritten", format.name),
                "a footer that gives the file's own length, and the hash of its blocks".into(),
                format!("{} bytes without such a footer", bytes.len()),
            ));
        };
        let fields = std::array::from_fn(|i| u64_at(bytes, 16 + 8 * i));
        let checked = (0..end.div_ceil(BLOCK_BYTES).div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let sealed = Sealed { mapped, end, checked, damaged: Arc::new(AtomicU64::new(NO_BLOCK)), fields };
        sealed.check_block(0)?;
        Ok(sealed)
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.mapped.bytes()[HEADER_BYTES..self.end]
    }

    pub(crate) fn path(&self) -> &Path {
        self.mapped.path()
    }

    /// Bytes of the whole file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.mapped.bytes().len() as u64
    }

    /// Hashes what was not hashed yet. O(bytes), on all threads; nothing the second time.
    ///
    /// # Errors
    /// The content is not what was written.
    pub(crate) fn check(&self) -> Result<()> {
        let blocks = self.end.div_ceil(BLOCK_BYTES);
        (0..blocks).into_par_iter().with_min_len(16).try_for_each(|block| self.check_block(block))
    }

    /// Hashes the blocks of a range of the payload that were not hashed yet.
    ///
    /// # Errors
    /// Their content is not what was written.
    pub(crate) fn check_range(&self, payload: Range<usize>) -> Result<()> {
        self.blocks_of_range(payload).try_for_each(|block| self.check_block(block))
    }

    /// The same for who reads the range now and cannot fail: [`Sealed::check_noted`] says it.
    #[inline]
    pub(crate) fn note_range(&self, payload: Range<usize>) {
        for block in self.blocks_of_range(payload) {
            if !self.is_checked(block) && self.check_block(block).is_err() {
                self.damaged.store(block as u64, Ordering::Relaxed);
            }
        }
    }

    /// Fails where a noted range is not what was written: what was made of it must not be kept.
    ///
    /// # Errors
    /// The file is damaged.
    pub(crate) fn check_noted(&self) -> Result<()> {
        match self.damaged.load(Ordering::Relaxed) {
            NO_BLOCK => Ok(()),
            block => {
                self.check_block(block as usize)?;
                Err(Error::runtime("a file had other bytes for a time, and has its own again")
                    .path(self.path())
                    .expected("the bytes that were written, whenever they are read")
                    .found(format!("others when block {block} of {BLOCK_BYTES} bytes was read"))
                    .remedy("is the file system sound? Run the same command again"))
            }
        }
    }

    #[inline]
    fn blocks_of_range(&self, payload: Range<usize>) -> Range<usize> {
        let [start, end] = [payload.start, payload.end].map(|at| at.saturating_add(HEADER_BYTES).min(self.end));
        start / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)
    }

    #[inline]
    fn is_checked(&self, block: usize) -> bool {
        self.checked[block / 64].load(Ordering::Relaxed) & 1 << (block % 64) != 0
    }

    fn check_block(&self, block: usize) -> Result<()> {
        if self.is_checked(block) {
            return Ok(());
        }
        let (bytes, start) = (self.mapped.bytes(), block * BLOCK_BYTES);
        let found = xxh3_64(&bytes[start..self.end.min(start + BLOCK_BYTES)]);
        let expected = u64_at(bytes, self.end + block * ENTRY_BYTES);
        if found == expected {
            self.checked[block / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
            return Ok(());
        }
        Err(Error::runtime("a file's content is not what was written")
            .path(self.path())
            .expected(format!("xxh3 {expected:016x} of the bytes from {start} on"))
            .found(format!("xxh3 {found:016x}"))
            .remedy(DAMAGED))
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
            .remedy(DAMAGED))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::write_sealed;

    const FORMAT: FileFormat = FileFormat { magic: *b"BMTESTED", version: 7, name: "tested" };

    #[test]
    fn lengths_say_where_the_payload_ends() {
        for payload in [0, 1, BLOCK_BYTES - 65, BLOCK_BYTES - 64, BLOCK_BYTES - 63, 5 * BLOCK_BYTES + 3] {
            let end = HEADER_BYTES + payload;
            let blocks = end.div_ceil(BLOCK_BYTES);
            assert_eq!(payload_end(end + blocks * ENTRY_BYTES + FOOTER_BYTES), Some(end), "{payload}");
        }
        // One byte more than a block has no room for the second hash.
        assert_eq!(payload_end(BLOCK_BYTES + 1 + ENTRY_BYTES + FOOTER_BYTES), None);
        assert_eq!(payload_end(FOOTER_BYTES), None);
    }

    #[test]
    fn a_changed_byte_is_found_by_whoever_reads_its_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.file");
        let payload = vec![5u8; 4 * BLOCK_BYTES];
        write_sealed(&path, &FORMAT, [1, 2, 3, 4, 5, 6], &payload);
        let sound = std::fs::read(&path).unwrap();
        let open = |at: usize| {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            Sealed::open(&path, &FORMAT)
        };
        for at in (0..HEADER_BYTES).chain([BLOCK_BYTES - 1]).chain(HEADER_BYTES + payload.len()..sound.len()) {
            assert!(open(at).is_err(), "byte {at}");
        }
        let sealed = open(2 * BLOCK_BYTES + 9).unwrap();
        assert_eq!(sealed.fields, [1, 2, 3, 4, 5, 6]);
        sealed.check_range(0..2 * BLOCK_BYTES - HEADER_BYTES).unwrap();
        sealed.check_range(3 * BLOCK_BYTES..payload.len()).unwrap();
        let text = sealed.check_range(2 * BLOCK_BYTES..2 * BLOCK_BYTES + 1).unwrap_err().to_string();
        assert!(text.contains("a.file") && text.contains("bytes from 131072 on"), "{text}");
        // Who cannot fail is told later, also by a copy.
        sealed.note_range(0..2 * BLOCK_BYTES - HEADER_BYTES);
        sealed.check_noted().unwrap();
        sealed.clone().note_range(BLOCK_BYTES..payload.len());
        let text = sealed.check_noted().unwrap_err().to_string();
        assert!(text.contains("a.file") && text.contains("bytes from 131072 on"), "{text}");
        assert!(sealed.check().is_err());
        std::fs::write(&path, &sound).unwrap();
        Sealed::open(&path, &FORMAT).unwrap().check().unwrap();
    }
}
