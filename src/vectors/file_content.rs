//! What of a file is hashed: its blocks, but for those that have nothing but columns that are not used. Pure.

use std::ops::Range;

use crate::objects::{self, StoredFile};

pub(super) const BLOCK_BYTES: usize = objects::BLOCK_BYTES as usize;

/// What is hashed of a file.
#[derive(Debug, Clone)]
pub(crate) struct FileContent<'a> {
    pub(super) source: ContentSource<'a>,
    /// Of each block whether it is left out.
    pub(super) idle: Vec<bool>,
}

/// Where its bytes are.
#[derive(Debug, Clone, Copy)]
pub(super) enum ContentSource<'a> {
    Held(&'a [u8]),
    Stored(&'a StoredFile),
}

impl<'a> FileContent<'a> {
    /// Bytes in memory, or mapped.
    pub(super) fn held(bytes: &'a [u8]) -> FileContent<'a> {
        FileContent { source: ContentSource::Held(bytes), idle: vec![false; bytes.len().div_ceil(BLOCK_BYTES)] }
    }

    /// A file in a store.
    pub(super) fn stored(file: &'a StoredFile) -> FileContent<'a> {
        let blocks = file.bytes().div_ceil(objects::BLOCK_BYTES) as usize;
        FileContent { source: ContentSource::Stored(file), idle: vec![false; blocks] }
    }

    /// The same of a file of such columns: where each of them lies, and whether it is used.
    pub(super) fn of_columns(self, columns: Vec<(Range<u64>, bool)>) -> FileContent<'a> {
        FileContent { idle: idle_blocks(self.bytes(), columns), ..self }
    }

    fn bytes(&self) -> u64 {
        match self.source {
            ContentSource::Held(bytes) => bytes.len() as u64,
            ContentSource::Stored(file) => file.bytes(),
        }
    }

    pub(super) fn block_bytes(&self, block: usize) -> u64 {
        (self.bytes() - (block * BLOCK_BYTES) as u64).min(objects::BLOCK_BYTES)
    }
}

/// Which blocks of a file of so many bytes have nothing but columns that are not used.
fn idle_blocks(bytes: u64, mut columns: Vec<(Range<u64>, bool)>) -> Vec<bool> {
    let block = |at: u64| (at / objects::BLOCK_BYTES) as usize;
    let mut idle = vec![false; bytes.div_ceil(objects::BLOCK_BYTES) as usize];
    columns.retain(|(range, _)| range.start < range.end && range.end <= bytes);
    columns.sort_by_key(|(range, _)| range.start);
    let mut stretch = 0..0;
    for (range, _) in columns.iter().filter(|(_, used)| !used) {
        stretch = if range.start <= stretch.end { stretch.start..stretch.end.max(range.end) } else { range.clone() };
        // The last block may be shorter.
        let end = if stretch.end == bytes { idle.len() } else { block(stretch.end) };
        let first = block(stretch.start + objects::BLOCK_BYTES - 1);
        idle[first.min(end)..end].fill(true);
    }
    for (range, _) in columns.iter().filter(|(_, used)| *used) {
        idle[block(range.start)..=block(range.end - 1)].fill(false);
    }
    idle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_columns_that_are_not_used_are_left_out() {
        const B: u64 = BLOCK_BYTES as u64;
        let columns = vec![(4..B + 9, true), (B + 9..2 * B + 5, false), (2 * B + 5..5 * B - 1, false)];
        assert_eq!(idle_blocks(5 * B + 8, columns.clone()), [false, false, true, true, false, false]);
        assert_eq!(idle_blocks(B, vec![(0..B, false)]), [true]);
        // What is used is never left out, whatever a footer says.
        let both = [columns, vec![(3 * B..3 * B + 1, true), (9 * B..u64::MAX, false)]].concat();
        assert_eq!(idle_blocks(5 * B + 8, both), [false, false, true, false, false, false]);
    }
}
