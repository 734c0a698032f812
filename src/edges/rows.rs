//! Edges, and the one way to read them: block by block of consecutive places.

use crate::error::Result;
use crate::vectors::{Place, PlaceRange};

/// What two rows are to each other: directions in the rank window and directions as suspects, 0..2
/// each, at most 2 together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Relation(u8);

impl Relation {
    /// Codes are below this number.
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

    /// From four bits that the caller knows to be a code, or discards if they are not.
    #[inline]
    pub(super) fn from_nibble(bits: u8) -> Relation {
        Relation(bits)
    }

    /// Itself, or no relation, to which another one can be added.
    #[inline]
    pub(super) fn only_if(self, wanted: bool) -> Relation {
        Relation(self.0 * u8::from(wanted))
    }

    /// Both directions together.
    pub(super) fn with(self, other: Relation) -> Relation {
        Relation(self.0 + other.0)
    }

    /// Directions in the rank window: what the edge weighs without suspects.
    pub fn window(self) -> u8 {
        self.0 / 3
    }

    /// Directions as suspects.
    pub fn suspects(self) -> u8 {
        self.0 % 3
    }
}

/// An edge as seen from a row: the other row's place, and what the two are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    pub other: Place,
    pub relation: Relation,
}

/// The edges of the rows at some consecutive places.
#[derive(Debug, Clone, Default)]
pub struct Adjacency {
    pub first_place: Place,
    /// Where each row's edges end.
    pub ends: Vec<u32>,
    /// All edges, each row's sorted by the other place.
    pub edges: Vec<Edge>,
    /// Bytes while they are decoded.
    pub(super) scratch: Vec<u8>,
}

impl Adjacency {
    /// The places of its rows.
    pub fn places(&self) -> PlaceRange {
        let first = self.first_place.number();
        PlaceRange::new(first, first + self.ends.len() as u32)
    }

    /// The edges of one of its rows, counted from the first.
    pub fn of(&self, index: usize) -> &[Edge] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.edges[start..self.ends[index] as usize]
    }

    /// The edges of the row at a place, if it is one of its rows.
    pub fn at(&self, place: Place) -> Option<&[Edge]> {
        self.places().contains(place).then(|| self.of(place.index() - self.first_place.index()))
    }

    /// (place, its row's edges), in the order of places.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &[Edge])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.places()
            .iter()
            .zip(starts.zip(&self.ends))
            .map(|(place, (start, end))| (place, &self.edges[start as usize..*end as usize]))
    }
}

/// A graph that is read block by block, from many threads.
pub trait EdgeRows: Sync {
    fn rows(&self) -> u32;
    /// Number of blocks; together they cover all places in order.
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
    /// From each row's edges, which must be sorted and symmetric.
    pub fn new(lists: Vec<Vec<Edge>>, block_rows: usize) -> Self {
        MemoryEdges { lists, block_rows }
    }
}

impl EdgeRows for MemoryEdges {
    fn rows(&self) -> u32 {
        self.lists.len() as u32
    }

    fn blocks(&self) -> usize {
        self.lists.len().div_ceil(self.block_rows)
    }

    fn read(&self, block: usize, into: &mut Adjacency) -> Result<()> {
        let start = block * self.block_rows;
        let end = (start + self.block_rows).min(self.lists.len());
        into.first_place = Place::new(start as u32);
        into.ends.clear();
        into.edges.clear();
        for list in &self.lists[start..end] {
            into.edges.extend(list);
            into.ends.push(into.edges.len() as u32);
        }
        Ok(())
    }
}
