//! export: the batches of a finished run joined to the texts of their rows, as the files that a trainer reads.
//!
//! ```text
//!  batch table ──▶ order, cut into chunks ──▶ join ──▶ the trainer's files
//!  (sorted)        whose texts fit            ▲
//!                  the budget                 │ the row groups that hold the chunk's rows
//!  sources ───────────────────────────────────┘ (and those of its negatives)
//! ```
//!
//! The sources hold texts in any order and may be larger than memory. They are therefore read once to measure the
//! texts, then for each chunk: about as often as the texts, with those of the negatives, fill half of the budget.
//! polars reads the batch table. Where chunks end does not change what is written.
//!
//! Memory (`budget`): a chunk's texts, a few times the longest row while it is written, and on each thread pages of
//! the sources.

mod arctic;
mod b3;
mod budget;
mod chunks;
mod documents;
mod engine;
mod flagembedding;
mod folder;
mod join;
mod lengths;
mod lines;
mod neighbors;
mod order;
mod padding;
mod sentence_transformers;
mod settings;
mod sources;
mod summary;
mod swift;
mod table;
mod tables;
mod tevatron;
mod trainer;

use std::path::Path;
use std::sync::Arc;

use crate::allocator;
use crate::error::{Error, Result};
use crate::run::memory::MemoryWatch;
use crate::run::progress::Progress;
use crate::run::record::ClustersSettings;
use crate::run::storage::Storage;
use crate::run::{RunReader, Stage};
use budget::{Needs, divide};
use folder::{ExportRecord, Folder};
use lengths::Lengths;
use order::{Arrangement, Measured};
use padding::NegativeCounts;
use sources::Sources;
use table::BatchTable;
use trainer::Trainer;

pub use settings::{Epochs, ExportSettings, Format};
pub use summary::ExportSummary;

/// Writes an export. `None`: the folder holds it already, finished.
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
    if settings.format == Format::Neighbors {
        return neighbors::export(run, settings, path, storage, progress);
    }
    let memory = MemoryWatch::start();
    let sources = Arc::new(Sources::open(run, settings)?);
    let table = BatchTable::open(run, settings.epochs, settings.negatives)?;
    let arrangement = arrangement(run, settings)?;
    let needs = sources.needs();
    let readers = documents::readers(divide(settings.memory_bytes, needs)?.readers)?;
    let (padding, counts) = padding::read(run, &table, arrangement.batch_size(), needs_negatives(settings.format))?;
    let record = record(run, settings, &sources, &table, counts)?;
    let Some(mut folder) = Folder::open(path, storage, &record, settings.replace)? else { return Ok(None) };
    let lengths = Arc::new(readers.install(|| Lengths::measure(&sources))?);
    let longest = lengths.longest(table.negatives);
    let division = divide(settings.memory_bytes, Needs { longest, ..needs })?;
    let readers = documents::readers(division.readers)?;
    allocator::give_back();
    let negatives_bytes = (lengths.mean() / 2).saturating_mul(table.negatives.into());
    let group_rows = tables::group_rows(lengths.mean().saturating_add(negatives_bytes));
    let padding = Arc::new(padding);
    let order = order::read(
        &table,
        &sources,
        Measured { lengths, padding: padding.clone() },
        arrangement,
        division.chunk_bytes,
    )?;
    if order.rows == 0 {
        return Err(Error::input("there is nothing to export")
            .path(run.folder())
            .expected("full batches, or for b3 full clusters: the trainer cuts rows into batches of one size")
            .found(format!("{} rows, all in smaller ones", order.left_out))
            .remedy("mine with a smaller --batch-size or --cluster-size, or choose a format that takes any batch"));
    }
    let mut trainer = trainer(settings.format, &table, &sources.kept, group_rows, &mut folder)?;
    let meter = progress.meter("export", order.rows, "rows");
    for chunk in &order.chunks {
        let rows = readers.install(|| join::join(&table, &sources, chunk, &padding, longest))?;
        trainer.write(&rows, &mut folder)?;
        meter.add(rows.len() as u64)?;
        drop(rows);
        allocator::give_back();
    }
    trainer.finish(&mut folder)?;
    drop(meter);
    let filled = folder.succeed()?;
    Ok(Some(ExportSummary {
        rows: order.rows,
        units: order.units,
        left_out: order.left_out,
        rows_short: counts.short + counts.without,
        rows_without: counts.without,
        rows_filled: counts.filled,
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
        Format::Neighbors => unreachable!("lists are no batches: `export` writes them by themselves"),
    })
}

/// Trainers that cut rows into batches of one size get no batch of another size: it would shift all that follow.
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
        Format::Neighbors => Arrangement::Batches,
    })
}

/// Whether a trainer cannot read a row without negatives where others have some.
fn needs_negatives(format: Format) -> bool {
    match format {
        Format::SentenceTransformers | Format::FlagEmbedding | Format::Tevatron => true,
        Format::B3 | Format::Swift | Format::Arctic | Format::Neighbors => false,
    }
}

/// All that determines the export's bytes.
fn record(
    run: &RunReader,
    settings: &ExportSettings,
    sources: &Sources,
    table: &BatchTable,
    counts: NegativeCounts,
) -> Result<ExportRecord> {
    Ok(ExportRecord {
        batchmine: env!("CARGO_PKG_VERSION").into(),
        run: run.stage(Stage::Batches)?.fingerprint.clone(),
        format: settings.format.name(),
        epoch: settings.epochs,
        query_text: sources.query.clone(),
        positive_text: sources.positive.clone(),
        negatives: table.negatives,
        negatives_filled: counts.filled,
        negatives_short: counts.short + counts.without,
        negatives_without: counts.without,
        source: settings.source.clone(),
        document_text: sources.corpus.as_ref().map(|corpus| corpus.text.clone()),
        corpus_source: settings.corpus_source.clone(),
    })
}
