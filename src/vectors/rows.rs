//! What is known of each row beside its vectors: norms, scores, keys, tasks, ids. All mapped.

use std::path::Path;

use super::store::{ROWS_MAX, RowId};
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, HEADER_BYTES, Sealed, u64_at};

/// Key code of a row that shares its key with no other row.
pub(crate) const UNIQUE: u32 = u32::MAX;
/// Format of `rows.col`.
pub(crate) const ROWS: FileFormat = FileFormat { magic: *b"BMROWCOL", version: 1, name: "row table" };
/// Format of `ids.col` with int64 ids.
pub(crate) const INT_IDS: FileFormat = FileFormat { magic: *b"BMIDSINT", version: 1, name: "int64 ids" };
/// Format of `ids.col` with string ids.
pub(crate) const TEXT_IDS: FileFormat = FileFormat { magic: *b"BMIDSTXT", version: 1, name: "string ids" };
/// Format of `tasks.col`.
pub(crate) const TASKS: FileFormat = FileFormat { magic: *b"BMTASKS\0", version: 1, name: "task" };

/// What is known of each row, beside its vectors: the columns of `rows.col`.
#[derive(Debug, Clone)]
pub struct RowTable {
    sealed: Sealed,
    layout: RowLayout,
}

/// Where the columns of `rows.col` lie: a pure function of rows and key columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowLayout {
    /// Rows.
    pub rows: u64,
    /// Key columns, the first being the positive vector itself.
    pub keys: u64,
}

impl RowLayout {
    fn section(width: u64, rows: u64) -> u64 {
        (width * rows).next_multiple_of(64)
    }

    /// File offset of the u32 input row numbers.
    pub(crate) fn input_row(self) -> u64 {
        HEADER_BYTES as u64
    }

    /// File offset of the f64 reciprocal norms of the queries.
    pub(crate) fn query_scale(self) -> u64 {
        self.input_row() + Self::section(4, self.rows)
    }

    /// File offset of the f64 reciprocal norms of the positives.
    pub(crate) fn positive_scale(self) -> u64 {
        self.query_scale() + Self::section(8, self.rows)
    }

    /// File offset of the f32 scores of each query with its own positive.
    pub(crate) fn score(self) -> u64 {
        self.positive_scale() + Self::section(8, self.rows)
    }

    /// File offset of the u32 codes of a key column.
    pub(crate) fn key(self, column: u64) -> u64 {
        self.score() + Self::section(4, self.rows) * (1 + column)
    }

    /// Bytes of header and payload.
    pub(crate) fn file_bytes(self) -> u64 {
        self.key(self.keys)
    }
}

impl RowTable {
    /// Maps the table.
    ///
    /// # Errors
    /// The file is not a complete table.
    pub fn open(path: &Path) -> Result<RowTable> {
        let sealed = Sealed::open(path, &ROWS)?;
        let layout = RowLayout { rows: sealed.fields[0], keys: sealed.fields[1] };
        let sound = layout.rows <= ROWS_MAX && (1..=1024).contains(&layout.keys);
        sealed.expect_payload(sound.then(|| layout.file_bytes() - HEADER_BYTES as u64))?;
        Ok(RowTable { sealed, layout })
    }

    fn column<T: bytemuck::AnyBitPattern>(&self, offset: u64) -> &[T] {
        let start = offset as usize - HEADER_BYTES;
        let bytes = self.layout.rows as usize * size_of::<T>();
        bytemuck::cast_slice(&self.sealed.payload()[start..start + bytes])
    }

    /// Ordinal of each row in the input.
    pub fn input_rows(&self) -> &[u32] {
        self.column(self.layout.input_row())
    }

    /// 1/‖x‖ of each query; 1 for the dot metric.
    pub fn query_scales(&self) -> &[f64] {
        self.column(self.layout.query_scale())
    }

    /// 1/‖y‖ of each positive; 1 for the dot metric.
    pub fn positive_scales(&self) -> &[f64] {
        self.column(self.layout.positive_scale())
    }

