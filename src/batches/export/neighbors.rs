//! neighbors: the list of every row as data, in three tables: queries, documents, and what a query scores with its
//! documents. Trainers that distil scores read them so.
//!
//! ```text
//! DIR/  queries/  documents/  scores/      part-00000.parquet in each
//! ```
//!
//! Rows come in the input's order, so that the sources are read once, front to back; the documents of a corpus that any
//! list names come behind the rows' positives. Nothing of a batch is in them.
//!
//! Memory: as an export of batches (`budget`), of whose 16 bytes a row or document 4 are the input's order; the lists
//! are mapped.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StringDictionaryBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int8Type, Schema};

use super::budget::{Needs, divide};
use super::documents::{self, Documents};
use super::folder::{ExportRecord, Folder};
use super::lengths::Lengths;
use super::settings::{Epochs, ExportSettings};
use super::sources::Sources;
use super::summary::ExportSummary;
use super::tables::{self, TableFile};
use crate::allocator;
use crate::edges;
use crate::error::{Error, Result};
use crate::neighbors::{self, Neighbors, Windows, own_ranks};
use crate::run::memory::MemoryWatch;
use crate::run::progress::Progress;
use crate::run::storage::Storage;
use crate::run::{RunReader, Stage};
use crate::vectors::{self, Ids, RowId, Vectors};

/// Bytes of a document in a line of the table of scores, apart from its id.
const ENTRY_BYTES: u64 = 16;

/// What a candidate of a list is, and its name in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DocumentKind {
    Positive,
    Suspect,
    Preferred,
    TooEasy,
}

impl DocumentKind {
    fn name(self) -> &'static str {
        match self {
            DocumentKind::Positive => "positive",
            DocumentKind::Suspect => "suspect",
            DocumentKind::Preferred => "preferred",
            DocumentKind::TooEasy => "too-easy",
        }
    }
}

/// One document of a query.
struct Entry {
    row: RowId,
    score: f32,
    /// From 0; none of a positive that is beyond the list.
    rank: Option<i32>,
    kind: DocumentKind,
}

/// What is written, and from what.
struct Lists<'a> {
    vectors: &'a Vectors,
    neighbors: &'a Neighbors,
    windows: Windows<'a>,
    /// Of the longest id.
    id_bytes: u64,
}

impl Lists<'_> {
    /// A row's own positive, then its list.
    fn entries(&self, row: RowId) -> Vec<Entry> {
        let (neighbors, place) = (self.neighbors, self.neighbors.place_of(row));
        let (window, scores) = (self.windows.of(place), neighbors.scores(place));
        let at = |rank: usize| (scores[rank], neighbors.row_at(window.places[rank]));
        let own_score = self.vectors.rows.scores()[row as usize];
        let rank = own_ranks::of_place(self.vectors, &self.windows, place).map(|rank| rank as i32);
        let kind = |rank: usize| match rank {
            rank if window.is_suspect(rank) => DocumentKind::Suspect,
            rank if rank < window.ranks.end => DocumentKind::Preferred,
            _ => DocumentKind::TooEasy,
        };
        let own = Entry { row, score: own_score, rank, kind: DocumentKind::Positive };
        let others = (0..scores.len()).map(|rank| {
            let (score, row) = at(rank);
            Entry { row, score, rank: Some(rank as i32), kind: kind(rank) }
        });
        std::iter::once(own).chain(others).collect()
    }

    /// Ids of some rows.
    fn ids(&self, rows: impl Iterator<Item = RowId>) -> ArrayRef {
        let input = rows.map(|row| self.vectors.rows.input_rows()[row as usize]);
        let ids = &self.vectors.ids;
        match ids {
            Ids::Text(_) => Arc::new(StringArray::from_iter_values(input.map(|row| ids.text(row).unwrap_or_default()))),
            _ => Arc::new(Int64Array::from_iter_values(input.map(|row| ids.int(row).unwrap_or_default()))),
        }
    }

    /// Bytes of a row's line in the table of scores, about.
    fn bytes(&self, row: RowId) -> u64 {
        let entries = self.neighbors.of(self.neighbors.place_of(row)).len() as u64 + 1;
        entries * (ENTRY_BYTES + self.id_bytes)
    }

    fn scores(&self, rows: &[RowId], schema: Arc<Schema>) -> RecordBatch {
        let lists: Vec<Vec<Entry>> = rows.iter().map(|row| self.entries(*row)).collect();
        let all = || lists.iter().flatten();
        let mut kinds = StringDictionaryBuilder::<Int8Type>::new();
        all().for_each(|entry| kinds.append_value(entry.kind.name()));
        let values: [ArrayRef; 4] = [
            self.ids(all().map(|entry| entry.row)),
            Arc::new(Float32Array::from_iter_values(all().map(|entry| entry.score))),
            Arc::new(Int32Array::from_iter(all().map(|entry| entry.rank))),
            Arc::new(kinds.finish()),
        ];
        let lists = values.into_iter().zip(&schema.fields()[1..]).map(|(values, field)| -> ArrayRef {
            let DataType::List(element) = field.data_type() else { unreachable!("all others are lists") };
            let ends = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
            Arc::new(ListArray::new(element.clone(), ends, values, None))
        });
        let columns = std::iter::once(self.ids(rows.iter().copied())).chain(lists).collect();
        RecordBatch::try_new(schema, columns).expect("columns of the schema")
    }
}

