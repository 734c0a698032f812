//! Everything that the stage made, opened together.

use std::path::{Path, PathBuf};

use super::documents::TaskDocuments;
use super::ids::Ids;
use super::key_lists::{KeyListFile, key_lists_name};
use super::keys::{PositiveCodes, RowPositives};
use super::row::{Place, RowId};
use super::row_table::RowTable;
use super::shape::Shape;
use super::store::VectorStore;
use super::tasks::Tasks;
use crate::error::{Error, Result};
#[cfg(feature = "lake")]
use crate::run::Run;
use crate::run::record::{IdKind, VectorsFacts};
use crate::run::{RunReader, Stage};

pub(super) const QUERIES: &str = "queries.vec";
/// Positive vectors; there is no such file where one column serves both sides.
pub(crate) const POSITIVES: &str = "positives.vec";
/// What is known of each row.
pub(super) const ROW_TABLE: &str = "rows.col";
/// Names and ranges of tasks. `clean` keeps it: a table may be published later.
pub(crate) const TASK_TABLE: &str = "tasks.col";
/// Ids by input row; there is no such file where the row number is the id.
pub(super) const ID_TABLE: &str = "ids.col";

/// The documents of each task, where there is a corpus.
pub(super) const DOCUMENT_TABLE: &str = "documents.col";

/// Everything that `import` made.
#[derive(Debug, Clone)]
pub struct Vectors {
    pub(crate) queries: VectorStore,
    /// The rows', and behind them the documents'. The same store as `queries` where one column serves both sides.
    pub(crate) positives: VectorStore,
    /// What is known of each row.
    pub(crate) rows: RowTable,
    /// Task names and ranges.
    pub(crate) tasks: Tasks,
    /// The documents of each task, where there is a corpus.
    pub(crate) documents: Option<TaskDocuments>,
    /// Ids by input row.
    pub(crate) ids: Ids,
    /// Whether tasks have names: there is a task column. Without one there is one task, without a name.
    pub(crate) named_tasks: bool,
    /// The key columns of one code a row, in the order of the row table.
    pub(crate) single_keys: Vec<String>,
}

impl Vectors {
    /// Itself, with the pairs of rows that verdicts part.
    pub(crate) fn with_verdict_keys(mut self, keys: KeyListFile) -> Vectors {
        self.rows.part(keys);
        self
    }

    /// Rows, without documents, and dimensions.
    pub(crate) fn shape(&self) -> Shape {
        Shape { rows: u64::from(self.row_count()), ..self.queries.shape() }
    }

    pub(crate) fn row_count(&self) -> RowId {
        self.rows.row_count()
    }

    /// Rows and documents: all that can be in a list.
    pub(crate) fn candidate_count(&self) -> RowId {
        self.positives.shape().rows as RowId
    }

    /// The numbers of a task's documents; none without a corpus.
    pub(crate) fn documents_of(&self, task: usize) -> std::ops::Range<RowId> {
        self.documents.as_ref().map_or(0..0, |documents| documents.of_task(task))
    }

    /// Whether a place is that of a row or a document of a task.
    pub(crate) fn is_of_task(&self, task: usize, place: Place) -> bool {
        self.tasks.places(task).contains(place) || self.documents_of(task).contains(&place.number())
    }

