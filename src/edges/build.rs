//! Builds the graph: spill, then merge; a part for each run and for each range of rows.

use std::ops::Range;
use std::path::PathBuf;

use indicatif::HumanCount;
use rayon::prelude::*;

use super::budget::EdgesCounts;
use super::file::{EdgeFile, EdgePart, EncodedRange};
use super::merge::{cut_windows, merge_window};
use super::spill::{Reversed, in_degrees};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::neighbors::{Neighbors, Windows};
use crate::run::record::{EdgesFacts, WindowCounts};
use crate::run::{Run, RunReader, Stage, StageRun};
use crate::vectors::{RowId, Vectors};

/// One row in so many without a window is worth a warning.
const MANY_SHARE: u64 = 20;
const RUN_PREFIX: &str = "run-";
const RANGE_PREFIX: &str = "range-";
/// Windows that are merged into one part.
pub(crate) const PART_WINDOWS: usize = 16;
/// Reversed and own arcs of a window: fixed, so that the same graph gives the same files.
pub(crate) const WINDOW_EDGES: usize = 1 << 20;

/// Builds the graph from the neighbor lists, or opens the one that is there.
///
/// # Errors
/// The score limits leave no preferred negative, the user interrupts, or the disk fails.
pub fn build(
    run: &Run,
    vectors: &Vectors,
    neighbors: &Neighbors,
    config: &Config,
    counts: &EdgesCounts,
) -> Result<EdgeFile> {
    let windows = Windows::new(vectors, neighbors, config);
    let rows = windows.rows();
    if !run.is_complete(Stage::Edges) {
        let stage = run.begin(Stage::Edges);
        let cut = windows.count();
        if windows.limited() {
            refuse_empty_windows(&cut)?;
            tell(&cut);
        }
        let (runs, in_degrees) = spill(run, &stage, neighbors, &windows, counts)?;
        merge(run, &stage, &windows, config, &runs, &in_degrees)?;
        let edges = EdgeFile::open(&range_paths(run), rows)?;
        let facts = EdgesFacts { rows, arcs: edges.arcs(), bytes: edges.bytes(), runs: runs.len(), windows: cut };
        drop(runs);
        stage.finish(&facts, |name| name.starts_with(RANGE_PREFIX))?;
    }
    EdgeFile::open(&range_paths(run), rows)
}

/// Opens the graph of a finished run.
///
/// # Errors
/// The stage is not finished, or a file is damaged.
pub(crate) fn open(run: &RunReader) -> Result<EdgeFile> {
    let record = run.stage(Stage::Edges)?;
    let folder = run.stage_folder(Stage::Edges);
    let paths: Vec<PathBuf> =
        record.parts.keys().filter(|name| name.starts_with(RANGE_PREFIX)).map(|name| folder.join(name)).collect();
    EdgeFile::open(&paths, run.facts::<EdgesFacts>()?.rows)
}

/// Fails where score limits have emptied every window.
fn refuse_empty_windows(counts: &WindowCounts) -> Result<()> {
    let emptied = counts.emptied_by_suspects + counts.emptied_by_min_score;
    if emptied == 0 || counts.rows_without_window < counts.rows {
        return Ok(());
    }
    Err(Error::input("the score limits leave no row a preferred negative")
        .expected("a candidate that is no suspect and no lower than --min-score, for one row at least")
        .found(format!(
            "{} rows with suspects only, and {} whose others all score too low",
            counts.emptied_by_suspects, counts.emptied_by_min_score
        ))
        .remedy(
            "widen --window, lower --relative-margin, raise --max-score or lower --min-score, and add --replace: the \
             lists are kept where --skip and --window have the same sum",
        ))
}

