//! What takes vectors: similarities in batches and Theorem 1's gap, of a seeded sample of queries.
//!
//! Half of the sample is shared out by the tasks' sizes, half equally, so that small tasks have figures too; within a
//! task every query has the same chance. Each sampled query is scored against its whole batch by the reference score.
//!
//! Memory: 40 bytes a sampled query and list; scores of one batch on each thread.

use rand::RngExt;
use rayon::prelude::*;

use super::count::Members;
use super::estimate::Stratum;
use super::lists::BatchList;
use super::metrics::{NO_BATCH, gap, highest, mean};
use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::random::{Purpose, stream};
use crate::run::progress::Meter;
use crate::vectors::{Place, RowId, Scorer, Tasks, Vectors};

/// Draws about `size` of all rows; returns places, ascending. Those that are in a list of batches are a sample of that
/// list in the same way. O(rows).
pub(crate) fn draw(tasks: &Tasks, size: u64, seed: u64, epoch: u32) -> Vec<Place> {
    let all: u64 = tasks.ranges().map(|range| range.len() as u64).sum();
    let mut chosen = Vec::new();
    for task in 0..tasks.len() {
        let places = tasks.places(task);
        let mut left = places.len() as u64;
        let mut wanted = share(size, left, all, tasks.len() as u64);
        let mut random = stream(Purpose::ReportSample { seed, epoch, task });
        // Knuth's algorithm S: every subset has the same chance.
        for place in places {
            if random.random_range(0..left) < wanted {
                chosen.push(place);
                wanted -= 1;
            }
            left -= 1;
        }
    }
    chosen
}

/// A task's share of a sample: half by its rows, half as every task; two at least, so that there is an error.
fn share(size: u64, rows: u64, all: u64, tasks: u64) -> u64 {
    if size >= all {
        return rows;
    }
    let half = size as f64 / 2.0;
    let wanted = half * rows as f64 / all as f64 + half / tasks as f64;
    (wanted.ceil() as u64).max(2).min(rows)
}

/// Two figures of a query: mean similarity of its K closest rows in the batch, and the gap.
type QueryFigures = (f64, f64);

/// The sampled figures of a list of batches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sampled {
    /// By task: queries drawn, and where the values of its queries end.
    tasks: Vec<(u64, usize)>,
    similarity: Vec<f64>,
    gap: Vec<f64>,
}

impl Sampled {
    /// Similarities: all tasks' strata, given the queries in batches of each.
    pub(crate) fn similarity(&self, populations: &[u64]) -> Vec<Stratum<'_>> {
        self.strata(&self.similarity, populations)
    }

    /// Gaps, the same.
    pub(crate) fn gap(&self, populations: &[u64]) -> Vec<Stratum<'_>> {
        self.strata(&self.gap, populations)
    }

    /// All similarities.
    pub(crate) fn similarities(&self) -> &[f64] {
        &self.similarity
    }

    fn strata<'a>(&self, values: &'a [f64], populations: &[u64]) -> Vec<Stratum<'a>> {
        let mut start = 0;
        let stratum = |(&(drawn, end), &population): (&(u64, usize), &u64)| {
            let values = &values[std::mem::replace(&mut start, end)..end];
            Stratum { population, drawn, values }
        };
        self.tasks.iter().zip(populations).map(stratum).collect()
    }

    /// By task, queries drawn whose batch holds no row that could be their negative.
    pub(crate) fn alone(&self) -> Vec<u64> {
        let mut start = 0;
        self.tasks.iter().map(|&(drawn, end)| drawn - (end - std::mem::replace(&mut start, end)) as u64).collect()
    }
}

/// A batch's scores, on one thread.
#[derive(Debug, Default)]
struct Buffers {
    scored: Vec<(RowId, f32)>,
    scores: Vec<f32>,
    /// Of the best rows in the query's list.
    best: Vec<f32>,
}

/// Scores sampled queries of one run.
#[derive(Debug)]
pub(crate) struct Sampler<'a> {
    pub vectors: &'a Vectors,
    pub neighbors: &'a Neighbors,
    /// K.
    pub top: usize,
    /// τ.
    pub temperature: f64,
    /// Counts every query of every list of batches.
    pub meter: &'a Meter,
}

