//! The merge of runs and lists into the sorted, symmetric graph, one *merge range* of consecutive places at a time.
//!
//! All sources of a run come before those of the next. So a row's reversed edges are its edges of the runs, one run
//! after the other: they are copied to positions that follow from the in-degrees, without comparisons.
//!
//! Memory: one merge range's edges, 8 bytes each, one decoded block, and the encoded result.

use super::file::{EdgePart, EncodedRange, encode_rows};
use super::rows::{Adjacency, Edge, Relation};
use crate::config::EdgeRule;
use crate::error::{Error, Result};
use crate::neighbors::{Window, Windows};
use crate::vectors::{Place, PlaceRange};

/// Cuts all places into merge ranges of about `edges` edges, a row's being its reversed ones and `own_edges` of its own
/// list; a row is never cut. Pure.
pub(crate) fn cut_merge_ranges(in_degrees: &[u32], own_edges: usize, edges: usize) -> Vec<PlaceRange> {
    let (mut ranges, mut start, mut sum) = (Vec::new(), 0, 0usize);
    for (place, degree) in (0u32..).zip(in_degrees) {
        sum += *degree as usize + own_edges;
        if sum >= edges {
            ranges.push(PlaceRange::new(start, place + 1));
            (start, sum) = (place + 1, 0);
        }
    }
    if (start as usize) < in_degrees.len() {
        ranges.push(PlaceRange::new(start, in_degrees.len() as u32));
    }
    ranges
}

/// The reversed edges of a merge range: where each row's end, and all of them, each row's by rising source.
fn gather(runs: &[EdgePart], places: PlaceRange, degrees: &[u32]) -> Result<(Vec<usize>, Vec<Edge>)> {
    let (mut next, mut ends) = (Vec::with_capacity(degrees.len()), Vec::with_capacity(degrees.len()));
    let mut total = 0;
    for degree in degrees {
        next.push(total);
        total += *degree as usize;
        ends.push(total);
    }
    let mut edges = vec![Edge { other: Place::NONE, relation: Relation::WINDOW }; total];
    let mut block = Adjacency::default();
    for run in runs {
        for index in run.blocks_of(places) {
            run.read(index, &mut block)?;
            for (place, list) in block.iter().filter(|(place, _)| places.contains(*place)) {
                let at = &mut next[place.index() - places.start.index()];
                let goal = edges.get_mut(*at..*at + list.len()).ok_or_else(|| disagree(runs))?;
                goal.copy_from_slice(list);
                *at += list.len();
            }
        }
    }
    if next != ends {
        return Err(disagree(runs));
    }
    Ok((next, edges))
}

/// How many edges each row of a merge range has in the runs. O(edges).
///
/// # Errors
/// A run is damaged.
pub(crate) fn degrees_of(runs: &[EdgePart], places: PlaceRange) -> Result<Vec<u32>> {
    let mut degrees = vec![0; places.len()];
    let mut block = Adjacency::default();
    for run in runs {
        for index in run.blocks_of(places) {
            run.read(index, &mut block)?;
            for (place, list) in block.iter().filter(|(place, _)| places.contains(*place)) {
                degrees[place.index() - places.start.index()] += list.len() as u32;
            }
        }
    }
    Ok(degrees)
}

/// Fails where the runs have another number of edges than the lists.
///
/// # Errors
/// They are of other lists.
pub(crate) fn refuse_other_runs(runs: &[EdgePart], in_degrees: &[u32]) -> Result<()> {
    let of_lists: u64 = in_degrees.iter().map(|degree| u64::from(*degree)).sum();
    match runs.iter().map(EdgePart::edges).sum::<u64>() == of_lists {
        true => Ok(()),
        false => Err(disagree(runs)),
    }
}

fn disagree(runs: &[EdgePart]) -> Error {
    let folder = runs.first().and_then(|run| run.sealed().path().parent()).unwrap_or(std::path::Path::new(""));
    Error::runtime("the spilled runs do not fit the neighbor lists")
        .path(folder)
        .expected("as many edges of each row as lists that it is in")
        .found("another number")
        .remedy("run `mine` again with --replace")
}

