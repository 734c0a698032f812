//! Builds the graph: spill, then merge; a part for each run and for each range of rows.

use std::path::PathBuf;

use rayon::prelude::*;
use serde_json::json;

use super::file::{EdgeFile, EdgePart, EncodedRange};
use super::merge::{cut_windows, merge_window};
use super::spill::{Reversed, in_degrees};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::neighbors::file::Block;
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
        let (runs, in_degrees) = spill(run, &stage, neighbors, config, plan, rows)?;
        merge(run, &stage, neighbors, config, &runs, &in_degrees)?;
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

fn covered(name: &str) -> Option<std::ops::Range<usize>> {
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
    config: &Config,
    plan: &Plan,
    rows: RowId,
) -> Result<(Vec<EdgePart>, Vec<u32>)> {
    let blocks = neighbors.blocks();
    let (_, mut done) = finished_runs(run);
    let mut degrees = in_degrees(&blocks[..done], rows);
    let meter = run.meter(Stage::Edges, u64::from(rows) * 2, "rows");
    meter.skip(blocks[..done].iter().map(|block| block.range().len() as u64).sum());
    while done < blocks.len() {
        run.check_interrupt()?;
        let (mut arcs, mut end) = (0, done);
        // One block always fits: the plan says so.
        while end < blocks.len() && (end == done || arcs + block_arcs(&blocks[end]) <= plan.spill_arcs) {
            arcs += block_arcs(&blocks[end]);
            end += 1;
        }
        // A place that is wrong would be some other row's arc from here on.
        blocks[done..end].par_iter().try_for_each(|block| block.sealed().check())?;
        let reversed = Reversed::new(&blocks[done..end], rows, config.window.skip as usize);
        let encoded = reversed.encode().map_err(not_compressed)?;
        reversed.add_degrees(&mut degrees);
        drop(reversed);
        meter.add(blocks[done..end].iter().map(|block| block.range().len() as u64).sum());
        stage.commit(&run_name(&(done..end)), |out| encoded.write(out, 0..rows, rows))?;
        done = end;
    }
    let (names, _) = finished_runs(run);
    let runs = names.iter().map(|name| EdgePart::open(&run.part_path(Stage::Edges, name))).collect::<Result<_>>()?;
    Ok((runs, degrees))
}

fn block_arcs(block: &Block) -> usize {
    block.range().map(|row| block.neighbors(row).len()).sum()
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
    in_degrees: &[u32],
) -> Result<()> {
    let rows = in_degrees.len() as RowId;
    let windows = cut_windows(in_degrees, config.window.ranks() as usize, WINDOW_ARCS);
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
                let merged = merge_window(runs, neighbors, rows.clone(), in_degrees, config.window, config.edges);
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
