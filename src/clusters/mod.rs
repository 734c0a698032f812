//! clusters: a label for every row, so that much edge weight lies inside clusters of exactly K.
//!
//! Algorithm, streaming: size-constrained label propagation from singletons ([`propagate`]), exact sizes
//! ([`exact`]), then swaps that keep them ([`refine`]). Each pass reads the graph once. Chunks of rows
//! propose in parallel against frozen state and are applied in row order: the same labels at any number
//! of threads. After Meyerhenke, Sanders, Schulz, *Partitioning Complex Networks via Size-constrained
//! Clustering* (2014) for the first phase; the swaps with wishes are our own.
//!
//! Memory: at most 20 bytes a row, and for each thread one decoded block and small tables.

pub mod bench;
pub mod chunks;
pub mod exact;
pub mod labels;
pub mod metrics;
pub mod propagate;
pub mod refine;
pub mod tally;

use serde_json::json;

use crate::config::Config;
use crate::edges::{EdgeRows, Kind};
use crate::error::Result;
use crate::neighbors::Neighbors;
use crate::run::{FinishedRun, Run, Stage};
use crate::vectors::Vectors;
pub use labels::{Clusters, NO_CLUSTER};
use labels::{Grouping, write_labels};

const LABELS: &str = "labels.lbl";

/// Weights are sums of multiples of 1/[`UNIT`]: integers, so that sums are exact in any order.
pub const UNIT: i32 = 64;

/// The weight of each kind of arc, in units.
pub type Weights = [i32; Kind::COUNT];

/// Weights for a suspect weight λ: + 1 for a direction in the window, − λ for one as a suspect.
pub fn weights(suspect_weight: f32) -> Weights {
    let penalty = (f64::from(suspect_weight) * f64::from(UNIT)).round() as i32;
    std::array::from_fn(|code| {
        Kind::from_code(code as u8)
            .map_or(0, |kind| UNIT * i32::from(kind.window()) - penalty * i32::from(kind.suspects()))
    })
}

/// Clusters the graph, or opens the labels that are there.
///
/// # Errors
/// The user interrupts, the graph is damaged, or the disk fails.
pub fn cluster(
    run: &Run,
    vectors: &Vectors,
    neighbors: &Neighbors,
    edges: &impl EdgeRows,
    config: &Config,
) -> Result<Clusters> {
    let path = run.part_path(Stage::Clusters, LABELS);
    if !run.is_complete(Stage::Clusters) {
        let stage = run.begin(Stage::Clusters);
        let rules = config.clusters;
        let keys = vectors.rows.keys();
        let tasks: Vec<_> = vectors.tasks.ranges().collect();
        let weights = weights(rules.suspect_weight);
        let passes = propagate::PASSES + 2 + rules.passes;
        let meter = run.meter(Stage::Clusters, u64::from(edges.rows()) * u64::from(passes), "rows");
        let watch = |rows: u64| {
            meter.add(rows);
            run.check_interrupt()
        };
        let benched = bench::bench(&keys, &tasks, config.batches.size);
        let communities = propagate::propagate(edges, &keys, &benched, rules.size, &weights, &watch)?;
        drop(benched);
        let seats = exact::fix_sizes(edges, &keys, &tasks, communities, rules.size, &weights, &watch)?;
        let seats = refine::refine(edges, &keys, seats, rules, &weights, &watch)?;
        drop(meter);
        let Grouping { labels, clusters } = seats.into_grouping();
        let facts = metrics::measure(neighbors, &labels, config.window.skip as usize);
        tracing::info!("{facts}");
        let unplaced = labels.iter().filter(|label| **label == NO_CLUSTER).count();
        if unplaced > 0 {
            tracing::warn!(
                "{unplaced} rows fit into no cluster: their tasks have more rows of one key (or one positive) than \
                 batches, and a batch takes one of each; --remainder decides what becomes of them"
            );
        }
        stage.commit(LABELS, |out| write_labels(out, &labels, clusters, rules.size))?;
        stage.finish(json!({"clusters": clusters, "unplaced": unplaced, "metrics": facts}), |_| true)?;
    }
    Clusters::open(&path, vectors.row_count())
}

/// Opens the labels of a finished run.
///
/// # Errors
/// The stage is not finished, or the file is damaged.
pub fn open(run: &FinishedRun, rows: u32) -> Result<Clusters> {
    run.stage(Stage::Clusters)?;
    Clusters::open(&run.stage_folder(Stage::Clusters).join(LABELS), rows)
}
