//! The input as a whole: its files in order, and what they agree on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::arrow_ipc::ArrowFile;
use super::budget::{InputMeasures, UnitBytes};
use super::columns::{resolve, resolve_corpus};
use super::decode::Unit;
use super::dimensions::{IdleFlags, dimensions};
use super::in_memory::{IN_MEMORY, MemoryRows};
use super::input::{FileKind, InputFile, find, refuse_other_than_parquet};
use super::label_arrays::BATCH_BYTES;
use super::labels::{Labels, ListElements};
use super::npy::{open_npy, open_npy_alone, open_npy_sides};
use super::parquet::{open_parquet, open_stored_parquet};
use super::row::ROWS_MAX;
use super::shape::{Shape, StoreType};
use super::shard::{Shard, ShardFile, Source, rows_out_of_range};
use crate::config::{Columns, Inputs};
use crate::error::{Error, Result};
use crate::objects::BLOCK_BYTES;
use crate::run::record::Roles;

/// Row groups in stores whose headers of pages are looked at.
const STORED_LOOKED_AT: usize = 16;
/// Files in stores whose ends are fetched at the same time.
const FETCHED_AT_A_TIME: usize = 16;

/// All shards, and what their columns are.
#[derive(Debug, Clone)]
pub struct Shards {
    /// In input order.
    pub(crate) list: Vec<Shard>,
    /// Rows and dimensions of the whole input.
    pub(crate) shape: Shape,
    pub(crate) roles: Roles,
    /// Ids, tasks and keys.
    pub(crate) labels: Labels,
    /// Number type of each side's store.
    pub(crate) store_types: [StoreType; 2],
}

impl Shards {
    /// Finds and maps the input files and compares their columns. Reads footers and headers only, and the first row
    /// of columns whose type does not fix the number of dimensions.
    ///
    /// # Errors
    /// A path or column that is not there, a file that is no input, types or dimensions that
    /// do not fit; labels that cannot be compared.
    pub(crate) fn open(inputs: &Inputs, columns: &Columns) -> Result<Shards> {
        Shards::open_unlabelled(inputs, columns)?.with_labels(columns)
    }

    /// Takes rows that are in memory as the whole input, and compares their columns.
    ///
    /// # Errors
    /// A column that is not there; types or dimensions that do not fit; too many rows or none.
    pub(crate) fn in_memory(rows: MemoryRows, columns: &Columns) -> Result<Shards> {
        Shards::agreed(vec![shard_in_memory(rows)], columns)?.with_labels(columns)
    }

    fn with_labels(self, columns: &Columns) -> Result<Shards> {
        let labels = Labels::resolve(&self.list, &self.roles, &columns.id)?;
        Ok(Shards { labels, ..self })
    }

    /// Does the same without a look at the labels' types: for those who look at the input, and do not mine it.
    ///
    /// # Errors
    /// See [`Shards::open`].
    pub(crate) fn open_unlabelled(inputs: &Inputs, columns: &Columns) -> Result<Shards> {
        Shards::agreed(open_files(inputs)?, columns)
    }