/// The three tables, while they are written.
struct Tables {
    queries: TableFile,
    documents: TableFile,
    scores: TableFile,
    schemas: [Arc<Schema>; 3],
}

impl Tables {
    fn create(folder: &mut Folder, text_ids: bool, [group_rows, list_rows]: [usize; 2]) -> Result<Tables> {
        let id = if text_ids { DataType::Utf8 } else { DataType::Int64 };
        let texts = |name: &str| {
            let text = Field::new("text", DataType::Utf8, false);
            Arc::new(Schema::new(vec![Field::new(name, id.clone(), false), text]))
        };
        let list = |name: &str, kind: DataType, nullable: bool| {
            Field::new(name, DataType::List(Arc::new(Field::new("element", kind, nullable))), false)
        };
        let kinds = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        let scores = Arc::new(Schema::new(vec![
            Field::new("query_id", id.clone(), false),
            list("document_ids", id.clone(), false),
            list("scores", DataType::Float32, false),
            list("ranks", DataType::Int32, true),
            list("kinds", kinds, false),
        ]));
        let schemas = [texts("query_id"), texts("document_id"), scores];
        let mut create = |name: &str, schema: &Arc<Schema>, rows: usize| {
            TableFile::create(folder, &format!("{name}/part-00000.parquet"), schema.clone(), rows)
        };
        Ok(Tables {
            queries: create("queries", &schemas[0], group_rows)?,
            documents: create("documents", &schemas[1], group_rows)?,
            scores: create("scores", &schemas[2], list_rows)?,
            schemas,
        })
    }

    fn write(&mut self, lists: &Lists<'_>, rows: &[RowId], texts: &Documents) -> Result<()> {
        write_texts(&mut self.queries, &self.schemas[0], lists, rows, (texts, 0))?;
        write_texts(&mut self.documents, &self.schemas[1], lists, rows, (texts, 1))?;
        let schema = &self.schemas[2];
        in_pieces(rows, &mut self.scores, |row| lists.bytes(*row), |piece| lists.scores(piece, schema.clone()))
    }

    /// Writes documents of the corpus, given their numbers among rows and documents.
    fn write_documents(&mut self, lists: &Lists<'_>, documents: &[RowId], texts: &Documents) -> Result<()> {
        write_texts(&mut self.documents, &self.schemas[1], lists, documents, (texts, 0))
    }

    fn finish(self, folder: &mut Folder) -> Result<()> {
        [self.queries, self.documents, self.scores].into_iter().try_for_each(|table| table.finish(folder))
    }
}