impl Sampler<'_> {
    /// Scores the chosen queries against their batches; one that is in no batch of this list is left out.
    /// O(chosen · |B| · dim).
    ///
    /// # Errors
    /// A score is no number: the stored vectors are damaged; or the meter stops the work.
    pub(crate) fn measure(&self, list: &BatchList, members: &Members, chosen: &[Place]) -> Result<Sampled> {
        let batch = list.membership().batch;
        let found: Result<Vec<Option<QueryFigures>>> = chosen
            .par_iter()
            .filter(|place| batch[place.index()] != NO_BATCH)
            .map_init(
                || (Scorer::new(self.vectors), Buffers::default()),
                |(scorer, buffers), place| {
                    let members = members.of(batch[place.index()]);
                    self.check_vectors(*place, members)?;
                    let figures = self.query(*place, members, scorer, buffers);
                    self.meter.add(1).map(|()| figures)
                },
            )
            .collect();
        let found = found?;
        if found.iter().flatten().any(|(similarity, gap)| !similarity.is_finite() || !gap.is_finite()) {
            return Err(Error::runtime("a score is no finite number")
                .path(self.vectors.queries.sealed().path())
                .expected("finite vectors")
                .found("a NaN or an infinity")
                .remedy(
                    "the stored vectors are damaged: `batchmine verify` names the file; delete it and run `mine` again",
                ));
        }
        Ok(self.by_task(chosen.iter().filter(|place| batch[place.index()] != NO_BATCH), &found))
    }

    /// Checks the vectors that a query's figures come from. Only those: all of them may be far more than is read.
    fn check_vectors(&self, place: Place, batch: &[Place]) -> Result<()> {
        let row = |place: &Place| self.neighbors.row_at(*place);
        self.vectors.queries.check_row(row(&place))?;
        let mut others = batch.iter().chain(self.neighbors.of(place)).chain([&place]);
        others.try_for_each(|other| self.vectors.positives.check_row(row(other)))
    }

    fn by_task<'p>(&self, places: impl Iterator<Item = &'p Place>, found: &[Option<QueryFigures>]) -> Sampled {
        let mut sampled = Sampled { tasks: vec![(0, 0); self.vectors.tasks.len()], ..Sampled::default() };
        let (mut task, mut ended) = (0, 0);
        for (place, pair) in places.zip(found) {
            let own = self.vectors.tasks.of_place(*place);
            while task < own {
                sampled.tasks[task].1 = ended;
                task += 1;
            }
            sampled.tasks[task].0 += 1;
            if let Some((similarity, gap)) = pair {
                sampled.similarity.push(*similarity);
                sampled.gap.push(*gap);
                ended += 1;
            }
        }
        sampled.tasks[task..].iter_mut().for_each(|task| task.1 = ended);
        sampled
    }

    /// A query's figures; `None` where no row of the batch, or of the task, can be a negative of this query.
    fn query(
        &self,
        place: Place,
        batch: &[Place],
        scorer: &mut Scorer<'_>,
        buffers: &mut Buffers,
    ) -> Option<QueryFigures> {
        let (order, keys) = (self.neighbors.order(), self.vectors.rows.keys());
        let query = order[place.index()];
        // Documents of a corpus are in lists, and in no batch.
        let rows = Place::new(self.neighbors.row_count());
        let list = self.neighbors.of(place).iter().zip(self.neighbors.scores(place));
        let best = list.filter(|(other, _)| **other < rows).map(|(_, score)| *score).take(self.top);
        buffers.best.clear();
        buffers.best.extend(best);
        let all = &buffers.best[..];
        let others = batch.iter().map(|other| order[other.index()]);
        let others = others.filter(|row| *row != query && !keys.conflict(query, *row));
        buffers.scored.clear();
        buffers.scored.extend(others.map(|row| (row, 0.0)));
        if all.is_empty() || buffers.scored.is_empty() {
            return None;
        }
        scorer.pairs(query, &mut buffers.scored, |(row, _)| *row, |scored, score| scored.1 = score);
        buffers.scores.clear();
        buffers.scores.extend(buffers.scored.iter().map(|(_, score)| *score));
        let top = highest(&mut buffers.scores, all.len());
        let rows = self.vectors.tasks.range(self.vectors.tasks.of(query)).len() as u64;
        Some((mean(top), gap(all, top, rows, self.temperature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_has_its_share_and_no_task_more_than_its_rows() {
        assert_eq!(share(100, 900, 1000, 2), 70);
        assert_eq!(share(100, 100, 1000, 2), 30);
        assert_eq!(share(100, 3, 1000, 2), 3);
        assert_eq!(share(1, 500, 1000, 2), 2);
        assert_eq!(share(5000, 500, 1000, 2), 500, "all, where all fit");
    }
}