    /// Finds and maps the files of a corpus, whose documents are numbered from 0, and compares them with the rows'. Its
    /// files are counted behind theirs. The rows' labels get the form in which both are compared, and their stores room
    /// for all numbers of the documents.
    ///
    /// # Errors
    /// See [`Shards::open`]; or the documents do not fit the rows: other dimensions, no tasks, keys of another kind, or
    /// too many of both.
    pub(crate) fn open_corpus(paths: &[String], columns: &Columns, rows: &mut Shards) -> Result<Shards> {
        let mut list = open_kinds(find(paths)?, open_npy_alone)?;
        let documents = number(&mut list, rows.files().count());
        let Some(first) = filled(&list) else {
            let error = Error::input("the corpus has no document").expected("one document at least");
            let error = error.found(format!("none in {} files", list.len()));
            let error = if let Some(shard) = list.first() { error.path(&shard.path) } else { error };
            return Err(error.remedy("check that these are the files you mean, or mine without --corpus"));
        };
        let place = |error: Error| error.path(&first.path);
        if documents > ROWS_MAX - rows.shape.rows {
            return Err(place(Error::input("rows and documents are more than can be numbered"))
                .expected(format!("at most {ROWS_MAX} of both"))
                .found(format!("{} rows and {documents} documents", rows.shape.rows))
                .remedy("mine parts of them apart"));
        }
        let roles = resolve_corpus(first, columns, &rows.roles)?;
        let (dim, store_types) = dimensions(&list, &roles, columns, IdleFlags::Allow)?;
        if dim != rows.shape.dim {
            return Err(place(Error::input("the corpus has other dimensions than the rows"))
                .expected(format!("{} dimensions", rows.shape.dim))
                .found(format!("{dim} dimensions"))
                .remedy("embed rows and documents with one model"));
        }
        list.iter_mut().for_each(|shard| shard.use_columns(&roles));
        let mut labels = Labels::resolve(&list, &roles, &columns.document_id)?;
        labels.agree(&mut rows.labels, &list[0].path)?;
        if store_types[1] == StoreType::F32 {
            // Documents lie behind the rows' positives.
            let sides = if rows.roles.shared { 0..2 } else { 1..2 };
            rows.store_types[sides].fill(StoreType::F32);
        }
        Ok(Shards { list, shape: Shape { rows: documents, dim }, roles, labels, store_types })
    }

    /// What some files agree on.
    fn agreed(mut list: Vec<Shard>, columns: &Columns) -> Result<Shards> {
        let rows = number(&mut list, 0);
        let first = list.first().ok_or_else(|| Error::input("no input is given").remedy("name files or folders"))?;
        if !(1..=ROWS_MAX).contains(&rows) {
            return Err(rows_out_of_range(&first.path, rows, list.len()));
        }
        let roles = resolve(filled(&list).unwrap_or(first), columns)?;
        let (dim, store_types) = dimensions(&list, &roles, columns, IdleFlags::Refuse)?;
        list.iter_mut().for_each(|shard| shard.use_columns(&roles));
        Ok(Shards { list, shape: Shape { rows, dim }, roles, labels: Labels::default(), store_types })
    }

