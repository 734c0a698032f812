//! Arcs, and the one way to read them: block by block of consecutive rows.

use crate::error::Result;
use crate::vectors::RowId;

/// What two rows are to each other: directions in the rank window and directions as suspects, 0..2
/// each, at most 2 together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Relation(u8);

impl Relation {
    /// Kinds are below this number.
    pub const COUNT: usize = 9;
    /// One direction in the rank window.
    pub const WINDOW: Relation = Relation(3);
    /// One direction as suspects.
    pub const SUSPECT: Relation = Relation(1);

    /// From its code in files, if that is one: 3 · window + suspects.
    pub const fn from_code(code: u8) -> Option<Relation> {
        if (code as usize) < Relation::COUNT && code / 3 + code % 3 <= 2 && code > 0 {
            Some(Relation(code))
        } else {
            None
        }
    }

    /// Code in files.
    #[inline]
    pub fn code(self) -> u8 {
        self.0
    }

    /// From four bits that the caller knows to be a code, or throws away if they are not.
    #[inline]
    pub(super) fn from_nibble(bits: u8) -> Relation {
        Relation(bits)
    }

    /// Itself, or nothing, to which another one can be added.
    #[inline]
    pub(super) fn only_if(self, wanted: bool) -> Relation {
        Relation(self.0 * u8::from(wanted))
    }

    /// Both directions together.
    pub fn with(self, other: Relation) -> Relation {
        Relation(self.0 + other.0)
    }

    /// Directions in the rank window: the arc's weight.
    pub fn window(self) -> u8 {
        self.0 / 3
    }

    /// Directions as suspects.
    pub fn suspects(self) -> u8 {
        self.0 % 3
    }
}

/// An arc as seen from a row: the other row, and what the two are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The other row.
    pub row: RowId,
    /// What they are to each other.
    pub relation: Relation,
}

/// The arcs of some consecutive rows.
#[derive(Debug, Clone, Default)]
pub struct Adjacency {
    /// First row.
    pub first_row: RowId,
    /// Where each row's arcs end.
    pub ends: Vec<u32>,
    /// All arcs, each row's sorted by the other row.
    pub arcs: Vec<Edge>,
    /// Bytes while they are decoded.
    pub(super) scratch: Vec<u8>,
}

impl Adjacency {
    /// The arcs of one of its rows, counted from the first.
    pub fn of(&self, index: usize) -> &[Edge] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.arcs[start..self.ends[index] as usize]
    }

    /// (row, its arcs), in row order.
    pub fn iter(&self) -> impl Iterator<Item = (RowId, &[Edge])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        (self.first_row..)
            .zip(starts.zip(&self.ends))
            .map(|(row, (start, end))| (row, &self.arcs[start as usize..*end as usize]))
    }
}

/// A graph that is read block by block, from many threads.
pub trait EdgeRows: Sync {
    /// Rows of the graph.
    fn rows(&self) -> RowId;
    /// Blocks; together they cover all rows in order.
    fn blocks(&self) -> usize;
    /// Decodes a block.
    ///
    /// # Errors
    /// The data is damaged.
    fn read(&self, block: usize, into: &mut Adjacency) -> Result<()>;
}

/// A graph in memory.
#[derive(Debug, Clone)]
pub struct MemoryEdges {
    lists: Vec<Vec<Edge>>,
    block_rows: usize,
}

impl MemoryEdges {
    /// From each row's arcs, which must be sorted and symmetric.
    pub fn new(lists: Vec<Vec<Edge>>, block_rows: usize) -> Self {
        MemoryEdges { lists, block_rows }
    }
}

impl EdgeRows for MemoryEdges {
    fn rows(&self) -> RowId {
        self.lists.len() as RowId
    }

    fn blocks(&self) -> usize {
        self.lists.len().div_ceil(self.block_rows)
    }

    fn read(&self, block: usize, into: &mut Adjacency) -> Result<()> {
        let start = block * self.block_rows;
        let rows = start as RowId..(start + self.block_rows).min(self.lists.len()) as RowId;
        into.first_row = rows.start;
        into.ends.clear();
        into.arcs.clear();
        for row in rows {
            into.arcs.extend(&self.lists[row as usize]);
            into.ends.push(into.arcs.len() as u32);
        }
        Ok(())
    }
}