/// Writes ids and texts of some rows, the texts being in a column of what was read.
fn write_texts(
    table: &mut TableFile,
    schema: &Arc<Schema>,
    lists: &Lists<'_>,
    rows: &[RowId],
    (texts, column): (&Documents, usize),
) -> Result<()> {
    let input = |row: RowId| lists.vectors.rows.input_rows()[row as usize];
    let text = |row: &RowId| texts.text(column, input(*row)).unwrap_or_default();
    let columns = |piece: &[RowId]| {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(piece.iter().map(text)));
        RecordBatch::try_new(schema.clone(), vec![lists.ids(piece.iter().copied()), texts])
            .expect("columns of the schema")
    };
    in_pieces(rows, table, |row| text(row).len() as u64, columns)
}

/// Writes rows to a table, as many at a time as it has room for.
fn in_pieces(
    mut rows: &[RowId],
    table: &mut TableFile,
    bytes: impl Fn(&RowId) -> u64,
    columns: impl Fn(&[RowId]) -> RecordBatch,
) -> Result<()> {
    while !rows.is_empty() {
        let (piece, rest) = rows.split_at(table.room(rows.iter().map(&bytes)));
        table.write(columns(piece), piece.iter().map(&bytes).sum())?;
        rows = rest;
    }
    Ok(())
}

/// Writes the lists of a run. `None`: the folder holds them already, finished.
///
/// # Errors
/// As [`super::export`]; or an epoch or a number of negatives is asked for.
pub(super) fn export(
    run: &RunReader,
    settings: &ExportSettings,
    path: &Path,
    storage: Arc<dyn Storage>,
    progress: &Progress,
) -> Result<Option<ExportSummary>> {
    refuse_settings(settings)?;
    let memory = MemoryWatch::start();
    let sources = Sources::open(run, settings)?;
    let vectors = vectors::open(run)?;
    let neighbors = neighbors::open(run, &vectors)?;
    neighbors.check_lists()?;
    let id_bytes = vectors.ids.longest() as u64;
    let windows = edges::open_windows(run, &vectors, &neighbors)?;
    let lists = Lists { vectors: &vectors, neighbors: &neighbors, windows, id_bytes };
    let Some(mut folder) = Folder::open(path, storage, &record(run, settings, &sources)?, settings.replace)? else {
        return Ok(None);
    };
    let needs = sources.needs();
    let readers = documents::readers(divide(settings.memory_bytes, needs)?.readers)?;
    let lengths = readers.install(|| Lengths::measure(&sources))?;
    let longest_list = lists.windows.most_ranks().saturating_add(1).saturating_mul(ENTRY_BYTES + id_bytes);
    let longest = lengths.longest(0).max(longest_list);
    let division = divide(settings.memory_bytes, Needs { longest, ..needs })?;
    let readers = documents::readers(division.readers)?;
    allocator::give_back();
    let mut rows: Vec<RowId> = (0..vectors.row_count()).collect();
    rows.sort_unstable_by_key(|row| vectors.rows.input_rows()[*row as usize]);
    let group_rows = [lengths.mean() / 2, longest_list].map(tables::group_rows);
    let mut tables = Tables::create(&mut folder, matches!(vectors.ids, Ids::Text(_)), group_rows)?;
    let meter = progress.meter("export", rows.len() as u64, "rows");
    let (mut left, mut chunks) = (&rows[..], 0);
    while !left.is_empty() {
        let count = fitting(left, &lists, &lengths, &sources, division.chunk_bytes)?;
        let (chunk, rest) = left.split_at(count);
        let input: Vec<u32> = chunk.iter().map(|row| vectors.rows.input_rows()[*row as usize]).collect();
        let columns = [&sources.query[..], &sources.positive];
        let texts = readers.install(|| Documents::read(&sources, &columns, input, longest))?;
        tables.write(&lists, chunk, &texts)?;
        meter.add(count as u64)?;
        (left, chunks) = (rest, chunks + 1);
        drop(texts);
        allocator::give_back();
    }
    let documents = listed_documents(&lists);
    let mut left = &documents[..];
    while let Some(corpus) = sources.corpus.as_ref().filter(|_| !left.is_empty()) {
        let count = fitting_documents(left, &lists, &lengths, &sources, division.chunk_bytes)?;
        let (chunk, rest) = left.split_at(count);
        let input: Vec<u32> = chunk.iter().map(|row| vectors.rows.input_rows()[*row as usize]).collect();
        let texts = readers.install(|| Documents::read(&sources, &[&corpus.text], input, longest))?;
        tables.write_documents(&lists, chunk, &texts)?;
        (left, chunks) = (rest, chunks + 1);
        meter.add(0)?;
        drop(texts);
        allocator::give_back();
    }
    tables.finish(&mut folder)?;
    drop(meter);
    let filled = folder.succeed()?;
    Ok(Some(ExportSummary {
        rows: rows.len() as u64,
        chunks,
        files: filled.files,
        bytes: filled.bytes,
        peak_bytes: memory.take_peak(),
        ..ExportSummary::default()
    }))
}