    /// What a thread holds of the files while it reads one of their units. Reads headers of pages: those of all labels,
    /// and those of the embeddings in each file's first row group, which is like the others.
    pub(crate) fn unit_bytes(&self) -> UnitBytes {
        let Roles { query, positive, id, task, keys, .. } = &self.roles;
        let labels: Vec<&str> = [id, task].into_iter().flatten().chain(keys).map(String::as_str).collect();
        let embeddings: Vec<&str> = [query, positive].into_iter().flatten().map(String::as_str).collect();
        let record_batch = |shard: &Shard| match &shard.source {
            Source::Arrow(file) => {
                let labels = labels.iter().map(|label| file.heap_bytes(&[label]));
                labels.chain([file.heap_bytes(&embeddings)]).max().unwrap_or(0)
            }
            _ => 0,
        };
        let held = |unit: &Unit<'_>, column: &&str| unit.page_sizes(column).unwrap_or_default().held();
        let units = Unit::all(&self.list);
        // In a store a look at headers is a request: the pages of a few files are taken for those of the others.
        let mut stored = 0;
        let is_looked_at = |unit: &&Unit<'_>| {
            let is_stored = unit.shard.stored().is_some();
            stored += usize::from(is_stored);
            !is_stored || unit.start == 0 && stored <= STORED_LOOKED_AT
        };
        let looked_at: Vec<&Unit<'_>> = units.iter().filter(is_looked_at).collect();
        let of_labels = looked_at.iter().flat_map(|unit| labels.iter().map(|label| held(unit, label) + BATCH_BYTES));
        let first = looked_at.iter().filter(|unit| unit.start == 0);
        let of_embeddings = first.map(|unit| embeddings.iter().fold(0u64, |sum, side| sum + held(unit, side)));
        UnitBytes {
            record_batch: self.list.iter().map(record_batch).max().unwrap_or(0),
            pages: of_labels.chain(of_embeddings).max().unwrap_or(0),
            stored_columns: self.stored_columns(),
            count: units.len() as u64,
        }
    }

    /// How many columns are read from files in stores at a time: the embeddings', or a label's with all that is in it.
    fn stored_columns(&self) -> u64 {
        let Roles { query, positive, id, task, keys, .. } = &self.roles;
        let labels = [id, task].into_iter().flatten().chain(keys).map(|label| vec![label]);
        let read: Vec<Vec<&String>> = labels.chain([[query, positive].into_iter().flatten().collect()]).collect();
        let most = |shard: &Shard| match &shard.source {
            Source::Parquet { metadata, .. } if shard.stored().is_some() => {
                let leaves = metadata.parquet_schema().columns();
                let among = |roots: &Vec<&String>| {
                    let own = |root: &String| roots.contains(&root);
                    leaves.iter().filter(|leaf| leaf.path().parts().first().is_some_and(own)).count() as u64
                };
                read.iter().map(among).max().unwrap_or(0)
            }
            _ => 0,
        };
        self.list.iter().map(most).max().unwrap_or(0)
    }

    /// Says how many blocks of each column that is read from a store at a time may be held.
    pub(crate) fn hold_blocks(&self, column_blocks: u64) {
        let bytes = column_blocks * self.stored_columns() * BLOCK_BYTES;
        self.list.iter().filter_map(Shard::stored).for_each(|stored| stored.hold(bytes));
    }

    /// What key columns of lists hold, what reading takes, and how many documents there are, of rows and a corpus.
    fn measured_with(&self, corpus: Option<&Shards>) -> InputMeasures {
        let own = InputMeasures { lists: self.labels.list_elements(), units: self.unit_bytes(), ..Default::default() };
        let Some(corpus) = corpus else { return own };
        let (lists, units) = (corpus.labels.list_elements(), corpus.unit_bytes());
        InputMeasures {
            lists: ListElements {
                columns: own.lists.columns,
                most: own.lists.most.saturating_add(lists.most),
                total: own.lists.total.saturating_add(lists.total),
            },
            units: UnitBytes {
                record_batch: own.units.record_batch.max(units.record_batch),
                pages: own.units.pages.max(units.pages),
                stored_columns: own.units.stored_columns + units.stored_columns,
                count: own.units.count.max(units.count),
            },
            documents: corpus.shape.rows,
            ..Default::default()
        }
    }

    /// Whether ids are texts, else numbers.
    pub(crate) fn has_text_ids(&self) -> bool {
        self.labels.id.as_ref().is_some_and(|column| !column.has_integer_ids())
    }

    /// Bytes of all input files.
    pub(crate) fn input_bytes(&self) -> u64 {
        self.files().map(|file| file.identity.bytes).sum()
    }

    /// All files, in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = &ShardFile> {
        self.list.iter().flat_map(|shard| &shard.files)
    }
}

impl InputMeasures {
    /// Those of rows and a corpus. Reads headers of pages, see [`Shards::unit_bytes`].
    pub(crate) fn of(rows: &Shards, corpus: Option<&Shards>) -> InputMeasures {
        rows.measured_with(corpus)
    }
}

/// Numbers the rows and the files of some shards, and returns how many rows there are.
fn number(list: &mut [Shard], first_file: usize) -> u64 {
    let (mut rows, mut files) = (0u64, first_file);
    for shard in list {
        (shard.first_row, shard.first_file) = (rows, files);
        files += shard.files.len();
        rows = rows.saturating_add(shard.rows);
    }
    rows
}

/// The first file with rows: one without says nothing, its columns may be of any type, or none.
fn filled(list: &[Shard]) -> Option<&Shard> {
    list.iter().find(|shard| shard.rows > 0)
}

