//! The hash of an input file's content.
//!
//! A file is cut into blocks of 4 MiB. Its hash is the xxh3-128 of the xxh3-128 of each block, one after the other in
//! 16 bytes, little-endian. So many threads hash one file, in any order. An import hashes the blocks of a unit just
//! before it decodes the unit: the bytes are read from the disk once. A file in a store is fetched in the same blocks,
//! which are hashed as they come.
//!
//! Blocks of a Parquet file that have nothing in them but columns that are not used are left out: they are not read.
//! How long these columns are, the footer says, whose hash stands beside this one.
//!
//! Memory: 32 bytes for 4 MiB of input.

use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::decode::Unit;
use super::file_content::{BLOCK_BYTES, ContentSource, FileContent};
use super::shard::Shard;
use crate::error::Result;
use crate::watch::Watch;

/// The hashes of all input files, while they are computed.
pub(crate) struct ContentHashes<'a> {
    files: Vec<FileHash<'a>>,
}

/// The hash of one file, while it is computed.
struct FileHash<'a> {
    content: FileContent<'a>,
    blocks: Vec<OnceLock<u128>>,
}

impl<'a> ContentHashes<'a> {
    pub(crate) fn new(shards: impl Iterator<Item = &'a Shard>) -> ContentHashes<'a> {
        ContentHashes { files: shards.flat_map(Shard::contents).map(FileHash::new).collect() }
    }

    /// Hashes what a unit is about to be decoded from. O(bytes of the unit).
    pub(crate) fn read(&self, unit: &Unit<'_>) {
        let files = &self.files[unit.shard.first_file..];
        for (file, range) in files.iter().zip(unit.byte_ranges()) {
            file.read(range);
        }
    }

    /// Hashes what no unit covered, and returns the hash of each file in hex; `watch` is told the bytes just hashed.
    ///
    /// # Errors
    /// The watch stops the work.
    pub(crate) fn finish(self, watch: Watch<'_>) -> Result<Vec<String>> {
        self.files.into_iter().map(|file| file.finish(watch)).collect()
    }
}

/// The hash of bytes in hex; `watch` is told the bytes hashed. O(bytes).
///
/// # Errors
/// The watch stops the work.
pub(crate) fn content_hash(bytes: &[u8], watch: Watch<'_>) -> Result<String> {
    hash_of(FileContent::held(bytes), watch)
}

/// The hash of a file's content in hex; `watch` is told the bytes hashed. O(bytes).
///
/// # Errors
/// The watch stops the work, or a store fails.
pub(super) fn hash_of(content: FileContent<'_>, watch: Watch<'_>) -> Result<String> {
    FileHash::new(content).finish(watch)
}

impl<'a> FileHash<'a> {
    fn new(content: FileContent<'a>) -> FileHash<'a> {
        FileHash { blocks: content.idle.iter().map(|_| OnceLock::new()).collect(), content }
    }

    /// Hashes the blocks that begin in a range of the file. Those of a store are hashed as they come.
    fn read(&self, range: Range<usize>) {
        let ContentSource::Held(bytes) = self.content.source else { return };
        for block in range.start.div_ceil(BLOCK_BYTES)..range.end.div_ceil(BLOCK_BYTES).min(self.blocks.len()) {
            if !self.content.idle[block] {
                self.blocks[block].get_or_init(|| xxh3_128(block_of(bytes, block)));
            }
        }
    }

    /// The hash of a block.
    fn block(&self, block: usize) -> Result<u128> {
        match (self.blocks[block].get(), self.content.source) {
            (Some(hash), _) => Ok(*hash),
            (None, ContentSource::Held(bytes)) => Ok(xxh3_128(block_of(bytes, block))),
            (None, ContentSource::Stored(file)) => file.block_hash(block),
        }
    }

    fn finish(self, watch: Watch<'_>) -> Result<String> {
        let is_open = |block: &usize| self.blocks[*block].get().is_none() && !self.content.idle[*block];
        let missing: Vec<usize> = (0..self.blocks.len()).filter(is_open).collect();
        missing.par_iter().try_for_each(|block| {
            let hash = self.block(*block)?;
            self.blocks[*block].get_or_init(|| hash);
            watch.add(self.content.block_bytes(*block))
        })?;
        let mut hash = Xxh3::new();
        self.blocks.iter().filter_map(OnceLock::get).for_each(|block| hash.update(&block.to_le_bytes()));
        Ok(format!("{:032x}", hash.digest128()))
    }
}

fn block_of(bytes: &[u8], block: usize) -> &[u8] {
    let start = block * BLOCK_BYTES;
    &bytes[start..bytes.len().min(start + BLOCK_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_blocks_whoever_computed_them() {
        let bytes: Vec<u8> = (0..2 * BLOCK_BYTES + 5).map(|at| (at % 251) as u8).collect();
        let whole = content_hash(&bytes, Watch::silent()).unwrap();
        let blocks: Vec<u8> = bytes.chunks(BLOCK_BYTES).flat_map(|block| xxh3_128(block).to_le_bytes()).collect();
        assert_eq!(whole, format!("{:032x}", xxh3_128(&blocks)));
        let file = FileHash::new(FileContent::held(&bytes));
        file.read(0..100);
        file.read(BLOCK_BYTES + 1..bytes.len());
        assert_eq!(file.blocks.iter().filter(|block| block.get().is_some()).count(), 2, "the second is in no range");
        assert_eq!(file.finish(Watch::silent()).unwrap(), whole);
    }

    #[test]
    fn any_changed_byte_changes_the_hash() {
        let mut bytes = vec![7u8; BLOCK_BYTES + 100];
        let before = content_hash(&bytes, Watch::silent()).unwrap();
        for at in [0, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 99] {
            bytes[at] ^= 1;
            assert_ne!(content_hash(&bytes, Watch::silent()).unwrap(), before, "byte {at}");
            bytes[at] ^= 1;
        }
        assert_ne!(content_hash(&bytes[1..], Watch::silent()).unwrap(), before);
        assert_eq!(content_hash(&[], Watch::silent()).unwrap().len(), 32);
    }

    #[test]
    fn what_is_not_used_is_no_part_of_the_hash() {
        const B: u64 = BLOCK_BYTES as u64;
        let mut bytes = vec![7u8; 3 * BLOCK_BYTES];
        let hash = |bytes: &[u8]| {
            let content = FileContent::held(bytes).of_columns(vec![(0..B, true), (B..2 * B, false)]);
            hash_of(content, Watch::silent()).unwrap()
        };
        let before = hash(&bytes);
        bytes[BLOCK_BYTES + 5] = 8;
        assert_eq!(hash(&bytes), before);
        bytes[2 * BLOCK_BYTES] = 8;
        assert_ne!(hash(&bytes), before);
    }
}
