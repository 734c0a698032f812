//! Size-constrained label propagation from singletons.
//!
//! Each row moves to the label with room that maximises connection / √size. (Connection alone fills a few labels with
//! the rows that come first; connection / size never lets labels grow.) Memory: 16 bytes a row: label, size, and a ring
//! through each label's rows, for the keys.

use super::chunks::pass;
use super::rules::{PassRules, TaskPlaces};
use super::sums::LabelSums;
use crate::edges::{Edge, EdgeRows};
use crate::error::Result;
use crate::vectors::{KeysByPlace, Place, PlaceRange};
use crate::watch::Watch;

/// Passes over the graph.
pub(crate) const PASSES: u32 = 3;

/// Label of an excluded row.
pub(crate) const EXCLUDED: u32 = u32::MAX;

/// Labels while they grow. A label is the number of one of its task's places.
#[derive(Debug, Clone)]
pub struct Communities {
    /// Label by place.
    label: Vec<u32>,
    /// Rows by label.
    size: Vec<u32>,
    /// The place of any row of a label.
    head: Vec<Place>,
    /// By place, that of the next row of the same label; the last points to the first.
    next: Vec<Place>,
}

impl Communities {
    /// Each row alone; excluded rows have no label. Takes which rows are excluded, by place.
    pub fn singletons(excluded: &[bool]) -> Self {
        let all = PlaceRange::new(0, excluded.len() as u32);
        let label = |(place, out): (Place, &bool)| if *out { EXCLUDED } else { place.number() };
        Communities {
            label: all.iter().zip(excluded).map(label).collect(),
            size: excluded.iter().map(|out| u32::from(!out)).collect(),
            head: all.iter().collect(),
            next: all.iter().collect(),
        }
    }

    /// From each row's label, by place. `None` where a label is not of the row's task, has more than K rows, or is not
    /// `EXCLUDED` for exactly the excluded rows.
    pub fn from_labels(tasks: &[TaskPlaces], excluded: &[bool], labels: Vec<u32>) -> Option<Self> {
        let rows = labels.len();
        let all = PlaceRange::new(0, rows as u32);
        let mut communities =
            Communities { label: labels, size: vec![0; rows], head: all.iter().collect(), next: all.iter().collect() };
        for task in tasks {
            for place in task.places {
                let label = communities.label[place.index()];
                let out = label == EXCLUDED;
                if excluded[place.index()] != out || (!out && !task.places.contains(Place::new(label))) {
                    return None;
                }
                if !out {
                    communities.enter(place, label);
                }
            }
        }
        let small = |task: &TaskPlaces| communities.size[task.places.indices()].iter().all(|rows| *rows <= task.size);
        tasks.iter().all(small).then_some(communities)
    }

    /// Labels by place.
    pub fn labels(&self) -> &[u32] {
        &self.label
    }

    /// Labels by place, and sizes by label.
    pub fn into_labels(self) -> (Vec<u32>, Vec<u32>) {
        (self.label, self.size)
    }

    /// The places of a label's rows.
    fn members(&self, label: u32) -> impl Iterator<Item = Place> + '_ {
        let mut next = self.head[label as usize];
        (0..self.size[label as usize]).map(move |_| {
            let member = next;
            next = self.next[member.index()];
            member
        })
    }

    /// Whether a label has less than `per_key` rows that share a key with the row at `place`.
    fn fits(&self, place: Place, label: u32, per_key: u32, keys: &KeysByPlace<'_>) -> bool {
        if !keys.is_shared(place) {
            return true;
        }
        let mut conflicts = self.members(label).filter(|other| keys.conflict(place, *other));
        conflicts.nth(per_key as usize - 1).is_none()
    }

    fn move_to(&mut self, place: Place, label: u32) {
        let old = self.label[place.index()];
        let before = self.members(old).find(|other| self.next[other.index()] == place).unwrap_or(place);
        self.next[before.index()] = self.next[place.index()];
        if self.head[old as usize] == place {
            self.head[old as usize] = self.next[place.index()];
        }
        self.size[old as usize] -= 1;
        self.enter(place, label);
        self.label[place.index()] = label;
    }

    /// Adds a row that is in no ring to a label's.
    fn enter(&mut self, place: Place, label: u32) {
        if self.size[label as usize] == 0 {
            (self.head[label as usize], self.next[place.index()]) = (place, place);
        } else {
            let head = self.head[label as usize].index();
            self.next[place.index()] = self.next[head];
            self.next[head] = place;
        }
        self.size[label as usize] += 1;
    }
}

/// One pass: grows labels of at most K rows, never two rows of one key in one. O(edges).
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub fn propagate(
    graph: &impl EdgeRows,
    communities: &mut Communities,
    rules: &PassRules<'_>,
    watch: Watch<'_>,
) -> Result<()> {
    pass(
        graph,
        communities,
        watch,
        |state, sums: &mut LabelSums, place, edges| {
            best_label(state, sums, place, edges, rules).map(|label| (place, label))
        },
        |state, moves| {
            for (place, label) in moves {
                let there = state.size[label as usize];
                let task = rules.task_of(place);
                if there > 0 && there < task.size && state.fits(place, label, task.per_key, &rules.keys) {
                    state.move_to(place, label);
                }
            }
        },
    )
}

/// The label with room that a row should move to, if another one is better than its own. Pure.
fn best_label(
    state: &Communities,
    sums: &mut LabelSums,
    place: Place,
    edges: &[Edge],
    rules: &PassRules<'_>,
) -> Option<u32> {
    let own = state.label[place.index()];
    if own == EXCLUDED {
        return None;
    }
    let task = rules.task_of(place);
    // Its own label too.
    sums.reset(edges.len() + 1);
    sums.add_all(edges.iter().map(|edge| {
        let label = state.label[edge.other.index()];
        if label == EXCLUDED { (own, 0) } else { (label, rules.weights.of(edge)) }
    }));
    let mut best = (score(sums.get(own), state.size[own as usize] - 1), own);
    for (label, sum) in sums.iter() {
        let there = state.size[label as usize];
        if label == own || there >= task.size || sum <= 0 {
            continue;
        }
        let score = score(sum, there);
        let better = score > best.0 || (score == best.0 && best.1 != own && label < best.1);
        if better && state.fits(place, label, task.per_key, &rules.keys) {
            best = (score, label);
        }
    }
    (best.1 != own).then_some(best.1)
}

/// What a label of `size` other rows is worth to a row that it is connected to by `sum`.
fn score(sum: i32, size: u32) -> f64 {
    if size == 0 { 0.0 } else { f64::from(sum) / f64::from(size).sqrt() }
}
