//! The row-major vector store, mapped: what `import` wrote and every later stage reads.
//!
//! Rows are grouped by task and keep the input's order within a task; [`RowId`] counts in that order.
//! Values are the input's own (f16 stays f16, f64 becomes f32); a row's reciprocal norm stands beside
//! them as f64, so that cosine scores are those of the input's exact values and not of rounded,
//! normalised ones.
//!
//! Memory: none but the maps; every page is the kernel's to evict.

use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};

use super::dot::dot;
use crate::error::{Error, Result};
use crate::run::sealed::{Format, HEADER_BYTES, Sealed, u64_at};

/// A row in task-grouped order.
pub type RowId = u32;
/// Most rows that a job can have.
pub const ROWS_MAX: u64 = i32::MAX as u64;
/// Most dimensions that a vector can have.
pub const DIM_MAX: usize = 16_384;
/// Key code of a row that shares its key with no other row.
pub const UNIQUE: u32 = u32::MAX;

/// Format of `queries.vec` and `positives.vec`.
pub const VECTORS: Format = Format { magic: *b"BMVECTOR", version: 1, name: "vector" };
/// Format of `rows.col`.
pub const ROWS: Format = Format { magic: *b"BMROWCOL", version: 1, name: "row table" };
/// Format of `ids.col` with int64 ids.
pub const INT_IDS: Format = Format { magic: *b"BMIDSINT", version: 1, name: "int64 ids" };
/// Format of `ids.col` with string ids.
pub const TEXT_IDS: Format = Format { magic: *b"BMIDSTXT", version: 1, name: "string ids" };
/// Format of `tasks.col`.
pub const TASKS: Format = Format { magic: *b"BMTASKS\0", version: 1, name: "task" };

/// Rows and dimensions of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Rows.
    pub rows: u64,
    /// Dimensions of a row.
    pub dim: usize,
}

/// Number type of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE half.
    F16,
    /// IEEE single.
    F32,
}

impl Precision {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F16 => 2,
            Precision::F32 => 4,
        }
    }
}

/// One side's vectors.
#[derive(Debug, Clone)]
pub struct VectorStore {
    sealed: Sealed,
    shape: Shape,
    precision: Precision,
}

impl VectorStore {
    /// Header fields of a store.
    pub fn header(shape: Shape, precision: Precision) -> [u64; 6] {
        [shape.rows, shape.dim as u64, precision.bytes() as u64, 0, 0, 0]
    }

    /// Bytes of header and payload.
    pub fn file_bytes(shape: Shape, precision: Precision) -> u64 {
        HEADER_BYTES as u64 + shape.rows * (shape.dim * precision.bytes()) as u64
    }

    /// Maps a store.
    ///
    /// # Errors
    /// The file is not a complete store.
    pub fn open(path: &Path) -> Result<VectorStore> {
        let sealed = Sealed::open(path, &VECTORS)?;
        let [rows, dim, width, ..] = sealed.fields;
        let payload = rows.checked_mul(dim).and_then(|n| n.checked_mul(width));
        sealed.expect_payload(payload.filter(|_| rows <= ROWS_MAX && (2..=4).contains(&width)))?;
        let precision = if width == 2 { Precision::F16 } else { Precision::F32 };
        Ok(VectorStore { sealed, shape: Shape { rows, dim: dim as usize }, precision })
    }

    /// Rows and dimensions.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Number type.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The mapped file.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    /// A row's bytes, as stored.
    pub fn row_bytes(&self, row: RowId) -> &[u8] {
        let width = self.shape.dim * self.precision.bytes();
        &self.sealed.payload()[row as usize * width..][..width]
    }

    /// A row's values as f32, without normalisation, into `out` (length: dimensions).
    pub fn load(&self, row: RowId, out: &mut [f32]) {
        let bytes = self.row_bytes(row);
        match self.precision {
            Precision::F16 => bytemuck::cast_slice::<u8, f16>(bytes).convert_to_f32_slice(out),
            Precision::F32 => out.copy_from_slice(bytemuck::cast_slice(bytes)),
        }
    }
}

/// What is known of each row, beside its vectors: the columns of `rows.col`.
#[derive(Debug, Clone)]
pub struct RowTable {
    sealed: Sealed,
    layout: RowLayout,
}

