//! The base rows of a search, in the order of places: all rows, or of each distinct positive the row that stands for it.
//!
//! Memory: none where all rows are candidates; else 8 bytes a candidate (12 with FAISS) and 4 bytes a list.

use std::ops::Range;

use super::candidates::Candidates;
use super::ivf::IvfIndex;
use crate::vectors::{Place, RowId, Tasks};

/// The candidates out of all rows, where not every row is one.
#[derive(Debug)]
pub(crate) struct ChosenRows {
    rows: Vec<RowId>,
    /// Their places, rising.
    places: Vec<u32>,
    /// Where each list starts among them, with the end of the last.
    lists: Vec<u32>,
}

impl ChosenRows {
    /// The rows that stand for positives.
    pub(crate) fn new(ivf: &IvfIndex, candidates: &Candidates) -> ChosenRows {
        let stands = |place: &u32| candidates.representative(Place::new(*place)) == Place::new(*place);
        let places: Vec<u32> = (0..ivf.order().len() as u32).filter(stands).collect();
        let rows = places.iter().map(|place| ivf.order()[*place as usize]).collect();
        let lists = ivf.starts().iter().map(|start| places.partition_point(|place| place < start) as u32).collect();
        ChosenRows { rows, places, lists }
    }
}

/// The columns that queries are scored with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub ivf: &'a IvfIndex,
    pub tasks: &'a Tasks,
    /// `None`: all rows.
    pub chosen: Option<&'a ChosenRows>,
}

impl<'a> Columns<'a> {
    /// The row of each column.
    #[inline]
    pub(crate) fn rows(&self) -> &'a [RowId] {
        self.chosen.map_or(self.ivf.order(), |chosen| &chosen.rows)
    }

    /// The first column at a place or behind it.
    pub(crate) fn at(&self, place: u32) -> usize {
        self.chosen.map_or(place as usize, |chosen| chosen.places.partition_point(|other| *other < place))
    }

    /// A task's columns.
    pub(crate) fn of_task(&self, task: usize) -> Range<usize> {
        let range = self.tasks.range(task);
        self.at(range.start)..self.at(range.end)
    }

    /// The columns of an IVF list.
    pub(crate) fn of_list(&self, list: usize) -> Range<usize> {
        let starts = self.chosen.map_or(self.ivf.starts(), |chosen| &chosen.lists);
        starts[list] as usize..starts[list + 1] as usize
    }

    /// A task's candidates in the order of rows. O(candidates log candidates) where not every row is one.
    #[cfg(feature = "faiss")]
    pub(crate) fn by_row(&self, task: usize) -> BaseRows {
        if self.chosen.is_none() {
            return BaseRows::All(self.tasks.range(task));
        }
        let mut rows = self.rows()[self.of_task(task)].to_vec();
        rows.sort_unstable();
        BaseRows::Chosen(rows)
    }

    /// Candidates that a query of a task can have at most: not its own positive.
    pub(crate) fn others(&self, task: usize) -> usize {
        self.of_task(task).len() - 1
    }
}

/// Candidates in the order of rows.
#[cfg(feature = "faiss")]
#[derive(Debug)]
pub(crate) enum BaseRows {
    /// All rows of a task.
    All(Range<RowId>),
    Chosen(Vec<RowId>),
}

#[cfg(feature = "faiss")]
impl BaseRows {
    pub(crate) fn len(&self) -> usize {
        match self {
            BaseRows::All(rows) => rows.len(),
            BaseRows::Chosen(rows) => rows.len(),
        }
    }

    /// The row of a number.
    #[inline]
    pub(crate) fn at(&self, number: usize) -> RowId {
        match self {
            BaseRows::All(rows) => rows.start + number as RowId,
            BaseRows::Chosen(rows) => rows[number],
        }
    }

    /// The number of the first row that is not below another.
    pub(crate) fn number_of(&self, row: RowId) -> usize {
        match self {
            BaseRows::All(rows) => (row.max(rows.start) - rows.start) as usize,
            BaseRows::Chosen(rows) => rows.partition_point(|other| *other < row),
        }
    }
}