    /// Which rows have the same positive, by a key column or by their vectors.
    ///
    /// # Errors
    /// There is no such column of one key a row.
    pub(crate) fn positive_codes(&self, key: Option<&str>) -> Result<PositiveCodes<'_>> {
        let number = |name: &str| match self.single_keys.iter().position(|column| column == name) {
            Some(index) => Ok(1 + index),
            None => Err(Error::input("the positive key is no key column of one key a row")
                .expected("a column without lists after --positive-key")
                .found(format!("--positive-key {name}"))
                .remedy("name a column that says which one positive a row has")),
        };
        Ok(self.rows.positive_codes(key.map(number).transpose()?))
    }

    /// The same, asked for rows alone. O(rows) with a corpus.
    ///
    /// # Errors
    /// See [`Vectors::positive_codes`].
    pub(crate) fn row_positives(&self, key: Option<&str>) -> Result<RowPositives<'_>> {
        Ok(RowPositives::new(self.positive_codes(key)?, self.row_count()))
    }

    /// Checks that all vectors are what was written, for those who read most of them. O(bytes), the first time.
    ///
    /// # Errors
    /// A file is damaged.
    pub(crate) fn check(&self) -> Result<()> {
        self.queries.sealed().check()?;
        self.positives.sealed().check()
    }

    /// The vectors for those who read some of them: see [`VectorStore::checked_by_row`].
    pub(crate) fn checked_by_row(self) -> Vectors {
        Vectors { queries: self.queries.checked_by_row(), positives: self.positives.checked_by_row(), ..self }
    }

    /// Fails where a vector that was read is not what was written.
    ///
    /// # Errors
    /// A file is damaged: what was made of it must not be kept.
    pub(crate) fn check_read(&self) -> Result<()> {
        self.queries.check_read()?;
        self.positives.check_read()
    }
}

/// Opens the store of a finished run.
///
/// # Errors
/// The stage is not finished, or a file is damaged.
pub(crate) fn open(run: &RunReader) -> Result<Vectors> {
    open_parts(&run.files_of(Stage::Vectors)?, &run.facts()?, &|name| run.part(Stage::Vectors, name))
}

/// The tasks of a run whose vectors are there, or were cleaned.
///
/// # Errors
/// The file is damaged.
#[cfg(feature = "lake")]
pub(crate) fn tasks(run: &Run) -> Result<Tasks> {
    Tasks::open(&run.part(Stage::Vectors, TASK_TABLE)?)
}

/// Opens the files of a folder and compares their counts. `part` gives the path of the part of a name. Vectors are not
/// read: see [`Vectors::check`] and [`VectorStore::check_row`].
///
/// # Errors
/// A file is damaged, or of another number of rows than the others.
pub(super) fn open_parts(
    folder: &Path,
    facts: &VectorsFacts,
    part: &dyn Fn(&str) -> Result<PathBuf>,
) -> Result<Vectors> {
    let queries = VectorStore::open(&part(QUERIES)?)?;
    let positives = if facts.shared { queries.clone() } else { VectorStore::open(&part(POSITIVES)?)? };
    let rows = RowTable::open(&part(ROW_TABLE)?)?;
    (0..rows.key_lists() as u64).try_for_each(|index| part(&key_lists_name(index)).map(drop))?;
    let tasks = Tasks::open(&part(TASK_TABLE)?)?;
    let ids = match facts.ids {
        IdKind::Int64 => Ids::open_int(&part(ID_TABLE)?, rows.input_row_limit())?,
        IdKind::String => Ids::open_text(&part(ID_TABLE)?, rows.input_row_limit())?,
        IdKind::Row => Ids::RowNumber,
    };
    let open = || TaskDocuments::open(&part(DOCUMENT_TABLE)?, Some(tasks.len()), rows.row_count());
    let documents = facts.corpus.map(|_| open()).transpose()?;
    let task_rows = tasks.ranges().last().map_or(0, |range| u64::from(range.end));
    let behind = documents.as_ref().map_or(0, TaskDocuments::count);
    let count = positives.shape().rows;
    let of_queries = if facts.shared { count } else { count.saturating_sub(behind) };
    let fits = queries.shape() == Shape { rows: of_queries, ..positives.shape() };
    if !fits || rows.input_rows().len() as u64 != count || task_rows + behind != count {
        return Err(Error::runtime("the vector store's files do not fit each other")
            .path(folder)
            .expected(format!("{count} rows in each, {behind} of them documents without a query"))
            .found(format!(
                "{} queries, {} rows, {task_rows} rows in tasks",
                queries.shape().rows,
                rows.input_rows().len()
            ))
            .remedy("the folder was tampered with: mine again with --replace or into a new folder"));
    }
    let single = facts.keys.iter().filter(|key| key.empty_lists.is_none());
    let single_keys = single.map(|key| key.column.clone()).collect();
    Ok(Vectors { queries, positives, rows, tasks, documents, ids, named_tasks: facts.named_tasks, single_keys })
}
