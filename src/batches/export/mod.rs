//! export: the batches of a finished run joined to the texts of their rows, as the files that a trainer reads.
//!
//! ```text
//!  batch table ──▶ order, cut into chunks ──▶ join ──▶ the trainer's files
//!  (sorted)        whose texts fit            ▲
//!                  the budget                 │ one scan of the sources a chunk
//!  sources ───────────────────────────────────┘ (two with negatives)
//! ```
//!
//! The sources hold texts in any order and may be larger than memory, so they are read again for each chunk: as
//! often as the texts (with those of the negatives) divided by half of the budget, and once more to measure
//! them. The join is polars' streaming engine's. A chunk's bounds change nothing in what is written.
//!
//! Memory: [`budget`]; a chunk's texts and, for each thread, decoded row groups of the sources.

pub mod arctic;
pub mod b3;
pub mod budget;
pub mod engine;
pub mod flagembedding;
pub mod folder;
pub mod join;
pub mod lines;
pub mod order;
pub mod sentence_transformers;
pub mod sources;
pub mod swift;
pub mod table;
pub mod tables;
pub mod tevatron;

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::run::memory::MemoryWatch;
use crate::run::progress::Progress;
use crate::run::record::ClustersSettings;
use crate::run::storage::Storage;
use crate::run::{RunReader, Stage};
use budget::{Needs, chunk_bytes};
use folder::{Description, Folder};
use join::{Id, Joined};
use order::{Arrangement, Lengths};
use sources::Sources;
use table::BatchTable;

/// Whose files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Pairs and a batch index in Parquet; a sampler in python/ plays them
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
}

impl Format {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Which epochs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "EpochsRecord", from = "EpochsRecord")]
pub enum Epochs {
    /// One.
    One(u32),
    /// All, one after the other.
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

/// What the user wants.
#[derive(Debug, Clone)]
pub struct ExportSettings {
    /// Whose files.
    pub format: Format,
    /// Which epochs.
    pub epochs: Epochs,
    /// Column of the queries' texts; `None`: found by its usual names.
    pub query_text: Option<String>,
    /// Column of the positives' texts; `None`: found by its usual names.
    pub positive_text: Option<String>,
    /// Files, folders and globs to read in place of those that were mined; may be empty.
    pub source: Vec<String>,
    /// Negatives of each row at most; `None`: all that there are.
    pub negatives: Option<u32>,
    /// Budget.
    pub memory_bytes: u64,
    /// Put this export in the place of a finished one.
    pub replace: bool,
}

/// What an export made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportSummary {
    /// Rows written.
    pub rows: u64,
    /// Batches written; clusters, where the trainer unites them itself.
    pub units: u64,
    /// Rows of the table that the trainer could not play, and that were left out.
    pub left_out: u64,
    /// Chunks: each read the sources once, or twice with negatives.
    pub chunks: usize,
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Highest resident anonymous memory seen, in bytes.
    pub peak_bytes: u64,
}

/// What turns rows into a trainer's files.
pub trait Trainer {
    /// Takes the next rows of the order.
    ///
    /// # Errors
    /// The disk fails, or the trainer cannot use a row.
    fn write(&mut self, rows: &Joined, folder: &mut Folder) -> Result<()>;

    /// Ends what is open.
    ///
    /// # Errors
    /// The disk fails.
    fn finish(self: Box<Self>, folder: &mut Folder) -> Result<()>;
}

