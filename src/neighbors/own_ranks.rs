//! `own_ranks.col`: the rank that each row's own positive would take among its candidates. Rows whose positive is not
//! found early (`--max-own-rank`) are in no cluster and no batch: the round-trip filter of question generation (Alberti
//! et al., *Synthetic QA Corpora Generation with Roundtrip Consistency*, 2019), as E5 and others use it.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 64 | 4 · rows | rank of each row's own positive, from 0, u32; `0xFFFFFFFF` beyond p + m |
//!
//! Header fields: rows. Memory: 4 bytes a row while it is made.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::window::Windows;
use crate::error::Result;
use crate::run::sealed::{FileFormat, PartWriter, Sealed};
use crate::vectors::{Place, RowId, Vectors};

/// Format of the file.
pub(crate) const OWN_RANKS: FileFormat = FileFormat { magic: *b"BMOWNRNK", version: 1, name: "own rank" };
/// The own positive is beyond the list.
const BEYOND: u32 = u32::MAX;

/// The rank that a row's own positive would take among its candidates, whose list is complete or has `ranks` of them.
/// `None`: beyond the list. Pure. O(log candidates).
pub(crate) fn own_rank(
    own: (f32, RowId),
    list: impl Fn(usize) -> (f32, RowId),
    length: usize,
    ranks: usize,
) -> Option<usize> {
    let (mut from, mut to) = (0, length);
    while from < to {
        let middle = from + (to - from) / 2;
        let (score, row) = list(middle);
        let is_before = score > own.0 || score == own.0 && row < own.1;
        if is_before { from = middle + 1 } else { to = middle }
    }
    (from < length || length < ranks).then_some(from)
}

/// The same of the row at a place.
pub(crate) fn of_place(vectors: &Vectors, windows: &Windows<'_>, place: Place) -> Option<usize> {
    let neighbors = windows.neighbors();
    let (row, places, scores) = (neighbors.row_at(place), neighbors.of(place), neighbors.scores(place));
    let ranks = windows.of_task(vectors.tasks.of(row)).ranks() as usize;
    // Where scores tie, the own positive stands where the row does that stands for it.
    let stands = neighbors.candidates().map_or(row, |known| neighbors.row_at(known.representative(place)));
    let own = (vectors.rows.scores()[row as usize], stands);
    own_rank(own, |rank| (scores[rank], neighbors.row_at(places[rank])), scores.len(), ranks)
}

/// Of all rows, by row. O(rows · log ranks).
pub(crate) fn find(vectors: &Vectors, windows: &Windows<'_>) -> Vec<u32> {
    let ranks: Vec<AtomicU32> = (0..vectors.row_count()).map(|_| AtomicU32::new(BEYOND)).collect();
    windows.block_places().par_iter().for_each(|places| {
        for place in *places {
            let rank = of_place(vectors, windows, place).map_or(BEYOND, |rank| rank as u32);
            ranks[windows.neighbors().row_at(place) as usize].store(rank, Ordering::Relaxed);
        }
    });
    ranks.into_iter().map(AtomicU32::into_inner).collect()
}

/// Writes the ranks.
pub(crate) fn write(out: &mut PartWriter, ranks: &[u32]) -> std::io::Result<()> {
    out.write_all(&OWN_RANKS.header([ranks.len() as u64, 0, 0, 0, 0, 0]))?;
    ranks.iter().try_for_each(|rank| out.write_all(&rank.to_le_bytes()))?;
    out.seal()
}

/// The ranks of all rows, and the largest that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct OwnRanks {
    sealed: Sealed,
    most: u32,
}

impl OwnRanks {
    /// Maps the file of a job of so many rows, and reads all of it.
    ///
    /// # Errors
    /// It is not what was written.
    pub(crate) fn open(path: &Path, rows: u32, most: u32) -> Result<OwnRanks> {
        let sealed = Sealed::open(path, &OWN_RANKS)?;
        let wanted = Some(4 * u64::from(rows)).filter(|_| sealed.fields[0] == u64::from(rows));
        sealed.expect_payload(wanted)?;
        sealed.check()?;
        Ok(OwnRanks { sealed, most })
    }

    /// The rank of a row's own positive; none beyond its list.
    #[inline]
    pub(crate) fn of(&self, row: RowId) -> Option<u32> {
        let ranks: &[u32] = bytemuck::cast_slice(self.sealed.payload());
        Some(ranks[row as usize]).filter(|rank| *rank != BEYOND)
    }

    /// Whether the row is in no cluster and no batch.
    #[inline]
    pub(crate) fn leaves_out(&self, row: RowId) -> bool {
        self.of(row).is_none_or(|rank| rank > self.most)
    }

    /// How many rows are left out. O(rows).
    pub(crate) fn left_out(&self) -> u64 {
        (0..self.sealed.fields[0] as RowId).filter(|row| self.leaves_out(*row)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_own_rank_is_where_the_own_pair_would_stand(
            own in (-4i32..=4, 0u32..40), list in proptest::collection::btree_set((-4i32..=4, 0u32..40), 0..12),
            more in 0usize..3,
        ) {
            let mut list: Vec<(f32, RowId)> = list.into_iter().map(|(score, row)| (score as f32, row)).collect();
            list.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let own = (own.0 as f32, own.1);
            let before = list.iter().filter(|other| other.0 > own.0 || other.0 == own.0 && other.1 < own.1).count();
            let is_known = before < list.len() || more > 0;
            let found = own_rank(own, |rank| list[rank], list.len(), list.len() + more);
            prop_assert_eq!(found, is_known.then_some(before));
        }
    }
}
