//! The hash of a file of a run, by blocks: whoever reads a part of a file checks that part alone.
//!
//! A file is cut into blocks of 64 KiB. Its hash is the xxh3-64 of the table of its blocks' xxh3-64, eight bytes each,
//! little-endian. Blocks are hashed by many threads, in any order.
//!
//! Memory: eight bytes for 64 KiB of a file that is written or mapped.

use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;
/// Bytes of a block's hash in the table.
pub(crate) const ENTRY_BYTES: usize = 8;

/// The table of the hashes of a file's blocks. O(bytes), on all threads.
pub(crate) fn table(bytes: &[u8]) -> Vec<u8> {
    // A task of some blocks: one takes a few microseconds.
    bytes.par_chunks(BLOCK_BYTES).with_min_len(16).flat_map_iter(|block| xxh3_64(block).to_le_bytes()).collect()
}

/// The hash of a file with such a table.
pub(crate) fn root(table: &[u8]) -> u64 {
    xxh3_64(table)
}

/// Makes the table of bytes that come front to back.
pub(crate) struct BlockHasher {
    /// Of the block that is begun.
    block: Box<Xxh3>,
    /// Bytes of that block so far.
    filled: usize,
    table: Vec<u8>,
}

impl BlockHasher {
    pub(crate) fn new() -> BlockHasher {
        BlockHasher { block: Box::new(Xxh3::new()), filled: 0, table: Vec::new() }
    }

    /// Takes the bytes that follow.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.filled));
            self.block.update(now);
            self.filled += now.len();
            if self.filled == BLOCK_BYTES {
                self.end_block();
            }
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        self.table.extend(self.block.digest().to_le_bytes());
        self.block.reset();
        self.filled = 0;
    }

    /// The table of all bytes so far.
    pub(crate) fn table(&mut self) -> &[u8] {
        if self.filled > 0 {
            self.end_block();
        }
        &self.table
    }

    /// The hash of all bytes so far.
    pub(crate) fn root(&mut self) -> u64 {
        root(self.table())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_table_is_that_of_the_whole_however_bytes_come(
            bytes in 0usize..3 * BLOCK_BYTES,
            piece in 1usize..200_000,
        ) {
            let bytes: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            let mut hasher = BlockHasher::new();
            bytes.chunks(piece).for_each(|piece| hasher.update(piece));
            let wanted: Vec<u8> = bytes.chunks(BLOCK_BYTES).flat_map(|block| xxh3_64(block).to_le_bytes()).collect();
            prop_assert_eq!(hasher.table(), &wanted[..]);
            prop_assert_eq!(&table(&bytes), &wanted);
            prop_assert_eq!(hasher.root(), xxh3_64(&wanted));
        }
    }
}
