//! The exact counts of a list of batches: every list is read once, front to back.
//!
//! Memory: 4 bytes a row (members by batch), 8 bytes a batch, and the counts of each task.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::lists::BatchList;
use super::metrics::{NO_BATCH, PairCounts, key_sharers, sharers};
use crate::clusters::NO_CLUSTER;
use crate::clusters::labels::members;
use crate::error::Result;
use crate::neighbors::{Neighbors, Windows};
use crate::run::progress::Meter;
use crate::vectors::{Place, PlaceRange, RowId, Vectors};

/// Bounds of the buckets of [`ListTally::hits`]: bucket b holds counts from `HITS[b]` up to `HITS[b + 1]`.
pub(crate) const HITS: [u64; 13] = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048];

/// The members of each batch, as places.
#[derive(Debug)]
pub(crate) struct Members {
    starts: Vec<u32>,
    places: Vec<Place>,
}

impl Members {
    /// Sorts rows into their batches. O(rows).
    pub(crate) fn new(list: &BatchList) -> Members {
        let (starts, places) = members(list.membership().batch, list.count());
        let places = places.into_iter().map(Place::new).collect();
        Members { starts, places }
    }

    /// The members of one batch.
    pub(crate) fn of(&self, batch: u32) -> &[Place] {
        &self.places[self.starts[batch as usize] as usize..self.starts[batch as usize + 1] as usize]
    }
}

/// Counts of a list.
#[derive(Debug, Clone)]
pub(crate) struct ListTally {
    /// By task.
    pub tasks: Vec<PairCounts>,
    /// Batches that hold rows of a task, by task.
    pub batches: Vec<u64>,
    /// Queries by the number of preferred negatives in their batch, in buckets.
    pub hits: [u64; HITS.len()],
    /// Pairs of each batch that are in a rank window: the weight inside.
    pub weights: Vec<u64>,
}

/// A task's number, and counts of some of its rows.
type TaskCounts = (usize, PairCounts);

/// Counts lists of batches of one run.
#[derive(Debug)]
pub(crate) struct Counter<'a> {
    pub vectors: &'a Vectors,
    pub neighbors: &'a Neighbors,
    pub windows: &'a Windows<'a>,
    /// Counts every row of every list of batches.
    pub meter: &'a Meter,
}

impl Counter<'_> {
    /// Counts a list of batches. O(rows · ranks + rows log |B|).
    ///
    /// # Errors
    /// The meter stops the work.
    pub(crate) fn count(&self, list: &BatchList, members: &Members) -> Result<ListTally> {
        let tasks = self.vectors.tasks.len();
        let tally = ListTally {
            tasks: vec![PairCounts::default(); tasks],
            batches: vec![0; tasks],
            hits: [0; HITS.len()],
            weights: Vec::new(),
        };
        let weights: Vec<AtomicU64> = (0..list.count()).map(|_| AtomicU64::new(0)).collect();
        // Whole numbers add up to the same in any order.
        let tally = Mutex::new(tally);
        let add = |found: Vec<TaskCounts>, hits: &[u64], batches: u64| {
            let mut tally = tally.lock().expect("no thread panics while it holds the sums");
            for (task, counts) in found {
                tally.tasks[task].add(&counts);
                tally.batches[task] += batches;
            }
            tally.hits.iter_mut().zip(hits).for_each(|(sum, hits)| *sum += hits);
        };
        (0..list.count()).into_par_iter().for_each(|batch| add(self.of_batch(list, members.of(batch)), &[], 1));
        self.neighbors.blocks().par_iter().try_for_each(|block| {
            let (found, hits) = self.of_places(list, block.range(), &weights);
            add(found, &hits, 0);
            self.meter.add(block.range().len() as u64)
        })?;
        let tally = tally.into_inner().expect("no thread panicked while it held the sums");
        Ok(ListTally { weights: weights.into_iter().map(AtomicU64::into_inner).collect(), ..tally })
    }

    /// Pairs, and those of one cluster or key, by the tasks of a batch's rows.
    fn of_batch(&self, list: &BatchList, places: &[Place]) -> Vec<TaskCounts> {
        let rows: Vec<RowId> = places.iter().map(|place| self.neighbors.row_at(*place)).collect();
        let keys = key_sharers(&rows, &self.vectors.rows.keys_and_queries());
        let clusters = list.membership().cluster.map(|cluster| {
            let labels: Vec<u32> = places.iter().map(|place| cluster[place.index()]).collect();
            sharers(&labels, NO_CLUSTER)
        });
        let others = places.len() as u64 - 1;
        let mut found: Vec<TaskCounts> = Vec::new();
        for (member, row) in rows.iter().enumerate() {
            let counts = PairCounts {
                queries: 1,
                pairs: others,
                keys: u64::from(keys[member]),
                cluster_pairs: clusters.as_ref().map_or(0, |mates| u64::from(mates[member])),
                ..PairCounts::default()
            };
            self.put(&mut found, *row, &counts);
        }
        found
    }

    /// Preferred negatives and suspects in the batches of the queries at some places; adds to the batches' weights.
    fn of_places(
        &self,
        list: &BatchList,
        places: PlaceRange,
        weights: &[AtomicU64],
    ) -> (Vec<TaskCounts>, [u64; HITS.len()]) {
        let (membership, mut hits) = (list.membership(), [0; HITS.len()]);
        let mut found: Vec<TaskCounts> = Vec::new();
        for place in places.iter().filter(|place| membership.batch[place.index()] != NO_BATCH) {
            let cut = self.windows.of(place);
            let (window, cluster_window) = membership.meet(place, cut.preferred_rows());
            let (suspects, cluster_suspects) = membership.meet(place, cut.suspect_rows());
            let counts = PairCounts {
                window,
                suspects,
                cluster_window,
                cluster_suspects,
                without: u64::from(window == 0),
                without_window: u64::from(cut.preferred_rows().next().is_none()),
                ..PairCounts::default()
            };
            weights[membership.batch[place.index()] as usize].fetch_add(window, Ordering::Relaxed);
            hits[HITS.partition_point(|bound| *bound <= window) - 1] += 1;
            // A task's places have the numbers of its rows.
            self.put(&mut found, place.number(), &counts);
        }
        (found, hits)
    }

    /// Adds to the last task if the row is in it. It mostly is: rows come in order.
    fn put(&self, found: &mut Vec<TaskCounts>, row: RowId, counts: &PairCounts) {
        if let Some((task, sum)) = found.last_mut()
            && self.vectors.tasks.range(*task).contains(&row)
        {
            return sum.add(counts);
        }
        found.push((self.vectors.tasks.of(row), *counts));
    }
}
