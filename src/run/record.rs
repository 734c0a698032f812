//! What the manifest records of each stage: the settings that decide its output, and facts that later stages and
//! reports need.
//!
//! Every record has a type. A record is read strictly: it must have each key of its type and no other, or the
//! manifest is refused. Keys and values never change their form: a stage's fingerprint is a hash of its settings.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{differences, to_value};
use super::stage::Stage;
use crate::config::{
    BadRows, BinaryType, ByTask, EdgeRule, EmptyKeys, Mask, Method, Metric, MixRules, NegativesOf, RankLayout,
    RankRule, RankWindow, Remainder, SameQuery, Sizes, Threshold,
};

/// The settings of one stage.
pub trait StageSettings: Serialize + DeserializeOwned {
    const STAGE: Stage;
}

/// The facts of one stage.
pub trait StageFacts: Serialize + DeserializeOwned {
    const STAGE: Stage;
}

/// The settings that decide each stage's output. Resources, such as threads, are not among them.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSettings {
    pub vectors: VectorsSettings,
    pub neighbors: NeighborsSettings,
    pub edges: EdgesSettings,
    pub clusters: ClustersSettings,
    pub batches: BatchesSettings,
}

impl JobSettings {
    /// As the manifest keeps them, in pipeline order.
    pub(super) fn by_stage(&self) -> [(Stage, Value); 5] {
        [
            (Stage::Vectors, to_value(&self.vectors)),
            (Stage::Neighbors, to_value(&self.neighbors)),
            (Stage::Edges, to_value(&self.edges)),
            (Stage::Clusters, to_value(&self.clusters)),
            (Stage::Batches, to_value(&self.batches)),
        ]
    }
}

/// What an input file contains. Its name, place and time are no part of it: they are in [`FilePlace`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    pub bytes: u64,
    /// xxh3-64 of the footer (Parquet, Arrow), of a stream's schema (Arrow), or of the header (npy), in hex.
    pub footer: String,
    /// Hash of its bytes, in hex (`vectors/content.rs`); null until the vectors stage is complete.
    pub content: Option<String>,
    /// Columns that come from the names of its folders and are used: names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_columns: Vec<(String, Option<String>)>,
}

/// Where an input file was when a job last read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePlace {
    /// Absolute; of a file in a store its URL.
    pub path: String,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: u64,
    /// In a store the name of the version (ETag), if the store has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Column names by role; `None` as query and positive in `.npy` input, which has no columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    pub query: Option<String>,
    pub positive: Option<String>,
    /// One side serves as both.
    pub shared: bool,
    /// Ids; `None`: row numbers.
    pub id: Option<String>,
    pub task: Option<String>,
    pub keys: Vec<String>,
}

impl Roles {
    /// All columns that are used, some of them twice.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let Roles { query, positive, id, task, keys, shared: _ } = self;
        [query, positive, id, task].into_iter().flatten().chain(keys).map(String::as_str)
    }
}

/// The corpus: the last of the input files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpusSettings {
    /// How many files these are.
    pub files: usize,
    /// Their columns; query and positive are both the documents' embedding.
    pub columns: Roles,
}

/// Settings of the vectors stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorsSettings {
    /// Input files, in order; of a pair of `.npy` files both. The corpus' come last.
    pub inputs: Vec<FileIdentity>,
    pub columns: Roles,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus: Option<CorpusSettings>,
    /// What an empty text is as a key; recorded where it is not the default.
    #[serde(default, skip_serializing_if = "EmptyKeys::are_missing")]
    pub empty_keys: EmptyKeys,
    pub dtype: Option<BinaryType>,
    /// What int8 and uint8 embeddings were multiplied by.
    #[serde(default, rename = "embedding-scale", skip_serializing_if = "Option::is_none")]
    pub embedding_scale: Option<f32>,
    #[serde(default, rename = "bad-rows", skip_serializing_if = "BadRows::is_default")]
    pub bad_rows: BadRows,
    pub metric: Metric,
    #[serde(default, rename = "same-query", skip_serializing_if = "SameQuery::is_default")]
    pub same_query: SameQuery,
}

impl StageSettings for VectorsSettings {
    const STAGE: Stage = Stage::Vectors;
}

/// Settings of the neighbors stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeighborsSettings {
    /// p + m of tasks that have no other.
    #[serde(rename = "skip + window")]
    pub ranks: u32,
    pub search: Method,
    /// p + m of tasks that have another, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, u32>,
    /// What takes a rank; recorded where it is not the default.
    #[serde(default, skip_serializing_if = "RankRules::are_default")]
    pub candidates: RankRules,
}

/// What takes a rank, and of windows that are shares of the distinct positives, the shares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RankRules {
    #[serde(flatten)]
    pub by: ByTask<RankRule>,
    /// The key column that says which rows have the same positive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive_key: Option<String>,
}

impl Default for RankRules {
    fn default() -> RankRules {
        RankRules { by: ByTask { job: RankRule::default(), tasks: BTreeMap::new() }, positive_key: None }
    }
}

impl RankRules {
    fn are_default(&self) -> bool {
        *self == RankRules::default()
    }
}

