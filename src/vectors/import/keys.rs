//! Key columns of one key a row become codes: rows with equal keys get one code.
//!
//! Memory: 8 bytes a row, a hash, and while it is coded 8 more; one column at a time.

use std::sync::Mutex;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::context::Input;
use super::labels::{for_each_label, for_each_unit};
use super::scatter::Scatter;
use super::tasks::Numbers;
use crate::config::EmptyKeys;
use crate::error::Result;
use crate::run::record::KeyFacts;
use crate::vectors::labels::{LabelColumn, Missing};
use crate::vectors::row::{NO_ROW, RowId, UNIQUE};

/// Codes of a column's keys, by row and then by document, and what was taken for no key among the rows. Equal hashes
/// are taken for equal keys.
///
/// # Errors
/// The column cannot be read.
pub(super) fn key_column(
    input: &Input<'_>,
    corpus: Option<&Input<'_>>,
    column: &LabelColumn,
    numbers: &Numbers,
) -> Result<(Vec<u32>, KeyFacts)> {
    let hashes = Scatter::new(vec![0u64; (input.kept().rows + numbers.kept) as usize]);
    let counts = read_keys(input, column, &numbers.rows, &hashes)?;
    if let Some((corpus, own)) = corpus_column(corpus, column) {
        read_keys(corpus, own, &numbers.documents, &hashes)?;
    }
    Ok((key_codes(&hashes.into_inner(), |_, _| true), counts.facts(column)))
}

/// The corpus and its column of the same name, if it has one.
pub(super) fn corpus_column<'a, 'i>(
    corpus: Option<&'a Input<'i>>,
    column: &LabelColumn,
) -> Option<(&'a Input<'i>, &'i LabelColumn)> {
    let corpus = corpus?;
    let own = corpus.shards.labels.keys.iter().find(|own| own.name == column.name)?;
    Some((corpus, own))
}

/// Writes the hashes of a column's keys, given each input row's number.
fn read_keys(input: &Input<'_>, column: &LabelColumn, numbers: &[RowId], hashes: &Scatter<u64>) -> Result<KeyCounts> {
    let all = Mutex::new(KeyCounts::default());
    for_each_unit(&input.units, |unit| {
        let mut counts = KeyCounts::default();
        for_each_label(unit, column, |row, label| {
            let number = numbers[(unit.first_input_row() + row) as usize];
            if number == NO_ROW {
                return Ok(());
            }
            // 0 means "no key"; a key that hashes to 0 takes 1.
            let hash = counts.key(label, input.config.columns.empty_keys).map_or(0, |key| xxh3_64(key).max(1));
            counts.rows_without += u64::from(hash == 0);
            hashes.write(number as usize, [hash]);
            Ok(())
        })?;
        all.lock().expect("no thread panics while it holds the counts").add(counts);
        Ok(())
    })?;
    Ok(all.into_inner().expect("no thread panics while it holds the counts"))
}

/// What was taken for no key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct KeyCounts {
    pub(super) rows_without: u64,
    pub(super) null: u64,
    nan: u64,
    empty: u64,
    pub(super) empty_lists: u64,
}

impl KeyCounts {
    /// The key that a label is, counted where it is none.
    pub(super) fn key<'l>(&mut self, label: Result<&'l [u8], Missing>, empty_keys: EmptyKeys) -> Option<&'l [u8]> {
        match label {
            Err(Missing::Null) => self.null += 1,
            Err(Missing::NaN) => self.nan += 1,
            Ok([]) if empty_keys == EmptyKeys::Missing => self.empty += 1,
            Ok(key) => return Some(key),
        }
        None
    }

    pub(super) fn add(&mut self, other: KeyCounts) {
        self.rows_without += other.rows_without;
        self.null += other.null;
        self.nan += other.nan;
        self.empty += other.empty;
        self.empty_lists += other.empty_lists;
    }

    pub(super) fn facts(self, column: &LabelColumn) -> KeyFacts {
        let KeyCounts { rows_without, null, nan, empty, empty_lists } = self;
        let empty_lists = column.list.then_some(empty_lists);
        KeyFacts { column: column.name.clone(), rows_without, null, nan, empty, empty_lists }
    }
}

/// What a person should know of a key column: what was taken for no key; nothing where all was a key.
pub(super) fn words_on_keys(facts: &KeyFacts, rows: u64) -> Option<String> {
    let KeyFacts { column, rows_without, null, nan, empty, empty_lists } = facts;
    let counts = [(*null, "null"), (*nan, "NaN"), (*empty, "empty"), (empty_lists.unwrap_or(0), "empty lists")];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if counts.is_empty() {
        return None;
    }
    let of_lists = if empty_lists.is_some() { "rows and elements that are none: " } else { "" };
    let flag = if *empty > 0 { " (--empty-keys value makes a key of empty text)" } else { "" };
    Some(format!("column `{column}`: {rows_without} of {rows} rows have no key: {of_lists}{}{flag}", counts.join(", ")))
}

/// Codes of equal keys: the group's lowest row, or [`UNIQUE`] where no other row has the key.
/// `hashes` 0 stand for "no key"; `same` settles whether two rows of one hash are really equal.
/// O(rows log rows).
pub(super) fn key_codes(hashes: &[u64], same: impl Fn(RowId, RowId) -> bool) -> Vec<u32> {
    let mut order: Vec<RowId> = (0..hashes.len() as RowId).collect();
    order.par_sort_unstable_by_key(|row| (hashes[*row as usize], *row));
    let mut codes = vec![UNIQUE; hashes.len()];
    for group in order.chunk_by(|a, b| hashes[*a as usize] == hashes[*b as usize]) {
        let first = group[0];
        if group.len() < 2 || hashes[first as usize] == 0 {
            continue;
        }
        for row in &group[1..] {
            if same(first, *row) {
                codes[first as usize] = first;
                codes[*row as usize] = first;
            }
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_coded_by_their_first_row() {
        let hashes = [7, 5, 7, 0, 0, 9, 7];
        assert_eq!(key_codes(&hashes, |_, _| true), [0, UNIQUE, 0, UNIQUE, UNIQUE, UNIQUE, 0]);
        assert_eq!(key_codes(&hashes, |_, row| row != 2), [0, UNIQUE, UNIQUE, UNIQUE, UNIQUE, UNIQUE, 0]);
    }

    #[test]
    fn what_is_no_key_is_counted_and_said() {
        let labels: [Result<&[u8], Missing>; 5] = [Ok(b"a"), Ok(b""), Err(Missing::Null), Err(Missing::NaN), Ok(b"")];
        let count = |empty_keys| {
            let mut counts = KeyCounts::default();
            let keys: Vec<_> = labels.iter().map(|label| counts.key(*label, empty_keys)).collect();
            (keys.into_iter().flatten().count(), counts)
        };
        let missing = KeyCounts { null: 1, nan: 1, empty: 2, ..KeyCounts::default() };
        assert_eq!(count(EmptyKeys::Missing), (1, missing));
        assert_eq!(count(EmptyKeys::Value), (3, KeyCounts { empty: 0, ..missing }));
        let facts = KeyFacts { column: "doc".into(), rows_without: 150, nan: 150, ..KeyFacts::default() };
        assert_eq!(words_on_keys(&facts, 240).unwrap(), "column `doc`: 150 of 240 rows have no key: 150 NaN");
        assert_eq!(words_on_keys(&KeyFacts::default(), 240), None);
    }
}