    /// Score of each query with its own positive.
    pub fn scores(&self) -> &[f32] {
        self.column(self.layout.score())
    }

    /// Codes of each key column; rows with the same code, other than [`UNIQUE`], share the key.
    pub fn keys(&self) -> Keys<'_> {
        Keys::new((0..self.layout.keys).map(|column| self.column(self.layout.key(column))).collect())
    }

    /// The mapped file.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

/// The key columns of all rows.
#[derive(Debug, Clone)]
pub struct Keys<'a> {
    columns: Vec<&'a [u32]>,
    /// The row of each number that rows are known by, if that is not the row itself.
    order: Option<&'a [RowId]>,
}

impl<'a> Keys<'a> {
    /// From columns of codes, all of one length.
    pub fn new(columns: Vec<&'a [u32]>) -> Self {
        Keys { columns, order: None }
    }

    /// The same keys of rows that are known by their place in an order.
    pub fn by_place(self, order: &'a [RowId]) -> Self {
        Keys { order: Some(order), ..self }
    }

    #[inline]
    fn index(&self, row: RowId) -> usize {
        self.order.map_or(row, |order| order[row as usize]) as usize
    }

    /// Whether two rows share a key, and so may never be negatives of each other. O(columns).
    #[inline]
    pub fn conflict(&self, a: RowId, b: RowId) -> bool {
        let (a, b) = (self.index(a), self.index(b));
        self.columns.iter().any(|codes| codes[a] != UNIQUE && codes[a] == codes[b])
    }

    /// Whether a row shares any key with any other row.
    #[inline]
    pub fn is_shared(&self, row: RowId) -> bool {
        let row = self.index(row);
        self.columns.iter().any(|codes| codes[row] != UNIQUE)
    }

    /// (column, code) of each key that the row shares with others.
    pub fn shared(&self, row: RowId) -> impl Iterator<Item = (u32, u32)> + '_ {
        let row = self.index(row);
        let codes = self.columns.iter().enumerate().map(move |(column, codes)| (column as u32, codes[row]));
        codes.filter(|(_, code)| *code != UNIQUE)
    }

    /// The columns, by row.
    pub fn columns(&self) -> &[&'a [u32]] {
        &self.columns
    }
}

/// Tasks: names and ranges of rows, in order.
#[derive(Debug, Clone)]
pub struct Tasks {
    sealed: Sealed,
    count: usize,
}

impl Tasks {
    /// Header fields and payload of a task file. `starts` has one entry more than `names`.
    pub fn encode(names: &[String], starts: &[u64]) -> ([u64; 6], Vec<u8>) {
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
    pub fn open(path: &Path) -> Result<Tasks> {
        let sealed = Sealed::open(path, &TASKS)?;
        let [count, text, ..] = sealed.fields;
        let words = count.checked_add(1).and_then(|n| n.checked_mul(16));
        sealed.expect_payload(words.and_then(|n| n.checked_add(text)))?;
        let tasks = Tasks { sealed, count: count as usize };
        let payload = tasks.sealed.payload();
        let ordered = |from: usize| {
            (0..tasks.count).all(|i| u64_at(payload, 8 * (from + i)) <= u64_at(payload, 8 * (from + i + 1)))
        };
        let names = tasks.names_from();
        let whole = u64_at(payload, 8 * (names + tasks.count)) == text
            && std::str::from_utf8(&payload[8 * (names + tasks.count + 1)..]).is_ok();
        if !ordered(0) || !ordered(names) || !whole {
            return Err(Error::runtime("a task file is inconsistent")
                .path(path)
                .expected("rising row ranges and UTF-8 names")
                .found("something else")
                .remedy("the file is damaged: delete it and run `mine` again"));
        }
        Ok(tasks)
    }

    fn names_from(&self) -> usize {
        self.count + 1
    }

    /// Number of tasks.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A task's rows.
    pub fn range(&self, task: usize) -> std::ops::Range<RowId> {
        let payload = self.sealed.payload();
        u64_at(payload, 8 * task) as RowId..u64_at(payload, 8 * (task + 1)) as RowId
    }

    /// All ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = std::ops::Range<RowId>> + '_ {
        (0..self.count).map(|task| self.range(task))
    }

