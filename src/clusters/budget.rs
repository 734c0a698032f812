//! What clustering needs: slots and sums of all rows, decoded blocks of the graph, tables of all clusters.

use crate::budget::{MIB, Phase, StageNeed, Term, written};
use crate::config::Config;
use crate::run::Stage;
use crate::vectors::Shape;

/// Slots both ways, own connections, best other clusters and their sums. Where clusters are measured, slots, labels and
/// the labels by positive take less.
const ROW_BYTES: u64 = 20;
/// Decoded blocks of a chunk of the graph: 64 at most, of 8,192 edges.
const CHUNK_BYTES: u64 = 8 * MIB;
/// A thread's proposals and what it knows of a row's edges.
const SCRATCH_BYTES: u64 = 2 * MIB;
/// A cluster's sum, the round in which it was seen, and its mark.
const CLUSTER_BYTES: u64 = 9;

pub(crate) fn divide(config: &Config, shape: Shape) -> StageNeed {
    let (rows, threads) = (shape.rows, config.threads as u64);
    let least_size = config.sizes().each().map(|sizes| sizes.cluster_size).min().unwrap_or(2);
    let scratch = SCRATCH_BYTES + rows / u64::from(least_size) * CLUSTER_BYTES;
    let terms = vec![
        Term::fixed(
            format!("{ROW_BYTES}n"),
            "slots, own connections, best other clusters and their sums",
            ROW_BYTES * rows,
        ),
        Term::fixed(written(CHUNK_BYTES), "decoded blocks of a chunk of the graph", CHUNK_BYTES),
        Term::fixed(
            format!("(t + 1) · ({} + {CLUSTER_BYTES}n/K)", written(SCRATCH_BYTES)),
            "sums by cluster and proposals; what is known of each cluster",
            (threads + 1) * scratch,
        ),
    ];
    StageNeed { stage: Stage::Clusters, phases: vec![Phase { name: "passes", terms }] }
}

/// Bytes of the stage's files: a label a row.
pub(crate) fn disk_bytes(rows: u64) -> u64 {
    rows * 4
}