impl StageSettings for NeighborsSettings {
    const STAGE: Stage = Stage::Neighbors;
}

/// Settings of the edges stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgesSettings {
    #[serde(flatten)]
    pub windows: ByTask<RankWindow>,
    pub edges: EdgeRule,
    /// R: rows whose own positive has a higher rank are left out.
    #[serde(rename = "max-own-rank", default, skip_serializing_if = "Option::is_none")]
    pub max_own_rank: Option<u32>,
    /// Pairs that were judged, where any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdicts: Option<VerdictSettings>,
}

/// Files of judged pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictSettings {
    /// Hashes of all bytes of each file, sorted.
    pub files: Vec<String>,
    /// What a relevance says.
    #[serde(default, skip_serializing_if = "Threshold::is_default")]
    pub threshold: Threshold,
}

impl StageSettings for EdgesSettings {
    const STAGE: Stage = Stage::Edges;
}

/// Settings of the clusters stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClustersSettings {
    /// K and |B|: how many rows of one key can be placed at all depends on the batch size.
    #[serde(flatten)]
    pub sizes: ByTask<Sizes>,
    pub cluster_passes: u32,
    /// λ.
    pub suspect_weight: f32,
    /// R.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub rows_per_key: u32,
}

fn one() -> u32 {
    1
}

fn is_one(number: &u32) -> bool {
    *number == 1
}

impl StageSettings for ClustersSettings {
    const STAGE: Stage = Stage::Clusters;
}

/// Settings of the batches stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BatchesSettings {
    pub remainder: Remainder,
    pub epochs: u32,
    pub seed: u64,
    pub hard_negatives: u32,
    /// Where they come from.
    #[serde(default, skip_serializing_if = "NegativesOf::is_default")]
    pub negatives_of: NegativesOf,
    /// What the table says of suspects.
    #[serde(default, skip_serializing_if = "Mask::is_default")]
    pub mask: Mask,
    /// How often the batches of each task come, where that is not once, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<MixRules>,
    /// R.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub rows_per_key: u32,
    pub world_size: u32,
    pub rank_layout: RankLayout,
}

impl StageSettings for BatchesSettings {
    const STAGE: Stage = Stage::Batches;
}

/// What ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IdKind {
    /// The row's number in the input.
    Row,
    Int64,
    String,
}

/// Facts of the vectors stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VectorsFacts {
    pub rows: u64,
    pub dim: usize,
    pub tasks: usize,
    pub ids: IdKind,
    /// One column serves both sides.
    pub shared: bool,
    /// There is a task column.
    pub named_tasks: bool,
    pub input_bytes: u64,
    /// Rows whose positive is another row's positive.
    pub rows_of_same_positive: u64,
    /// Rows whose query is another row's query; null where one column serves both sides.
    pub rows_of_same_query: Option<u64>,
    /// Rows whose query is another row's positive; null where one column serves both sides.
    pub rows_of_query_as_positive: Option<u64>,
    /// What was taken for no key, in each key column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyFacts>,
    /// Rows of the input that were left out, for their embeddings.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bad_rows_dropped: u64,
    /// The corpus, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus: Option<CorpusFacts>,
}

/// What became of a corpus' documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CorpusFacts {
    /// Documents that are in a task of the rows.
    pub documents: u64,
    /// Documents that were left out, for their embeddings.
    pub bad_dropped: u64,
    /// Documents of tasks that no row has.
    pub of_other_tasks: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What was taken for no key in one key column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyFacts {
    pub column: String,
    /// Rows without a key in this column.
    pub rows_without: u64,
    /// Nulls: rows, or elements of lists.
    pub null: u64,
    /// Floats that are no number.
    pub nan: u64,
    /// Empty texts.
    pub empty: u64,
    /// Lists without an element; null where the column has no lists.
    pub empty_lists: Option<u64>,
}

impl StageFacts for VectorsFacts {
    const STAGE: Stage = Stage::Vectors;
}

/// Facts of the neighbors stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeighborsFacts {
    /// Queries of a block.
    pub block_rows: usize,
    /// p + m, the largest of all tasks.
    pub ranks: usize,
    /// Rows whose list is shorter than their rank window.
    pub short_rows: u64,
    /// Of these, rows without one preferred negative by rank.
    pub rows_without_window: u64,
    /// Recall@k on the sample.
    pub recall: f64,
    /// Queries of the sample.
    pub recall_queries: u64,
    /// Lists that each query looked into, of approximate search.
    pub probes: Option<usize>,
    pub lists: usize,
    /// Queries that a search on GPUs left to the CPU.
    pub left_to_cpu: Option<usize>,
    /// Candidates in all, where any task's ranks are those of distinct positives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<u64>,
}

impl StageFacts for NeighborsFacts {
    const STAGE: Stage = Stage::Neighbors;
}

