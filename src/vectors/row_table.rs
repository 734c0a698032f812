//! What is known of each row beside its vectors: input row, scales, score and key codes. Mapped.

use std::path::Path;

use super::key_lists::{KeyListFile, key_lists_name};
use super::keys::{KeyColumn, Keys, PositiveCodes};
use super::row::{ROWS_MAX, RowId, UNIQUE};
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, HEADER_BYTES, Sealed};

/// Format of `rows.col`.
pub(crate) const ROWS: FileFormat = FileFormat { magic: *b"BMROWCOL", version: 2, name: "row table" };
/// Most key columns of a table.
const KEYS_MAX: u64 = 1024;

/// What is known of each row beside its vectors: the columns of `rows.col`, checked when opened.
#[derive(Debug, Clone)]
pub(crate) struct RowTable {
    sealed: Sealed,
    layout: RowLayout,
    /// Key columns of any number of codes a row, each in a file beside the table.
    lists: Vec<KeyListFile>,
    /// Pairs of rows that verdicts part, once they are known.
    verdict_keys: Option<KeyListFile>,
}

/// Where the columns of `rows.col` lie: a pure function of rows and key columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowLayout {
    pub(crate) rows: u64,
    /// How many of these are documents of the corpus: the last ones.
    pub(crate) documents: u64,
    /// Key columns of one code a row, the first being the positive vector itself.
    pub(crate) keys: u64,
    /// Key columns of any number of codes a row.
    pub(crate) lists: u64,
    /// Whether the last of these is the vectors of both sides.
    pub(crate) both_sides: BothSides,
    /// Rows and documents of the input that were left out.
    pub(crate) dropped: u64,
}

/// What is known of rows that have a vector in common which is not the positive of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BothSides {
    /// There are none, or it was not asked for.
    Unknown,
    /// They conflict: the last key list takes the place of the first key column.
    Part,
    /// They do not conflict: the last key list only tells which they are.
    Tell,
}

impl BothSides {
    const ALL: [BothSides; 3] = [BothSides::Unknown, BothSides::Part, BothSides::Tell];

    /// Its number in the header.
    fn field(self) -> u64 {
        self as u64
    }

    fn of_field(field: u64) -> Option<BothSides> {
        BothSides::ALL.into_iter().find(|known| known.field() == field)
    }
}

impl RowLayout {
    /// The header of the file.
    pub(crate) fn header(self) -> [u8; HEADER_BYTES] {
        ROWS.header([self.rows, self.keys, self.lists, self.both_sides.field(), self.dropped, self.documents])
    }

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
    /// Maps a file, and the key lists beside it, and checks every value. O(rows · columns + codes of lists).
    ///
    /// # Errors
    /// The file is not a complete table, or a value is out of range; the same of a file of key lists.
    pub(crate) fn open(path: &Path) -> Result<RowTable> {
        let sealed = Sealed::open(path, &ROWS)?;
        sealed.check()?;
        let [rows, keys, lists, both_sides, dropped, documents] = sealed.fields;
        let known = BothSides::of_field(both_sides).filter(|known| *known == BothSides::Unknown || lists > 0);
        let both_sides = known.unwrap_or(BothSides::Unknown);
        let layout = RowLayout { rows, documents, keys, lists, both_sides, dropped };
        let sound =
            (1..=ROWS_MAX).contains(&rows) && (1..=KEYS_MAX).contains(&keys) && lists <= KEYS_MAX && known.is_some();
        let sound = sound && dropped <= ROWS_MAX - rows && documents < rows;
        sealed.expect_payload(sound.then(|| layout.file_bytes() - HEADER_BYTES as u64))?;
        let open = |index| KeyListFile::open(&path.with_file_name(key_lists_name(index)), rows);
        let lists = (0..lists).map(open).collect::<Result<Vec<_>>>()?;
        let table = RowTable { sealed, layout, lists, verdict_keys: None };
        match table.unsound_column() {
            None => Ok(table),
            Some((expected, found)) => Err(Error::runtime("a row table has a value out of range")
                .path(path)
                .expected(expected)
                .found(found)
                .remedy("the file is damaged: delete it and run `mine` again")),
        }
    }

    /// Files of key lists beside it.
    pub(crate) fn key_lists(&self) -> usize {
        self.lists.len()
    }

