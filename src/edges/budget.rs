//! What the graph needs: in-degrees of all rows, and sorted edges while they are spilled or merged.

use crate::budget::{MIB, Phase, StageNeed, Term};
use crate::config::Config;
use crate::run::Stage;
use crate::vectors::Shape;

/// More runs than this are not merged at once.
const RUNS_MAX: u64 = 256;
const SPILL_EDGES_MAX: u64 = 64 * MIB;
/// Bytes of a spilled edge: in the buffer, and while its run is encoded.
const SPILL_EDGE_BYTES: u64 = 8;
/// Reversed and own edges of a merge range: fixed, so that the same graph gives the same files.
pub(super) const MERGE_RANGE_EDGES: usize = 1 << 20;
/// Merge ranges of one part.
pub(super) const PART_MERGE_RANGES: usize = 16;
/// Bytes of an edge of a merge range: reversed, joined, encoded.
const MERGED_EDGE_BYTES: u64 = 20;
/// Bytes of an encoded edge.
const ENCODED_EDGE_BYTES: u64 = 2;
/// In-degrees of all lists, and of those of a run.
const DEGREE_BYTES: u64 = 8;

/// Of what judged pairs take, the part that the rows they hold for may take at least.
const VERDICT_SHARE: u64 = 2;
/// Bytes of a row that a verdict holds for, in both files before they are written.
pub(super) const VERDICT_ENTRY_BYTES: u64 = 32;
/// More rows than verdicts ever hold for.
const VERDICT_ENTRIES_MAX: u64 = 1 << 27;

/// Counts of the edges stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgesCounts {
    /// Reversed edges of a spilled run.
    pub spill_edges: usize,
    /// Rows that verdicts may hold for.
    pub verdict_entries: usize,
}

/// Divides `room`, the budget without what every process needs. A run holds the lists of one block at least.
/// `judged_bytes`: what reading judged pairs takes.
pub(crate) fn divide(
    config: &Config,
    shape: Shape,
    block_rows: usize,
    judged_bytes: u64,
    room: u64,
) -> (EdgesCounts, StageNeed) {
    let (rows, threads) = (shape.rows, config.threads as u64);
    let ranks = u64::from(config.most_ranks()).min(rows);
    let edges = rows * ranks;
    // Places within a run have 32 bits.
    let least = (edges / RUNS_MAX).max(block_rows as u64 * ranks).min(edges).min(u64::from(u32::MAX));
    let spill_edges = (room.saturating_sub(DEGREE_BYTES * rows) / SPILL_EDGE_BYTES)
        .clamp(least, SPILL_EDGES_MAX.min(edges).max(least));
    let degrees = || {
        Term::fixed(format!("{DEGREE_BYTES}n"), "in-degrees of all lists, and of those of a run", DEGREE_BYTES * rows)
    };
    let spilling = vec![
        degrees(),
        Term::elastic(
            format!("edges of a run · {SPILL_EDGE_BYTES}, 1 / {RUNS_MAX} of all edges at least"),
            "sorted edges, and the encoded run; takes what is left",
            least * SPILL_EDGE_BYTES,
            spill_edges * SPILL_EDGE_BYTES,
        ),
    ];
    let (range, part_ranges) = (MERGE_RANGE_EDGES as u64, PART_MERGE_RANGES as u64);
    // Own and reversed: more threads than there are ranges of these have nothing to merge.
    let both = edges * 2;
    let merging = vec![
        degrees(),
        Term::fixed(
            format!("min(t · {range}, 2nk) · {MERGED_EDGE_BYTES}"),
            "a merge range on each thread: reversed, joined, encoded",
            both.min(threads * range) * MERGED_EDGE_BYTES,
        ),
        Term::fixed(
            format!("min({part_ranges} · {range}, 2nk) · {ENCODED_EDGE_BYTES}"),
            "the encoded merge ranges of a part",
            both.min(part_ranges * range) * ENCODED_EDGE_BYTES,
        ),
    ];
    let mut phases = vec![Phase { name: "spilling", terms: spilling }, Phase { name: "merging", terms: merging }];
    if config.windows().each().any(|window| window.limits.of_sides()) {
        let marking = vec![Term::fixed(
            "rows of a block of lists · ⌈k / 64⌉ · 8 + 8td",
            "marks of a block's lists, and two vectors on each thread, with limits for sides",
            marking_bytes(shape, block_rows, ranks, threads),
        )];
        phases.insert(0, Phase { name: "marking", terms: marking });
    }
    if config.max_own_rank.is_some() {
        let ranking = vec![Term::fixed("8n", "ranks of own positives, with --max-own-rank", 8 * rows)];
        phases.insert(0, Phase { name: "own ranks", terms: ranking });
    }
    let (entries, judging) = judging(judged_bytes, room);
    if judged_bytes > 0 {
        phases.insert(0, judging);
    }
    let verdict_entries = (entries / VERDICT_ENTRY_BYTES) as usize;
    (EdgesCounts { spill_edges: spill_edges as usize, verdict_entries }, StageNeed { stage: Stage::Edges, phases })
}

/// Bytes of marking a block of lists on so many threads.
pub(super) fn marking_bytes(shape: Shape, block_rows: usize, ranks: u64, threads: u64) -> u64 {
    block_rows as u64 * ranks.div_ceil(64) * 8 + threads * 8 * shape.dim as u64
}

/// Bytes that a worker needs to spill a run of so many edges: in-degrees of the run alone.
pub(super) fn worker_spilling(shape: Shape, run_edges: u64) -> u64 {
    DEGREE_BYTES / 2 * shape.rows + run_edges * SPILL_EDGE_BYTES
}

/// Bytes that a worker needs to merge the ranges of a part, on so many threads.
pub(super) fn worker_merging(threads: u64) -> u64 {
    let (range, ranges) = (MERGE_RANGE_EDGES as u64, PART_MERGE_RANGES as u64);
    threads.min(ranges) * range * MERGED_EDGE_BYTES + ranges * range * ENCODED_EDGE_BYTES
}

/// Bytes for the rows that verdicts hold for, and what reading judged pairs needs beside them.
fn judging(judged_bytes: u64, room: u64) -> (u64, Phase) {
    let least = judged_bytes / VERDICT_SHARE;
    let entries = room.saturating_sub(judged_bytes).max(least).min(VERDICT_ENTRIES_MAX * VERDICT_ENTRY_BYTES);
    let terms = vec![
        Term::fixed(
            "160 bytes a judged pair, and 3 of each byte of its ids",
            "judged pairs and their ids",
            judged_bytes,
        ),
        Term::elastic(
            format!("rows that verdicts hold for · {VERDICT_ENTRY_BYTES}"),
            "verdicts by place, and keys; takes what is left",
            least,
            entries,
        ),
    ];
    (entries, Phase { name: "judging", terms })
}

/// Bytes of the stage's files: two an edge, each seen from both ends. `edges`: entries of all lists.
pub(crate) fn disk_bytes(edges: u64) -> u64 {
    edges * 4
}

/// Bytes of the spilled runs, which are deleted when the stage ends.
pub(crate) fn temporary_bytes(edges: u64) -> u64 {
    edges * 5 / 2
}
