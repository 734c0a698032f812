//! `documents.col`: which documents of the corpus are each task's. Mapped.
//!
//! Documents are numbered behind the rows, task by task, in the order of the corpus within a task. They have a positive
//! vector, an id and keys as rows have, and no query.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 8 · (tasks + 1) | number of each task's first document, from 0, with the total at the end, u64 |
//!
//! Header fields: documents, tasks.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use super::row::{ROWS_MAX, RowId};
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, PartWriter, Sealed};

/// Format of the file.
pub(crate) const DOCUMENTS: FileFormat = FileFormat { magic: *b"BMDOCUMS", version: 1, name: "document" };

/// Each task's documents.
#[derive(Debug, Clone)]
pub(crate) struct TaskDocuments {
    sealed: Sealed,
    /// The number of the first document: as many as there are rows.
    first: RowId,
}

/// Writes the file; `starts` has one entry more than there are tasks.
///
/// # Errors
/// The disk fails.
pub(super) fn write_documents(out: &mut PartWriter, starts: &[u64]) -> std::io::Result<()> {
    let total = starts.last().copied().unwrap_or(0);
    out.write_all(&DOCUMENTS.header([total, starts.len() as u64 - 1, 0, 0, 0, 0]))?;
    starts.iter().try_for_each(|start| out.write_all(&start.to_le_bytes()))?;
    out.seal()
}

impl TaskDocuments {
    /// Maps a file of so many tasks, whose documents are behind so many rows.
    ///
    /// # Errors
    /// The file is not complete, or its ranges do not rise from 0 to the number of documents.
    pub(crate) fn open(path: &Path, tasks: Option<usize>, rows: RowId) -> Result<TaskDocuments> {
        let sealed = Sealed::open(path, &DOCUMENTS)?;
        sealed.check()?;
        let [documents, count, ..] = sealed.fields;
        let is_right = tasks.is_none_or(|tasks| tasks as u64 == count);
        let payload = count.checked_add(1).and_then(|words| words.checked_mul(8));
        sealed.expect_payload(payload.filter(|_| is_right && documents <= ROWS_MAX - u64::from(rows)))?;
        let found = TaskDocuments { sealed, first: rows };
        let starts = found.starts();
        if starts.first() == Some(&0) && starts.last() == Some(&documents) && starts.is_sorted() {
            return Ok(found);
        }
        Err(Error::runtime("a document file is inconsistent")
            .path(path)
            .expected("ranges that rise from 0 to the number of documents")
            .found("others")
            .remedy("the file is damaged: delete it and run `mine` again"))
    }

    fn starts(&self) -> &[u64] {
        bytemuck::cast_slice(self.sealed.payload())
    }

    /// All documents.
    pub(crate) fn count(&self) -> u64 {
        self.sealed.fields[0]
    }

    /// The numbers of a task's documents.
    pub(crate) fn of_task(&self, task: usize) -> Range<RowId> {
        let start = |task: usize| self.first + self.starts()[task] as RowId;
        start(task)..start(task + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::{refused, write_sealed};

    #[test]
    fn ranges_that_do_not_rise_to_the_total_are_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents.col");
        let open = |fields: [u64; 2], starts: &[u64]| {
            let fields = [fields[0], fields[1], 0, 0, 0, 0];
            write_sealed(&path, &DOCUMENTS, fields, bytemuck::cast_slice(starts));
            TaskDocuments::open(&path, Some(2), 10)
        };
        let found = open([5, 2], &[0, 0, 5]).unwrap();
        assert_eq!((found.count(), found.of_task(0), found.of_task(1)), (5, 10..10, 10..15));
        let most = u64::MAX;
        let others: [([u64; 2], &[u64]); 8] = [
            ([5, 2], &[0, 5, 4]),
            ([5, 2], &[1, 2, 5]),
            ([5, 2], &[0, 6, 5]),
            ([6, 2], &[0, 2, 5]),
            ([5, 1], &[0, 5]),
            ([5, most], &[0, 2, 5]),
            ([most, 2], &[0, 2, most]),
            ([ROWS_MAX, 2], &[0, 2, ROWS_MAX]),
        ];
        others.into_iter().for_each(|(fields, starts)| refused(&path, open(fields, starts)));
    }
}
