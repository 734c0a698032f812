//! Hard negatives of each batch, out of rank windows of its rows (`--negatives-of`).
//!
//! - *batch* (B3++): for batch B, Pr(j) ∝ the number of rows i of B whose rank window has j in it.
//! - *cluster* (B3++ as its authors released it): the same within a row's cluster, less two for each of its rows that
//!   has j among its suspects; what one row of the cluster has drawn no other one draws.
//! - *row*: the row's own window, drawn evenly; *row-top*: the first of it.
//!
//! The rank windows of B's rows, one after the other, are the [`Pool`]. A row that is in many windows is in it many
//! times: an entry that is drawn uniformly is a row drawn by its count, in constant time and without a table. Rows of B
//! itself are left out of it, and whatever has the positive of one of them, by its vector or by the positive key: it
//! would be a false negative of that row. Documents of a corpus are drawn as rows are. For each example,
//! entries are drawn until there are enough; an entry that the example may not have (of its key, its suspect, of
//! another task, or drawn before) is a *miss* and is drawn again. That is the weighted draw without replacement among
//! the rows that it may have. After `misses` misses the rest is drawn from a scan of the entries that it may have. The
//! distribution is the same, so the number of misses does not bias the draw.
//! Expected O(count · (skip + keys)) an example, and at worst O(count · |B| · window) times that.
//!
//! Few examples need the scan: a batch has at most one row of a key, so for each key column the shares of the pool that
//! its rows may not have sum up to at most 1. Suspects exclude a part of one list only.
//!
//! Memory: |B| · window entries of 4 bytes for each batch under way; of *cluster* K · (skip + window) for each thread.
//! Rows are known by their places, as in the lists. After Thirukovalluru et al. (2025), B3++.

mod pool;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use self::pool::{Pool, ROWS_MIN, share_out};
use super::order::BatchOrder;
use crate::clusters::NO_CLUSTER;
use crate::config::NegativesOf;
use crate::neighbors::topk::Candidate;
use crate::neighbors::{Neighbors, Windows};
use crate::random::{Purpose, stream};
use crate::vectors::{KeysByPlace, Place, PositiveCodes, RowId, Scorer, SideScorer, Vectors};

/// Entries of the pools that are held at a time; the last batch may begin within them and end beyond.
pub(crate) const POOL_ENTRIES: usize = 2 << 20;

/// Draws for the batches of an epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NegativeSampler<'a> {
    /// Keys, tasks, and what scores.
    pub vectors: &'a Vectors,
    /// Which rows and documents have the same positive.
    pub codes: PositiveCodes<'a>,
    pub neighbors: &'a Neighbors,
    /// Which of a list are suspects, and which preferred negatives.
    pub windows: &'a Windows<'a>,
    /// Cluster by row.
    pub labels: &'a [u32],
    /// Whose windows.
    pub of: NegativesOf,
    /// h: negatives of an example.
    pub count: usize,
    pub seed: u64,
}

impl NegativeSampler<'_> {
    /// The negatives of each row of some batches, row after row, in the order in which they were drawn, with the
    /// score of the row's query. A row's are the same wherever it stands in its batch, and on any number of threads.
    pub(crate) fn of_batches(&self, epoch: u32, order: &BatchOrder, batches: Range<usize>) -> Vec<Vec<Candidate>> {
        batches.into_par_iter().flat_map_iter(|index| self.of_batch(epoch, index, order.batch(index))).collect()
    }

    fn of_batch(&self, epoch: u32, index: usize, rows: &[RowId]) -> Vec<Vec<Candidate>> {
        let keys = self.vectors.rows.keys().by_place(self.neighbors.order());
        let mut members: Vec<Place> = rows.iter().map(|row| self.neighbors.place_of(*row)).collect();
        members.sort_unstable();
        let random = stream(Purpose::HardNegatives { seed: self.seed, epoch, batch: index });
        let taken = Taken::new(self, rows, &members);
        let batch = Batch { sampler: self, members, taken, keys, random };
        match self.of {
            NegativesOf::Batch => batch.out_of_all_windows(rows),
            NegativesOf::Cluster => batch.out_of_clusters(rows),
            NegativesOf::Row => batch.of_each(rows, |row| {
                let pool = Pool::new(&[row.place], batch.width(row.place), |place| batch.others(place));
                pool.draw(self.count, |_| true, &mut batch.random_of(row.row))
            }),
            NegativesOf::RowTop => batch.of_each(rows, |row| batch.others(row.place).take(self.count).collect()),
        }
    }
}

