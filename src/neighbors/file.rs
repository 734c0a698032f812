//! `block-*.nbr`: the lists of a block of consecutive rows, and all blocks together.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 4 · rows | length of each row's list, u32 |
//! | | 4 · rows · stride | base rows in rank order, u32, `0xFFFFFFFF` beyond a list's length |
//! | | 4 · rows · stride | their scores, f32, 0 beyond a list's length |
//!
//! Header fields: first row, rows, stride. Memory: none but the maps.

use std::io::Write;
use std::path::Path;

use super::topk::Candidate;
use crate::error::{Error, Result};
use crate::run::sealed::{Format, PartWriter, Sealed};
use crate::vectors::RowId;

/// Format of a block.
pub const NEIGHBORS: Format = Format { magic: *b"BMNEIGHB", version: 1, name: "neighbor" };
const NOBODY: RowId = RowId::MAX;

/// Name of the block that starts with the `index`-th stretch of rows.
pub fn block_name(index: usize) -> String {
    format!("block-{index:06}.nbr")
}

/// Writes a block; `stride` is the longest list possible.
pub fn write_block(
    out: &mut PartWriter,
    first_row: RowId,
    stride: usize,
    lists: &[Vec<Candidate>],
) -> std::io::Result<()> {
    out.write_all(&NEIGHBORS.header([u64::from(first_row), lists.len() as u64, stride as u64, 0, 0, 0]))?;
    for list in lists {
        out.write_all(&(list.len() as u32).to_le_bytes())?;
    }
    let padding =
        |list: &Vec<Candidate>| std::iter::repeat_n(Candidate { score: 0.0, row: NOBODY }, stride - list.len());
    for list in lists {
        for candidate in list.iter().copied().chain(padding(list)) {
            out.write_all(&candidate.row.to_le_bytes())?;
        }
    }
    for list in lists {
        for candidate in list.iter().copied().chain(padding(list)) {
            out.write_all(&candidate.score.to_le_bytes())?;
        }
    }
    out.seal()
}

/// One mapped block.
#[derive(Debug, Clone)]
pub struct Block {
    sealed: Sealed,
    first_row: RowId,
    rows: usize,
    stride: usize,
}

impl Block {
    /// Maps a block.
    ///
    /// # Errors
    /// The file is not a complete block.
    pub fn open(path: &Path) -> Result<Block> {
        let sealed = Sealed::open(path, &NEIGHBORS)?;
        let [first_row, rows, stride, ..] = sealed.fields;
        let words = stride.checked_mul(2).and_then(|n| n.checked_add(1)).and_then(|n| n.checked_mul(rows));
        let sound = first_row + rows.min(1 << 31) < 1 << 31;
        sealed.expect_payload(words.and_then(|n| n.checked_mul(4)).filter(|_| sound))?;
        let block = Block { first_row: first_row as RowId, rows: rows as usize, stride: stride as usize, sealed };
        if block.words()[..block.rows].iter().any(|length| u64::from(*length) > stride) {
            return Err(Error::runtime("a neighbor file holds an impossible list length")
                .path(path)
                .expected(format!("at most {stride}"))
                .found("more")
                .remedy("the file is damaged: delete it and run `mine` again"));
        }
        Ok(block)
    }

    fn words(&self) -> &[u32] {
        bytemuck::cast_slice(self.sealed.payload())
    }

    /// Rows of this block.
    pub fn range(&self) -> std::ops::Range<RowId> {
        self.first_row..self.first_row + self.rows as RowId
    }

    /// A row's neighbours in rank order.
    ///
    /// # Panics
    /// The row is not in [`Block::range`].
    pub fn neighbors(&self, row: RowId) -> &[RowId] {
        let index = (row - self.first_row) as usize;
        let words = self.words();
        &words[self.rows + index * self.stride..][..words[index] as usize]
    }

    /// Their scores.
    ///
    /// # Panics
    /// The row is not in [`Block::range`].
    pub fn scores(&self, row: RowId) -> &[f32] {
        let index = (row - self.first_row) as usize;
        let words = self.words();
        bytemuck::cast_slice(&words[self.rows + (self.rows + index) * self.stride..][..words[index] as usize])
    }

    /// The mapped file.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

/// The lists of all rows.
#[derive(Debug, Clone)]
pub struct Neighbors {
    blocks: Vec<Block>,
    block_rows: usize,
}

impl Neighbors {
    /// Maps all blocks of a folder.
    ///
    /// # Errors
    /// A block is damaged, missing or out of place.
    pub fn open(folder: &Path, rows: u64, block_rows: usize) -> Result<Neighbors> {
        let count = rows.div_ceil(block_rows.max(1) as u64) as usize;
        let mut blocks = Vec::with_capacity(count);
        for index in 0..count {
            let path = folder.join(block_name(index));
            let block = Block::open(&path)?;
            let start = index * block_rows;
            let end = (start + block_rows).min(rows as usize);
            if block.range() != (start as RowId..end as RowId) {
                return Err(Error::runtime("a neighbor file covers other rows than its name says")
                    .path(&path)
                    .expected(format!("rows {start}..{end}"))
                    .found(format!("rows {:?}", block.range()))
                    .remedy("the file is damaged: delete it and run `mine` again"));
            }
            blocks.push(block);
        }
        Ok(Neighbors { blocks, block_rows })
    }

    /// The blocks, in row order.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The block that holds a row.
    pub fn block_of(&self, row: RowId) -> &Block {
        &self.blocks[row as usize / self.block_rows]
    }

    /// A row's neighbours in rank order.
    pub fn of(&self, row: RowId) -> &[RowId] {
        self.block_of(row).neighbors(row)
    }

    /// Their scores.
    pub fn scores(&self, row: RowId) -> &[f32] {
        self.block_of(row).scores(row)
    }
}
