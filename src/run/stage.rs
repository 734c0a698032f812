//! The five stages.

use serde::{Deserialize, Serialize};

/// The stages, in pipeline order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Embedding shards → row-major store.
    Vectors,
    /// Store → top-(p+m) lists.
    Neighbors,
    /// Lists → sparse graph.
    Edges,
    /// Graph → label per row.
    Clusters,
    /// Labels → batch tables.
    Batches,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 5] = [Stage::Vectors, Stage::Neighbors, Stage::Edges, Stage::Clusters, Stage::Batches];

    /// Its name: of its folder, in headings and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Vectors => "vectors",
            Stage::Neighbors => "neighbors",
            Stage::Edges => "edges",
            Stage::Clusters => "clusters",
            Stage::Batches => "batches",
        }
    }
}
