//! Which documents of a corpus are candidates. Pure.

use crate::vectors::{PositiveCodes, RowId, UNIQUE, Vectors};

/// Room for a row or document a code, by column of codes.
pub(super) fn room(codes: &PositiveCodes<'_>) -> [Vec<RowId>; 2] {
    codes.lengths().map(|length| vec![UNIQUE; length])
}

/// Of each task, the documents that are no positive of its rows and no document before them, in order.
/// O(rows + documents). Memory: 8 bytes a row and document.
pub(super) fn distinct_documents(vectors: &Vectors, codes: &PositiveCodes<'_>) -> Vec<RowId> {
    let mut last = room(codes);
    let mut distinct = Vec::new();
    for (task, rows) in vectors.tasks.ranges().enumerate() {
        let documents = vectors.documents_of(task);
        if documents.is_empty() {
            continue;
        }
        rows.clone().for_each(|row| codes.all(row).for_each(|(kind, code)| last[kind][code as usize] = row));
        for document in documents.clone() {
            let is_known = |(kind, code): (usize, u32)| {
                let known = last[kind][code as usize];
                rows.contains(&known) || documents.contains(&known)
            };
            if !codes.all(document).any(is_known) {
                codes.all(document).for_each(|(kind, code)| last[kind][code as usize] = document);
                distinct.push(document);
            }
        }
    }
    distinct
}
