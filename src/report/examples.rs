//! Batches to look at: those with the most and with the least weight inside, with the texts of some of their rows.
//!
//! Memory: some texts of at most `TEXT_CHARS` characters.

use std::collections::BTreeSet;

use serde::Serialize;

use super::count::{ListTally, Members};
use super::lists::BatchList;
use crate::batches::texts::{RowTexts, TextSource};
use crate::clusters::NO_CLUSTER;
use crate::error::Result;
use crate::neighbors::{Neighbors, Windows};
use crate::run::RunReader;
use crate::vectors::{Place, Vectors};

/// Batches of each kind.
const BATCHES: usize = 3;
/// Rows of a batch.
const ROWS: usize = 8;
/// Characters of a text.
const TEXT_CHARS: usize = 200;

/// Some batches of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Examples {
    /// Columns of the texts of queries and positives; null where there is none.
    pub text_columns: [Option<String>; 2],
    /// Why there are no texts; null where there are.
    pub no_texts: Option<String>,
    /// Batches with the largest share of pairs in a rank window, that one first.
    pub most: Vec<ExampleBatch>,
    /// Batches with the smallest share, that one first; none that is among the others.
    pub least: Vec<ExampleBatch>,
}

/// One batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExampleBatch {
    pub batch_id: i64,
    pub rows: u64,
    /// Pairs in a rank window: the weight inside.
    pub window_pairs: u64,
    /// Their share of the pairs.
    pub window_share: f64,
    /// Suspect pairs.
    pub suspect_pairs: u64,
    /// Some of its rows: those with the most preferred negatives in the batch, or with the fewest.
    pub examples: Vec<ExampleRow>,
}

/// One row of a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExampleRow {
    /// Input row.
    pub row: u32,
    pub id: ExampleId,
    pub task: Option<String>,
    pub cluster_id: Option<u32>,
    /// Preferred negatives in the batch.
    pub preferred: u64,
    /// Suspects in the batch.
    pub suspects: u64,
    /// Text of the query, shortened.
    pub query: Option<String>,
    /// Text of the positive, shortened.
    pub positive: Option<String>,
}

/// An id as the input has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ExampleId {
    Int(i64),
    Text(String),
}

impl std::fmt::Display for ExampleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExampleId::Int(id) => write!(f, "{id}"),
            ExampleId::Text(id) => f.write_str(id),
        }
    }
}

/// A measured list of batches of one run.
#[derive(Clone, Copy)]
pub(super) struct Looked<'a> {
    pub vectors: &'a Vectors,
    pub neighbors: &'a Neighbors,
    pub windows: &'a Windows<'a>,
    pub list: &'a BatchList,
    pub members: &'a Members,
    pub tally: &'a ListTally,
}

