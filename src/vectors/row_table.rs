//! What is known of each row beside its vectors: input row, scales, score and key codes. Mapped.

use std::path::Path;

use super::key_lists::{KeyListFile, key_lists_name};
use super::keys::{KeyColumn, Keys};
use super::row::{ROWS_MAX, UNIQUE};
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, HEADER_BYTES, Sealed};

/// Format of `rows.col`.
pub(crate) const ROWS: FileFormat = FileFormat { magic: *b"BMROWCOL", version: 1, name: "row table" };
/// Most key columns of a table.
const KEYS_MAX: u64 = 1024;

/// What is known of each row beside its vectors: the columns of `rows.col`, checked when opened.
#[derive(Debug, Clone)]
pub(crate) struct RowTable {
    sealed: Sealed,
    layout: RowLayout,
    /// Key columns of any number of codes a row, each in a file beside the table.
    lists: Vec<KeyListFile>,
}

/// Where the columns of `rows.col` lie: a pure function of rows and key columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowLayout {
    pub(crate) rows: u64,
    /// Key columns of one code a row, the first being the positive vector itself.
    pub(crate) keys: u64,
    /// Key columns of any number of codes a row.
    pub(crate) lists: u64,
    /// Whether the first of these are the vectors of both sides: it takes the place of the first column of `keys`.
    pub(crate) both_sides: bool,
}

impl RowLayout {
    /// The header of the file.
    pub(crate) fn header(self) -> [u8; HEADER_BYTES] {
        ROWS.header([self.rows, self.keys, self.lists, u64::from(self.both_sides), 0, 0])
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
        let [rows, keys, lists, both_sides, ..] = sealed.fields;
        let layout = RowLayout { rows, keys, lists, both_sides: both_sides == 1 };
        let sound = (1..=ROWS_MAX).contains(&rows)
            && (1..=KEYS_MAX).contains(&keys)
            && lists <= KEYS_MAX
            && both_sides <= lists.min(1);
        sealed.expect_payload(sound.then(|| layout.file_bytes() - HEADER_BYTES as u64))?;
        let open = |index| KeyListFile::open(&path.with_file_name(key_lists_name(index)), rows);
        let lists = (0..lists).map(open).collect::<Result<Vec<_>>>()?;
        let table = RowTable { sealed, layout, lists };
        match table.unsound_column() {
            None => Ok(table),
            Some((expected, found)) => Err(Error::runtime("a row table has a value out of range")
                .path(path)
                .expected(expected)
                .found(found)
                .remedy("the file is damaged: delete it and run `mine` again")),
        }
    }

    /// What later stages rely on, and where it does not hold: they index by input rows and by codes, and sort by
    /// scores.
    fn unsound_column(&self) -> Option<(String, &'static str)> {
        let rows = self.layout.rows;
        // No early end inside a column: these loops run over all rows at each opening, and vectorise.
        let below = |values: &[u32], limit: u64| values.iter().max().is_none_or(|most| u64::from(*most) < limit);
        if !below(self.input_rows(), rows) {
            return Some((format!("input rows below {rows}"), "an input row beyond the last"));
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

    /// Ordinal of each row in the input.
    pub(crate) fn input_rows(&self) -> &[u32] {
        self.column(self.layout.input_row())
    }

    /// 1/‖x‖ of each query; 1 for the dot metric.
    pub(crate) fn query_scales(&self) -> &[f64] {
        self.column(self.layout.query_scale())
    }

    /// 1/‖y‖ of each positive; 1 for the dot metric.
    pub(crate) fn positive_scales(&self) -> &[f64] {
        self.column(self.layout.positive_scale())
    }

    /// Score of each query with its own positive.
    pub(crate) fn scores(&self) -> &[f32] {
        self.column(self.layout.score())
    }

    /// Codes of a key column of one code a row.
    fn codes(&self, column: u64) -> &[u32] {
        self.column(self.layout.key(column))
    }

    /// The key columns. First come the vectors: the positives, or both sides where a row's query is another row's query
    /// or positive.
    pub(crate) fn keys(&self) -> Keys<'_> {
        let lists = self.lists.iter().map(|lists| KeyColumn::Lists(lists.lists()));
        let replaced = u64::from(self.layout.both_sides);
        let ones = (replaced..self.layout.keys).map(|column| KeyColumn::One(self.codes(column)));
        match self.layout.both_sides {
            true => Keys::of_columns(lists.chain(ones).collect()),
            false => Keys::of_columns(ones.chain(lists).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::key_lists::KEY_LISTS;
    use crate::vectors::testing::{refused, write_sealed};

    const LAYOUT: RowLayout = RowLayout { rows: 3, keys: 2, lists: 0, both_sides: false };

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
        for fields in [[3, 2, 0, 1, 0, 0], [3, 2, 1, 2, 0, 0], [3, 2, u64::MAX, 0, 0, 0]] {
            refused(&path, open(fields));
        }
    }
}
