//! Builds the graph: spill, then merge; a part for each run and for each range of rows.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;
use serde_json::json;

use super::file::{EdgeFile, EdgePart, EncodedRange};
use super::merge::{cut_windows, merge_window};
use super::rows::Kind;
use super::spill::{Reversed, encode_run};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::plan::Plan;
use crate::run::{FinishedRun, Run, Stage, StageRun};
use crate::vectors::RowId;

const RUN_PREFIX: &str = "run-";
const RANGE_PREFIX: &str = "range-";
/// Windows that are merged into one part.
const PART_WINDOWS: usize = 16;
/// Reversed and own arcs of a window: fixed, so that the same graph gives the same files.
pub const WINDOW_ARCS: usize = 1 << 20;

/// Builds the graph from the neighbor lists, or opens the one that is there.
///
/// # Errors
/// The user interrupts, or the disk fails.
pub fn build(run: &Run, neighbors: &Neighbors, config: &Config, plan: &Plan) -> Result<EdgeFile> {
    let rows = neighbors.blocks().last().map_or(0, |block| block.range().end);
    if !run.is_complete(Stage::Edges) {
        let stage = run.begin(Stage::Edges);
        let runs = spill(run, &stage, neighbors, config, plan, rows)?;
        merge(run, &stage, neighbors, config, &runs, rows)?;
        let edges = EdgeFile::open(&range_paths(run), rows)?;
        let facts = json!({"rows": rows, "arcs": edges.arcs(), "bytes": edges.bytes(), "runs": runs.len()});
        drop(runs);
        stage.finish(facts, |name| name.starts_with(RANGE_PREFIX))?;
    }
    EdgeFile::open(&range_paths(run), rows)
}

/// Opens the graph of a finished run.
///
/// # Errors
/// The stage is not finished, or a file is damaged.
pub fn open(run: &FinishedRun) -> Result<EdgeFile> {
    let record = run.stage(Stage::Edges)?;
    let folder = run.stage_folder(Stage::Edges);
    let paths: Vec<PathBuf> =
        record.parts.keys().filter(|name| name.starts_with(RANGE_PREFIX)).map(|name| folder.join(name)).collect();
    EdgeFile::open(&paths, record.facts["rows"].as_u64().unwrap_or(0) as RowId)
}

fn range_paths(run: &Run) -> Vec<PathBuf> {
    run.parts(Stage::Edges, RANGE_PREFIX).iter().map(|name| run.part_path(Stage::Edges, name)).collect()
}

/// A run is named after the neighbor blocks that it covers, so that a resumed job finds where to go on
/// whatever its budget is now.
fn run_name(blocks: &std::ops::Range<usize>) -> String {
    format!("{RUN_PREFIX}{:06}-{:06}.edg", blocks.start, blocks.end)
}

fn covered(name: &str) -> Option<usize> {
    name.strip_suffix(".edg")?.rsplit('-').next()?.parse().ok()
}

fn spill(
    run: &Run,
    stage: &StageRun<'_>,
    neighbors: &Neighbors,
    config: &Config,
    plan: &Plan,
    rows: RowId,
) -> Result<Vec<EdgePart>> {
    let blocks = neighbors.blocks();
    let mut done = run.parts(Stage::Edges, RUN_PREFIX).iter().filter_map(|name| covered(name)).max().unwrap_or(0);
    let meter = run.meter(Stage::Edges, u64::from(rows) * 2, "rows");
    meter.skip(blocks[..done].iter().map(|block| block.range().len() as u64).sum());
    while done < blocks.len() {
        run.check_interrupt()?;
        let mut arcs: Vec<Reversed> = Vec::new();
        let mut end = done;
        // One block always fits: the plan says so.
        while end < blocks.len() && (end == done || arcs.len() + block_arcs(neighbors, end) <= plan.spill_arcs) {
            let block = &blocks[end];
            arcs.reserve_exact(if end == done { plan.spill_arcs.min(total_arcs(neighbors, done)) } else { 0 });
            for row in block.range() {
                let kind = |rank: usize| if rank < config.window.skip as usize { Kind::SUSPECT } else { Kind::WINDOW };
                let list = block.neighbors(row).iter().enumerate();
                arcs.extend(list.map(|(rank, other)| Reversed::new(*other, row, kind(rank))));
            }
            meter.add(block.range().len() as u64);
            end += 1;
        }
        let encoded = encode_run(&mut arcs, rows).map_err(not_compressed)?;
        drop(arcs);
        stage.commit(&run_name(&(done..end)), |out| encoded.write(out, 0..rows, rows))?;
        done = end;
    }
    let names = run.parts(Stage::Edges, RUN_PREFIX);
    names.iter().map(|name| EdgePart::open(&run.part_path(Stage::Edges, name))).collect()
}

fn block_arcs(neighbors: &Neighbors, block: usize) -> usize {
    let block = &neighbors.blocks()[block];
    block.range().map(|row| block.neighbors(row).len()).sum()
}

fn total_arcs(neighbors: &Neighbors, from_block: usize) -> usize {
    (from_block..neighbors.blocks().len()).map(|block| block_arcs(neighbors, block)).sum()
}

fn not_compressed(e: std::io::Error) -> Error {
    Error::runtime("arcs cannot be compressed").found(e.to_string()).remedy("run the same command again")
}

fn merge(
    run: &Run,
    stage: &StageRun<'_>,
    neighbors: &Neighbors,
    config: &Config,
    runs: &[EdgePart],
    rows: RowId,
) -> Result<()> {
    let in_degrees = in_degrees(neighbors, rows);
    let windows = cut_windows(&in_degrees, config.window.ranks() as usize, WINDOW_ARCS);
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
                let merged = merge_window(runs, neighbors, rows.clone(), &in_degrees, config.window, config.edges);
                meter.add(rows.len() as u64);
                merged
            })
            .collect::<Result<_>>()?;
        let mut whole = EncodedRange::default();
        merged.into_iter().for_each(|part| whole.append(part));
        stage.commit(&name, |out| whole.write(out, range, rows))?;
    }
    Ok(())
}

/// How many lists each row stands in. O(arcs).
fn in_degrees(neighbors: &Neighbors, rows: RowId) -> Vec<u32> {
    let degrees: Vec<AtomicU32> = (0..rows).map(|_| AtomicU32::new(0)).collect();
    neighbors.blocks().par_iter().for_each(|block| {
        for row in block.range() {
            for other in block.neighbors(row) {
                degrees[*other as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    degrees.into_iter().map(AtomicU32::into_inner).collect()
}