/// Writes an export. `None`: it was there already, finished.
///
/// # Errors
/// The run is not finished, the sources changed or have no texts, the budget is too small, the folder holds
/// something else, or the disk fails.
pub fn export(
    run: &RunReader,
    settings: &ExportSettings,
    path: &Path,
    storage: Arc<dyn Storage>,
    progress: &Progress,
) -> Result<Option<ExportSummary>> {
    let memory = MemoryWatch::start();
    let sources = Arc::new(Sources::open(run, settings)?);
    let table = BatchTable::open(run, settings.epochs, settings.negatives)?;
    let arrangement = arrangement(run, settings)?;
    let needs = Needs { rows: sources.rows, group_bytes: sources.group_bytes, threads: engine_threads() };
    let limit = chunk_bytes(settings.memory_bytes, needs)?;
    let description = describe(run, settings, &sources, &table)?;
    let Some(mut folder) = Folder::open(path, storage, &description, settings.replace)? else { return Ok(None) };
    let lengths = Arc::new(Lengths::measure(&sources)?);
    let group_rows = tables::group_rows(lengths.mean() + lengths.mean() / 2 * u64::from(table.negatives));
    let order = order::read(&table, &sources, lengths, arrangement, limit)?;
    if order.rows == 0 {
        return Err(Error::input("there is nothing to export")
            .path(run.folder())
            .expected("full batches, or for b3 full clusters: the trainer cuts rows into batches of one size")
            .found(format!("{} rows, all in smaller ones", order.left_out))
            .remedy("mine with a smaller --batch-size or --cluster-size, or choose a format that takes any batch"));
    }
    let kept = if settings.format == Format::B3 { sources.kept.clone() } else { Vec::new() };
    let mut trainer = trainer(settings.format, &table, &kept, group_rows, &mut folder)?;
    let meter = progress.meter("export", order.rows, "rows");
    for chunk in &order.chunks {
        let rows = join::join(&table, &sources, chunk, &kept)?;
        trainer.write(&rows, &mut folder)?;
        meter.add(rows.len() as u64)?;
    }
    trainer.finish(&mut folder)?;
    drop(meter);
    let filled = folder.succeed()?;
    Ok(Some(ExportSummary {
        rows: order.rows,
        units: order.units,
        left_out: order.left_out,
        chunks: order.chunks.len(),
        files: filled.files,
        bytes: filled.bytes,
        peak_bytes: memory.take_peak(),
    }))
}

fn trainer(
    format: Format,
    table: &BatchTable,
    kept: &[String],
    group_rows: usize,
    folder: &mut Folder,
) -> Result<Box<dyn Trainer>> {
    let negatives = table.negatives;
    Ok(match format {
        Format::SentenceTransformers => {
            Box::new(sentence_transformers::SentenceTransformers::create(folder, negatives, group_rows)?)
        }
        Format::B3 => Box::new(b3::B3::new(negatives, kept.to_vec(), group_rows)),
        Format::FlagEmbedding => Box::new(flagembedding::FlagEmbedding::new(negatives)),
        Format::Tevatron => Box::new(tevatron::Tevatron::create(folder, negatives)?),
        Format::Swift => Box::new(swift::Swift::create(folder)?),
        Format::Arctic => Box::new(arctic::Arctic::new(group_rows)),
    })
}

/// Trainers that cut rows into batches of one size get none of another size: it would shift all that follow.
fn arrangement(run: &RunReader, settings: &ExportSettings) -> Result<Arrangement> {
    let sizes = run.settings::<ClustersSettings>()?.sizes.job;
    Ok(match settings.format {
        Format::SentenceTransformers | Format::FlagEmbedding | Format::Arctic => Arrangement::Batches,
        Format::Tevatron | Format::Swift => Arrangement::FullBatches(u64::from(sizes.batch_size)),
        Format::B3 if settings.epochs == Epochs::All => {
            return Err(Error::input("the B3 trainer unites clusters into batches itself, anew in each training")
                .expected("--epoch with one number for --format b3")
                .found("--epoch all")
                .remedy("leave --epoch out: clusters are the same in every epoch"));
        }
        Format::B3 => Arrangement::FullClusters(sizes.cluster_size),
    })
}

/// What the export is made of: all that decides its bytes.
fn describe(run: &RunReader, settings: &ExportSettings, sources: &Sources, table: &BatchTable) -> Result<Description> {
    Ok(Description {
        batchmine: env!("CARGO_PKG_VERSION").into(),
        run: run.stage(Stage::Batches)?.fingerprint.clone(),
        format: settings.format.name().into(),
        epoch: settings.epochs,
        query_text: sources.query.clone(),
        positive_text: sources.positive.clone(),
        negatives: table.negatives,
        source: settings.source.clone(),
    })
}

/// A row that the trainer cannot use.
fn needs_negatives(id: Id<'_>) -> Error {
    Error::input("a row has no hard negative")
        .expected("at least one for each row: the trainer cannot read a row without")
        .found(format!("none for the row with id {id}"))
        .remedy("export without negatives (--negatives 0), or mine with a wider --window")
}

/// Threads of polars, which chooses them by itself.
fn engine_threads() -> u64 {
    let asked = std::env::var("POLARS_MAX_THREADS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u64))
}
