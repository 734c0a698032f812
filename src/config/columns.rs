//! Which columns of the shards hold what, as far as the user said.

use serde::Serialize;

use super::{BinaryType, EmptyKeys, Settings};

/// Which columns of the shards hold what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Columns {
    /// The embeddings: one column for both sides, or two; names may be left to be found.
    pub embeddings: EmbeddingColumns,
    /// Ids; `None`: a column called `id` if there is one, else the row number.
    pub id: Option<String>,
    /// Tasks; `None`: one task.
    pub task: Option<String>,
    /// Keys that forbid two rows to be negatives of each other.
    pub keys: Vec<String>,
    /// What an empty text is as a key.
    pub empty_keys: EmptyKeys,
    /// Number type of `fixed_size_binary` columns.
    pub dtype: Option<BinaryType>,
}

/// The embedding columns that the user named.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum EmbeddingColumns {
    /// Query and positive apart; a `None` is found by its usual names.
    Pair { query: Option<String>, positive: Option<String> },
    /// One column serves as query and as positive.
    Shared(String),
}

impl Columns {
    pub(super) fn new(settings: Settings) -> Columns {
        let embeddings = match settings.embedding_column {
            Some(column) => EmbeddingColumns::Shared(column),
            None => EmbeddingColumns::Pair { query: settings.query_column, positive: settings.positive_column },
        };
        Columns {
            embeddings,
            id: settings.id_column,
            task: settings.task_column,
            keys: settings.key_column,
            empty_keys: settings.empty_keys.unwrap_or_default(),
            dtype: settings.dtype,
        }
    }
}
