//! Which columns of the shards hold what, as far as the user said.

use serde::Serialize;

use super::{BadRows, BinaryType, EmptyKeys, Settings};
use crate::error::{Error, Result};

/// What `--id-column` takes for no column.
const NO_COLUMN: &str = "none";

/// Which columns of the shards hold what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Columns {
    /// The embeddings: one column for both sides, or two; names may be left to be found.
    pub embeddings: EmbeddingColumns,
    pub id: IdColumn,
    /// Tasks; `None`: one task.
    pub task: Option<String>,
    /// Keys that forbid two rows to be negatives of each other.
    pub keys: Vec<String>,
    /// The one of them that says which rows have the same positive, if any does beside the vectors.
    pub positive_key: Option<String>,
    /// The corpus' column of embeddings, where it is named.
    pub document: Option<String>,
    /// Where the corpus' ids come from.
    pub document_id: IdColumn,
    /// What an empty text is as a key.
    pub empty_keys: EmptyKeys,
    /// Number type of binary embeddings.
    pub dtype: Option<BinaryType>,
    /// What int8 and uint8 embeddings are multiplied by.
    pub scale: Option<f32>,
    /// What becomes of rows with an embedding that cannot be used.
    pub bad_rows: BadRows,
}

/// Where ids come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub enum IdColumn {
    /// A column called `id` if there is one, else the row number.
    #[default]
    Found,
    Named(String),
    RowNumber,
}

impl IdColumn {
    fn of(name: Option<String>) -> IdColumn {
        match name {
            None => IdColumn::Found,
            Some(name) if name == NO_COLUMN => IdColumn::RowNumber,
            Some(name) => IdColumn::Named(name),
        }
    }
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
    pub(super) fn new(settings: Settings) -> Result<Columns> {
        let embeddings = match settings.embedding_column {
            Some(column) => EmbeddingColumns::Shared(column),
            None => EmbeddingColumns::Pair { query: settings.query_column, positive: settings.positive_column },
        };
        let mut keys = settings.key_column;
        // Rows with one positive share no batch: what says so is a key as any other.
        keys.extend(settings.positive_key.iter().filter(|own| !keys.contains(own)).cloned().collect::<Vec<_>>());
        Ok(Columns {
            embeddings,
            id: IdColumn::of(settings.id_column),
            document: settings.document_column,
            document_id: IdColumn::of(settings.document_id_column),
            task: settings.task_column,
            keys,
            positive_key: settings.positive_key,
            empty_keys: settings.empty_keys.unwrap_or_default(),
            dtype: settings.dtype,
            scale: settings.embedding_scale.map(checked_scale).transpose()?,
            bad_rows: settings.bad_rows.unwrap_or_default(),
        })
    }

    /// Columns of which nothing is said.
    pub(crate) fn unnamed() -> Columns {
        Columns {
            embeddings: EmbeddingColumns::Pair { query: None, positive: None },
            id: IdColumn::Found,
            task: None,
            keys: Vec::new(),
            positive_key: None,
            document: None,
            document_id: IdColumn::Found,
            empty_keys: EmptyKeys::default(),
            dtype: None,
            scale: None,
            bad_rows: BadRows::default(),
        }
    }
}

/// The scale, if values can be multiplied by it.
fn checked_scale(scale: f32) -> Result<f32> {
    if scale.is_normal() && scale > 0.0 {
        return Ok(scale);
    }
    Err(Error::input("embeddings cannot be multiplied by the scale")
        .expected("--embedding-scale above zero, and finite")
        .found(format!("--embedding-scale {scale}"))
        .remedy("give what one step of the integers is worth, such as 0.0078125"))
}