/// A batch whose negatives are drawn.
struct Batch<'a> {
    sampler: &'a NegativeSampler<'a>,
    /// Its rows, sorted.
    members: Vec<Place>,
    taken: Taken,
    keys: KeysByPlace<'a>,
    random: ChaCha8Rng,
}

/// The positives of a batch: its rows', and whoever has one of these, too.
struct Taken {
    /// The batch's rows, or who stands for their positives, and who was judged a right answer for one; sorted.
    places: Vec<Place>,
    /// Codes of the positives that others have, too, each with the column that it is of.
    codes: HashSet<(usize, u32)>,
}

impl Taken {
    fn new(sampler: &NegativeSampler<'_>, rows: &[RowId], members: &[Place]) -> Taken {
        let mut places = sampler.neighbors.standing_for(members);
        let judged = members.iter().flat_map(|place| sampler.windows.verdicts_of(*place).positives());
        places.extend(judged);
        places.sort_unstable();
        Taken { places, codes: rows.iter().flat_map(|row| sampler.codes.all(*row)).collect() }
    }

    /// Whether a candidate is a positive of the batch.
    fn has(&self, sampler: &NegativeSampler<'_>, other: Place) -> bool {
        // Mostly nobody else has any of them: then no code is looked up.
        let is_copy = || sampler.codes.all(sampler.neighbors.row_at(other)).any(|code| self.codes.contains(&code));
        self.places.binary_search(&other).is_ok() || !self.codes.is_empty() && is_copy()
    }
}

/// What scores a thread's rows.
struct Scorers<'a> {
    pairs: Scorer<'a>,
    sides: SideScorer<'a>,
}

impl<'a> Scorers<'a> {
    fn new(vectors: &'a Vectors) -> Scorers<'a> {
        Scorers { pairs: Scorer::new(vectors), sides: SideScorer::new(vectors) }
    }
}

/// A row that negatives are drawn for.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    row: RowId,
    place: Place,
}