/// One row's edges: its own list, sorted, joined with its reversed edges. Both ends see the same relation. Pure.
pub(crate) fn join(own: &[Edge], reversed: &[Edge], rule: EdgeRule, out: &mut Vec<Edge>) {
    let wanted = |relation: Relation| rule == EdgeRule::Any || relation.window() != 1 || relation.suspects() > 0;
    let mutual_only = |relation: Relation| match rule {
        // One direction in the rank window is no edge of the mutual graph; a suspect it remains.
        EdgeRule::Mutual if relation.window() == 1 => Relation::SUSPECT,
        _ => relation,
    };
    let mut push = |other, relation| {
        if wanted(relation) {
            out.push(Edge { other, relation: mutual_only(relation) });
        }
    };
    let (mut a, mut b) = (0, 0);
    while a < own.len() && b < reversed.len() {
        // Without branches, which would be mispredicted half of the time.
        let (x, y) = (own[a], reversed[b]);
        let (takes_x, takes_y) = (x.other <= y.other, y.other <= x.other);
        push(x.other.min(y.other), x.relation.only_if(takes_x).with(y.relation.only_if(takes_y)));
        a += usize::from(takes_x);
        b += usize::from(takes_y);
    }
    own[a..].iter().chain(&reversed[b..]).for_each(|edge| push(edge.other, edge.relation));
}

/// A row's own list as edges, sorted by the other place; `keys` is room. Pure.
pub(crate) fn own_edges(window: &Window<'_>, keys: &mut Vec<u32>, out: &mut Vec<Edge>) {
    // Numbers sort faster than structures, and places have 31 bits.
    let key = |(rank, other): (usize, Place)| other.number() << 1 | u32::from(window.is_suspect(rank));
    keys.clear();
    keys.extend(window.partners().map(key));
    keys.sort_unstable();
    let relation = |key: u32| if key & 1 == 1 { Relation::SUSPECT } else { Relation::WINDOW };
    out.clear();
    out.extend(keys.iter().map(|key| Edge { other: Place::new(key >> 1), relation: relation(*key) }));
}

/// What all merge ranges are merged from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merge<'a> {
    pub runs: &'a [EdgePart],
    pub windows: &'a Windows<'a>,
    pub rule: EdgeRule,
}

impl Merge<'_> {
    /// Merges and encodes one merge range, whose rows have so many reversed edges. O(edges).
    ///
    /// # Errors
    /// A run is damaged.
    pub(crate) fn range(&self, places: PlaceRange, degrees: &[u32]) -> Result<EncodedRange> {
        let (reversed_ends, reversed) = gather(self.runs, places, degrees)?;
        let (mut edges, mut ends) = (Vec::new(), Vec::with_capacity(places.len()));
        let (mut keys, mut own) = (Vec::new(), Vec::new());
        let mut start = 0;
        for (place, end) in places.iter().zip(reversed_ends) {
            own_edges(&self.windows.of(place), &mut keys, &mut own);
            join(&own, &reversed[start..end], self.rule, &mut edges);
            ends.push(edges.len() as u32);
            start = end;
        }
        encode_rows(places.start, &ends, &edges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_ranges_cover_all_places_in_order() {
        let ranges = cut_merge_ranges(&[0, 9, 1, 1, 1, 30, 2], 1, 10);
        assert_eq!(ranges, [(0, 2), (2, 6), (6, 7)].map(|(start, end)| PlaceRange::new(start, end)));
    }

    #[test]
    fn both_directions_are_joined_and_the_mutual_rule_keeps_suspects() {
        let edge = |place, relation| Edge { other: Place::new(place), relation };
        let own = [edge(1, Relation::WINDOW), edge(4, Relation::WINDOW), edge(6, Relation::SUSPECT)];
        let reversed = [
            edge(0, Relation::WINDOW),
            edge(4, Relation::WINDOW),
            edge(6, Relation::WINDOW),
            edge(9, Relation::SUSPECT),
        ];
        let summary = |rule| {
            let mut out = Vec::new();
            join(&own, &reversed, rule, &mut out);
            out.iter()
                .map(|edge| (edge.other.number(), edge.relation.window(), edge.relation.suspects()))
                .collect::<Vec<_>>()
        };
        assert_eq!(summary(EdgeRule::Any), [(0, 1, 0), (1, 1, 0), (4, 2, 0), (6, 1, 1), (9, 0, 1)]);
        assert_eq!(summary(EdgeRule::Mutual), [(4, 2, 0), (6, 0, 1), (9, 0, 1)]);
    }
}
