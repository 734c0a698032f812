//! Tasks: their names and their ranges of rows, in the order of their names. Mapped.

use std::path::Path;

use super::ids::are_offsets;
use super::row::{Place, PlaceRange, ROWS_MAX, RowId};
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, Sealed, u64_at};

/// Format of `tasks.col`.
pub(crate) const TASKS: FileFormat = FileFormat { magic: *b"BMTASKS\0", version: 2, name: "task" };

/// Tasks: names and ranges of rows, in order.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    sealed: Sealed,
    count: usize,
}

impl Tasks {
    /// Header fields and payload of a task file. `starts` has one entry more than `names`.
    pub(crate) fn encode(names: &[String], starts: &[u64]) -> ([u64; 6], Vec<u8>) {
        let mut payload = Vec::new();
        starts.iter().for_each(|start| payload.extend(start.to_le_bytes()));
        let mut end = 0u64;
        payload.extend(end.to_le_bytes());
        for name in names {
            end += name.len() as u64;
            payload.extend(end.to_le_bytes());
        }
        names.iter().for_each(|name| payload.extend(name.as_bytes()));
        ([names.len() as u64, end, 0, 0, 0, 0], payload)
    }

    /// Maps a task file.
    ///
    /// # Errors
    /// The file is not a complete, consistent task file.
    pub(crate) fn open(path: &Path) -> Result<Tasks> {
        let sealed = Sealed::open(path, &TASKS)?;
        sealed.check()?;
        let [count, text, ..] = sealed.fields;
        let words = count.checked_add(1).and_then(|n| n.checked_mul(16));
        sealed.expect_payload(words.and_then(|n| n.checked_add(text)).filter(|_| count > 0))?;
        let tasks = Tasks { sealed, count: count as usize };
        if tasks.ranges_are_sound() && tasks.names_are_sound() {
            return Ok(tasks);
        }
        Err(Error::runtime("a task file is inconsistent")
            .path(path)
            .expected("rising row ranges and UTF-8 names")
            .found("something else")
            .remedy("the file is damaged: delete it and run `mine` again"))
    }

    /// Whether the tasks divide the rows: each begins where the one before ends, and none is empty.
    fn ranges_are_sound(&self) -> bool {
        let start = |task: usize| u64_at(self.sealed.payload(), 8 * task);
        start(0) == 0 && (0..self.count).all(|task| start(task) < start(task + 1)) && start(self.count) <= ROWS_MAX
    }

    fn names_are_sound(&self) -> bool {
        let (offsets, text) = self.sealed.payload()[8 * self.names_from()..].split_at(8 * (self.count + 1));
        let Ok(text) = std::str::from_utf8(text) else { return false };
        are_offsets(bytemuck::cast_slice(offsets), text)
    }

    fn names_from(&self) -> usize {
        self.count + 1
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn range(&self, task: usize) -> std::ops::Range<RowId> {
        let payload = self.sealed.payload();
        u64_at(payload, 8 * task) as RowId..u64_at(payload, 8 * (task + 1)) as RowId
    }

    /// All ranges, in order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = std::ops::Range<RowId>> + '_ {
        (0..self.count).map(|task| self.range(task))
    }

    /// A task's places.
    pub(crate) fn places(&self, task: usize) -> PlaceRange {
        let rows = self.range(task);
        PlaceRange::new(rows.start, rows.end)
    }

    /// A task's name; empty for the one task of a job without tasks.
    pub(crate) fn name(&self, task: usize) -> &str {
        let payload = self.sealed.payload();
        let text = &payload[8 * (self.names_from() + self.count + 1)..];
        let at = |i: usize| u64_at(payload, 8 * (self.names_from() + i)) as usize;
        std::str::from_utf8(&text[at(task)..at(task + 1)]).expect("checked when opened")
    }

    /// All names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        (0..self.count).map(|task| self.name(task))
    }

    /// The task that a row belongs to. O(log tasks).
    pub(crate) fn of(&self, row: RowId) -> usize {
        let (mut low, mut high) = (0, self.count);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.range(middle).start <= row { low = middle } else { high = middle }
        }
        // No task is empty, as was checked when the file was opened.
        low
    }

    /// The task of the row at a place. O(log tasks).
    pub(crate) fn of_place(&self, place: Place) -> usize {
        self.of(place.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::{refused, write_sealed};

    fn payload(starts: &[u64], ends: &[u64], text: &[u8]) -> Vec<u8> {
        let words = starts.iter().chain(ends).flat_map(|word| word.to_le_bytes());
        words.chain(text.iter().copied()).collect()
    }

    #[test]
    fn tasks_come_back_as_they_were_encoded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tasks.col");
        let (fields, payload) = Tasks::encode(&["ä".into(), "".into(), "b".into()], &[0, 2, 5, 6]);
        write_sealed(&path, &TASKS, fields, &payload);
        let tasks = Tasks::open(&path).unwrap();
        assert_eq!(tasks.names().collect::<Vec<_>>(), ["ä", "", "b"]);
        assert_eq!(tasks.ranges().collect::<Vec<_>>(), [0..2, 2..5, 5..6]);
        assert_eq!([0, 1, 2, 4, 5].map(|row| tasks.of(row)), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn ranges_and_names_that_do_not_fit_are_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tasks.col");
        let text = "äb".as_bytes(); // 2 bytes and 1
        /// Tasks, starts, ends of names, names.
        type Case = (u64, &'static [u64], &'static [u64], &'static [u8]);
        let cases: [Case; 11] = [
            (2, &[0, 2, 1], &[0, 2, 3], text),
            (2, &[0, 2, 2], &[0, 2, 3], text),
            (2, &[1, 2, 3], &[0, 2, 3], text),
            (2, &[0, 2, 1 << 32 | 5], &[0, 2, 3], text), // does not fit a row number
            (2, &[0, 2, u64::MAX], &[0, 2, 3], text),
            (2, &[0, 2, 3], &[0, 1, 3], text), // inside of a character
            (2, &[0, 2, 3], &[0, 4, 3], text),
            (2, &[0, 2, 3], &[2, 2, 3], text),
            (2, &[0, 2, 3], &[0, 2, 2], text),
            (2, &[0, 2, 3], &[0, 2, 3], b"\xff\xffb"),
            (0, &[0], &[0], b"abc"),
        ];
        for (count, starts, ends, text) in cases {
            write_sealed(&path, &TASKS, [count, text.len() as u64, 0, 0, 0, 0], &payload(starts, ends, text));
            refused(&path, Tasks::open(&path));
        }
        for (count, text) in [(u64::MAX, 3), (u64::MAX / 16, 3), (2, u64::MAX), (1 << 60, 0)] {
            write_sealed(&path, &TASKS, [count, text, 0, 0, 0, 0], &payload(&[0, 2, 3], &[0, 2, 3], b"abc"));
            refused(&path, Tasks::open(&path));
        }
    }
}