/// Counts over the rank windows of all rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WindowCounts {
    pub rows: u64,
    /// (query, suspect) pairs at ranks below p.
    pub suspects_by_rank: u64,
    /// (query, suspect) pairs that only a score limit makes so.
    pub suspects_by_score: u64,
    /// (query, suspect) pairs that only a verdict makes so.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suspects_by_verdict: u64,
    /// (query, candidate) pairs that a verdict has cleared: ranks or limits make them suspects, and count them so.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cleared: u64,
    /// (query, candidate) pairs that score too low to be either.
    pub too_easy: u64,
    /// Rows without one preferred negative, for whatever reason.
    pub rows_without_window: u64,
    /// Of these, rows that have more than p candidates, all of them suspects.
    pub emptied_by_suspects: u64,
    /// Of these, rows that have more than p candidates, of which those that are no suspects score too low.
    pub emptied_by_min_score: u64,
}

/// What judged pairs said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VerdictFacts {
    /// Pairs of a query and a positive that is a right answer, each once.
    pub positive: u64,
    /// Those of one that is none.
    pub negative: u64,
    /// Rows of the files without a verdict.
    pub open: u64,
    /// Those of rows that are not mined.
    pub unknown: u64,
    /// Pairs that were judged both ways, and count as positive.
    pub both_ways: u64,
    /// Rows whose own positive was judged right, and wrong alone.
    pub own: u64,
    pub own_wrong: u64,
    /// (query, candidate) pairs that are parted: a verdict holds for all rows of a positive.
    pub rows_parted: u64,
}

/// Facts of the edges stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EdgesFacts {
    pub rows: u32,
    /// Edges, each counted from both ends.
    pub arcs: u64,
    pub bytes: u64,
    pub runs: usize,
    pub windows: WindowCounts,
    /// Rows whose own positive is not found early enough; null without such a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_left_out: Option<u64>,
    /// What judged pairs said, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdicts: Option<VerdictFacts>,
}

impl StageFacts for EdgesFacts {
    const STAGE: Stage = Stage::Edges;
}

/// What clusters hold, counted over all queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMetrics {
    pub rows: u64,
    /// (query, preferred negative) pairs in all.
    pub window: u64,
    /// Of these, inside a cluster.
    pub window_inside: u64,
    /// (query, suspect) pairs in all.
    pub suspects: u64,
    /// Of these, inside a cluster.
    pub suspects_inside: u64,
    /// Queries without one preferred negative in their cluster.
    pub queries_without: u64,
}

/// Facts of the clusters stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClustersFacts {
    pub clusters: u32,
    /// Rows in no cluster.
    pub unplaced: usize,
    /// After the last phase.
    pub metrics: Option<ClusterMetrics>,
    /// After each phase that the last call finished.
    pub phases: Vec<(String, ClusterMetrics)>,
}

impl StageFacts for ClustersFacts {
    const STAGE: Stage = Stage::Clusters;
}

/// Facts of the batches stage, over all epochs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchesFacts {
    pub batches: u64,
    /// Batches of exactly |B|.
    pub full_batches: u64,
    pub short_batches: u64,
    /// The most full batches that keys allow.
    pub possible_batches: u64,
    /// Clusters whose rows are not all in one batch; of batches that `fill` unites none is counted.
    pub divided_clusters: u64,
    /// Rows that `--remainder drop` left out, and rows that would have been alone in a batch.
    pub dropped_rows: u64,
    /// Rows that would have been alone in a batch.
    pub rows_alone: u64,
    /// Rows with fewer hard negatives than asked for; null where none are drawn.
    pub rows_short_of_negatives: Option<u64>,
    /// What came of tasks by weight, where they have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<MixFacts>,
}

/// What came of tasks by weight, over all epochs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixFacts {
    /// Full batches of each task packed once.
    pub first_round_batches: u64,
    /// Full batches beyond these: their rows come again.
    pub repeated_batches: u64,
    /// Full batches of the first rounds that are left out.
    pub skipped_batches: u64,
}

impl MixFacts {
    /// Adds a task that has so many full batches in its first round, and in the epoch.
    pub(crate) fn add(&mut self, first_round: u64, batches: u64) {
        self.first_round_batches += first_round;
        self.repeated_batches += batches.saturating_sub(first_round);
        self.skipped_batches += first_round.saturating_sub(batches);
    }
}

impl StageFacts for BatchesFacts {
    const STAGE: Stage = Stage::Batches;
}

/// What is wrong with the facts of a stage.
pub(super) fn facts_fault(stage: Stage, facts: &Value) -> Option<String> {
    match stage {
        Stage::Vectors => from_value::<VectorsFacts>(facts).err(),
        Stage::Neighbors => from_value::<NeighborsFacts>(facts).err(),
        Stage::Edges => from_value::<EdgesFacts>(facts).err(),
        Stage::Clusters => from_value::<ClustersFacts>(facts).err(),
        Stage::Batches => from_value::<BatchesFacts>(facts).err(),
    }
}

/// Reads a record that has each key of its type and no other; else what is wrong with it.
pub(super) fn from_value<T: Serialize + DeserializeOwned>(value: &Value) -> Result<T, String> {
    let record: T = T::deserialize(value).map_err(|e| e.to_string())?;
    match &differences(value, &to_value(&record))[..] {
        [] => Ok(record),
        wrong => Err(wrong.join("; ")),
    }
}

#[cfg(test)]
mod tests;