    /// What later stages rely on, and where it does not hold: they index by input rows and by codes, and sort by
    /// scores.
    fn unsound_column(&self) -> Option<(String, &'static str)> {
        let rows = self.layout.rows;
        // No early end inside a column: these loops run over all rows at each opening, and vectorise.
        let below = |values: &[u32], limit: u64| values.iter().max().is_none_or(|most| u64::from(*most) < limit);
        if !below(self.input_rows(), self.input_row_limit()) {
            return Some((format!("input rows below {}", self.input_row_limit()), "an input row beyond the last"));
        }
        for scales in [self.query_scales(), self.positive_scales()] {
            if !scales.iter().fold(true, |sound, scale| sound & (*scale > 0.0 && scale.is_finite())) {
                return Some(("finite scales above zero".into(), "a scale that is none"));
            }
        }
        if !self.scores().iter().fold(true, |sound, score| sound & score.is_finite()) {
            return Some(("finite scores".into(), "a score that is not finite"));
        }
        if (0..self.layout.keys).any(|column| KeyColumn::One(self.codes(column)).code_limit() as u64 > rows) {
            let expected = format!("key codes below {rows}, or {UNIQUE} for no shared key");
            return Some((expected, "a code beyond the last row"));
        }
        None
    }

    fn column<T: bytemuck::AnyBitPattern>(&self, offset: u64) -> &[T] {
        let start = offset as usize - HEADER_BYTES;
        let bytes = self.layout.rows as usize * size_of::<T>();
        bytemuck::cast_slice(&self.sealed.payload()[start..start + bytes])
    }

    /// Rows with a query: all but the documents, which come behind them.
    pub(crate) fn row_count(&self) -> RowId {
        (self.layout.rows - self.layout.documents) as RowId
    }

    /// Rows and documents of the input that were left out.
    pub(crate) fn dropped(&self) -> u64 {
        self.layout.dropped
    }

    /// Rows and documents of the input, with those that were left out.
    pub(crate) fn input_row_limit(&self) -> u64 {
        self.layout.rows + self.layout.dropped
    }

    /// Ordinal of each row in the input; documents are counted behind the last row.
    pub(crate) fn input_rows(&self) -> &[u32] {
        self.column(self.layout.input_row())
    }

    /// 1/‖x‖ of each query; 1 for the dot metric, and for documents.
    pub(crate) fn query_scales(&self) -> &[f64] {
        self.column(self.layout.query_scale())
    }

    /// 1/‖y‖ of each positive; 1 for the dot metric.
    pub(crate) fn positive_scales(&self) -> &[f64] {
        self.column(self.layout.positive_scale())
    }

    /// Score of each query with its own positive.
    pub(crate) fn scores(&self) -> &[f32] {
        &self.column(self.layout.score())[..self.row_count() as usize]
    }

    /// Which rows have the same positive; `key`: the number of the positive key among the key columns of one code a
    /// row, from 1, where there is one.
    pub(crate) fn positive_codes(&self, key: Option<usize>) -> PositiveCodes<'_> {
        PositiveCodes { key: key.map_or(&[], |key| self.codes(key as u64)), vectors: self.codes(0) }
    }

    /// Codes of a key column of one code a row.
    fn codes(&self, column: u64) -> &[u32] {
        self.column(self.layout.key(column))
    }

    /// The key columns of rows that conflict. First come the vectors: the positives, or both sides where a row's query
    /// is another row's query or positive.
    pub(crate) fn keys(&self) -> Keys<'_> {
        self.keys_with_vectors(self.layout.both_sides == BothSides::Part)
    }

    /// Takes the pairs of rows that verdicts part.
    pub(super) fn part(&mut self, keys: KeyListFile) {
        self.verdict_keys = Some(keys);
    }

    /// The same, and what verdicts part: which rows share no cluster and no batch.
    pub(crate) fn parting_keys(&self) -> Keys<'_> {
        let keys = self.keys();
        match &self.verdict_keys {
            None => keys,
            Some(file) => Keys::of_columns([keys.columns(), &columns_of(std::slice::from_ref(file))].concat()),
        }
    }

    /// The same with both sides' vectors in any case.
    pub(crate) fn keys_and_queries(&self) -> Keys<'_> {
        self.keys_with_vectors(self.layout.both_sides != BothSides::Unknown)
    }

    fn keys_with_vectors(&self, both_sides: bool) -> Keys<'_> {
        let known = usize::from(self.layout.both_sides != BothSides::Unknown);
        let (own, vectors) = self.lists.split_at(self.lists.len() - known);
        let one = |column| KeyColumn::One(self.codes(column));
        let vectors = if both_sides { columns_of(vectors) } else { vec![one(0)] };
        Keys::of_columns([vectors, (1..self.layout.keys).map(one).collect(), columns_of(own)].concat())
    }
}

