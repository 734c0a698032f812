//! A key column of any number of codes a row, in a file of its own. Mapped.

use std::io::Write;
use std::path::Path;

use super::keys::KeyLists;
use crate::error::{Error, Result};
use crate::run::sealed::{FileFormat, HEADER_BYTES, PartWriter, Sealed};

/// Format of a file of key lists.
pub(crate) const KEY_LISTS: FileFormat = FileFormat { magic: *b"BMKEYLST", version: 2, name: "key list" };

/// Numbers that are written at a time.
const CHUNK: usize = 1 << 12;

/// The name of a file of key lists, from 0 on.
pub(crate) fn key_lists_name(index: u64) -> String {
    format!("keys-{index:03}.lst")
}

/// A file of key lists, checked when opened.
#[derive(Debug, Clone)]
pub(crate) struct KeyListFile {
    sealed: Sealed,
}

impl KeyListFile {
    /// Maps a file and checks every value. O(rows + codes).
    ///
    /// # Errors
    /// The file is not complete, is of another number of rows, or a value is out of range.
    pub(crate) fn open(path: &Path, rows: u64) -> Result<KeyListFile> {
        let sealed = Sealed::open(path, &KEY_LISTS)?;
        sealed.check()?;
        let [count, codes, ..] = sealed.fields;
        let bytes = (count == rows).then(|| payload_bytes(rows, codes)).flatten();
        sealed.expect_payload(bytes)?;
        let file = KeyListFile { sealed };
        if file.is_sound() {
            return Ok(file);
        }
        Err(Error::runtime("key lists have a value out of range")
            .path(path)
            .expected("offsets that rise from 0 to the number of codes, and rising codes below that number in each row")
            .found("others")
            .remedy("the file is damaged: delete it and run `mine` again"))
    }

    fn is_sound(&self) -> bool {
        let KeyLists { offsets, codes } = self.lists();
        let ends = offsets.first() == Some(&0) && offsets.last() == Some(&(codes.len() as u64));
        ends && offsets.is_sorted()
            && codes.iter().all(|code| (*code as usize) < codes.len())
            && offsets.windows(2).all(|row| codes[row[0] as usize..row[1] as usize].is_sorted_by(|a, b| a < b))
    }

    pub(crate) fn lists(&self) -> KeyLists<'_> {
        let offsets = 8 * (self.sealed.fields[0] as usize + 1);
        let (offsets, codes) = self.sealed.payload().split_at(offsets);
        KeyLists { offsets: bytemuck::cast_slice(offsets), codes: bytemuck::cast_slice(codes) }
    }
}

/// Bytes of the payload; none where that is beyond a u64.
fn payload_bytes(rows: u64, codes: u64) -> Option<u64> {
    rows.checked_add(1)?.checked_mul(8)?.checked_add(codes.checked_mul(4)?)
}

/// Writes a whole file.
///
/// # Errors
/// The disk fails.
#[allow(dead_code, reason = "key columns of several values a row are to come")]
pub(crate) fn write_key_lists(out: &mut PartWriter, lists: KeyLists<'_>) -> std::io::Result<()> {
    let KeyLists { offsets, codes } = lists;
    debug_assert_eq!(HEADER_BYTES % 8, 0, "offsets are aligned");
    out.write_all(&KEY_LISTS.header([offsets.len() as u64 - 1, codes.len() as u64, 0, 0, 0, 0]))?;
    out.write_all(bytemuck::cast_slice(offsets))?;
    out.write_all(bytemuck::cast_slice(codes))?;
    out.seal()
}

/// Writes a whole file of entries (row · 2³² + code), ascending.
///
/// # Errors
/// The disk fails.
pub(crate) fn write_row_codes(out: &mut PartWriter, rows: u64, entries: &[u64]) -> std::io::Result<()> {
    out.write_all(&KEY_LISTS.header([rows, entries.len() as u64, 0, 0, 0, 0]))?;
    write_in_chunks(out, offsets(rows, entries))?;
    write_in_chunks(out, entries.iter().map(|entry| *entry as u32))?;
    out.seal()
}

/// Where the entries of each row begin; then how many there are.
fn offsets(rows: u64, entries: &[u64]) -> impl Iterator<Item = u64> {
    let mut end = 0;
    (0..=rows).map(move |row| {
        end += entries[end..].iter().take_while(|entry| **entry >> 32 < row).count();
        end as u64
    })
}

fn write_in_chunks<T: bytemuck::NoUninit>(
    out: &mut PartWriter,
    mut values: impl Iterator<Item = T>,
) -> std::io::Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        chunk.clear();
        chunk.extend(values.by_ref().take(CHUNK));
        if chunk.is_empty() {
            return Ok(());
        }
        out.write_all(bytemuck::cast_slice(&chunk))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::testing::{refused, write_sealed};

    #[test]
    fn values_out_of_range_are_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(key_lists_name(7));
        let open = |fields: [u64; 2], offsets: &[u64], codes: &[u32], rows| {
            let payload = [bytemuck::cast_slice::<u64, u8>(offsets), bytemuck::cast_slice(codes)].concat();
            write_sealed(&path, &KEY_LISTS, [fields[0], fields[1], 0, 0, 0, 0], &payload);
            KeyListFile::open(&path, rows)
        };
        let sound = open([3, 4], &[0, 2, 2, 4], &[0, 1, 0, 1], 3).unwrap();
        assert_eq!((sound.lists().offsets, sound.lists().codes), (&[0, 2, 2, 4][..], &[0, 1, 0, 1][..]));
        refused(&path, open([3, 4], &[0, 2, 2, 4], &[0, 1, 0, 1], 4));
        refused(&path, open([3, u64::MAX], &[0, 2, 2, 4], &[0, 1, 0, 1], 3));
        refused(&path, open([u64::MAX, 4], &[0, 2, 2, 4], &[0, 1, 0, 1], u64::MAX));
        for offsets in [[0, 2, 1, 4], [1, 2, 2, 4], [0, 2, 2, 3], [0, u64::MAX, 2, 4], [0, 2, 2, u64::MAX]] {
            refused(&path, open([3, 4], &offsets, &[0, 1, 0, 1], 3));
        }
        for codes in [[0, 0, 0, 1], [1, 0, 0, 1], [0, 4, 0, 1], [0, 1, 0, u32::MAX]] {
            refused(&path, open([3, 4], &[0, 2, 2, 4], &codes, 3));
        }
    }

    #[test]
    fn offsets_lead_to_the_codes_of_each_row() {
        let entries = [(0u64, 1u64), (0, 4), (2, 0), (2, 1), (5, 0)].map(|(row, code)| row << 32 | code);
        let offsets: Vec<u64> = offsets(7, &entries).collect();
        assert_eq!(offsets, [0, 2, 2, 4, 4, 4, 5, 5]);
        assert_eq!(super::offsets(1, &[]).collect::<Vec<_>>(), [0, 0]);
    }
}
