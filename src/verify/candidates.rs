//! Who is a candidate: whether ranks are those of distinct positives where the settings say so, and of which.

use super::outcome::Outcome;
use crate::config::RankBy;
use crate::error::Result;
use crate::neighbors::Neighbors;
use crate::neighbors::candidates::{PositiveGroups, count_distinct};
use crate::run::RunReader;
use crate::run::record::{NeighborsFacts, NeighborsSettings};
use crate::vectors::{RowId, Vectors};

/// Groups all rows by their positives anew, and compares. O(rows).
///
/// # Errors
/// The manifest's record is none.
pub(super) fn check(
    run: &RunReader,
    vectors: &Vectors,
    neighbors: &Neighbors,
    outcome: &mut Outcome,
) -> Result<String> {
    let rules = run.settings::<NeighborsSettings>()?.candidates;
    let codes = vectors.positive_codes(rules.positive_key.as_deref())?;
    let tasks = &vectors.tasks;
    let distinct = count_distinct(tasks, &codes);
    let of = |task: usize| rules.by.of(tasks.name(task)).counted(tasks.range(task).len() as u64, distinct[task]);
    let by: Vec<RankBy> = (0..tasks.len()).map(of).collect();
    let any = by.contains(&RankBy::Positive);
    let Some(candidates) = neighbors.candidates() else {
        if any {
            outcome.fault("ranks are those of rows, and should be those of distinct positives".to_owned());
        }
        return Ok(String::new());
    };
    if !any || !candidates.are(&PositiveGroups::new(tasks, &codes, neighbors.places(), &by), neighbors.order()) {
        outcome.fault("rows that share a positive are not those that the candidates are made of".to_owned());
    }
    let stands = |row: RowId| candidates.representative(neighbors.place_of(row)) == neighbors.place_of(row);
    let count = (0..vectors.row_count()).filter(|row| stands(*row)).count();
    if run.facts::<NeighborsFacts>()?.candidates != Some(count as u64) {
        outcome.fault("the number of candidates is not the recorded one".to_owned());
    }
    Ok(format!("{count} candidates stand for the distinct positives of {} rows", vectors.row_count()))
}