/// The documents of the corpus that are in any list, in the order of the corpus. O(rows · ranks). Memory: 4 bytes for
/// each, and a bit a document.
fn listed_documents(lists: &Lists<'_>) -> Vec<RowId> {
    let (rows, all) = (lists.neighbors.row_count(), lists.neighbors.order().len());
    let mut listed = vec![0u64; (all - rows as usize).div_ceil(64)];
    if listed.is_empty() {
        return Vec::new();
    }
    for place in lists.windows.places() {
        for other in lists.neighbors.of(place).iter().filter(|other| other.number() >= rows) {
            let document = lists.neighbors.row_at(*other) - rows;
            listed[document as usize / 64] |= 1 << (document % 64);
        }
    }
    let is_listed = |document: &RowId| listed[(document - rows) as usize / 64] >> ((document - rows) % 64) & 1 == 1;
    let mut documents: Vec<RowId> = (rows..all as RowId).filter(is_listed).collect();
    documents.sort_unstable_by_key(|row| lists.vectors.rows.input_rows()[*row as usize]);
    documents
}

/// How many of the next documents' texts fit a chunk; at least one.
fn fitting_documents(
    documents: &[RowId],
    lists: &Lists<'_>,
    lengths: &Lengths,
    sources: &Sources,
    room: u64,
) -> Result<usize> {
    let mut filled = 0u64;
    for (count, row) in documents.iter().enumerate() {
        filled += lengths.of_document(i64::from(lists.vectors.rows.input_rows()[*row as usize]), sources)?;
        if filled > room && count > 0 {
            return Ok(count);
        }
    }
    Ok(documents.len())
}

/// How many of the next rows' texts fit a chunk; at least one.
fn fitting(rows: &[RowId], lists: &Lists<'_>, lengths: &Lengths, sources: &Sources, room: u64) -> Result<usize> {
    let mut filled = 0u64;
    for (count, row) in rows.iter().enumerate() {
        filled += lengths.of(i64::from(lists.vectors.rows.input_rows()[*row as usize]), &[], sources)?;
        if filled > room && count > 0 {
            return Ok(count);
        }
    }
    Ok(rows.len())
}

/// Lists know no epoch, and are whole.
fn refuse_settings(settings: &ExportSettings) -> Result<()> {
    let found = match (settings.epochs, settings.negatives) {
        (Epochs::One(0), None) => return Ok(()),
        (Epochs::One(0), Some(count)) => format!("--negatives {count}"),
        (Epochs::One(epoch), _) => format!("--epoch {epoch}"),
        (Epochs::All, _) => "--epoch all".into(),
    };
    Err(Error::input("--format neighbors writes the lists, and nothing of the batches")
        .expected("neither --epoch nor --negatives")
        .found(found)
        .remedy("leave it out; the column `ranks` says which documents to use"))
}

/// All that determines the export's bytes.
fn record(run: &RunReader, settings: &ExportSettings, sources: &Sources) -> Result<ExportRecord> {
    Ok(ExportRecord {
        batchmine: env!("CARGO_PKG_VERSION").into(),
        run: run.stage(Stage::Edges)?.fingerprint.clone(),
        format: settings.format.name(),
        epoch: settings.epochs,
        query_text: sources.query.clone(),
        positive_text: sources.positive.clone(),
        negatives: 0,
        negatives_filled: 0,
        negatives_short: 0,
        negatives_without: 0,
        source: settings.source.clone(),
        document_text: sources.corpus.as_ref().map(|corpus| corpus.text.clone()),
        corpus_source: settings.corpus_source.clone(),
    })
}
