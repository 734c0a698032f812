//! Exact sizes: the largest labels stay, everybody else is placed by connection, then anywhere.
//!
//! A task of n rows gets ⌊n/K⌋ clusters of K and one of n mod K. Their seats are numbered like the task's
//! own rows, so that a cluster is a stretch of seats and reading its members is a few cache lines.
//! Memory: 20 bytes a row at most: labels and sizes while seats are filled, then the seats and who sits out.

use std::ops::Range;

use super::chunks::{Watch, pass};
use super::labels::NO_CLUSTER;
use super::propagate::{BENCHED, Communities};
use super::tally::ClusterSums;
use super::{Rules, Task, Weights};
use crate::edges::{Arc, EdgeRows};
use crate::error::Result;
use crate::vectors::{Keys, RowId};

/// No row, or no seat.
pub const NOBODY: u32 = u32::MAX;
/// Clusters that are tried for a row before it is given up: keys can make a task impossible.
const TRIES: usize = 2048;

/// Who sits where.
#[derive(Debug, Clone)]
pub struct Seats {
    /// Seat by row, or [`NOBODY`].
    pub seat_of: Vec<u32>,
    /// Row by seat, or [`NOBODY`].
    pub row_at: Vec<RowId>,
    tasks: Vec<TaskSeats>,
}

/// A task's seats.
#[derive(Debug, Clone)]
struct TaskSeats {
    rows: Range<RowId>,
    /// Its seats begin with its rows' numbers and end here.
    end: u32,
    first_cluster: u32,
    size: u32,
    /// ⌈2⁶⁴ / size⌉; a size is 2 at least.
    inverse: u64,
}

impl TaskSeats {
    /// So many seats, of clusters from a number on.
    fn new(task: &Task, seats: u32, first_cluster: u32) -> TaskSeats {
        let inverse = (u64::MAX / u64::from(task.size)).wrapping_add(1);
        let end = task.rows.start + seats;
        TaskSeats { rows: task.rows.clone(), end, first_cluster, size: task.size, inverse }
    }

    fn clusters(&self) -> Range<u32> {
        self.first_cluster..self.first_cluster + (self.end - self.rows.start).div_ceil(self.size)
    }
}

impl Seats {
    /// A seat for every row that does not sit out, nobody seated yet.
    fn empty(tasks: &[Task], benched: &[bool]) -> Seats {
        let rows = tasks.last().map_or(0, |task| task.rows.end) as usize;
        let mut first_cluster = 0;
        let seats_of = |task: &Task| {
            let seated = task.rows.clone().filter(|row| !benched[*row as usize]).count() as u32;
            let seats = TaskSeats::new(task, seated, first_cluster);
            first_cluster = seats.clusters().end;
            seats
        };
        let tasks = tasks.iter().map(seats_of).collect();
        Seats { seat_of: vec![NOBODY; rows], row_at: vec![NOBODY; rows], tasks }
    }

    /// From each row's seat; `None` where that is no seat of its task, or another row's.
    pub fn from_seats(tasks: &[Task], benched: &[bool], seat_of: Vec<u32>) -> Option<Seats> {
        let mut seats = Seats::empty(tasks, benched);
        for (number, task) in tasks.iter().enumerate() {
            for row in task.rows.clone().filter(|row| seat_of[*row as usize] != NOBODY) {
                let seat = seat_of[row as usize];
                let exists = seats.seats_of_task(number).contains(&seat);
                if !exists || seats.row_at[seat as usize] != NOBODY {
                    return None;
                }
                seats.row_at[seat as usize] = row;
            }
        }
        seats.seat_of = seat_of;
        Some(seats)
    }

    /// Seats of a task's clusters, but for its last.
    pub fn size(&self, task: usize) -> u32 {
        self.tasks[task].size
    }

