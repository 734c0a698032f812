//! The files that a run was mined from, as the export reads them: checked to be unchanged, with their text columns.
//!
//! Only footers and headers of pages are read here.

use std::path::Path;

use arrow::datatypes::DataType;

use super::budget::Needs;
use super::settings::{ExportSettings, Format};
use crate::batches::texts::TextSource;
use crate::batches::texts::columns::{TEXT_TYPES, both, expect_text, is_text, of_documents, sides};
use crate::batches::texts::files::{self, schema_of};
use crate::error::{Error, Result};
use crate::run::RunReader;
use crate::run::record::{BatchesSettings, Roles, VectorsSettings};
use crate::vectors::{Shard, Source, Unit};

/// Image paths of the queries, for trainers that read images.
pub(crate) const QUERY_IMAGE: &str = "qry_image_path";
/// The same of the positives.
pub(crate) const IMAGE: &str = "pos_image_path";

/// The source files and the columns that an export reads.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Files with rows, in the input's order.
    pub shards: Vec<Shard>,
    /// Rows of all files.
    pub rows: u64,
    /// Column of the queries' texts.
    pub query: String,
    /// Column of the positives' texts; the queries' own where one column serves both.
    pub positive: String,
    /// Other columns that tables can keep: strings, booleans, numbers of 32 or 64 bits.
    pub kept: Vec<String>,
    /// The corpus, where documents of it may be negatives.
    pub corpus: Option<CorpusTexts>,
    /// Bytes of the pages that are held while a row group's columns are read, where they are largest.
    pub held_bytes: u64,
}

/// The files of a corpus, whose rows are numbered behind those of the sources.
#[derive(Debug)]
pub(crate) struct CorpusTexts {
    /// Files with documents, in order.
    pub shards: Vec<Shard>,
    /// Documents of all files.
    pub documents: u64,
    /// Column of the texts.
    pub text: String,
}

impl CorpusTexts {
    fn open(run: &RunReader, recorded: &VectorsSettings, settings: &ExportSettings) -> Result<Option<CorpusTexts>> {
        let lists = settings.format == Format::Neighbors;
        let drawn = || Ok(run.settings::<BatchesSettings>()?.hard_negatives > 0 && settings.negatives != Some(0));
        let named = settings.document_text.is_some() || !settings.corpus_source.is_empty();
        if !named && (recorded.corpus.is_none() || !lists && !drawn()?) {
            return Ok(None);
        }
        let mut shards = files::open_corpus(run, recorded, &settings.corpus_source)?;
        refuse_other_than_parquet(&shards, files::CORPUS_SOURCE)?;
        let documents = shards.iter().fold(0, |sum: u64, shard| sum.saturating_add(shard.rows));
        shards.retain(|shard| shard.rows > 0);
        let roles = recorded.corpus.as_ref().map_or(&recorded.columns, |corpus| &corpus.columns);
        let first = &shards[0];
        let text = of_documents(schema_of(first), settings.document_text.as_deref(), roles, &first.path)?;
        shards.iter().try_for_each(|shard| expect_text(&shard.path, schema_of(shard), &text, "--document-text"))?;
        Unit::all(&shards).iter().try_for_each(|unit| unit.refuse_large_pages(&[&text]))?;
        Ok(Some(CorpusTexts { shards, documents, text }))
    }
}

/// Fails where files with texts are no Parquet; `flag` names other files.
fn refuse_other_than_parquet(shards: &[Shard], flag: &str) -> Result<()> {
    if let Some(stored) = shards.iter().find(|shard| shard.stored().is_some()) {
        return Err(Error::input("an export reads texts from local files only")
            .path(&stored.path)
            .expected("Parquet files on this machine")
            .found("a file in a store")
            .remedy(format!("copy the files to a local disk, and name them in their order with {flag}")));
    }
    match shards.iter().find(|shard| !matches!(shard.source, Source::Parquet { .. })) {
        None => Ok(()),
        Some(other) => Err(Error::input("an export reads texts from Parquet only")
            .path(&other.path)
            .expected("Parquet files with the texts")
            .found("an Arrow file")
            .remedy(format!(
                "write it as Parquet, one row for each mined one in the same order, and name it with {flag}"
            ))),
    }
}

