//! The stage's parts: how they are named, and what they cover. Pure, but for opening runs.

use std::ops::Range;

use super::file::EdgePart;
use crate::error::Result;
use crate::neighbors::Windows;
use crate::neighbors::file::Block;
use crate::run::{RunReader, Stage};
use crate::vectors::PlaceRange;

pub(super) const RUN_PREFIX: &str = "run-";
pub(super) const RANGE_PREFIX: &str = "range-";

/// A run is named after the neighbor blocks that it covers, so that a resumed job finds where to go on
/// under any budget.
pub(super) fn run_name(blocks: &Range<usize>) -> String {
    format!("{RUN_PREFIX}{:06}-{:06}.edg", blocks.start, blocks.end)
}

/// The merge ranges of a part, `PART_MERGE_RANGES` of them.
pub(super) fn range_name(number: usize) -> String {
    format!("{RANGE_PREFIX}{number:06}.edg")
}

fn covered(name: &str) -> Option<Range<usize>> {
    let (start, end) = name.strip_prefix(RUN_PREFIX)?.strip_suffix(".edg")?.split_once('-')?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

/// The runs among some names that follow each other from the first block on, and the block that they reach. A run
/// behind a gap, where a file was lost, is not counted.
pub(super) fn chain(names: impl IntoIterator<Item = String>) -> (Vec<String>, usize) {
    let (mut chain, mut reached) = (Vec::new(), 0);
    for name in names {
        if let Some(blocks) = covered(&name).filter(|blocks| blocks.start == reached && blocks.end > reached) {
            reached = blocks.end;
            chain.push(name);
        }
    }
    (chain, reached)
}

/// The runs of a stage under way.
///
/// # Errors
/// A file is damaged.
pub(super) fn runs_so_far(run: &RunReader) -> Result<Vec<EdgePart>> {
    let names = run.manifest().stages.get(&Stage::Edges).map(|record| record.parts.keys().cloned());
    let (chain, _) = chain(names.into_iter().flatten());
    chain.iter().map(|name| EdgePart::open(&run.part_so_far(Stage::Edges, name)?)).collect()
}

/// The places of consecutive blocks.
pub(super) fn span(blocks: &[Block]) -> PlaceRange {
    match blocks {
        [first, .., last] => PlaceRange { start: first.range().start, end: last.range().end },
        [only] => only.range(),
        [] => PlaceRange::default(),
    }
}

/// Cuts blocks from `first` on into runs, each of as many as give `spill_edges` edges, but one at least; and the most
/// edges of any run.
pub(super) fn cut_runs(windows: &Windows<'_>, first: usize, spill_edges: usize) -> (Vec<Range<usize>>, u64) {
    let edges_of = |places: PlaceRange| places.iter().map(|place| windows.of(place).ranks.end).sum();
    let edges: Vec<usize> = windows.block_places().into_iter().skip(first).map(edges_of).collect();
    cut(&edges, first, spill_edges)
}

/// The same for blocks from `first` on with these edges.
fn cut(edges: &[usize], first: usize, spill_edges: usize) -> (Vec<Range<usize>>, u64) {
    let (mut runs, mut start, mut sum, mut most) = (Vec::new(), first, 0, 0);
    for (block, edges) in (first..).zip(edges) {
        if block > start && sum + edges > spill_edges {
            runs.push(start..block);
            (start, sum) = (block, 0);
        }
        sum += edges;
        most = most.max(sum as u64);
    }
    let end = first + edges.len();
    if start < end {
        runs.push(start..end);
    }
    (runs, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_all_blocks_and_hold_what_fits() {
        assert_eq!(cut(&[4, 4, 9, 1, 1, 1], 2, 8), (vec![2..4, 4..5, 5..8], 9));
        assert_eq!(cut(&[], 3, 8), (vec![], 0));
        assert_eq!(cut(&[0, 0, 9], 0, 8), (vec![0..2, 2..3], 9));
    }

    #[test]
    fn runs_behind_a_gap_are_not_counted() {
        let names = |blocks: &[Range<usize>]| blocks.iter().map(run_name).collect::<Vec<_>>();
        let (found, reached) = chain(names(&[0..3, 3..4, 6..7]));
        assert_eq!((found, reached), (names(&[0..3, 3..4]), 4));
        assert_eq!(chain(["range-000000.edg".to_owned(), "run-x-y.edg".to_owned()]), (vec![], 0));
    }
}
