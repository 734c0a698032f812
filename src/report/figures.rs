//! The fields of `report.json`; docs/formats.md describes them.

use std::path::PathBuf;

use serde::Serialize;

use super::estimate::Estimate;
use super::examples::Examples;
use super::judged::JudgedFigures;
use super::metrics::PairCounts;
use crate::config::{Metric, SameQuery};
use crate::error::Result;
use crate::run::json;
use crate::run::record::{
    BatchesFacts, BatchesSettings, ClustersFacts, ClustersSettings, EdgesSettings, NeighborsFacts,
};

/// Version of `report.json`.
pub const FORMAT: u32 = 1;

/// The whole of `report.json`: the report, and what its readers compare it and `report.html` with.
#[derive(Debug, Serialize)]
pub struct ReportFile<'r> {
    /// Checksum of all other fields.
    checksum: String,
    #[serde(flatten)]
    fields: CheckedFields<'r>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct CheckedFields<'r> {
    /// xxh3-64 of `report.html`, in hex.
    page: &'r str,
    #[serde(flatten)]
    report: &'r Report,
}

impl<'r> ReportFile<'r> {
    /// A report whose page has the hash `page`.
    ///
    /// # Errors
    /// The report holds a path that is not UTF-8.
    pub fn new(report: &'r Report, page: &'r str) -> Result<ReportFile<'r>> {
        let fields = CheckedFields { page, report };
        Ok(ReportFile { checksum: json::checksum(&fields)?, fields })
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub format: u32,
    /// The batchmine that made it.
    pub version: String,
    pub run: PathBuf,
    /// Fingerprint of the batches stage: of all settings and inputs.
    pub settings_fingerprint: String,
    /// Settings of the run and of the report.
    #[serde(rename = "terms")]
    pub parameters: Parameters,
    /// All tasks together.
    pub overall: Compared,
    /// Each task, in the order of names.
    pub tasks: Vec<TaskMeasures>,
    /// Queries by the number of preferred negatives in their batch, all counted.
    pub window_hits: Histogram<u64>,
    /// Share of the queries by the mean similarity of their K closest rows in the batch, sampled.
    pub similarity: Histogram<f64>,
    /// Facts of the neighbors stage.
    pub search: NeighborsFacts,
    /// Facts of the clusters stage.
    pub clusters: ClustersFacts,
    /// Facts of the batches stage, over all epochs.
    pub batches: BatchesFacts,
    /// What judged pairs say, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdicts: Option<JudgedFigures>,
    /// Batches to look at.
    pub examples: Examples,
    /// Time, memory and files of each stage.
    pub stages: Vec<StageCost>,
}

/// Settings of the run and of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parameters {
    /// Rows of the input.
    pub rows: u64,
    pub dim: usize,
    pub metric: Metric,
    /// Whether rows with one query may share a batch.
    pub same_query: SameQuery,
    /// Settings of the edges stage: p, m, the rule.
    pub edges: EdgesSettings,
    /// Settings of the clusters stage: K, |B| and more.
    pub clusters: ClustersSettings,
    /// Settings of the batches stage: epochs, remainder, seed.
    pub batches: BatchesSettings,
    /// The epoch that is reported.
    pub epoch: u32,
    /// Rows that are in no batch of it.
    pub rows_in_no_batch: u64,
    /// K of the top-K similarity and of the gap.
    pub top: u32,
    /// The K that was asked for, where lists are too short for it.
    pub top_wanted: Option<u32>,
    /// τ of the gap.
    pub temperature: f64,
    /// Queries that were to be sampled.
    pub sample: u64,
    /// Path of the given list.
    pub against: Option<PathBuf>,
}

/// One measure for each list of batches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The run's own batches.
    pub mined: Measures,
    /// Batches of the same sizes and tasks, rows shuffled.
    pub random: Measures,
    /// The given list's, if there is one.
    pub against: Option<Measures>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskMeasures {
    /// Name; null in a run without tasks.
    pub task: Option<String>,
    /// Rows of the input.
    pub rows: u64,
    #[serde(flatten)]
    pub measures: Compared,
}

