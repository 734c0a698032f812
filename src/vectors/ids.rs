//! Ids by input row. Mapped.

use std::path::Path;

use super::row::ROWS_MAX;
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, Sealed};

/// Format of `ids.col` with int64 ids.
pub(crate) const INT_IDS: FileFormat = FileFormat { magic: *b"BMIDSINT", version: 2, name: "int64 ids" };
/// Format of `ids.col` with string ids.
pub(crate) const TEXT_IDS: FileFormat = FileFormat { magic: *b"BMIDSTXT", version: 2, name: "string ids" };

/// Ids by input row.
#[derive(Debug, Clone)]
pub(crate) enum Ids {
    /// The row's ordinal in the input.
    RowNumber,
    Int(Sealed),
    Text(Sealed),
}

impl Ids {
    pub(crate) fn are_text(&self) -> bool {
        matches!(self, Ids::Text(_))
    }

    /// Maps int64 ids of so many rows.
    ///
    /// # Errors
    /// The file is not complete, or of another number of rows.
    pub(crate) fn open_int(path: &Path, rows: u64) -> Result<Ids> {
        let sealed = Sealed::open(path, &INT_IDS)?;
        sealed.check()?;
        sealed.expect_payload(rows.checked_mul(8).filter(|_| sealed.fields[0] == rows))?;
        Ok(Ids::Int(sealed))
    }

    /// Maps string ids of so many rows and checks every offset. O(bytes).
    ///
    /// # Errors
    /// The file is not complete or of another number of rows, or its offsets do not divide its text.
    pub(crate) fn open_text(path: &Path, rows: u64) -> Result<Ids> {
        let sealed = Sealed::open(path, &TEXT_IDS)?;
        sealed.check()?;
        let [count, text, ..] = sealed.fields;
        let payload = count.checked_add(1).and_then(|n| n.checked_mul(8)).and_then(|n| n.checked_add(text));
        sealed.expect_payload(payload.filter(|_| count == rows && rows <= ROWS_MAX))?;
        let (offsets, text) = sealed.payload().split_at(8 * (rows as usize + 1));
        if !std::str::from_utf8(text).is_ok_and(|text| are_offsets(bytemuck::cast_slice(offsets), text)) {
            return Err(Error::runtime("an id file is inconsistent")
                .path(path)
                .expected("rising offsets and UTF-8 text")
                .found("something else")
                .remedy("the file is damaged: delete it and run `mine` again"));
        }
        Ok(Ids::Text(sealed))
    }

    /// The int64 id of an input row, where ids are numbers.
    pub(crate) fn int(&self, input_row: u32) -> Option<i64> {
        match self {
            Ids::RowNumber => Some(i64::from(input_row)),
            Ids::Int(sealed) => {
                let ids: &[i64] = bytemuck::cast_slice(sealed.payload());
                ids.get(input_row as usize).copied()
            }
            Ids::Text(_) => None,
        }
    }

    /// Bytes of the longest string id; 0 where ids are numbers. O(rows).
    pub(crate) fn longest(&self) -> usize {
        let Ids::Text(sealed) = self else { return 0 };
        let (offsets, _) = sealed.payload().split_at(8 * (sealed.fields[0] as usize + 1));
        let offsets: &[u64] = bytemuck::cast_slice(offsets);
        offsets.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) as usize).max().unwrap_or(0)
    }

    /// The string id of an input row, where ids are strings.
    pub(crate) fn text(&self, input_row: u32) -> Option<&str> {
        let Ids::Text(sealed) = self else { return None };
        let rows = sealed.fields[0] as usize;
        let (offsets, text) = sealed.payload().split_at(8 * (rows + 1));
        let offsets: &[u64] = bytemuck::cast_slice(offsets);
        let row = input_row as usize;
        let (start, end) = (*offsets.get(row)?, *offsets.get(row + 1)?);
        text.get(start as usize..end as usize).and_then(|text| std::str::from_utf8(text).ok())
    }
}

/// Whether offsets divide a text: they rise from 0 to its length, and none lies inside of a character.
pub(super) fn are_offsets(offsets: &[u64], text: &str) -> bool {
    let ends = offsets.first() == Some(&0) && offsets.last() == Some(&(text.len() as u64));
    ends && offsets.is_sorted() && offsets.iter().all(|offset| text.is_char_boundary(*offset as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::{refused, write_sealed};

    fn text_payload(offsets: &[u64], text: &[u8]) -> Vec<u8> {
        offsets.iter().flat_map(|offset| offset.to_le_bytes()).chain(text.iter().copied()).collect()
    }

    #[test]
    fn ids_beyond_the_last_row_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.col");
        write_sealed(&path, &INT_IDS, [2, 0, 0, 0, 0, 0], bytemuck::cast_slice(&[7i64, -8]));
        let ids = Ids::open_int(&path, 2).unwrap();
        assert_eq!([0, 1, 2, u32::MAX].map(|row| ids.int(row)), [Some(7), Some(-8), None, None]);
        write_sealed(&path, &TEXT_IDS, [2, 3, 0, 0, 0, 0], &text_payload(&[0, 2, 3], "äb".as_bytes()));
        let ids = Ids::open_text(&path, 2).unwrap();
        assert_eq!([0, 1, 2, u32::MAX].map(|row| ids.text(row)), [Some("ä"), Some("b"), None, None]);
    }

    #[test]
    fn files_of_other_counts_are_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.col");
        for (count, rows) in [(2, 3), (3, 2), (3, 3), (u64::MAX, u64::MAX), (1 << 61, 1 << 61)] {
            write_sealed(&path, &INT_IDS, [count, 0, 0, 0, 0, 0], bytemuck::cast_slice(&[7i64, -8]));
            refused(&path, Ids::open_int(&path, rows));
            write_sealed(&path, &TEXT_IDS, [count, 3, 0, 0, 0, 0], &text_payload(&[0, 2, 3], b"abc"));
            refused(&path, Ids::open_text(&path, rows));
        }
        write_sealed(&path, &TEXT_IDS, [2, u64::MAX, 0, 0, 0, 0], &text_payload(&[0, 2, 3], b"abc"));
        refused(&path, Ids::open_text(&path, 2));
    }

    #[test]
    fn offsets_that_do_not_divide_the_text_are_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.col");
        let text = "äb".as_bytes(); // 2 bytes and 1
        let cases: [(&[u64], &[u8]); 6] = [
            (&[0, 1, 3], text), // inside of a character
            (&[0, 4, 3], text),
            (&[0, u64::MAX, 3], text),
            (&[2, 2, 3], text),
            (&[0, 2, 2], text),
            (&[0, 2, 3], b"\xff\xffb"),
        ];
        for (offsets, text) in cases {
            write_sealed(&path, &TEXT_IDS, [2, text.len() as u64, 0, 0, 0, 0], &text_payload(offsets, text));
            refused(&path, Ids::open_text(&path, 2));
        }
    }
}
