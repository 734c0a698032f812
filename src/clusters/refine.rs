//! Swaps: two rows change clusters where that raises the weight inside; sizes never change.
//!
//! A row u looks at its `CANDIDATES` best other clusters and, in each, for the row v whose exchange
//! gains most: conn(u, B) − conn(u, A) − conn(v, B) + conn(v, A) − 2 w(u, v). What is connected to u is
//! read from the stream; of v, its own connection and its *wish* (its best other cluster, and how well it
//! is connected there) are known from its last visit. Memory: 20 bytes a row with the seats, 4 bytes a
//! cluster.

use super::Weights;
use super::chunks::{Watch, pass};
use super::exact::{NOBODY, Seats};
use super::tally::Tally;
use crate::config::ClusterRules;
use crate::edges::{Arc, EdgeRows};
use crate::error::Result;
use crate::vectors::{Keys, RowId};

/// Clusters that a row looks at.
const CANDIDATES: usize = 8;
/// Refinement ends when a pass gains less than 1/`LEAST_GAIN` of the weight inside.
const LEAST_GAIN: i64 = 1000;

/// Seats, and what each row knew at its last visit, by seat.
struct State {
    seats: Seats,
    own: Vec<i32>,
    wish: Vec<u32>,
    wish_sum: Vec<i32>,
    /// The chunk in which a cluster last changed.
    touched: Vec<u32>,
    chunk: u32,
}

/// What a visit of `row` saw, and the exchange that it proposes.
struct Visit {
    row: RowId,
    task: usize,
    own: i32,
    wish: u32,
    wish_sum: i32,
    swap: Option<Swap>,
}

struct Swap {
    seat: u32,
    row_own: i32,
    other_own: i32,
}

#[derive(Default)]
struct Scratch {
    tally: Tally,
    /// (slot of the cluster's sum, seat, weight) of each arc to somebody who sits.
    others: Vec<(u32, u32, i32)>,
    /// (sum, cluster) of the candidates, the best first.
    best: Vec<(i32, u32)>,
    /// Weights from the row to the seats of the candidates, K for each.
    to: Vec<i32>,
}

/// Swaps rows for up to `rules.passes` passes, while they gain. O(passes · arcs + passes · rows · K).
///
/// # Errors
/// The graph is damaged, or the watch stops the job.
pub fn refine(
    edges: &impl EdgeRows,
    keys: &Keys<'_>,
    seats: Seats,
    rules: ClusterRules,
    weights: &Weights,
    watch: &Watch<'_>,
) -> Result<Seats> {
    let rows = seats.row_at.len();
    let mut state = State {
        own: vec![0; rows],
        wish: vec![NOBODY; rows],
        wish_sum: vec![0; rows],
        touched: vec![0; seats.clusters() as usize],
        chunk: 1,
        seats,
    };
    let mut before = i64::MIN;
    // A first pass only looks: nobody's own connection is known yet.
    for number in 0..=rules.passes {
        let looks = number == 0;
        pass(
            edges,
            &mut state,
            watch,
            |state, scratch: &mut Scratch, row, arcs, out| {
                out.extend(visit(state, scratch, row, arcs, weights, keys, looks))
            },
            |state, visits: Vec<Visit>| {
                visits.into_iter().for_each(|visit| apply(state, visit, keys));
                state.chunk += 1;
            },
        )?;
        let inside: i64 = state.own.iter().map(|own| i64::from(*own)).sum();
        tracing::debug!("swap pass {number}: weight inside {}", inside / i64::from(2 * super::UNIT));
        if number > 2 && inside - before < inside.abs() / LEAST_GAIN {
            break;
        }
        before = inside;
    }
    Ok(state.seats)
}

