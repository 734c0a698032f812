//! Size-constrained label propagation from singletons.
//!
//! Each row moves to the label with room that maximises connection / √size. (Connection alone makes a
//! few labels fill up with whatever comes first; connection / size never lets them grow.) Memory: 16
//! bytes a row: label, size, and a ring through each label's rows, for the keys.

use super::chunks::{Watch, pass};
use super::tally::LabelSums;
use super::{PassRules, TaskPlaces};
use crate::edges::EdgeRows;
use crate::error::Result;
use crate::vectors::{Keys, RowId};

/// Passes over the graph.
pub(crate) const PASSES: u32 = 3;

/// Label of a row that sits out.
pub(crate) const EXCLUDED: u32 = u32::MAX;

/// Labels while they grow. Labels are row numbers.
#[derive(Debug, Clone)]
pub struct Communities {
    /// Label by row.
    label: Vec<u32>,
    /// Rows by label.
    size: Vec<u32>,
    /// Any row of a label.
    head: Vec<RowId>,
    /// The next row of the same label; the last points to the first.
    next: Vec<RowId>,
}

impl Communities {
    /// Everybody alone; benched rows have no label and stay out.
    pub fn singletons(excluded: &[bool]) -> Self {
        let rows = excluded.len() as RowId;
        Communities {
            label: (0..rows).zip(excluded).map(|(row, out)| if *out { EXCLUDED } else { row }).collect(),
            size: excluded.iter().map(|out| u32::from(!out)).collect(),
            head: (0..rows).collect(),
            next: (0..rows).collect(),
        }
    }

    /// From each row's label; `None` where it is no row of the task, has more than K rows, or is not missing where a
    /// row sits out.
    pub fn from_labels(tasks: &[TaskPlaces], excluded: &[bool], labels: Vec<u32>) -> Option<Self> {
        let rows = labels.len();
        let mut communities = Communities {
            label: labels,
            size: vec![0; rows],
            head: (0..rows as RowId).collect(),
            next: (0..rows as RowId).collect(),
        };
        for task in tasks {
            for row in task.rows.clone() {
                let label = communities.label[row as usize];
                if excluded[row as usize] != (label == EXCLUDED) || (label != EXCLUDED && !task.rows.contains(&label)) {
                    return None;
                }
                if label != EXCLUDED {
                    communities.enter(row, label);
                }
            }
        }
        let small = |task: &TaskPlaces| {
            communities.size[task.rows.start as usize..task.rows.end as usize].iter().all(|rows| *rows <= task.size)
        };
        tasks.iter().all(small).then_some(communities)
    }

    /// Label of each row.
    pub fn labels(&self) -> &[u32] {
        &self.label
    }

    /// Gives up the rings: labels and sizes are left.
    pub fn into_labels(self) -> (Vec<u32>, Vec<u32>) {
        (self.label, self.size)
    }

    /// A label's rows.
    fn members(&self, label: u32) -> impl Iterator<Item = RowId> + '_ {
        let mut row = self.head[label as usize];
        (0..self.size[label as usize]).map(move |_| {
            let member = row;
            row = self.next[member as usize];
            member
        })
    }

    fn fits(&self, row: RowId, label: u32, keys: &Keys<'_>) -> bool {
        !keys.is_shared(row) || self.members(label).all(|other| !keys.conflict(row, other))
    }

    fn move_to(&mut self, row: RowId, label: u32) {
        let old = self.label[row as usize];
        let before = self.members(old).find(|other| self.next[*other as usize] == row).unwrap_or(row);
        self.next[before as usize] = self.next[row as usize];
        if self.head[old as usize] == row {
            self.head[old as usize] = self.next[row as usize];
        }
        self.size[old as usize] -= 1;
        self.enter(row, label);
        self.label[row as usize] = label;
    }

    /// Adds a row, which is in no ring, to a label's.
    fn enter(&mut self, row: RowId, label: u32) {
        if self.size[label as usize] == 0 {
            (self.head[label as usize], self.next[row as usize]) = (row, row);
        } else {
            let head = self.head[label as usize] as usize;
            self.next[row as usize] = self.next[head];
            self.next[head] = row;
        }
        self.size[label as usize] += 1;
    }
}

/// One pass: grows labels of at most K rows, never two rows of one key in one. O(arcs).
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub fn propagate(
    edges: &impl EdgeRows,
    communities: &mut Communities,
    rules: &PassRules<'_>,
    watch: &Watch<'_>,
) -> Result<()> {
    let (keys, weights) = (&rules.keys, &rules.weights);
    pass(
        edges,
        communities,
        watch,
        |state, sums: &mut LabelSums, row, arcs| {
            let own = state.label[row as usize];
            if own == EXCLUDED {
                return None;
            }
            let size = rules.size_of(row);
            // Its own label too.
            sums.reset(arcs.len() + 1);
            sums.add_all(arcs.iter().map(|arc| {
                let label = state.label[arc.row as usize];
                if label == EXCLUDED { (own, 0) } else { (label, weights[usize::from(arc.relation.code())]) }
            }));
            let mut best = (score(sums.get(own), state.size[own as usize] - 1), own);
            for (label, sum) in sums.iter() {
                let there = state.size[label as usize];
                if label == own || there >= size || sum <= 0 {
                    continue;
                }
                let score = score(sum, there);
                let better = score > best.0 || (score == best.0 && best.1 != own && label < best.1);
                if better && state.fits(row, label, keys) {
                    best = (score, label);
                }
            }
            (best.1 != own).then_some((row, best.1))
        },
        |state, moves| {
            for (row, label) in moves {
                let there = state.size[label as usize];
                if there > 0 && there < rules.size_of(row) && state.fits(row, label, keys) {
                    state.move_to(row, label);
                }
            }
        },
    )
}

fn score(sum: i32, size: u32) -> f64 {
    if size == 0 { 0.0 } else { f64::from(sum) / f64::from(size).sqrt() }
}
