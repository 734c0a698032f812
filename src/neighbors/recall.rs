//! Recall@k, measured on a random sample of queries against brute force.

use rand::RngExt;

use super::file::Neighbors;
use super::tiles::{LIST_TILE_QUERIES, Tiles};
use crate::config::KernelPrecision;
use crate::error::Result;
use crate::neighbors::topk::Candidate;
use crate::random::{Purpose, stream};
use crate::vectors::RowId;
use crate::watch::Watch;

/// Most queries of a sample.
pub(crate) const SAMPLE: usize = 1000;

/// How much of what brute force finds was found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Recall {
    pub queries: u64,
    /// Ranks that brute force fills.
    pub wanted: u64,
    /// Of these, found.
    pub found: u64,
}

impl Recall {
    /// Share of what was found; 1 where nothing could be.
    pub(crate) fn share(self) -> f64 {
        if self.wanted == 0 { 1.0 } else { self.found as f64 / self.wanted as f64 }
    }

    fn add(&mut self, wanted: &[Candidate], found: &[RowId]) {
        let mut found = found.to_vec();
        found.sort_unstable();
        self.queries += 1;
        self.wanted += wanted.len() as u64;
        self.found += wanted.iter().filter(|candidate| found.binary_search(&candidate.row).is_ok()).count() as u64;
    }
}

/// A task, and some of its rows.
type TaskRows = (usize, Vec<RowId>);

/// Random rows with their true lists, task by task.
#[derive(Debug)]
pub(crate) struct RecallSample {
    tasks: Vec<(TaskRows, Vec<Vec<Candidate>>)>,
}

impl RecallSample {
    /// Draws rows and searches them by brute force; `ranks` are by task. O(sample · rows · dim).
    ///
    /// # Errors
    /// The watch stops the job.
    pub(crate) fn draw(tiles: &Tiles<'_>, ranks: &[usize], watch: Watch<'_>) -> Result<RecallSample> {
        let vectors = tiles.vectors;
        // Always the same rows: probes that are chosen by them must not depend on the seed of the batches.
        let mut random = stream(Purpose::RecallSample);
        let rows = vectors.row_count();
        let mut chosen: Vec<RowId> = (0..SAMPLE.min(rows as usize)).map(|_| random.random_range(0..rows)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        // All pairs, by another kernel than the search's: bf16 where it is fast, with the same exact result.
        let other = tiles.precision != KernelPrecision::Bf16 && tiles.simd.multiplies_bf16();
        let precision = if other { KernelPrecision::Bf16 } else { KernelPrecision::F32 };
        let brute = Tiles { packed: None, precision, fine_queries: LIST_TILE_QUERIES, ..*tiles };
        let groups = chosen.chunk_by(|a, b| vectors.tasks.of(*a) == vectors.tasks.of(*b));
        let mut tasks = Vec::new();
        for rows in groups {
            let task = vectors.tasks.of(rows[0]);
            let ranks = ranks[task].min(brute.columns.others(task)).max(1);
            tasks.push(((task, rows.to_vec()), brute.exact(brute.columns.of_task(task), rows, ranks, watch)?));
        }
        Ok(RecallSample { tasks })
    }

    /// Recall of some other search of the same rows.
    ///
    /// # Errors
    /// The search fails.
    pub(crate) fn of(&self, search: impl Fn(usize, &[RowId]) -> Result<Vec<Vec<Candidate>>>) -> Result<Recall> {
        let mut recall = Recall::default();
        for ((task, rows), wanted) in &self.tasks {
            for (wanted, found) in wanted.iter().zip(search(*task, rows)?) {
                let found: Vec<RowId> = found.iter().map(|candidate| candidate.row).collect();
                recall.add(wanted, &found);
            }
        }
        Ok(recall)
    }

    /// Recall of the lists on disk.
    ///
    /// # Errors
    /// A list is damaged.
    pub(crate) fn of_lists(&self, neighbors: &Neighbors) -> Result<Recall> {
        let mut recall = Recall::default();
        for ((_, rows), wanted) in &self.tasks {
            for (row, wanted) in rows.iter().zip(wanted) {
                let found: Vec<RowId> = neighbors.of_row(*row)?.iter().map(|candidate| candidate.row).collect();
                recall.add(wanted, &found);
            }
        }
        Ok(recall)
    }
}