/// Looks at a row's arcs: its own connection, its wish, and its best exchange. Pure.
fn visit(
    state: &State,
    scratch: &mut Scratch,
    row: RowId,
    arcs: &[Arc],
    weights: &Weights,
    keys: &Keys<'_>,
    looks: bool,
) -> Option<Visit> {
    let seats = &state.seats;
    let seat = seats.seat_of[row as usize];
    if seat == NOBODY {
        return None;
    }
    let task = seats.task_of(row);
    let home = seats.cluster_of(task, seat);
    let Scratch { tally, others, best, .. } = scratch;
    tally.reset(arcs.len());
    others.clear();
    for arc in arcs {
        let other = seats.seat_of[arc.row as usize];
        if other != NOBODY {
            let (cluster, weight) = (seats.cluster_of(task, other), weights[usize::from(arc.kind.code())]);
            others.push((tally.add(cluster, weight), other, weight));
        }
    }
    let own = tally.get(home);
    best.clear();
    best.extend(
        tally.iter().filter(|(cluster, sum)| *sum > 0 && *cluster != home).map(|(cluster, sum)| (sum, cluster)),
    );
    let by_sum = |a: &(i32, u32), b: &(i32, u32)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
    if best.len() > CANDIDATES {
        best.select_nth_unstable_by(CANDIDATES - 1, by_sum);
        best.truncate(CANDIDATES);
    }
    best.sort_unstable_by(by_sum);
    let (wish_sum, wish) = best.first().copied().unwrap_or((0, NOBODY));
    let swap = if looks { None } else { best_swap(state, scratch, row, seat, own, keys) };
    Some(Visit { row, task, own, wish, wish_sum, swap })
}

/// The exchange that gains most among the candidates. O(candidates · (K + arcs)).
fn best_swap(state: &State, scratch: &mut Scratch, row: RowId, seat: u32, own: i32, keys: &Keys<'_>) -> Option<Swap> {
    let seats = &state.seats;
    let task = seats.task_of(row);
    let home = seats.cluster_of(task, seat);
    let home_places = seats.seats(task, home);
    let size = seats.size() as usize;
    let Scratch { tally, others, best, to } = scratch;
    to.clear();
    to.resize(best.len() * size, 0);
    let mut starts = [0; CANDIDATES];
    for (number, (_, cluster)) in best.iter().enumerate() {
        tally.mark(*cluster, number as u8);
        starts[number] = seats.seats(task, *cluster).start;
    }
    for (slot, other, weight) in others.iter() {
        if let Some(number) = tally.marked(*slot) {
            let number = usize::from(number);
            to[number * size + (other - starts[number]) as usize] = *weight;
        }
    }
    let (mut swap, mut most) = (None, 0);
    for ((sum, cluster), to) in best.iter().copied().zip(to.chunks_exact(size)) {
        let places = seats.seats(task, cluster);
        for (place, between) in places.clone().zip(to) {
            let at = place as usize;
            let other = seats.row_at[at];
            if other == NOBODY {
                continue;
            }
            let back = if state.wish[at] == home { state.wish_sum[at] } else { *between.max(&0) };
            let gain = sum - own - state.own[at] + back - 2 * between;
            if gain > most
                && seats.fits(row, places.clone(), place, keys)
                && seats.fits(other, home_places.clone(), seat, keys)
            {
                most = gain;
                swap = Some(Swap { seat: place, row_own: sum - between, other_own: back - between });
            }
        }
    }
    swap
}

/// Takes what a visit saw, and makes its exchange if neither cluster has changed since.
fn apply(state: &mut State, visit: Visit, keys: &Keys<'_>) {
    let seat = state.seats.seat_of[visit.row as usize];
    let home = state.seats.cluster_of(visit.task, seat);
    let changed = |state: &State, cluster: u32| state.touched[cluster as usize] == state.chunk;
    let at = seat as usize;
    (state.wish[at], state.wish_sum[at]) = (visit.wish, visit.wish_sum);
    if changed(state, home) {
        return;
    }
    state.own[at] = visit.own;
    let Some(swap) = visit.swap else { return };
    let there = state.seats.cluster_of(visit.task, swap.seat);
    if changed(state, there) {
        return;
    }
    let to = swap.seat as usize;
    let other = state.seats.row_at[to];
    let left = state.own[to];
    debug_assert!(state.seats.fits(visit.row, state.seats.seats(visit.task, there), swap.seat, keys));
    state.seats.sit(visit.row, swap.seat);
    state.seats.sit(other, seat);
    state.touched[home as usize] = state.chunk;
    state.touched[there as usize] = state.chunk;
    // Each one's best other cluster is now, as far as is known, the one that it left.
    (state.own[to], state.wish[to], state.wish_sum[to]) = (swap.row_own, home, visit.own);
    (state.own[at], state.wish[at], state.wish_sum[at]) = (swap.other_own, there, left);
}