impl Batch<'_> {
    fn anchor(&self, row: RowId) -> Anchor {
        Anchor { row, place: self.sampler.neighbors.place_of(row) }
    }

    /// A row's preferred negatives, counted.
    fn width(&self, place: Place) -> usize {
        self.sampler.windows.of(place).preferred().count()
    }

    /// A row's preferred negatives that are not in the batch, in the order of ranks.
    fn others(&self, place: Place) -> impl Iterator<Item = Place> {
        let preferred = self.sampler.windows.of(place).preferred();
        preferred.filter(|other| !self.taken.has(self.sampler, *other))
    }

    /// The batch's random numbers for a row, wherever it stands.
    fn random_of(&self, row: RowId) -> ChaCha8Rng {
        let mut random = self.random.clone();
        random.set_stream(u64::from(row));
        random
    }

    /// Draws for each row by itself.
    fn of_each(&self, rows: &[RowId], draw: impl Fn(Anchor) -> Vec<Place> + Sync) -> Vec<Vec<Candidate>> {
        rows.par_iter()
            .with_min_len(ROWS_MIN)
            .map_init(
                || Scorer::new(self.sampler.vectors),
                |scorer, row| self.scored(*row, &draw(self.anchor(*row)), scorer),
            )
            .collect()
    }

    fn scored(&self, row: RowId, others: &[Place], scorer: &mut Scorer<'_>) -> Vec<Candidate> {
        let rows = others.iter().map(|other| self.sampler.neighbors.row_at(*other));
        rows.map(|other| Candidate { row: other, score: scorer.pair(row, other) }).collect()
    }

    fn out_of_all_windows(&self, rows: &[RowId]) -> Vec<Vec<Candidate>> {
        let width = self.members.iter().map(|place| self.width(*place)).max().unwrap_or(0);
        let pool = Pool::new(&self.members, width, |place| self.others(place));
        rows.par_iter()
            .with_min_len(ROWS_MIN)
            .map_init(
                || RefCell::new(Scorers::new(self.sampler.vectors)),
                |scorer, row| {
                    let may = self.eligible(self.anchor(*row), scorer);
                    let drawn = pool.draw(self.sampler.count, may, &mut self.random_of(*row));
                    self.scored(*row, &drawn, &mut scorer.get_mut().pairs)
                },
            )
            .collect()
    }

    /// Each cluster by itself; a row without a cluster is one of its own.
    fn out_of_clusters(&self, rows: &[RowId]) -> Vec<Vec<Candidate>> {
        let mut clusters: Vec<Vec<usize>> = Vec::new();
        let mut known = HashMap::new();
        for (index, row) in rows.iter().enumerate() {
            let label = self.sampler.labels[*row as usize];
            let new = clusters.len();
            let number = if label == NO_CLUSTER { new } else { *known.entry(label).or_insert(new) };
            match clusters.get_mut(number) {
                Some(cluster) => cluster.push(index),
                None => clusters.push(vec![index]),
            }
        }
        let drawn: Vec<Vec<Vec<Candidate>>> = clusters
            .par_iter()
            .map(|cluster| self.out_of_cluster(cluster.iter().map(|index| rows[*index]).collect()))
            .collect();
        let mut lists = vec![Vec::new(); rows.len()];
        let indices = clusters.iter().flatten();
        indices.zip(drawn.into_iter().flatten()).for_each(|(index, list)| lists[*index] = list);
        lists
    }

    fn out_of_cluster(&self, rows: Vec<RowId>) -> Vec<Vec<Candidate>> {
        let windows = self.sampler.windows;
        // By row, and not by position: a row's negatives are the same wherever it stands.
        let mut by_row: Vec<usize> = (0..rows.len()).collect();
        by_row.sort_unstable_by_key(|index| rows[*index]);
        let members: Vec<Anchor> = by_row.iter().map(|index| self.anchor(rows[*index])).collect();
        let places: Vec<Place> = members.iter().map(|member| member.place).collect();
        let suspects = |place: Place| windows.of(place).suspects();
        let pool = Pool::of_cluster(&places, |place| self.others(place), suspects);
        let scorer = RefCell::new(Scorers::new(self.sampler.vectors));
        let may: Vec<_> = members.iter().map(|member| self.eligible(*member, &scorer)).collect();
        let shares = share_out(pool, self.sampler.count, &may, &mut self.random_of(members[0].row));
        drop(may);
        let mut scorer = scorer.into_inner();
        let mut lists = vec![Vec::new(); rows.len()];
        for (index, share) in by_row.into_iter().zip(shares) {
            lists[index] = self.scored(rows[index], &share, &mut scorer.pairs);
        }
        lists
    }

    /// Whether another row may be a row's negative. In batches of several tasks, each row has its own task's.
    fn eligible<'e>(&'e self, row: Anchor, scorer: &'e RefCell<Scorers<'_>>) -> impl Fn(Place) -> bool + 'e {
        let NegativeSampler { vectors, neighbors, windows, .. } = *self.sampler;
        let suspects: Vec<Place> = windows.of(row.place).suspects().collect();
        let task = vectors.tasks.of(row.row);
        move |other| {
            let score = || scorer.borrow_mut().pairs.pair(row.row, neighbors.row_at(other));
            let sides = || scorer.borrow_mut().sides.pair(row.row, neighbors.row_at(other));
            vectors.is_of_task(task, other)
                && !suspects.contains(&other)
                && !self.keys.conflict(row.place, other)
                && !windows.is_too_close(row.place, other, score, sides)
        }
    }
}