fn columns_of(files: &[KeyListFile]) -> Vec<KeyColumn<'_>> {
    files.iter().map(|file| KeyColumn::Lists(file.lists())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::key_lists::KEY_LISTS;
    use crate::vectors::testing::{refused, write_sealed};

    const LAYOUT: RowLayout =
        RowLayout { rows: 3, documents: 0, keys: 2, lists: 0, both_sides: BothSides::Unknown, dropped: 0 };

    /// A sound table of three rows with `bytes` put at `offset`.
    fn table(offset: u64, bytes: &[u8]) -> Vec<u8> {
        let mut table = vec![0; LAYOUT.file_bytes() as usize];
        let mut put = |offset: u64, bytes: &[u8]| table[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        put(LAYOUT.input_row(), bytemuck::cast_slice(&[2u32, 0, 1]));
        put(LAYOUT.query_scale(), bytemuck::cast_slice(&[1f64; 3]));
        put(LAYOUT.positive_scale(), bytemuck::cast_slice(&[1f64; 3]));
        put(LAYOUT.key(0), bytemuck::cast_slice(&[UNIQUE, 1, 1]));
        put(LAYOUT.key(1), bytemuck::cast_slice(&[UNIQUE; 3]));
        if !bytes.is_empty() {
            put(offset, bytes);
        }
        table.split_off(HEADER_BYTES)
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.col");
        let fields = [LAYOUT.rows, LAYOUT.keys, LAYOUT.lists, 0, 0, 0];
        let open = |offset: u64, bytes: &[u8]| {
            write_sealed(&path, &ROWS, fields, &table(offset, bytes));
            RowTable::open(&path)
        };
        let sound = open(LAYOUT.score(), &1f32.to_le_bytes()).unwrap();
        assert_eq!((sound.input_rows(), sound.scores()), (&[2, 0, 1][..], &[1.0, 0.0, 0.0][..]));
        assert!(sound.keys().conflict(1, 2) && !sound.keys().conflict(0, 1));
        let path = path.as_path();
        refused(path, open(LAYOUT.input_row() + 4, &3u32.to_le_bytes()));
        refused(path, open(LAYOUT.key(1) + 8, &3u32.to_le_bytes()));
        refused(path, open(LAYOUT.key(0), &(UNIQUE - 1).to_le_bytes()));
        for scale in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
            refused(path, open(LAYOUT.query_scale() + 16, &scale.to_le_bytes()));
            refused(path, open(LAYOUT.positive_scale(), &scale.to_le_bytes()));
        }
        refused(path, open(LAYOUT.score() + 8, &f32::NAN.to_le_bytes()));
        // With one row left out, the input has four; and never more rows than a job.
        let with_dropped = |dropped: u64, row: u32| {
            let fields = [LAYOUT.rows, LAYOUT.keys, LAYOUT.lists, 0, dropped, 0];
            write_sealed(path, &ROWS, fields, &table(LAYOUT.input_row() + 4, &row.to_le_bytes()));
            RowTable::open(path)
        };
        assert_eq!(with_dropped(1, 3).unwrap().input_rows(), [2, 3, 1]);
        refused(path, with_dropped(1, 4));
        refused(path, with_dropped(u64::MAX, 3));
    }

    #[test]
    fn counts_that_do_not_fit_are_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.col");
        for (rows, keys) in [(0, 2), (3, 0), (3, u64::MAX), (4, 2), (u64::MAX, 2), (1 << 62, 2), (u64::MAX / 8, 2)] {
            write_sealed(&path, &ROWS, [rows, keys, 0, 0, 0, 0], &table(0, &[]));
            refused(&path, RowTable::open(&path));
        }
    }

    #[test]
    fn key_lists_take_the_place_of_equal_positives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.col");
        let open = |fields| {
            write_sealed(&path, &ROWS, fields, &table(0, &[]));
            RowTable::open(&path)
        };
        assert!(open([3, 2, 1, 1, 0, 0]).unwrap_err().to_string().contains(&key_lists_name(0)));
        let lists = bytemuck::cast_slice::<u64, u8>(&[0, 1, 2, 2]).iter().chain(bytemuck::cast_slice(&[0u32, 0]));
        let lists: Vec<u8> = lists.copied().collect();
        write_sealed(&folder.path().join(key_lists_name(0)), &KEY_LISTS, [3, 2, 0, 0, 0, 0], &lists);
        let conflicts = |table: &RowTable| [(0, 1), (1, 2)].map(|(a, b)| table.keys().conflict(a, b));
        assert_eq!(conflicts(&open([3, 2, 1, 1, 0, 0]).unwrap()), [true, false]);
        assert_eq!(conflicts(&open([3, 2, 1, 0, 0, 0]).unwrap()), [true, true]);
        assert_eq!(conflicts(&open([3, 2, 0, 0, 0, 0]).unwrap()), [false, true]);
        let told = open([3, 2, 1, 2, 0, 0]).unwrap();
        assert_eq!(conflicts(&told), [false, true]);
        assert!(told.keys_and_queries().conflict(0, 1) && !told.keys_and_queries().conflict(1, 2));
        for fields in [[3, 2, 0, 1, 0, 0], [3, 2, 0, 2, 0, 0], [3, 2, 1, 3, 0, 0], [3, 2, u64::MAX, 0, 0, 0]] {
            refused(&path, open(fields));
        }
    }
}
