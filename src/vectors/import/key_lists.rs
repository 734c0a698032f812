//! Key columns of lists become codes: rows that have any element in common get a code in common.
//!
//! Memory: for each element a hash and a row, and while it is coded 6 bytes more; one column at a time.

use std::sync::Mutex;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::context::Input;
use super::keys::{KeyCounts, corpus_column};
use super::labels::{for_each_list, for_each_unit};
use super::tasks::Numbers;
use crate::error::{Error, Result};
use crate::run::record::KeyFacts;
use crate::vectors::keys::KeyLists;
use crate::vectors::labels::LabelColumn;
use crate::vectors::row::{NO_ROW, RowId};

/// The codes of a column of lists, and what was taken for no key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CodedLists {
    offsets: Vec<u64>,
    codes: Vec<u32>,
}

impl CodedLists {
    pub(super) fn lists(&self) -> KeyLists<'_> {
        KeyLists { offsets: &self.offsets, codes: &self.codes }
    }
}

/// Reads a column of lists, of rows and documents, and codes its elements. Equal hashes are taken for equal elements.
/// What was taken for no key is counted among the rows.
///
/// # Errors
/// The column cannot be read, or has more elements than its footers say.
pub(super) fn key_lists(
    input: &Input<'_>,
    corpus: Option<&Input<'_>>,
    column: &LabelColumn,
    numbers: &Numbers,
) -> Result<(CodedLists, KeyFacts)> {
    let corpus = corpus_column(corpus, column);
    // As many as the plan has counted with.
    let most = column.elements + corpus.map_or(0, |(_, own)| own.elements);
    let mut elements = Vec::with_capacity(usize::try_from(most).unwrap_or(usize::MAX));
    let counts = read_elements(input, column, &numbers.rows, &mut elements)?;
    if let Some((corpus, own)) = corpus {
        read_elements(corpus, own, &numbers.documents, &mut elements)?;
    }
    let Some(coded) = code_lists(elements, (input.kept().rows + numbers.kept) as usize) else {
        return Err(Error::input("a key column has more shared elements than can be numbered")
            .column(&column.name)
            .expected(format!("at most {} elements that rows share", u32::MAX))
            .found("more")
            .remedy("mine fewer rows"));
    };
    Ok((coded, counts.facts(column)))
}

/// Adds the elements of a column of lists: hashes, and the numbers of their rows.
fn read_elements(
    input: &Input<'_>,
    column: &LabelColumn,
    numbers: &[RowId],
    elements: &mut Vec<(u64, RowId)>,
) -> Result<KeyCounts> {
    let most = usize::try_from(column.elements).unwrap_or(usize::MAX);
    let before = elements.len();
    let all = Mutex::new((elements, KeyCounts::default()));
    for_each_unit(&input.units, |unit| {
        let (mut found, mut counts) = (Vec::new(), KeyCounts::default());
        let give = |found: &mut Vec<(u64, RowId)>, counts: KeyCounts| {
            let mut all = all.lock().expect("no thread panics while it holds the elements");
            if all.0.len() - before + found.len() > most {
                return Err(unit.place(too_many(most), &column.name, None));
            }
            all.0.append(found);
            all.1.add(counts);
            Ok(())
        };
        for_each_list(unit, column, |row, labels, list| {
            let number = numbers[(unit.first_input_row() + row) as usize];
            if number == NO_ROW {
                return Ok(());
            }
            let before = found.len();
            counts.null += u64::from(list.is_none());
            counts.empty_lists += u64::from(list.as_ref().is_some_and(|list| list.is_empty()));
            for element in list.unwrap_or_default() {
                let key = counts.key(labels.get(element), input.config.columns.empty_keys);
                found.extend(key.map(|key| (xxh3_64(key), number)));
            }
            counts.rows_without += u64::from(found.len() == before);
            if found.len() < FOUND { Ok(()) } else { give(&mut found, std::mem::take(&mut counts)) }
        })?;
        give(&mut found, counts)
    })?;
    Ok(all.into_inner().expect("no thread panics while it holds the elements").1)
}

/// Elements that a thread keeps before it gives them to all.
const FOUND: usize = 8192;

fn too_many(most: usize) -> Error {
    Error::input("the file's data cannot be decoded")
        .expected(format!("at most the {most} list elements that the footers promise"))
        .found("more")
        .remedy("write or download the file again")
}

/// Codes of (hash, row): an element that several rows have becomes a code of each of them, numbered by the first row
/// that has it. None where there are more codes than numbers. O(elements log elements).
fn code_lists(mut elements: Vec<(u64, RowId)>, rows: usize) -> Option<CodedLists> {
    elements.par_sort_unstable();
    // A row that has an element twice shares it with nobody by that.
    elements.dedup();
    let (mut first_rows, mut kept, mut start) = (Vec::<RowId>::new(), 0, 0);
    while start < elements.len() {
        let (hash, first_row) = elements[start];
        let end = start + elements[start..].iter().take_while(|element| element.0 == hash).count();
        if end - start > 1 {
            let group = first_rows.len() as u64;
            first_rows.push(first_row);
            for at in start..end {
                elements[kept] = (group, elements[at].1);
                kept += 1;
            }
        }
        start = end;
    }
    elements.truncate(kept);
    let groups = u32::try_from(first_rows.len()).ok()?;
    let mut order: Vec<u32> = (0..groups).collect();
    order.par_sort_unstable_by_key(|group| (first_rows[*group as usize], *group));
    let mut codes = first_rows;
    (0..).zip(&order).for_each(|(code, group)| codes[*group as usize] = code);
    drop(order);
    elements.iter_mut().for_each(|(group, _)| *group = u64::from(codes[*group as usize]));
    elements.par_sort_unstable_by_key(|(code, row)| (*row, *code));
    let mut offsets = vec![0u64; rows + 1];
    elements.iter().for_each(|(_, row)| offsets[*row as usize + 1] += 1);
    (1..offsets.len()).for_each(|row| offsets[row] += offsets[row - 1]);
    Some(CodedLists { offsets, codes: elements.iter().map(|(code, _)| *code as u32).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_that_several_rows_have_are_coded_by_their_first_row() {
        // Row 0 has 9 twice, row 1 nothing, rows 2 and 4 share 5, rows 0, 2 and 3 share 8, rows 2 and 3 also 3.
        let elements = [(9, 0), (9, 0), (8, 0), (5, 2), (8, 2), (3, 2), (3, 3), (8, 3), (5, 4), (7, 4)];
        let expected = CodedLists { offsets: vec![0, 1, 1, 4, 6, 7], codes: vec![0, 0, 1, 2, 0, 1, 2] };
        assert_eq!(code_lists(elements.to_vec(), 5).unwrap(), expected);
        let mut turned = elements.to_vec();
        turned.reverse();
        assert_eq!(code_lists(turned, 5).unwrap(), expected, "the threads' order does not matter");
        assert_eq!(code_lists(Vec::new(), 2).unwrap(), CodedLists { offsets: vec![0; 3], codes: vec![] });
    }
}
