//! `block-*.nbr`: the lists of a block of consecutive places, and all blocks together.
//!
//! From here on through edges and clusters a row is known by its *place* in the order of the
//! [partition](super::ivf), so that rows with much in common lie close to each other in files and tables.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 4 · rows | length of each row's list, u32 |
//! | | 4 · rows · stride | places of base rows in rank order, u32, `0xFFFFFFFF` beyond a list's length |
//! | | 4 · rows · stride | their scores, f32, 0 beyond a list's length |
//!
//! Header fields: first place, rows, stride. Memory: none but the maps.

use std::io::Write;
use std::path::Path;

use super::ivf::{IVF_FILE, IvfIndex};
use super::topk::Candidate;
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, PartWriter, Sealed};
use crate::vectors::{RowId, Vectors};

/// Format of a block.
pub(crate) const NEIGHBORS: FileFormat = FileFormat { magic: *b"BMNEIGHB", version: 2, name: "neighbor" };
const NOBODY: RowId = RowId::MAX;

/// Name of the block that starts with the `index`-th stretch of places.
pub(crate) fn block_name(index: usize) -> String {
    format!("block-{index:06}.nbr")
}

/// Writes a block of lists of places; `stride` is the longest list possible.
pub(crate) fn write_block(
    out: &mut PartWriter,
    first_place: RowId,
    stride: usize,
    lists: &[Vec<Candidate>],
) -> std::io::Result<()> {
    out.write_all(&NEIGHBORS.header([u64::from(first_place), lists.len() as u64, stride as u64, 0, 0, 0]))?;
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
    first_place: RowId,
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
        let [first_place, rows, stride, ..] = sealed.fields;
        let words = stride.checked_mul(2).and_then(|n| n.checked_add(1)).and_then(|n| n.checked_mul(rows));
        let sound = first_place < 1 << 31 && first_place + rows.min(1 << 31) < 1 << 31;
        sealed.expect_payload(words.and_then(|n| n.checked_mul(4)).filter(|_| sound))?;
        let block = Block { first_place: first_place as RowId, rows: rows as usize, stride: stride as usize, sealed };
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

    /// Places of this block.
    pub fn range(&self) -> std::ops::Range<RowId> {
        self.first_place..self.first_place + self.rows as RowId
    }

    /// The places of the neighbours of the row at a place, in rank order.
    ///
    /// # Panics
    /// The place is not in [`Block::range`].
    pub fn neighbors(&self, place: RowId) -> &[RowId] {
        let index = (place - self.first_place) as usize;
        let words = self.words();
        &words[self.rows + index * self.stride..][..words[index] as usize]
    }

    /// Their scores.
    ///
    /// # Panics
    /// The place is not in [`Block::range`].
    pub fn scores(&self, place: RowId) -> &[f32] {
        let index = (place - self.first_place) as usize;
        let words = self.words();
        bytemuck::cast_slice(&words[self.rows + (self.rows + index) * self.stride..][..words[index] as usize])
    }

    /// The mapped file.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

/// The lists of all rows, and the order that places are counted in.
#[derive(Debug, Clone)]
pub struct Neighbors {
    blocks: Vec<Block>,
    block_rows: usize,
    ivf: IvfIndex,
}

impl Neighbors {
    /// Maps all blocks of a folder.
    ///
    /// # Errors
    /// A block is damaged, missing or out of place.
    pub fn open(folder: &Path, vectors: &Vectors, block_rows: usize) -> Result<Neighbors> {
        let rows = vectors.row_count();
        let count = (rows as usize).div_ceil(block_rows.max(1));
        let mut blocks = Vec::with_capacity(count);
        for index in 0..count {
            let path = folder.join(block_name(index));
            let block = Block::open(&path)?;
            let start = index * block_rows;
            let end = (start + block_rows).min(rows as usize);
            if block.range() != (start as RowId..end as RowId) {
                return Err(Error::runtime("a neighbor file covers other places than its name says")
                    .path(&path)
                    .expected(format!("places {start}..{end}"))
                    .found(format!("places {:?}", block.range()))
                    .remedy("the file is damaged: delete it and run `mine` again"));
            }
            blocks.push(block);
        }
        let ivf = IvfIndex::open(&folder.join(IVF_FILE), vectors)?;
        Ok(Neighbors { blocks, block_rows, ivf })
    }

    /// The row at each place. A task's places are its range of rows.
    pub fn order(&self) -> &[RowId] {
        self.ivf.order()
    }

    /// The place of each row.
    pub fn places(&self) -> &[RowId] {
        self.ivf.places()
    }

    /// A row's candidates, as rows, in rank order.
    pub fn of_row(&self, row: RowId) -> impl ExactSizeIterator<Item = Candidate> + '_ {
        let (place, order) = (self.places()[row as usize], self.order());
        let block = self.block_of(place);
        let list = block.neighbors(place).iter().zip(block.scores(place));
        list.map(|(other, score)| Candidate { row: order[*other as usize], score: *score })
    }

    /// The blocks, in the order of places.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn block_of(&self, place: RowId) -> &Block {
        &self.blocks[place as usize / self.block_rows]
    }

    /// The places of the neighbours of the row at a place, in rank order.
    pub fn of(&self, place: RowId) -> &[RowId] {
        self.block_of(place).neighbors(place)
    }

    /// Their scores.
    pub fn scores(&self, place: RowId) -> &[f32] {
        self.block_of(place).scores(place)
    }
}