/// Finds and maps the input files, whatever their columns are.
///
/// # Errors
/// A path that is not there, a file that is no input or is damaged, or half of a pair.
pub(crate) fn open_files(inputs: &Inputs) -> Result<Vec<Shard>> {
    if !inputs.queries.is_empty() || !inputs.positives.is_empty() {
        return open_sides(inputs);
    }
    open_kinds(find(&inputs.paths)?, open_npy)
}

/// Maps files of one kind; arrays as `open_arrays` does.
fn open_kinds(files: Vec<InputFile>, open_arrays: impl Fn(&[PathBuf]) -> Result<Vec<Shard>>) -> Result<Vec<Shard>> {
    let npy = files.iter().filter(|file| file.kind == FileKind::Npy).count();
    if npy == 0 {
        return open_tables(files);
    }
    if let Some(other) = files.iter().find(|file| file.kind != FileKind::Npy) {
        return Err(Error::input("arrays and tables are mixed")
            .path(&other.path)
            .expected(".npy files only, or Parquet and Arrow files only")
            .found(format!("{npy} .npy files among {} files", files.len()))
            .remedy("mine them apart, or convert one kind"));
    }
    let paths: Vec<PathBuf> = files.into_iter().map(|file| file.path).collect();
    open_arrays(&paths)
}

/// Opens files of columns. Of those in stores the ends of some are fetched at a time.
fn open_tables(files: Vec<InputFile>) -> Result<Vec<Shard>> {
    let mut shards = Vec::with_capacity(files.len());
    for some in files.chunks(FETCHED_AT_A_TIME) {
        some.iter().filter_map(|file| file.stored.as_ref()).for_each(|stored| stored.ahead(&stored.tail()));
        for file in some {
            shards.push(open_file(file)?.with_partitions(file.partitions.clone()));
        }
    }
    Ok(shards)
}

/// Maps one file that is no half of a pair, or reads the footer of one in a store.
///
/// # Errors
/// It cannot be opened, or is damaged.
pub(crate) fn open_file(file: &InputFile) -> Result<Shard> {
    let paths = [file.path.clone()];
    Ok(match (&file.stored, file.kind) {
        (Some(stored), _) => {
            refuse_other_than_parquet(stored)?;
            open_stored_parquet(stored.clone())?
        }
        (None, FileKind::Parquet) => open_parquet(&paths)?.remove(0),
        (None, FileKind::Arrow) => open_arrow(&file.path)?,
        (None, FileKind::Npy) => open_npy(&paths)?.remove(0),
    })
}

fn open_arrow(path: &Path) -> Result<Shard> {
    let file = ArrowFile::open(path)?;
    let (rows, files) = (file.rows(), vec![ShardFile::new(path, file.head())?]);
    Ok(Shard::new(path, rows, files, Source::Arrow(Arc::new(file))))
}

/// The shard of rows in memory. Its files are their buffers. Only their content tells whether they are those of an
/// earlier call: the time that they have is now.
fn shard_in_memory(rows: MemoryRows) -> Shard {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let file = |(path, bytes, what): (PathBuf, u64, String)| ShardFile::in_memory(path, bytes, what.as_bytes(), now);
    let files = rows.files().into_iter().map(file).collect();
    Shard::new(Path::new(IN_MEMORY), rows.rows(), files, Source::Memory(rows))
}

/// The files of `--query-file` and `--positive-file`.
fn open_sides(inputs: &Inputs) -> Result<Vec<Shard>> {
    let find = |side: &[String]| -> Result<Vec<PathBuf>> {
        let files = find(side)?;
        match files.iter().find(|file| file.kind != FileKind::Npy) {
            Some(other) => Err(Error::input("a file of one side is no .npy array")
                .path(&other.path)
                .expected(".npy files for --query-file and --positive-file")
                .found("a file of columns")
                .remedy("name it without a flag: both sides are columns of one file")),
            None => Ok(files.into_iter().map(|file| file.path).collect()),
        }
    };
    open_npy_sides(&find(&inputs.queries)?, &find(&inputs.positives)?)
}
