//! Builds the graph: spill, then merge; a part for each run and for each range of rows.

use std::ops::Range;
use std::path::PathBuf;

use indicatif::HumanCount;
use rayon::prelude::*;

use super::budget::{EdgesCounts, MERGE_RANGE_EDGES, PART_MERGE_RANGES};
use super::file::{EdgeFile, EdgePart, EncodedRange, release_compressors};
use super::judged::JudgedFiles;
use super::marks;
use super::merge::{Merge, cut_merge_ranges};
use super::own_ranks;
use super::spill::{Reversed, in_degrees};
use super::verdicts;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::neighbors::file::Block;
use crate::neighbors::{Neighbors, Windows};
use crate::run::record::{EdgesFacts, WindowCounts};
use crate::run::{Run, RunReader, Stage, StageRun};
use crate::vectors::{PlaceRange, Vectors};

/// One row in so many without a window is worth a warning.
const MANY_SHARE: u64 = 20;
const RUN_PREFIX: &str = "run-";
const RANGE_PREFIX: &str = "range-";

/// Builds the graph from the neighbor lists, or opens the one that is there.
///
/// # Errors
/// The score limits leave no preferred negative, the user interrupts, or the disk fails.
pub fn build(
    run: &Run,
    vectors: &Vectors,
    neighbors: &Neighbors,
    (config, judged): (&Config, Option<&JudgedFiles>),
    counts: &EdgesCounts,
) -> Result<EdgeFile> {
    let rows = vectors.row_count();
    if !run.is_complete(Stage::Edges) {
        let stage = run.begin(Stage::Edges);
        neighbors.check_lists()?;
        let verdicts = verdicts::make(run, &stage, (vectors, neighbors), judged, config, counts)?;
        marks::make(run, &stage, vectors, neighbors, &Windows::new(vectors, neighbors, config))?;
        let windows = marks::windows(run, vectors, neighbors, config)?;
        let rows_left_out = own_ranks::make(run, &stage, vectors, &windows, config)?;
        let cut = windows.count();
        if windows.limited() || verdicts.is_some() {
            refuse_empty_windows(&cut, windows.limited())?;
            tell(&cut);
        }
        let (runs, in_degrees) = spill(run, &stage, neighbors, &windows, counts)?;
        let sources = Merge { runs: &runs, windows: &windows, in_degrees: &in_degrees, rule: config.edges };
        merge(run, &stage, &sources, config.most_ranks() as usize)?;
        let graph = EdgeFile::open(&range_paths(run)?, rows)?;
        let facts = EdgesFacts {
            rows,
            arcs: graph.edges(),
            bytes: graph.bytes(),
            runs: runs.len(),
            windows: cut,
            rows_left_out,
            verdicts,
        };
        drop(runs);
        stage.finish(&facts, |name| !name.starts_with(RUN_PREFIX))?;
        release_compressors();
    }
    EdgeFile::open(&range_paths(run)?, rows)
}

/// Opens the graph of a finished run of so many rows.
///
/// # Errors
/// The stage is not finished, or a file is damaged.
pub(crate) fn open(run: &RunReader, rows: u32) -> Result<EdgeFile> {
    let record = run.stage(Stage::Edges)?;
    run.files_of(Stage::Edges)?;
    let names = record.parts.keys().filter(|name| name.starts_with(RANGE_PREFIX));
    let paths = names.map(|name| run.part(Stage::Edges, name)).collect::<Result<Vec<PathBuf>>>()?;
    EdgeFile::open(&paths, rows)
}

/// Fails where score limits, or verdicts, have emptied every window.
fn refuse_empty_windows(counts: &WindowCounts, limited: bool) -> Result<()> {
    let emptied = counts.emptied_by_suspects + counts.emptied_by_min_score;
    if emptied == 0 || counts.rows_without_window < counts.rows {
        return Ok(());
    }
    if !limited {
        return Err(Error::input("the verdicts leave no row a preferred negative")
            .expected("a candidate that was not judged a right answer, for one row at least")
            .found(format!("{} rows with suspects only", counts.emptied_by_suspects))
            .remedy("widen --window, or mine without some of --verdicts, and add --replace"));
    }
    Err(Error::input("the score limits leave no row a preferred negative")
        .expected("a candidate that is no suspect and no lower than --min-score, for one row at least")
        .found(format!(
            "{} rows with suspects only, and {} whose others all score too low",
            counts.emptied_by_suspects, counts.emptied_by_min_score
        ))
        .remedy(
            "widen --window, lower --relative-margin, raise --max-score, --max-query-score or --max-positive-score, or \
             lower --min-score, and add --replace: the lists are kept where --skip and --window have the same sum",
        ))
}

/// Says what score limits and verdicts have made of the candidates.
fn tell(counts: &WindowCounts) {
    if counts.suspects_by_verdict + counts.cleared > 0 {
        tracing::info!(
            "{} candidates are suspects by verdict alone, {} suspects are cleared",
            HumanCount(counts.suspects_by_verdict),
            HumanCount(counts.cleared)
        );
    }
    tracing::info!(
        "{} suspects by rank, {} more by score, {} candidates too easy; {} rows are left without a preferred negative",
        HumanCount(counts.suspects_by_rank),
        HumanCount(counts.suspects_by_score),
        HumanCount(counts.too_easy),
        HumanCount(counts.rows_without_window),
    );
    let many = counts.rows / MANY_SHARE;
    if counts.emptied_by_suspects > many {
        tracing::warn!(
            "all ranks of {} rows are suspects: a wider --window reaches further, or else a smaller --relative-margin \
             or higher limits",
            HumanCount(counts.emptied_by_suspects)
        );
    }
    if counts.emptied_by_min_score > many {
        tracing::warn!(
            "{} rows have candidates that are no suspects, but all below --min-score: lower it",
            HumanCount(counts.emptied_by_min_score)
        );
    }
}