impl Sources {
    /// Finds the files of a run, or those given in their place, and the text columns.
    ///
    /// # Errors
    /// A file is gone or has changed, has no texts, or has another number of rows.
    pub(crate) fn open(run: &RunReader, settings: &ExportSettings) -> Result<Sources> {
        let recorded: VectorsSettings = run.settings()?;
        let roles = &recorded.columns;
        let asked = TextSource {
            query: settings.query_text.clone(),
            positive: settings.positive_text.clone(),
            source: settings.source.clone(),
            ..TextSource::default()
        };
        let mut shards = files::open(run, &recorded, &asked.source)?;
        refuse_other_than_parquet(&shards, files::SOURCE)?;
        let rows = shards.iter().fold(0, |rows: u64, shard| rows.saturating_add(shard.rows));
        // A file without rows has no texts, whatever the types of its columns are.
        shards.retain(|shard| shard.rows > 0);
        let Some(first) = shards.first() else {
            return Err(Error::runtime("the run has no rows").remedy("mine again into a new folder"));
        };
        let (query, positive) = both(sides(schema_of(first), &asked, roles), &first.path, schema_of(first))?;
        for shard in &shards {
            expect_text(&shard.path, schema_of(shard), &query, "--query-text")?;
            expect_text(&shard.path, schema_of(shard), &positive, "--positive-text")?;
        }
        for unit in Unit::all(&shards) {
            unit.refuse_large_pages(&[&query, &positive])?;
        }
        if settings.format == Format::B3 {
            image_paths(&shards)?;
        }
        let [kept, left] = kept_columns(&shards, roles, [&query, &positive]);
        if settings.format == Format::B3 && !left.is_empty() {
            tracing::warn!(
                "columns that are not copied, since their type is another or differs between files: {}",
                left.join(", ")
            );
        }
        let kept = if settings.format == Format::B3 { kept } else { Vec::new() };
        let held = |unit: &Unit<'_>| {
            let named = [&query, &positive].into_iter().chain(&kept);
            let sizes = named.map(|name| unit.page_sizes(name).unwrap_or_default().held());
            sizes.fold(0, u64::saturating_add)
        };
        let held_bytes = Unit::all(&shards).iter().map(held).max().unwrap_or(0);
        let corpus = CorpusTexts::open(run, &recorded, settings)?;
        let of_corpus = corpus.iter().flat_map(|corpus| {
            let held = |unit: Unit<'_>| unit.page_sizes(&corpus.text).unwrap_or_default().held();
            Unit::all(&corpus.shards).into_iter().map(held)
        });
        let held_bytes = of_corpus.max().unwrap_or(0).max(held_bytes);
        Ok(Sources { shards, rows, query, positive, kept, corpus, held_bytes })
    }

    /// What is known of them before they are read.
    pub(crate) fn needs(&self) -> Needs {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        Needs { rows: self.rows + self.documents(), held_bytes: self.held_bytes, longest: 0, threads }
    }

    /// Documents of the corpus that is read.
    pub(crate) fn documents(&self) -> u64 {
        self.corpus.as_ref().map_or(0, |corpus| corpus.documents)
    }

    /// The first file, for errors about all of them.
    pub(crate) fn first_path(&self) -> &Path {
        &self.shards[0].path
    }

    /// The columns that are read of a row: the texts, and those that are kept.
    pub(crate) fn columns(&self) -> Vec<&str> {
        [&self.query, &self.positive].into_iter().chain(&self.kept).map(String::as_str).collect()
    }

    /// The columns that are read of a negative: its text, and its image where images are kept.
    pub(crate) fn negative_columns(&self) -> Vec<&str> {
        let image = self.kept.iter().filter(|name| *name == IMAGE);
        std::iter::once(&self.positive).chain(image).map(String::as_str).collect()
    }
}

/// The image paths of both sides, where the sources have any: the trainer takes empty ones for none.
///
/// # Errors
/// A column of that name holds something else than strings, or some files lack it.
fn image_paths(shards: &[Shard]) -> Result<()> {
    for name in [QUERY_IMAGE, IMAGE] {
        if !shards.iter().any(|shard| schema_of(shard).field_with_name(name).is_ok()) {
            continue;
        }
        for shard in shards {
            let kind = schema_of(shard).field_with_name(name).map(|field| field.data_type());
            let found = match kind {
                Ok(kind) if is_text(kind) => continue,
                Ok(kind) => kind.to_string(),
                Err(_) => "no column of this name, which other files have".into(),
            };
            return Err(Error::input("image paths are no strings")
                .path(&shard.path)
                .column(name)
                .expected(TEXT_TYPES)
                .found(found)
                .remedy(
                    "write the paths as strings into every file, or rename the column: then no image is exported",
                ));
        }
    }
    Ok(())
}

/// Columns of the first file beside embeddings and texts: those that hold strings, booleans or numbers of 32 or 64
/// bits in all files, and the others.
fn kept_columns(shards: &[Shard], roles: &Roles, texts: [&String; 2]) -> [Vec<String>; 2] {
    let embeddings = [roles.query.as_ref(), roles.positive.as_ref()];
    let plain = |kind: &DataType| {
        use DataType::{Boolean, Float32, Float64, Int32, Int64, UInt32, UInt64};
        is_text(kind) || matches!(kind, Boolean | Float32 | Float64 | Int32 | Int64 | UInt32 | UInt64)
    };
    let same = |name: &str, kind: &DataType| {
        shards.iter().all(|shard| {
            let other = schema_of(shard).field_with_name(name).map(|field| field.data_type());
            other.is_ok_and(|other| other == kind || is_text(other) && is_text(kind))
        })
    };
    let fields = schema_of(&shards[0]).fields().iter();
    let others = fields.filter(|field| !embeddings.contains(&Some(field.name())) && !texts.contains(&field.name()));
    let (kept, left): (Vec<_>, Vec<_>) =
        others.partition(|field| plain(field.data_type()) && same(field.name(), field.data_type()));
    [kept, left].map(|fields| fields.iter().map(|field| field.name().clone()).collect())
}
