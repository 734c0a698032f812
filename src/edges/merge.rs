//! Runs and lists together: the sorted, symmetric graph of some rows.
//!
//! All sources of a run come before those of the next, so a row's reversed arcs are the runs' arcs, one
//! run after the other: a scatter by known degrees, without comparisons.
//!
//! Memory: one window of arcs, 8 bytes each, one decoded block, and the encoded result.

use std::ops::Range;

use super::file::{EdgePart, EncodedRange, encode_rows};
use super::rows::{Adjacency, Edge, Relation};
use crate::config::EdgeRule;
use crate::error::{Error, Result};
use crate::neighbors::{Window, Windows};
use crate::vectors::RowId;

/// Cuts rows into windows of about `arcs` reversed arcs each; a row is never cut. Pure.
pub(crate) fn cut_windows(in_degrees: &[u32], own_arcs: usize, arcs: usize) -> Vec<Range<RowId>> {
    let (mut windows, mut start, mut sum) = (Vec::new(), 0, 0usize);
    for (row, degree) in in_degrees.iter().enumerate() {
        sum += *degree as usize + own_arcs;
        if sum >= arcs {
            windows.push(start..row as RowId + 1);
            (start, sum) = (row as RowId + 1, 0);
        }
    }
    if (start as usize) < in_degrees.len() {
        windows.push(start..in_degrees.len() as RowId);
    }
    windows
}

/// The reversed arcs of a window, by row: where each row's end, and the sources in order.
fn gather(runs: &[EdgePart], rows: Range<RowId>, in_degrees: &[u32]) -> Result<(Vec<usize>, Vec<Edge>)> {
    let degrees = &in_degrees[rows.start as usize..rows.end as usize];
    let (mut next, mut ends) = (Vec::with_capacity(degrees.len()), Vec::with_capacity(degrees.len()));
    let mut total = 0;
    for degree in degrees {
        next.push(total);
        total += *degree as usize;
        ends.push(total);
    }
    let mut arcs = vec![Edge { row: 0, relation: Relation::WINDOW }; total];
    let mut block = Adjacency::default();
    for run in runs {
        for index in run.blocks_of(rows.clone()) {
            run.read(index, &mut block)?;
            for (row, list) in block.iter().filter(|(row, _)| rows.contains(row)) {
                let at = &mut next[(row - rows.start) as usize];
                let place = arcs.get_mut(*at..*at + list.len()).ok_or_else(|| disagree(runs))?;
                place.copy_from_slice(list);
                *at += list.len();
            }
        }
    }
    if next != ends {
        return Err(disagree(runs));
    }
    Ok((next, arcs))
}

fn disagree(runs: &[EdgePart]) -> Error {
    let folder = runs.first().and_then(|run| run.sealed().path().parent()).unwrap_or(std::path::Path::new(""));
    Error::runtime("the spilled runs hold other arcs than the neighbor lists")
        .path(folder)
        .remedy("run `mine` again with --replace")
}

/// One row's arcs: its own list, sorted, with the reversed arcs. Both ends see the same kind. Pure.
pub(crate) fn join(own: &[Edge], reversed: &[Edge], rule: EdgeRule, out: &mut Vec<Edge>) {
    let wanted = |relation: Relation| rule == EdgeRule::Any || relation.window() != 1 || relation.suspects() > 0;
    let mutual_only = |relation: Relation| match rule {
        // One direction in the window is no edge of the mutual graph; a suspect it remains.
        EdgeRule::Mutual if relation.window() == 1 => Relation::SUSPECT,
        _ => relation,
    };
    let mut push = |row, relation| {
        if wanted(relation) {
            out.push(Edge { row, relation: mutual_only(relation) });
        }
    };
    let (mut a, mut b) = (0, 0);
    while a < own.len() && b < reversed.len() {
        // Without branches: which of the two comes first is as good as random.
        let (x, y) = (own[a], reversed[b]);
        let (takes_x, takes_y) = (x.row <= y.row, y.row <= x.row);
        push(x.row.min(y.row), x.relation.only_if(takes_x).with(y.relation.only_if(takes_y)));
        a += usize::from(takes_x);
        b += usize::from(takes_y);
    }
    own[a..].iter().chain(&reversed[b..]).for_each(|arc| push(arc.row, arc.relation));
}

/// A row's own list as arcs, sorted by row; `keys` is room. Pure.
pub(crate) fn own_arcs(window: &Window<'_>, keys: &mut Vec<u32>, out: &mut Vec<Edge>) {
    // Numbers sort faster than structures, and rows have 31 bits.
    let key = |(rank, row): (usize, &RowId)| row << 1 | RowId::from(rank < window.ranks.start);
    keys.clear();
    keys.extend(window.partners().iter().enumerate().map(key));
    keys.sort_unstable();
    let relation = |key: u32| if key & 1 == 1 { Relation::SUSPECT } else { Relation::WINDOW };
    out.clear();
    out.extend(keys.iter().map(|key| Edge { row: key >> 1, relation: relation(*key) }));
}

/// Merges and encodes the graph of some rows. O(arcs).
///
/// # Errors
/// A run is damaged.
pub(crate) fn merge_window(
    runs: &[EdgePart],
    windows: &Windows<'_>,
    rows: Range<RowId>,
    in_degrees: &[u32],
    rule: EdgeRule,
) -> Result<EncodedRange> {
    let (reversed_ends, reversed) = gather(runs, rows.clone(), in_degrees)?;
    let (mut arcs, mut ends) = (Vec::new(), Vec::with_capacity(rows.len()));
    let (mut keys, mut own) = (Vec::new(), Vec::new());
    let mut start = 0;
    for (row, end) in rows.clone().zip(reversed_ends) {
        own_arcs(&windows.of(row), &mut keys, &mut own);
        join(&own, &reversed[start..end], rule, &mut arcs);
        ends.push(arcs.len() as u32);
        start = end;
    }
    encode_rows(rows.start, &ends, &arcs).map_err(|e| {
        Error::runtime("arcs cannot be compressed").found(e.to_string()).remedy("run the same command again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_all_rows_in_order() {
        let windows = cut_windows(&[0, 9, 1, 1, 1, 30, 2], 1, 10);
        assert_eq!(windows, [0..2, 2..6, 6..7]);
    }

    #[test]
    fn both_directions_are_joined_and_the_mutual_rule_keeps_suspects() {
        let arc = |row, relation| Edge { row, relation };
        let own = [arc(1, Relation::WINDOW), arc(4, Relation::WINDOW), arc(6, Relation::SUSPECT)];
        let reversed =
            [arc(0, Relation::WINDOW), arc(4, Relation::WINDOW), arc(6, Relation::WINDOW), arc(9, Relation::SUSPECT)];
        let summary = |rule| {
            let mut out = Vec::new();
            join(&own, &reversed, rule, &mut out);
            out.iter().map(|arc| (arc.row, arc.relation.window(), arc.relation.suspects())).collect::<Vec<_>>()
        };
        assert_eq!(summary(EdgeRule::Any), [(0, 1, 0), (1, 1, 0), (4, 2, 0), (6, 1, 1), (9, 0, 1)]);
        assert_eq!(summary(EdgeRule::Mutual), [(4, 2, 0), (6, 0, 1), (9, 0, 1)]);
    }
}
