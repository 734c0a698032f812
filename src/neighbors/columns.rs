//! The base rows of a search, IVF list after IVF list: all rows, or those that stand for a distinct positive; and
//! behind the rows of a list the documents that are in it.
//!
//! Memory: none but the maps.

use std::ops::Range;

use super::candidates::Candidates;
use super::ivf::IvfIndex;
use crate::vectors::{Place, RowId, Tasks};

/// The columns that queries are scored with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BaseColumns<'a> {
    pub ivf: &'a IvfIndex,
    pub tasks: &'a Tasks,
    /// `None`: all rows.
    pub chosen: Option<&'a Candidates>,
}

impl<'a> BaseColumns<'a> {
    /// The row of each column.
    #[inline]
    pub(crate) fn rows(&self) -> &'a [RowId] {
        self.chosen.map_or(self.ivf.order(), Candidates::column_rows)
    }

    /// The column of the row at a place, or that of the next row of the list that has one. O(log candidates) where not
    /// every row is one, or there are documents.
    pub(crate) fn near(&self, place: Place) -> usize {
        let Some(chosen) = self.chosen else { return place.index() };
        let list = self.ivf.starts().partition_point(|start| *start <= place.number()).saturating_sub(1);
        let [rows, _] = chosen.parts();
        let rows_before = |place: u32| rows.partition_point(|other| *other < place);
        let columns = self.of_list(list);
        let near = columns.start + rows_before(place.number()) - rows_before(self.ivf.starts()[list]);
        near.min(columns.end.max(1) - 1)
    }

    /// The first column of a list.
    fn start(&self, list: usize) -> usize {
        let start = self.ivf.starts()[list];
        let Some(chosen) = self.chosen else { return start as usize };
        let [rows, documents] = chosen.parts();
        let behind = self.ivf.document_starts().get(list);
        let documents = behind.map_or(0, |start| documents.partition_point(|other| other < start));
        rows.partition_point(|other| *other < start) + documents
    }

    /// A task's columns.
    pub(crate) fn of_task(&self, task: usize) -> Range<usize> {
        let lists = self.ivf.lists(task);
        self.start(lists.start)..self.start(lists.end)
    }

    /// The columns of an IVF list.
    pub(crate) fn of_list(&self, list: usize) -> Range<usize> {
        self.start(list)..self.start(list + 1)
    }

    /// Candidates that a query of a task can have at most: not its own positive.
    pub(crate) fn others(&self, task: usize) -> usize {
        self.of_task(task).len() - 1
    }

    /// A task's base rows for FAISS: in their own order, where all are candidates.
    #[cfg(feature = "faiss")]
    pub(crate) fn base_rows(&self, task: usize) -> BaseRows<'a> {
        match self.chosen {
            None => BaseRows::All(self.tasks.range(task)),
            Some(_) => BaseRows::Chosen(&self.rows()[self.of_task(task)]),
        }
    }
}

/// The base rows of a task.
#[cfg(feature = "faiss")]
#[derive(Debug)]
pub(crate) enum BaseRows<'a> {
    /// All of them.
    All(Range<RowId>),
    /// The candidates, by place.
    Chosen(&'a [RowId]),
}

#[cfg(feature = "faiss")]
impl BaseRows<'_> {
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

    /// The number of a row; 0 where it is no candidate.
    pub(crate) fn number_of(&self, row: RowId) -> usize {
        match self {
            BaseRows::All(rows) => row.saturating_sub(rows.start) as usize,
            BaseRows::Chosen(rows) => rows.iter().position(|other| *other == row).unwrap_or(0),
        }
    }
}