/// Where the columns of `rows.col` lie: a pure function of rows and key columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLayout {
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
    pub fn input_row(self) -> u64 {
        HEADER_BYTES as u64
    }

    /// File offset of the f64 reciprocal norms of the queries.
    pub fn query_scale(self) -> u64 {
        self.input_row() + Self::section(4, self.rows)
    }

    /// File offset of the f64 reciprocal norms of the positives.
    pub fn positive_scale(self) -> u64 {
        self.query_scale() + Self::section(8, self.rows)
    }

    /// File offset of the f32 scores of each query with its own positive.
    pub fn score(self) -> u64 {
        self.positive_scale() + Self::section(8, self.rows)
    }

    /// File offset of the u32 codes of a key column.
    pub fn key(self, column: u64) -> u64 {
        self.score() + Self::section(4, self.rows) * (1 + column)
    }

    /// Bytes of header and payload.
    pub fn file_bytes(self) -> u64 {
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
        Keys((0..self.layout.keys).map(|column| self.column(self.layout.key(column))).collect())
    }

    /// The mapped file.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

/// The key columns of all rows.
#[derive(Debug, Clone)]
pub struct Keys<'a>(Vec<&'a [u32]>);

impl<'a> Keys<'a> {
    /// From columns of codes, all of one length.
    pub fn new(columns: Vec<&'a [u32]>) -> Self {
        Keys(columns)
    }

    /// Whether two rows share a key, and so may never be negatives of each other. O(columns).
    #[inline]
    pub fn conflict(&self, a: RowId, b: RowId) -> bool {
        self.0.iter().any(|codes| {
            let code = codes[a as usize];
            code != UNIQUE && code == codes[b as usize]
        })
    }

    /// Whether a row shares any key with any other row.
    #[inline]
    pub fn is_shared(&self, row: RowId) -> bool {
        self.0.iter().any(|codes| codes[row as usize] != UNIQUE)
    }

    /// (column, code) of each key that the row shares with others.
    pub fn shared(&self, row: RowId) -> impl Iterator<Item = (u32, u32)> + '_ {
        let codes = self.0.iter().enumerate().map(move |(column, codes)| (column as u32, codes[row as usize]));
        codes.filter(|(_, code)| *code != UNIQUE)
    }

    /// The columns.
    pub fn columns(&self) -> &[&'a [u32]] {
        &self.0
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

/// Everything that `import` made.
#[derive(Debug, Clone)]
pub struct Vectors {
    /// Query vectors.
    pub queries: VectorStore,
    /// Positive vectors; the same store where one column serves both sides.
    pub positives: VectorStore,
    /// What is known of each row.
    pub rows: RowTable,
    /// Task names and ranges.
    pub tasks: Tasks,
    /// Ids by input row.
    pub ids: Ids,
}

impl Vectors {
    /// Whether the rows' tasks have names (else there is one task without one).
    pub fn has_tasks(&self) -> bool {
        self.tasks.len() != 1 || !self.tasks.name(0).is_empty()
    }

    /// Rows and dimensions.
    pub fn shape(&self) -> Shape {
        self.queries.shape()
    }

    /// Number of rows.
    pub fn row_count(&self) -> RowId {
        self.shape().rows as RowId
    }
}

/// Scores one query against many positives: the reference of the whole search.
///
/// s_ij = f32(Σ_d x_id·y_jd in f64 × scale_i × scale_j), see [`mod@super::dot`].
#[derive(Debug)]
pub struct Scorer<'a> {
    vectors: &'a Vectors,
    positive_scales: &'a [f64],
    query_row: Option<RowId>,
    query: Vec<f32>,
    query_scale: f64,
    positive: Vec<f32>,
}

impl<'a> Scorer<'a> {
    /// A scorer that has no query yet; holds two rows as f32.
    pub fn new(vectors: &'a Vectors) -> Self {
        let dim = vectors.shape().dim;
        Scorer {
            vectors,
            positive_scales: vectors.rows.positive_scales(),
            query_row: None,
            query: vec![0.0; dim],
            query_scale: 0.0,
            positive: vec![0.0; dim],
        }
    }

    /// Takes a query row.
    pub fn set_query(&mut self, row: RowId) {
        self.vectors.queries.load(row, &mut self.query);
        self.query_scale = self.vectors.rows.query_scales()[row as usize];
        self.query_row = Some(row);
    }

    /// The score of a query row with a positive row; fast while the query stays the same. O(dim).
    pub fn pair(&mut self, query: RowId, row: RowId) -> f32 {
        if self.query_row != Some(query) {
            self.set_query(query);
        }
        self.score(row)
    }

    /// The score of the query with a row's positive. O(dim).
    pub fn score(&mut self, row: RowId) -> f32 {
        let scale = self.query_scale * self.positive_scales[row as usize];
        let sum = match self.vectors.positives.precision {
            Precision::F32 => dot(&self.query, bytemuck::cast_slice(self.vectors.positives.row_bytes(row))),
            Precision::F16 => {
                self.vectors.positives.load(row, &mut self.positive);
                dot(&self.query, &self.positive)
            }
        };
        (sum * scale) as f32
    }
}