/// Measures of one list of batches, over all queries or those of a task.
///
/// A pair is an ordered (i, j), i ≠ j, in one batch; it belongs to query i. A share of nothing is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measures {
    /// Queries in batches.
    pub queries: u64,
    /// Batches that hold any of them.
    pub batches: u64,
    /// Pairs.
    pub pairs: u64,
    /// Pairs with j in i's rank window.
    pub window_pairs: u64,
    /// Their share of the pairs.
    pub window_share: Option<f64>,
    /// Preferred negatives in a query's batch, on average.
    pub window_per_query: Option<f64>,
    /// Queries without one preferred negative in their batch.
    pub queries_without: u64,
    /// Their share of the queries.
    pub queries_without_share: Option<f64>,
    /// Of these, queries that have no preferred negative anywhere: their task is too small.
    pub queries_without_window: u64,
    /// Pairs with j a suspect of i.
    pub suspect_pairs: u64,
    /// Their share of the pairs.
    pub suspect_share: Option<f64>,
    /// Suspects in a query's batch, on average.
    pub suspects_per_query: Option<f64>,
    /// Suspect pairs of a batch, on average.
    pub suspects_per_batch: Option<f64>,
    /// Pairs that share a key, or a vector.
    pub key_pairs: u64,
    /// Duplicates of a batch, on average: two rows of one key or vector are one.
    pub duplicates_per_batch: Option<f64>,
    /// Counts of the pairs that are in one cluster; null for a list without clusters.
    pub in_cluster: Option<InCluster>,
    /// Sampled: mean similarity of a query with the K closest rows of its batch.
    pub top_similarity: Option<Estimate>,
    /// Sampled: Theorem 1's gap.
    pub gap: Option<Estimate>,
    /// Sampled queries whose batch holds no row that could be their negative: they have no figures.
    pub sampled_alone: u64,
}

/// Pairs that are in one cluster of one batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InCluster {
    /// Pairs.
    pub pairs: u64,
    /// With j in i's rank window.
    pub window_pairs: u64,
    /// Their share.
    pub window_share: Option<f64>,
    /// With j a suspect of i.
    pub suspect_pairs: u64,
    /// Their share.
    pub suspect_share: Option<f64>,
}

impl Measures {
    /// From counts, the batches that they come from, and what was sampled.
    pub fn new(
        counts: &PairCounts,
        batches: u64,
        clusters: bool,
        sampled: [Option<Estimate>; 2],
        alone: u64,
    ) -> Measures {
        let [top_similarity, gap] = sampled;
        Measures {
            queries: counts.queries,
            batches,
            pairs: counts.pairs,
            window_pairs: counts.window,
            window_share: ratio(counts.window, counts.pairs),
            window_per_query: ratio(counts.window, counts.queries),
            queries_without: counts.without,
            queries_without_share: ratio(counts.without, counts.queries),
            queries_without_window: counts.without_window,
            suspect_pairs: counts.suspects,
            suspect_share: ratio(counts.suspects, counts.pairs),
            suspects_per_query: ratio(counts.suspects, counts.queries),
            suspects_per_batch: ratio(counts.suspects, batches),
            key_pairs: counts.keys,
            duplicates_per_batch: ratio(counts.keys, 2 * batches),
            in_cluster: clusters.then(|| InCluster {
                pairs: counts.cluster_pairs,
                window_pairs: counts.cluster_window,
                window_share: ratio(counts.cluster_window, counts.cluster_pairs),
                suspect_pairs: counts.cluster_suspects,
                suspect_share: ratio(counts.cluster_suspects, counts.cluster_pairs),
            }),
            top_similarity,
            gap,
            sampled_alone: alone,
        }
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A histogram of each list, over the same bins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram<T> {
    /// Lower bounds of the bins; of shares, the last one's upper bound too.
    pub bounds: Vec<f64>,
    /// The run's own batches.
    pub mined: Vec<T>,
    pub random: Vec<T>,
    /// The given list's.
    pub against: Option<Vec<T>>,
}

/// Time, memory and files of a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageCost {
    pub stage: String,
    /// Wall-clock seconds, over all calls.
    pub seconds: f64,
    /// Peak of resident anonymous memory, in bytes.
    pub peak_bytes: u64,
    /// Bytes of its files.
    pub bytes: u64,
    pub files: u64,
}
