//! What the user asks of an export.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The trainer whose files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Pairs and a batch index in Parquet; batchmine.export.Batches of the Python package plays them
    SentenceTransformers,
    /// The B3 paper's trainer: Parquet, a file for each task, in cluster order
    B3,
    /// FlagEmbedding: JSONL, a file for each batch
    #[value(name = "flagembedding")]
    FlagEmbedding,
    /// Tevatron: JSONL in batch order
    Tevatron,
    /// ms-swift: JSONL in batch order, for embedding training with InfoNCE
    Swift,
    /// Snowflake arctic-embed: Parquet, a folder for each batch
    Arctic,
    /// No batches: every row's list with scores, in three tables of Parquet, for distillation
    Neighbors,
}

impl Format {
    /// The format that the command line calls so.
    pub fn named(name: &str) -> Option<Format> {
        Format::from_str(name, false).ok()
    }

    /// All of them, as the command line calls them.
    pub fn names() -> Vec<String> {
        Format::value_variants().iter().map(|format| format.name()).collect()
    }

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Which epochs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "EpochsRecord", from = "EpochsRecord")]
pub enum Epochs {
    /// The epoch of this number.
    One(u32),
    /// All epochs, one after the other.
    All,
}

/// As `_export.json` has it: a number, or `all`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum EpochsRecord {
    One(u32),
    Word(AllEpochs),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AllEpochs {
    All,
}

impl From<Epochs> for EpochsRecord {
    fn from(epochs: Epochs) -> EpochsRecord {
        match epochs {
            Epochs::One(epoch) => EpochsRecord::One(epoch),
            Epochs::All => EpochsRecord::Word(AllEpochs::All),
        }
    }
}

impl From<EpochsRecord> for Epochs {
    fn from(record: EpochsRecord) -> Epochs {
        match record {
            EpochsRecord::One(epoch) => Epochs::One(epoch),
            EpochsRecord::Word(AllEpochs::All) => Epochs::All,
        }
    }
}

impl std::str::FromStr for Epochs {
    type Err = String;

    fn from_str(text: &str) -> Result<Epochs, String> {
        match text {
            "all" => Ok(Epochs::All),
            _ => text.parse().map(Epochs::One).map_err(|_| format!("{text}: expected a number from 0, or all")),
        }
    }
}

/// What an export is made of and how.
#[derive(Debug, Clone)]
pub struct ExportSettings {
    /// The trainer whose files are written.
    pub format: Format,
    /// Which epochs are written.
    pub epochs: Epochs,
    /// Column of the queries' texts; `None`: found by its usual names.
    pub query_text: Option<String>,
    /// Column of the positives' texts; `None`: found by its usual names.
    pub positive_text: Option<String>,
    /// Column of the documents' texts, with a corpus; `None`: found by its usual names.
    pub document_text: Option<String>,
    /// Files, folders and globs to read in place of those that were mined; may be empty.
    pub source: Vec<String>,
    /// The same in place of the corpus.
    pub corpus_source: Vec<String>,
    /// Most negatives of each row; `None`: all of them.
    pub negatives: Option<u32>,
    /// Memory budget in bytes.
    pub memory_bytes: u64,
    /// Replace a finished export in the same folder.
    pub replace: bool,
}
