//! Verdicts: whose positives were judged right answers share a key with the query's row, and nobody else does.

use std::collections::BTreeMap;

use super::{Opened, Outcome};
use crate::error::Result;
use crate::run::Stage;
use crate::run::record::EdgesSettings;
use crate::vectors::{Place, RowId};

impl Opened<'_> {
    /// Compares the keys that verdicts give with the verdicts. That rows of one key share no cluster and no batch is
    /// checked with all other keys, and the suspects with the graph. O(verdicts · rows of a positive).
    pub(super) fn check_verdicts(&self, outcome: &mut Outcome) -> Result<String> {
        if self.run.settings::<EdgesSettings>()?.verdicts.is_none() {
            return Ok(String::new());
        }
        if self.run.is_cleaned(Stage::Edges) {
            outcome.unchecked.push("verdicts: the edges were cleaned".into());
            return Ok(String::new());
        }
        let windows = self.windows()?;
        let Some(verdicts) = windows.verdicts() else { return Ok(String::new()) };
        let (rows, neighbors) = (self.vectors.row_count(), &self.neighbors);
        let keys = self.vectors.rows.parting_keys();
        let mut parted = 0;
        for verdict in verdicts.all().filter(|verdict| verdict.positive) {
            let [query, candidate] = [verdict.query, verdict.candidate].map(|place| neighbors.row_at(place));
            if candidate < rows && !keys.conflict(query, candidate) {
                outcome
                    .fault(format!("rows {query} and {candidate} are judged right for each other, and share no key"));
            }
            parted += 1;
        }
        // The last column has the keys of verdicts.
        let mut sharing: BTreeMap<u32, Vec<RowId>> = BTreeMap::new();
        if let Some(column) = keys.columns().last() {
            (0..rows)
                .for_each(|row| column.of(row).iter().for_each(|code| sharing.entry(*code).or_default().push(row)));
        }
        let stands = |row: RowId| -> Place { neighbors.stands_for(neighbors.place_of(row)) };
        for sharing in sharing.values() {
            let is_query = |query: &&RowId| {
                let judged = windows.verdicts_of(neighbors.place_of(**query));
                sharing.iter().all(|other| other == *query || judged.on(stands(*other)) == Some(true))
            };
            if !sharing.iter().any(|query| is_query(&query)) {
                outcome.fault(format!("rows {sharing:?} share a key of verdicts, and were not judged"));
            }
        }
        Ok(format!(
            "verdicts hold for {} pairs of a query and a candidate: {parted} right answers are parted for good",
            verdicts.count()
        ))
    }
}
