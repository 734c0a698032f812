//! The hard negatives of a batch: as many as there can be, and none that may not be.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::Opened;
use crate::clusters::NO_CLUSTER;
use crate::config::NegativesOf;
use crate::neighbors::Windows;
use crate::neighbors::topk::Candidate;
use crate::vectors::{KeysByPlace, Place, PositiveCodes, RowId, Scorer, SideScorer};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// h.
    pub count: usize,
    /// Whose windows.
    pub of: NegativesOf,
}

impl Asked {
    /// Where a row's negatives come from.
    pub(crate) fn source(self) -> &'static str {
        match self.of {
            NegativesOf::Batch => "their batch's rank windows",
            NegativesOf::Cluster => "their cluster's rank windows, none of a cluster twice",
            NegativesOf::Row => "the row's own rank window",
            NegativesOf::RowTop => "the top of the row's own rank window",
        }
    }
}

/// What is wrong with a batch's negatives, row by row. O(|B| · window · log(|B| · window)).
pub(crate) fn faults(
    opened: &Opened<'_>,
    windows: &Windows<'_>,
    rows: &[RowId],
    drawn: &[Vec<Candidate>],
    asked: Asked,
    codes: PositiveCodes<'_>,
) -> Vec<String> {
    let batch = BatchNegatives::new(opened, windows, rows, drawn, asked, codes);
    rows.par_iter()
        .zip(drawn)
        .map_init(
            || (Scorer::new(&opened.vectors), SideScorer::new(&opened.vectors)),
            |(scorer, sides), (row, drawn)| {
                batch.fault(*row, drawn, scorer, sides).map(|fault| format!("the hard negatives of row {row}: {fault}"))
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
    asked: Asked,
    /// The candidates that are the batch's own, sorted: its rows, or who stands for their positives.
    taken: Vec<Place>,
    /// Which rows and documents have the same positive.
    codes: PositiveCodes<'a>,
    /// The codes of the batch's own positives that others have, too.
    own_codes: BTreeSet<(usize, u32)>,
    /// By number, see [`group`]; a single one where they come from all of the batch, none where from each row.
    groups: HashMap<u32, Group>,
}

/// Rows whose negatives come from the same windows.
#[derive(Default)]
struct Group {
    /// The rows of their rank windows that are not in the batch, sorted, each once.
    pool: Vec<Place>,
    /// How often each row is among their negatives; empty where that is of no interest.
    drawn: BTreeMap<RowId, u32>,
}

impl<'a> BatchNegatives<'a> {
    fn new(
        opened: &'a Opened<'a>,
        windows: &'a Windows<'a>,
        rows: &[RowId],
        drawn: &[Vec<Candidate>],
        asked: Asked,
        codes: PositiveCodes<'a>,
    ) -> BatchNegatives<'a> {
        let own_codes = rows.iter().flat_map(|row| codes.all(*row)).collect();
        let members: Vec<Place> = rows.iter().map(|row| opened.neighbors.place_of(*row)).collect();
        let mut taken = opened.neighbors.standing_for(&members);
        taken.extend(members.iter().flat_map(|place| windows.verdicts_of(*place).positives()));
        taken.sort_unstable();
        let keys = opened.vectors.rows.keys().by_place(opened.neighbors.order());
        let groups = HashMap::new();
        let mut batch = BatchNegatives { opened, windows, keys, asked, taken, codes, own_codes, groups };
        let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        match asked.of {
            NegativesOf::Batch => _ = groups.insert(0, (0..rows.len()).collect()),
            NegativesOf::Cluster => (0..rows.len())
                .filter(|index| batch.label(rows[*index]) != NO_CLUSTER)
                .for_each(|index| groups.entry(batch.label(rows[index])).or_default().push(index)),
            NegativesOf::Row | NegativesOf::RowTop => {}
        }
        for (label, indices) in groups {
            let places: Vec<Place> = indices.iter().map(|index| opened.neighbors.place_of(rows[*index])).collect();
            let mut group = Group { pool: batch.pool(&places), drawn: BTreeMap::new() };
            if asked.of == NegativesOf::Cluster {
                let all = indices.iter().flat_map(|index| &drawn[*index]);
                all.for_each(|negative| *group.drawn.entry(negative.row).or_default() += 1);
            }
            batch.groups.insert(label, group);
        }
        batch
    }

    fn label(&self, row: RowId) -> u32 {
        self.opened.clusters.labels()[row as usize]
    }

    /// Whether a candidate has the positive of a row of the batch.
    fn is_copy(&self, other: Place) -> bool {
        self.codes.all(self.opened.neighbors.row_at(other)).any(|code| self.own_codes.contains(&code))
    }

    /// What rows together may draw from, sorted, each once.
    fn pool(&self, places: &[Place]) -> Vec<Place> {
        let is_stranger = |other: &Place| self.taken.binary_search(other).is_err() && !self.is_copy(*other);
        let mut pool = Vec::new();
        places.iter().for_each(|place| pool.extend(self.windows.of(*place).preferred().filter(is_stranger)));
        pool.par_sort_unstable();
        if self.asked.of == NegativesOf::Cluster {
            let mut losses: BTreeMap<Place, usize> = BTreeMap::new();
            let suspects = places.iter().flat_map(|place| self.windows.of(*place).suspects());
            suspects.for_each(|suspect| *losses.entry(suspect).or_default() += 2);
            let wins = |same: &&[Place]| same.len() > losses.get(&same[0]).copied().unwrap_or(0);
            pool = pool.chunk_by(|a, b| a == b).filter(wins).map(|same| same[0]).collect();
        }
        pool.dedup();
        pool
    }

    /// The rows from which a row's negatives come.
    fn group(&self, row: RowId) -> Option<&Group> {
        self.groups.get(&if self.asked.of == NegativesOf::Batch { 0 } else { self.label(row) })
    }

    fn fault(
        &self,
        row: RowId,
        drawn: &[Candidate],
        scorer: &mut Scorer<'_>,
        sides: &mut SideScorer<'_>,
    ) -> Option<String> {
        let (neighbors, asked) = (&self.opened.neighbors, self.asked);
        let own = neighbors.place_of(row);
        let suspects: Vec<Place> = self.windows.of(own).suspects().collect();
        let task = self.opened.vectors.tasks.of(row);
        let is_of_task = |other: Place| self.opened.vectors.is_of_task(task, other);
        let by_itself: Group;
        let Group { pool, drawn: of_cluster } = match self.group(row) {
            Some(group) => group,
            None => {
                by_itself = Group { pool: self.pool(&[own]), drawn: BTreeMap::new() };
                &by_itself
            }
        };
        let others: Vec<Place> = drawn.iter().map(|negative| neighbors.place_of(negative.row)).collect();
        for (negative, other) in drawn.iter().zip(&others) {
            let wrong = match () {
                () if self.taken.binary_search(other).is_ok() => {
                    "is in the batch itself, or was judged right for one of its rows"
                }
                () if self.is_copy(*other) => "has the positive of a row of the batch",
                () if self.keys.conflict(own, *other) => "shares its key or a vector",
                () if suspects.contains(other) => "is its suspect",
                () if self.windows.is_too_close(own, *other, || negative.score, || sides.pair(row, negative.row)) => {
                    "is its suspect by score"
                }
                () if !is_of_task(*other) => "is of another task",
                () if pool.binary_search(other).is_err() => match asked.of {
                    NegativesOf::Batch => "is in no rank window of the batch",
                    NegativesOf::Cluster => "is in no rank window of the cluster, or a suspect there",
                    NegativesOf::Row | NegativesOf::RowTop => "is not in its rank window",
                },
                () if of_cluster.get(&negative.row).is_some_and(|times| *times > 1) => {
                    "is another's of the cluster, too"
                }
                () if scorer.pair(row, negative.row).to_bits() != negative.score.to_bits() => "has another score",
                () => continue,
            };
            return Some(format!("row {} {wrong}", negative.row));
        }
        let distinct: BTreeSet<Place> = others.iter().copied().collect();
        if let Some(twice) = others.iter().find(|place| others.iter().filter(|other| other == place).count() > 1) {
            return Some(format!("row {} is among them twice", neighbors.row_at(*twice)));
        }
        if asked.of == NegativesOf::RowTop {
            let preferred = self.windows.of(own).preferred();
            let first: Vec<Place> =
                preferred.filter(|place| pool.binary_search(place).is_ok()).take(asked.count).collect();
            return (first != others).then(|| "they are not the first of its rank window".to_owned());
        }
        if drawn.len() == asked.count {
            return None;
        }
        let mut may = |other: &&Place| {
            let score = || scorer.pair(row, neighbors.row_at(**other));
            let sides = || sides.pair(row, neighbors.row_at(**other));
            let is_free = distinct.contains(other) || !of_cluster.contains_key(&neighbors.row_at(**other));
            is_free
                && is_of_task(**other)
                && !suspects.contains(other)
                && !self.keys.conflict(own, **other)
                && !self.windows.is_too_close(own, **other, score, sides)
        };
        let most = pool.iter().filter(&mut may).count().min(asked.count);
        (drawn.len() != most).then(|| format!("there are {}, and could be {most}", drawn.len()))
    }
}