impl Looked<'_> {
    /// Chooses batches and rows and reads their texts, where there are any.
    ///
    /// # Errors
    /// The files or columns that the user named are not there, or a file with texts is damaged.
    pub(super) fn examples(&self, run: &RunReader, texts: &TextSource) -> Result<Examples> {
        let sizes: Vec<u64> = (0..self.list.count()).map(|batch| self.members.of(batch).len() as u64).collect();
        let [most, least] = extremes(&self.tally.weights, &sizes);
        let mut examples = Examples {
            most: most.into_iter().map(|batch| self.batch(batch, true)).collect(),
            least: least.into_iter().map(|batch| self.batch(batch, false)).collect(),
            ..Examples::default()
        };
        let texts = match RowTexts::find(run, texts)? {
            Ok(texts) => texts,
            Err(why) => return Ok(Examples { no_texts: Some(why), ..examples }),
        };
        examples.text_columns = texts.columns().map(|column| column.map(str::to_owned));
        let mut batches: Vec<&mut ExampleBatch> = examples.most.iter_mut().chain(&mut examples.least).collect();
        let rows: BTreeSet<u32> = batches.iter().flat_map(|batch| batch.examples.iter().map(|row| row.row)).collect();
        let mut found = texts.read(&rows, TEXT_CHARS)?;
        for row in batches.iter_mut().flat_map(|batch| &mut batch.examples) {
            let text = found.remove(&row.row).unwrap_or_default();
            (row.query, row.positive) = (text.query, text.positive);
        }
        Ok(examples)
    }

    fn batch(&self, batch: u32, most: bool) -> ExampleBatch {
        let places = self.members.of(batch);
        let membership = self.list.membership();
        let counted = places.iter().map(|place| {
            let window = self.windows.of(*place);
            let (preferred, _) = membership.meet(*place, window.preferred_rows());
            let (suspects, _) = membership.meet(*place, window.suspect_rows());
            (*place, preferred, suspects)
        });
        let mut counted: Vec<(Place, u64, u64)> = counted.collect();
        let suspect_pairs = counted.iter().map(|(.., suspects)| suspects).sum();
        // The sort is stable, and members come by place.
        counted.sort_by_key(|(_, preferred, _)| if most { u64::MAX - preferred } else { *preferred });
        let rows = places.len() as u64;
        let window_pairs = self.tally.weights[batch as usize];
        ExampleBatch {
            batch_id: self.list.name(batch),
            rows,
            window_pairs,
            window_share: share(window_pairs, rows),
            suspect_pairs,
            examples: counted.into_iter().take(ROWS).map(|counts| self.row(counts)).collect(),
        }
    }

    fn row(&self, (place, preferred, suspects): (Place, u64, u64)) -> ExampleRow {
        let (vectors, row) = (self.vectors, self.neighbors.row_at(place));
        let input = vectors.rows.input_rows()[row as usize];
        let id = vectors.ids.text(input).map(|id| ExampleId::Text(id.to_owned()));
        let cluster = self.list.membership().cluster.map(|cluster| cluster[place.index()]);
        ExampleRow {
            row: input,
            id: id.unwrap_or_else(|| ExampleId::Int(vectors.ids.int(input).unwrap_or_default())),
            task: vectors.named_tasks.then(|| vectors.tasks.name(vectors.tasks.of(row)).to_owned()),
            cluster_id: cluster.filter(|cluster| *cluster != NO_CLUSTER),
            preferred,
            suspects,
            query: None,
            positive: None,
        }
    }
}

/// Share of a batch's pairs; 0 where it has no pairs.
fn share(pairs: u64, rows: u64) -> f64 {
    let all = rows.saturating_mul(rows.saturating_sub(1));
    if all == 0 { 0.0 } else { pairs as f64 / all as f64 }
}

/// The batches with the largest and with the smallest weight for each of their pairs, those of the largest and the
/// smallest first; of equal ones the first. A batch of one row has no pairs. Pure. O(batches log batches).
fn extremes(weights: &[u64], sizes: &[u64]) -> [Vec<u32>; 2] {
    let mut order: Vec<u32> = (0..weights.len() as u32).filter(|batch| sizes[*batch as usize] > 1).collect();
    let of = |batch: u32| share(weights[batch as usize], sizes[batch as usize]);
    order.sort_by(|a, b| of(*b).total_cmp(&of(*a)).then(a.cmp(b)));
    let most: Vec<u32> = order.iter().take(BATCHES).copied().collect();
    let mut least = order.split_off(most.len());
    least.sort_by(|a, b| of(*a).total_cmp(&of(*b)).then(a.cmp(b)));
    least.truncate(BATCHES);
    [most, least]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_are_by_the_share_of_the_pairs() {
        // Shares 0.5, 0, 0.25, 0.5, none, 1, 0.1, 0.1.
        let (weights, sizes) = ([6, 0, 3, 1, 0, 2, 2, 2], [4, 4, 4, 2, 1, 2, 5, 5]);
        let [most, least] = extremes(&weights, &sizes);
        assert_eq!(most, [5, 0, 3]);
        assert_eq!(least, [1, 6, 7]);
        let [most, least] = extremes(&weights[..4], &sizes[..4]);
        assert_eq!((most, least), (vec![0, 3, 2], vec![1]), "no batch is shown twice");
        assert_eq!(extremes(&[], &[]), [Vec::<u32>::new(), Vec::new()]);
    }
}
