//! The two numbers of a row: its [`RowId`] and its [`Place`].

use std::fmt;

use bytemuck::{Pod, Zeroable};

/// A row in task-grouped order: rows of one task are consecutive and keep the input's order.
pub(crate) type RowId = u32;
/// Most rows that a job can have.
pub(crate) const ROWS_MAX: u64 = i32::MAX as u64;
/// Key code of a row that shares its key with no other row.
pub(crate) const UNIQUE: u32 = u32::MAX;

/// The number of an input row that is left out.
pub(crate) const NO_ROW: RowId = RowId::MAX;

/// A row's position in the IVF order, which lists the rows of a task IVF list by IVF list.
///
/// The rows of a task and its places are the same range of numbers: each task is ordered by itself. On disk a place is
/// a u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct Place(u32);

impl Place {
    /// No row's place: larger than any.
    pub const NONE: Place = Place(u32::MAX);

    #[inline]
    pub const fn new(number: u32) -> Place {
        Place(number)
    }

    #[inline]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Where tables by place have its entry.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Consecutive places.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct PlaceRange {
    pub start: Place,
    /// The first place behind them.
    pub end: Place,
}

impl PlaceRange {
    pub const fn new(start: u32, end: u32) -> PlaceRange {
        PlaceRange { start: Place(start), end: Place(end) }
    }

    #[inline]
    pub const fn len(self) -> usize {
        self.end.0.saturating_sub(self.start.0) as usize
    }

    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn contains(self, place: Place) -> bool {
        (self.start..self.end).contains(&place)
    }

    /// Where tables by place have their entries.
    #[inline]
    pub const fn indices(self) -> std::ops::Range<usize> {
        self.start.index()..self.end.index()
    }

    #[inline]
    pub fn iter(self) -> Iter {
        (self.start.0..self.end.0).map(Place)
    }
}

type Iter = std::iter::Map<std::ops::Range<u32>, fn(u32) -> Place>;

impl IntoIterator for PlaceRange {
    type Item = Place;
    type IntoIter = Iter;

    #[inline]
    fn into_iter(self) -> Iter {
        self.iter()
    }
}

/// `start..end`, in numbers.
impl fmt::Debug for PlaceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start.0, self.end.0)
    }
}
