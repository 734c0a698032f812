//! Who is a candidate: whether ranks are those of distinct positives where the settings say so, and of which.

use super::outcome::Outcome;
use crate::config::RankBy;
use crate::error::Result;
use crate::neighbors::Neighbors;
use crate::neighbors::candidates::{PositiveGroups, count_distinct};
use crate::run::RunReader;
use crate::run::record::{NeighborsFacts, NeighborsSettings};
use crate::vectors::Vectors;

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
    let codes = vectors.row_positives(rules.positive_key.as_deref())?;
    let tasks = &vectors.tasks;
    let distinct = count_distinct(tasks, &codes);
    let of = |task: usize| rules.by.of(tasks.name(task)).counted(tasks.range(task).len() as u64, distinct[task]);
    let by: Vec<RankBy> = (0..tasks.len()).map(of).collect();
    let any = by.contains(&RankBy::Positive);
    let Some(candidates) = neighbors.candidates() else {
        if any || vectors.documents.is_some() {
            outcome.fault("all rows are candidates, and should be distinct positives and documents".to_owned());
        }
        return Ok(String::new());
    };
    if !any && vectors.documents.is_none()
        || !candidates.are(&PositiveGroups::new(vectors, &codes, neighbors.places(), &by))
    {
        outcome.fault("rows that share a positive are not those that the candidates are made of".to_owned());
    }
    let count = candidates.columns().len();
    if run.facts::<NeighborsFacts>()?.candidates != Some(count as u64) {
        outcome.fault("the number of candidates is not the recorded one".to_owned());
    }
    let rows = vectors.row_count();
    let Some(documents) = &vectors.documents else {
        return Ok(format!("{count} candidates stand for the distinct positives of {rows} rows"));
    };
    let [positives, found] = candidates.parts().map(<[u32]>::len);
    Ok(format!(
        "the positives of {positives} of {rows} rows, and {found} of {} documents, are candidates",
        documents.count()
    ))
}