    /// Clusters in all.
    pub fn clusters(&self) -> u32 {
        self.tasks.last().map_or(0, |task| task.clusters().end)
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// A task's seats.
    pub fn seats_of_task(&self, task: usize) -> Range<u32> {
        self.tasks[task].rows.start..self.tasks[task].end
    }

    /// The task of a row (or seat: both have the same ranges).
    #[inline]
    pub fn task_of(&self, row: RowId) -> usize {
        self.tasks.partition_point(|task| task.rows.end <= row)
    }

    /// The cluster of a seat of a task.
    #[inline]
    pub fn cluster_of(&self, task: usize, seat: u32) -> u32 {
        let task = &self.tasks[task];
        let place = seat.wrapping_sub(task.rows.start);
        // Every arc of every pass comes here, and a division takes as long as five products: the quotient of 32
        // bits is exact in 64 bits after the point (Lemire, Kaser, Kurz, *Faster remainder by direct computation*).
        let quotient = (u128::from(task.inverse) * u128::from(place)) >> 64;
        task.first_cluster.wrapping_add(quotient as u32)
    }

    /// A cluster's seats, in a task.
    #[inline]
    pub fn seats(&self, task: usize, cluster: u32) -> Range<u32> {
        let task = &self.tasks[task];
        let start = task.rows.start + (cluster - task.first_cluster) * task.size;
        start..task.end.min(start + task.size)
    }

    /// Whether `row` shares no key with those on `seats`, but for whoever sits on `except`.
    #[inline]
    pub fn fits(&self, row: RowId, seats: Range<u32>, except: u32, keys: &Keys<'_>) -> bool {
        !keys.is_shared(row)
            || seats
                .clone()
                .zip(&self.row_at[seats.start as usize..seats.end as usize])
                .all(|(seat, other)| seat == except || *other == NOBODY || *other == row || !keys.conflict(row, *other))
    }

    /// Seats a row.
    pub fn sit(&mut self, row: RowId, seat: u32) {
        self.seat_of[row as usize] = seat;
        self.row_at[seat as usize] = row;
    }

    fn free_seat(&self, seats: Range<u32>) -> Option<u32> {
        seats.into_iter().find(|seat| self.row_at[*seat as usize] == NOBODY)
    }

    /// Each row's cluster, or [`NO_CLUSTER`].
    pub fn labels(&self) -> Vec<u32> {
        let of_task = |(task, seats): (usize, &TaskSeats)| {
            let seats = self.seat_of[seats.rows.start as usize..seats.rows.end as usize].iter();
            seats.map(move |seat| if *seat == NOBODY { NO_CLUSTER } else { self.cluster_of(task, *seat) })
        };
        self.tasks.iter().enumerate().flat_map(of_task).collect()
    }
}

/// Turns labels of at most K rows into clusters of exactly K. O(arcs + rows log rows).
/// Rows that keys shut out of every cluster stay without a seat.
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub fn fix_sizes(
    edges: &impl EdgeRows,
    communities: Communities,
    benched: &[bool],
    rules: &Rules<'_>,
    watch: &Watch<'_>,
) -> Result<Seats> {
    let (keys, weights) = (&rules.keys, &rules.weights);
    let (labels, mut sizes) = communities.into_labels();
    let mut seats = Seats::empty(&rules.tasks, benched);
    for task in 0..seats.tasks() {
        seat_largest(&mut seats, task, &labels, &mut sizes);
    }
    drop(sizes);
    drop(labels);
    place_by_connection(edges, keys, benched, &mut seats, weights, watch)?;
    for task in 0..seats.tasks() {
        place_anywhere(&mut seats, task, keys, benched);
    }
    Ok(seats)
}

/// The largest labels take the clusters, in row order; the smallest of them the smaller cluster. `sizes`
/// become each label's next seat.
fn seat_largest(seats: &mut Seats, task: usize, labels: &[u32], sizes: &mut [u32]) {
    let TaskSeats { rows, end, size, .. } = seats.tasks[task].clone();
    let mut order: Vec<u32> = rows.clone().filter(|label| sizes[*label as usize] > 0).collect();
    order.sort_unstable_by_key(|label| (std::cmp::Reverse(sizes[*label as usize]), *label));
    let full = ((end - rows.start) / size) as usize;
    let clusters = seats.tasks[task].clusters();
    order.truncate(clusters.len());
    order[..full.min(clusters.len())].sort_unstable();
    sizes[rows.start as usize..rows.end as usize].fill(NOBODY);
    for (cluster, label) in clusters.zip(order) {
        sizes[label as usize] = seats.seats(task, cluster).start;
    }
    for row in rows {
        let label = labels[row as usize];
        if label == BENCHED || sizes[label as usize] == NOBODY {
            continue;
        }
        // The smaller cluster may be too small for its label: whoever comes late has to wait.
        let seat = sizes[label as usize];
        let place = seats.seats(task, seats.cluster_of(task, seat));
        seats.sit(row, seat);
        sizes[label as usize] = if seat + 1 < place.end { seat + 1 } else { NOBODY };
    }
}

fn place_by_connection(
    edges: &impl EdgeRows,
    keys: &Keys<'_>,
    benched: &[bool],
    seats: &mut Seats,
    weights: &Weights,
    watch: &Watch<'_>,
) -> Result<()> {
    pass(
        edges,
        seats,
        watch,
        |seats, tally: &mut ClusterSums, row, arcs: &[Arc]| {
            if seats.seat_of[row as usize] != NOBODY || benched[row as usize] {
                return None;
            }
            let task = seats.task_of(row);
            tally.reset(seats.clusters(), arcs.len());
            let seated =
                arcs.iter().map(|arc| (seats.seat_of[arc.row as usize], arc)).filter(|(seat, _)| *seat != NOBODY);
            tally.add_all(
                seated.map(|(seat, arc)| (seats.cluster_of(task, seat), weights[usize::from(arc.kind.code())])),
            );
            let mut best = (0, NOBODY);
            for (cluster, sum) in tally.iter() {
                if sum > best.0 || (sum == best.0 && cluster < best.1 && sum > 0) {
                    let places = seats.seats(task, cluster);
                    if seats.free_seat(places.clone()).is_some() && seats.fits(row, places, NOBODY, keys) {
                        best = (sum, cluster);
                    }
                }
            }
            (best.1 != NOBODY).then_some((row, task, best.1))
        },
        |seats, moves| {
            for (row, task, cluster) in moves {
                let places = seats.seats(task, cluster);
                if let Some(seat) = seats.free_seat(places.clone())
                    && seats.fits(row, places, NOBODY, keys)
                {
                    seats.sit(row, seat);
                }
            }
        },
    )
}

/// Seats whoever is left, in row order, where no key forbids it; where every free seat is forbidden,
/// somebody else moves to it.
fn place_anywhere(seats: &mut Seats, task: usize, keys: &Keys<'_>, benched: &[bool]) {
    let rows = seats.tasks[task].rows.clone();
    let waits = |row: &RowId| seats.seat_of[*row as usize] == NOBODY && !benched[*row as usize];
    let left: Vec<RowId> = rows.filter(waits).collect();
    let mut free: std::collections::VecDeque<u32> =
        seats.seats_of_task(task).filter(|seat| seats.row_at[*seat as usize] == NOBODY).collect();
    for row in left {
        let fitting = free.iter().take(TRIES).position(|seat| {
            let places = seats.seats(task, seats.cluster_of(task, *seat));
            seats.fits(row, places, NOBODY, keys)
        });
        if let Some(seat) = fitting.and_then(|index| free.remove(index)) {
            seats.sit(row, seat);
        } else if let Some(seat) = free.front().copied()
            && make_room(seats, task, row, seat, keys)
        {
            free.pop_front();
        }
    }
}

/// Moves some other row to the free `seat`, and `row` to that row's.
fn make_room(seats: &mut Seats, task: usize, row: RowId, seat: u32, keys: &Keys<'_>) -> bool {
    let clusters = seats.tasks[task].clusters();
    let forbidden = seats.cluster_of(task, seat);
    let goal = seats.seats(task, forbidden);
    // Beginning after the forbidden one, so that many rows of one key do not all try the same.
    let others = (forbidden + 1..clusters.end).chain(clusters.start..forbidden);
    for cluster in others.take(TRIES) {
        let places = seats.seats(task, cluster);
        for place in places.clone() {
            let other = seats.row_at[place as usize];
            if other != NOBODY
                && seats.fits(row, places.clone(), place, keys)
                && seats.fits(other, goal.clone(), NOBODY, keys)
            {
                seats.sit(other, seat);
                seats.sit(row, place);
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn clusters_are_stretches_of_seats(size in 2u32..100_000, start in 0u32..1 << 30, place in 0u32..1 << 30) {
            let mut seats = Seats::empty(&[], &[]);
            seats.tasks.push(TaskSeats::new(&Task { rows: start..start + place + 1, size }, place + 1, 0));
            prop_assert_eq!(seats.cluster_of(0, start + place), place / size);
        }
    }
}
