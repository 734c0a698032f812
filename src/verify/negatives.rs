//! The hard negatives of a batch: as many as there can be, and none that may not be.

use rayon::prelude::*;

use super::Opened;
use crate::neighbors::Windows;
use crate::neighbors::topk::Candidate;
use crate::vectors::{KeysByPlace, Place, RowId, Scorer};

/// What is wrong with a batch's negatives, row by row, where `count` were asked for.
/// O(|B| · window · log(|B| · window)).
pub(crate) fn faults(
    opened: &Opened<'_>,
    windows: &Windows<'_>,
    rows: &[RowId],
    drawn: &[Vec<Candidate>],
    count: usize,
) -> Vec<String> {
    let batch = BatchNegatives::new(opened, windows, rows);
    rows.par_iter()
        .zip(drawn)
        .map_init(
            || Scorer::new(&opened.vectors),
            |scorer, (row, drawn)| {
                batch.fault(*row, drawn, count, scorer).map(|fault| format!("the hard negatives of row {row}: {fault}"))
            },
        )
        .flatten()
        .collect()
}

/// The rows from which a batch's hard negatives may come, as places.
struct BatchNegatives<'a> {
    opened: &'a Opened<'a>,
    windows: &'a Windows<'a>,
    keys: KeysByPlace<'a>,
    /// The batch's own rows, sorted.
    members: Vec<Place>,
    /// The rows of their rank windows that are not in the batch, sorted, each once.
    pool: Vec<Place>,
}

impl<'a> BatchNegatives<'a> {
    fn new(opened: &'a Opened<'a>, windows: &'a Windows<'a>, rows: &[RowId]) -> BatchNegatives<'a> {
        let mut members: Vec<Place> = rows.iter().map(|row| opened.neighbors.place_of(*row)).collect();
        members.sort_unstable();
        let mut pool = Vec::new();
        for place in &members {
            let preferred = windows.of(*place).preferred();
            pool.extend(preferred.iter().filter(|other| members.binary_search(other).is_err()));
        }
        pool.par_sort_unstable();
        pool.dedup();
        let keys = opened.vectors.rows.keys().by_place(opened.neighbors.order());
        BatchNegatives { opened, windows, keys, members, pool }
    }

    fn fault(&self, row: RowId, drawn: &[Candidate], count: usize, scorer: &mut Scorer<'_>) -> Option<String> {
        let neighbors = &self.opened.neighbors;
        let own = neighbors.place_of(row);
        let suspects = self.windows.of(own).suspects();
        let tasks = &self.opened.vectors.tasks;
        let task = tasks.places(tasks.of(row));
        let mut others: Vec<Place> = drawn.iter().map(|negative| neighbors.place_of(negative.row)).collect();
        for (negative, other) in drawn.iter().zip(&others) {
            let wrong = match () {
                () if self.members.binary_search(other).is_ok() => "is in the batch itself",
                () if self.keys.conflict(own, *other) => "shares its key or a vector",
                () if suspects.contains(other) => "is its suspect",
                () if self.windows.is_too_close(own, || negative.score) => "is its suspect by score",
                () if !task.contains(*other) => "is of another task",
                () if self.pool.binary_search(other).is_err() => "is in no rank window of the batch",
                () if scorer.pair(row, negative.row).to_bits() != negative.score.to_bits() => "has another score",
                () => continue,
            };
            return Some(format!("row {} {wrong}", negative.row));
        }
        others.sort_unstable();
        if let Some(twice) = others.windows(2).find(|pair| pair[0] == pair[1]) {
            return Some(format!("row {} is among them twice", neighbors.row_at(twice[0])));
        }
        if drawn.len() == count {
            return None;
        }
        let may = |other: &&Place| {
            let score = || scorer.pair(row, neighbors.row_at(**other));
            task.contains(**other)
                && !suspects.contains(other)
                && !self.keys.conflict(own, **other)
                && !self.windows.is_too_close(own, score)
        };
        let most = self.pool.iter().filter(may).count().min(count);
        (drawn.len() != most).then(|| format!("there are {}, and could be {most}", drawn.len()))
    }
}
