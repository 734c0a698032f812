//! Builds the graph: spill, then merge; a part for each run and for each range of rows.

use std::path::PathBuf;

use indicatif::HumanCount;
use rayon::prelude::*;

use super::budget::{EdgesCounts, MERGE_RANGE_EDGES, PART_MERGE_RANGES};
use super::file::{EdgeFile, EdgePart, EncodedRange, release_compressors};
use super::judged::JudgedFiles;
use super::marks;
use super::merge::{Merge, cut_merge_ranges, refuse_other_runs};
use super::own_ranks;
use super::parts::{RANGE_PREFIX, RUN_PREFIX, chain, cut_runs, range_name, run_name, span};
use super::pieces::{self, EdgesStep, Wanted};
use super::spill::{Reversed, in_degrees};
use super::verdicts;
use crate::config::{Config, Pieces};
use crate::error::{Error, Result};
use crate::neighbors::file::Block;
use crate::neighbors::{Neighbors, Windows};
use crate::run::record::{EdgesFacts, WindowCounts};
use crate::run::{Run, RunReader, Stage, StageRun};
use crate::vectors::{PlaceRange, Vectors};

/// One row in so many without a window is worth a warning.
const MANY_SHARE: u64 = 20;

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
        let unmarked = Windows::new(vectors, neighbors, config);
        match config.pieces {
            Pieces::External => pieces::wait_for_marks(run, &stage, &unmarked)?,
            Pieces::Own => marks::make(run, &stage, vectors, &unmarked)?,
        }
        let windows = marks::windows(run, vectors, neighbors, config)?;
        let rows_left_out = own_ranks::make(run, &stage, vectors, &windows, config)?;
        let cut = windows.count();
        if windows.limited() || verdicts.is_some() {
            refuse_empty_windows(&cut, windows.limited())?;
            tell(&cut);
        }
        let (runs, in_degrees) = spill(run, &stage, &windows, (config, counts))?;
        let sources = Merge { runs: &runs, windows: &windows, rule: config.edges };
        merge(run, &stage, &sources, &in_degrees, config)?;
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
        run.remove_pieces(None)?;
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

/// Spills what is not spilled yet; the runs, and how many lists each row is in, by place.
fn spill(
    run: &Run,
    stage: &StageRun<'_>,
    windows: &Windows<'_>,
    (config, counts): (&Config, &EdgesCounts),
) -> Result<(Vec<EdgePart>, Vec<u32>)> {
    let (blocks, places) = (windows.neighbors().blocks(), windows.places());
    let rows = |blocks: &[Block]| -> u64 { blocks.iter().map(|block| block.range().len() as u64).sum() };
    let (_, done) = chain(run.parts(Stage::Edges, RUN_PREFIX));
    let meter = run.meter(Stage::Edges, rows(blocks) * 2, "rows");
    meter.skip(rows(&blocks[..done]));
    // One block always fits: the plan makes sure of it.
    let (runs, run_edges) = cut_runs(windows, done, counts.spill_edges);
    let degrees = if config.pieces == Pieces::External {
        let parts = runs.iter().map(|blocks| vec![[blocks.start as u32, blocks.end as u32]]).collect();
        let wanted = Wanted { step: EdgesStep::Spill, parts, run_edges };
        pieces::wait(run, stage, wanted, windows, |number| meter.add(rows(&blocks[runs[number].clone()])))?;
        in_degrees(windows, places)
    } else {
        let mut degrees = in_degrees(windows, span(&blocks[..done]));
        for spilled in runs {
            run.check_interrupt()?;
            let reversed = Reversed::new(windows, span(&blocks[spilled.clone()]));
            let encoded = reversed.encode()?;
            reversed.add_degrees(&mut degrees);
            drop(reversed);
            stage.commit(&run_name(&spilled), |out| encoded.write(out, places, places.len()))?;
            meter.add(rows(&blocks[spilled]))?;
        }
        degrees
    };
    let (names, _) = chain(run.parts(Stage::Edges, RUN_PREFIX));
    let open = |name: &String| EdgePart::open(&run.part(Stage::Edges, name)?);
    let runs: Vec<EdgePart> = names.iter().map(open).collect::<Result<_>>()?;
    refuse_other_runs(&runs, &degrees)?;
    Ok((runs, degrees))
}

/// Merges the runs with the lists, `PART_MERGE_RANGES` merge ranges a part.
fn merge(run: &Run, stage: &StageRun<'_>, merge: &Merge<'_>, in_degrees: &[u32], config: &Config) -> Result<()> {
    let places = merge.windows.places();
    let ranges = cut_merge_ranges(in_degrees, config.most_ranks() as usize, MERGE_RANGE_EDGES);
    let meter = run.meter(Stage::Edges, places.len() as u64 * 2, "rows");
    meter.skip(places.len() as u64);
    let parts: Vec<&[PlaceRange]> = ranges.chunks(PART_MERGE_RANGES).collect();
    let whole = |ranges: &[PlaceRange]| PlaceRange { start: ranges[0].start, end: ranges[ranges.len() - 1].end };
    for (number, ranges) in parts.iter().enumerate() {
        if run.has(Stage::Edges, &range_name(number)) {
            meter.skip(whole(ranges).len() as u64);
        }
    }
    if config.pieces == Pieces::External {
        let numbers = |ranges: &&[PlaceRange]| ranges.iter().map(|r| [r.start.number(), r.end.number()]).collect();
        let wanted = Wanted { step: EdgesStep::Merge, parts: parts.iter().map(numbers).collect(), run_edges: 0 };
        let done = |number: usize| meter.add(whole(parts[number]).len() as u64);
        return pieces::wait(run, stage, wanted, merge.windows, done);
    }
    for (number, ranges) in parts.iter().enumerate() {
        if run.has(Stage::Edges, &range_name(number)) {
            continue;
        }
        run.check_interrupt()?;
        let merged = |range: &PlaceRange| {
            let merged = merge.range(*range, &in_degrees[range.indices()])?;
            meter.add(range.len() as u64)?;
            Ok(merged)
        };
        let encoded = EncodedRange::joined(ranges.par_iter().map(merged).collect::<Result<_>>()?);
        stage.commit(&range_name(number), |out| encoded.write(out, whole(ranges), places.len()))?;
    }
    Ok(())
}