fn range_paths(run: &Run) -> Result<Vec<PathBuf>> {
    run.parts(Stage::Edges, RANGE_PREFIX).iter().map(|name| run.part(Stage::Edges, name)).collect()
}

/// A run is named after the neighbor blocks that it covers, so that a resumed job finds where to go on
/// under any budget.
fn run_name(blocks: &Range<usize>) -> String {
    format!("{RUN_PREFIX}{:06}-{:06}.edg", blocks.start, blocks.end)
}

fn covered(name: &str) -> Option<Range<usize>> {
    let (start, end) = name.strip_prefix(RUN_PREFIX)?.strip_suffix(".edg")?.split_once('-')?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

/// The finished runs that follow each other from the first block on, and the block that they reach. A run behind a
/// gap, where a file was lost, is not counted.
fn finished_runs(run: &Run) -> (Vec<String>, usize) {
    let (mut chain, mut reached) = (Vec::new(), 0);
    for name in run.parts(Stage::Edges, RUN_PREFIX) {
        if let Some(blocks) = covered(&name).filter(|blocks| blocks.start == reached && blocks.end > reached) {
            reached = blocks.end;
            chain.push(name);
        }
    }
    (chain, reached)
}

/// Spills what is not spilled yet; the runs, and how many lists each row is in, by place.
fn spill(
    run: &Run,
    stage: &StageRun<'_>,
    neighbors: &Neighbors,
    windows: &Windows<'_>,
    counts: &EdgesCounts,
) -> Result<(Vec<EdgePart>, Vec<u32>)> {
    let (blocks, places) = (neighbors.blocks(), windows.places());
    let rows = |blocks: &[Block]| -> u64 { blocks.iter().map(|block| block.range().len() as u64).sum() };
    let (_, mut done) = finished_runs(run);
    let mut degrees = in_degrees(windows, span(&blocks[..done]));
    let meter = run.meter(Stage::Edges, rows(blocks) * 2, "rows");
    meter.skip(rows(&blocks[..done]));
    while done < blocks.len() {
        run.check_interrupt()?;
        let (mut edges, mut end) = (0, done);
        // One block always fits: the plan makes sure of it.
        while end < blocks.len()
            && (end == done || edges + block_edges(windows, blocks[end].range()) <= counts.spill_edges)
        {
            edges += block_edges(windows, blocks[end].range());
            end += 1;
        }
        let spilled = &blocks[done..end];
        let reversed = Reversed::new(windows, span(spilled));
        let encoded = reversed.encode()?;
        reversed.add_degrees(&mut degrees);
        drop(reversed);
        stage.commit(&run_name(&(done..end)), |out| encoded.write(out, places, places.len()))?;
        meter.add(rows(spilled))?;
        done = end;
    }
    let (names, _) = finished_runs(run);
    let runs = names.iter().map(|name| EdgePart::open(&run.part(Stage::Edges, name)?)).collect::<Result<_>>()?;
    Ok((runs, degrees))
}

/// The places of consecutive blocks.
fn span(blocks: &[Block]) -> PlaceRange {
    match blocks {
        [first, .., last] => PlaceRange { start: first.range().start, end: last.range().end },
        [only] => only.range(),
        [] => PlaceRange::default(),
    }
}

/// Edges that the lists of a block give.
fn block_edges(windows: &Windows<'_>, places: PlaceRange) -> usize {
    places.iter().map(|place| windows.of(place).ranks.end).sum()
}

/// Merges the runs with the lists, `PART_MERGE_RANGES` merge ranges a part.
fn merge(run: &Run, stage: &StageRun<'_>, merge: &Merge<'_>, most_ranks: usize) -> Result<()> {
    let places = merge.windows.places();
    let ranges = cut_merge_ranges(merge.in_degrees, most_ranks, MERGE_RANGE_EDGES);
    let meter = run.meter(Stage::Edges, places.len() as u64 * 2, "rows");
    meter.skip(places.len() as u64);
    for (index, ranges) in ranges.chunks(PART_MERGE_RANGES).enumerate() {
        let name = format!("{RANGE_PREFIX}{index:06}.edg");
        let part = PlaceRange { start: ranges[0].start, end: ranges[ranges.len() - 1].end };
        if run.has(Stage::Edges, &name) {
            meter.skip(part.len() as u64);
            continue;
        }
        run.check_interrupt()?;
        let merged: Vec<EncodedRange> = ranges
            .par_iter()
            .map(|range| {
                let merged = merge.range(*range)?;
                meter.add(range.len() as u64)?;
                Ok(merged)
            })
            .collect::<Result<_>>()?;
        let mut whole = EncodedRange::default();
        merged.into_iter().for_each(|range| whole.append(range));
        stage.commit(&name, |out| whole.write(out, part, places.len()))?;
    }
    Ok(())
}