/// Says what score limits have come to.
fn tell(counts: &WindowCounts) {
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
             or a higher --max-score",
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

fn range_paths(run: &Run) -> Vec<PathBuf> {
    run.parts(Stage::Edges, RANGE_PREFIX).iter().map(|name| run.part_path(Stage::Edges, name)).collect()
}

/// A run is named after the neighbor blocks that it covers, so that a resumed job finds where to go on
/// whatever its budget is now.
fn run_name(blocks: &Range<usize>) -> String {
    format!("{RUN_PREFIX}{:06}-{:06}.edg", blocks.start, blocks.end)
}

fn covered(name: &str) -> Option<Range<usize>> {
    let (start, end) = name.strip_prefix(RUN_PREFIX)?.strip_suffix(".edg")?.split_once('-')?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

/// The finished runs that follow each other from the first block on, and the block that they reach. One behind a
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

/// Spills what is not spilled yet; the runs, and how many lists each row stands in.
fn spill(
    run: &Run,
    stage: &StageRun<'_>,
    neighbors: &Neighbors,
    windows: &Windows<'_>,
    counts: &EdgesCounts,
) -> Result<(Vec<EdgePart>, Vec<u32>)> {
    let (blocks, rows) = (neighbors.blocks(), windows.rows());
    let (_, mut done) = finished_runs(run);
    let mut degrees = in_degrees(windows, 0..blocks[..done].last().map_or(0, |block| block.range().end));
    let meter = run.meter(Stage::Edges, u64::from(rows) * 2, "rows");
    meter.skip(blocks[..done].iter().map(|block| block.range().len() as u64).sum());
    while done < blocks.len() {
        run.check_interrupt()?;
        let (mut arcs, mut end) = (0, done);
        // One block always fits: the plan says so.
        while end < blocks.len()
            && (end == done || arcs + block_arcs(windows, blocks[end].range()) <= counts.spill_edges)
        {
            arcs += block_arcs(windows, blocks[end].range());
            end += 1;
        }
        // A place that is wrong would be some other row's arc from here on.
        blocks[done..end].par_iter().try_for_each(|block| block.sealed().check())?;
        let reversed = Reversed::new(windows, blocks[done].range().start..blocks[end - 1].range().end);
        let encoded = reversed.encode().map_err(not_compressed)?;
        reversed.add_degrees(&mut degrees);
        drop(reversed);
        meter.add(blocks[done..end].iter().map(|block| block.range().len() as u64).sum())?;
        stage.commit(&run_name(&(done..end)), |out| encoded.write(out, 0..rows, rows))?;
        done = end;
    }
    let (names, _) = finished_runs(run);
    let runs = names.iter().map(|name| EdgePart::open(&run.part_path(Stage::Edges, name))).collect::<Result<_>>()?;
    Ok((runs, degrees))
}

fn block_arcs(windows: &Windows<'_>, places: Range<RowId>) -> usize {
    places.map(|place| windows.of(place).ranks.end).sum()
}

fn not_compressed(e: std::io::Error) -> Error {
    Error::runtime("arcs cannot be compressed").found(e.to_string()).remedy("run the same command again")
}

fn merge(
    run: &Run,
    stage: &StageRun<'_>,
    lists: &Windows<'_>,
    config: &Config,
    runs: &[EdgePart],
    in_degrees: &[u32],
) -> Result<()> {
    let rows = lists.rows();
    let windows = cut_windows(in_degrees, config.most_ranks() as usize, WINDOW_EDGES);
    let meter = run.meter(Stage::Edges, u64::from(rows) * 2, "rows");
    meter.skip(u64::from(rows));
    for (index, windows) in windows.chunks(PART_WINDOWS).enumerate() {
        let name = format!("{RANGE_PREFIX}{index:06}.edg");
        let range = windows[0].start..windows[windows.len() - 1].end;
        if run.has(Stage::Edges, &name) {
            meter.skip(range.len() as u64);
            continue;
        }
        run.check_interrupt()?;
        let merged: Vec<EncodedRange> = windows
            .par_iter()
            .map(|rows| {
                let merged = merge_window(runs, lists, rows.clone(), in_degrees, config.edges);
                meter.add(rows.len() as u64)?;
                merged
            })
            .collect::<Result<_>>()?;
        let mut whole = EncodedRange::default();
        merged.into_iter().for_each(|part| whole.append(part));
        stage.commit(&name, |out| whole.write(out, range, rows))?;
    }
    Ok(())
}
