//! The masked rows of a batch: all that must be, and no other.

use std::collections::HashSet;

use rayon::prelude::*;

use super::Opened;
use crate::neighbors::Windows;
use crate::vectors::{Place, RowId, Scorer, SideScorer};

/// What is wrong with a batch's mask, row by row. Every pair is looked at. O(|B|²), and where there are score limits
/// O(|B|² · dim).
pub(super) fn faults(
    opened: &Opened<'_>,
    windows: &Windows<'_>,
    rows: &[RowId],
    masked: &[Option<Vec<i32>>],
) -> Vec<String> {
    let scorers = || (Scorer::new(&opened.vectors), SideScorer::new(&opened.vectors));
    let fault = |(scorer, sides): &mut (Scorer<'_>, SideScorer<'_>), (row, found): (&RowId, &Option<Vec<i32>>)| {
        let wanted = of_row(opened, windows, rows, *row, scorer, sides);
        match found {
            Some(found) if *found == wanted => None,
            Some(found) => Some(format!("the mask of row {row} is {found:?}, and must be {wanted:?}")),
            None => Some(format!("the mask of row {row} is no list of positions")),
        }
    };
    rows.par_iter().zip(masked).map_init(scorers, fault).flatten().collect()
}

/// The positions that a row's mask must have.
fn of_row(
    opened: &Opened<'_>,
    windows: &Windows<'_>,
    rows: &[RowId],
    row: RowId,
    scorer: &mut Scorer<'_>,
    sides: &mut SideScorer<'_>,
) -> Vec<i32> {
    let (vectors, neighbors) = (&opened.vectors, &opened.neighbors);
    let (place, task, keys) = (neighbors.place_of(row), vectors.tasks.of(row), vectors.rows.keys());
    let suspects: HashSet<Place> = windows.of(place).suspects().collect();
    let mut is_masked = |other: RowId| {
        let of_task = vectors.tasks.of(other) == task;
        let candidate = neighbors.stands_for(neighbors.place_of(other));
        let is_suspect = of_task && suspects.contains(&candidate);
        let mut too_close =
            || of_task && windows.is_too_close(place, candidate, || scorer.pair(row, other), || sides.pair(row, other));
        other != row && (is_suspect || keys.conflict(row, other) || too_close())
    };
    (0..).zip(rows).filter(|(_, other)| is_masked(**other)).map(|(position, _)| position).collect()
}