    /// A task's name; empty for the one task of a job without tasks.
    pub fn name(&self, task: usize) -> &str {
        let payload = self.sealed.payload();
        let text = &payload[8 * (self.names_from() + self.count + 1)..];
        let at = |i: usize| u64_at(payload, 8 * (self.names_from() + i)) as usize;
        std::str::from_utf8(&text[at(task)..at(task + 1)]).expect("checked when opened")
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        (0..self.count).map(|task| self.name(task))
    }

    /// The task that a row belongs to. O(log tasks).
    pub fn of(&self, row: RowId) -> usize {
        let (mut low, mut high) = (0, self.count);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.range(middle).start <= row { low = middle } else { high = middle }
        }
        // Empty tasks do not occur: import makes a task of rows only.
        low
    }

    /// The mapped file.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

/// Ids by input row.
#[derive(Debug, Clone)]
pub enum Ids {
    /// The row's ordinal in the input.
    RowNumber,
    /// int64 ids.
    Int(Sealed),
    /// string ids.
    Text(Sealed),
}

impl Ids {
    /// Maps int64 ids.
    ///
    /// # Errors
    /// The file is not complete.
    pub fn open_int(path: &Path, rows: u64) -> Result<Ids> {
        let sealed = Sealed::open(path, &INT_IDS)?;
        sealed.expect_payload(rows.checked_mul(8).filter(|_| sealed.fields[0] == rows))?;
        Ok(Ids::Int(sealed))
    }

    /// Maps string ids.
    ///
    /// # Errors
    /// The file is not complete or its offsets are not rising.
    pub fn open_text(path: &Path, rows: u64) -> Result<Ids> {
        let sealed = Sealed::open(path, &TEXT_IDS)?;
        let [count, text, ..] = sealed.fields;
        let payload = count.checked_add(1).and_then(|n| n.checked_mul(8)).and_then(|n| n.checked_add(text));
        sealed.expect_payload(payload.filter(|_| count == rows))?;
        let words = bytemuck::cast_slice::<u8, u64>(&sealed.payload()[..8 * (rows as usize + 1)]);
        let sound = words.is_sorted() && words.first() == Some(&0) && words.last() == Some(&text);
        if !sound || std::str::from_utf8(&sealed.payload()[8 * (rows as usize + 1)..]).is_err() {
            return Err(Error::runtime("an id file is inconsistent")
                .path(path)
                .expected("rising offsets and UTF-8 text")
                .found("something else")
                .remedy("the file is damaged: delete it and run `mine` again"));
        }
        Ok(Ids::Text(sealed))
    }

    /// The int64 id of an input row, where ids are numbers.
    pub fn int(&self, input_row: u32) -> Option<i64> {
        match self {
            Ids::RowNumber => Some(i64::from(input_row)),
            Ids::Int(sealed) => Some(u64_at(sealed.payload(), 8 * input_row as usize) as i64),
            Ids::Text(_) => None,
        }
    }

    /// The string id of an input row, where ids are strings.
    pub fn text(&self, input_row: u32) -> Option<&str> {
        let Ids::Text(sealed) = self else { return None };
        let payload = sealed.payload();
        let rows = sealed.fields[0] as usize;
        let at = |i: usize| u64_at(payload, 8 * i) as usize;
        let text = &payload[8 * (rows + 1)..];
        text.get(at(input_row as usize)..at(input_row as usize + 1)).and_then(|t| std::str::from_utf8(t).ok())
    }

    /// The mapped file, if there is one.
    pub fn sealed(&self) -> Option<&Sealed> {
        match self {
            Ids::RowNumber => None,
            Ids::Int(sealed) | Ids::Text(sealed) => Some(sealed),
        }
    }
}
