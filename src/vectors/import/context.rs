//! What every pass over the input works with.

use super::row_marks::RowMarks;
use crate::config::Config;
use crate::run::{Run, StageRun};
use crate::vectors::budget::VectorsCounts;
use crate::vectors::decode::Unit;
use crate::vectors::shape::Shape;
use crate::vectors::shards::Shards;

/// The stage at work: what it reads, and where it writes.
pub(super) struct Import<'a> {
    pub(super) input: Input<'a>,
    /// The corpus, where there is one.
    pub(super) documents: Option<Input<'a>>,
    pub(super) run: &'a Run,
    pub(super) stage: &'a StageRun<'a>,
    pub(super) counts: &'a VectorsCounts,
}

impl<'a> Import<'a> {
    /// The rows, and the documents.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &Input<'a>> {
        std::iter::once(&self.input).chain(&self.documents)
    }

    /// Rows and documents of the files.
    pub(super) fn input_rows(&self) -> u64 {
        self.inputs().map(|input| input.rows() as u64).sum()
    }

    /// Rows and documents that are left out for their embeddings.
    pub(super) fn dropped_rows(&self) -> u64 {
        self.inputs().map(Input::dropped_rows).sum()
    }
}

/// What is read, under what settings.
pub(super) struct Input<'a> {
    pub(super) shards: &'a Shards,
    pub(super) config: &'a Config,
    /// The whole input, in order.
    pub(super) units: Vec<Unit<'a>>,
    /// The number of its first row among rows and documents of the files.
    pub(super) first_number: u64,
    /// Rows that are left out of everything.
    dropped: Option<&'a RowMarks>,
}

impl<'a> Input<'a> {
    pub(super) fn new(shards: &'a Shards, config: &'a Config) -> Input<'a> {
        Input { shards, config, units: Unit::all(&shards.list), first_number: 0, dropped: None }
    }

    /// A corpus, whose documents are numbered behind so many rows.
    pub(super) fn of_corpus(corpus: &'a Shards, config: &'a Config, rows: u64) -> Input<'a> {
        Input { first_number: rows, ..Input::new(corpus, config) }
    }

    /// Whether these are documents, which have no query: there is a row before them.
    pub(super) fn is_corpus(&self) -> bool {
        self.first_number > 0
    }

    /// What its rows are called in messages.
    pub(super) fn noun(&self) -> &'static str {
        if self.is_corpus() { "documents" } else { "rows" }
    }

    /// The same without some rows.
    pub(super) fn without(self, dropped: Option<&'a RowMarks>) -> Input<'a> {
        Input { dropped, ..self }
    }

    /// The flag that names its column of ids.
    pub(super) fn id_flag(&self) -> &'static str {
        if self.is_corpus() { "--document-id-column" } else { "--id-column" }
    }

    /// What is counted while they are checked.
    pub(super) fn checked(&self) -> &'static str {
        if self.is_corpus() { "documents checked" } else { "rows checked" }
    }

    /// Rows of the files.
    pub(super) fn rows(&self) -> usize {
        self.shards.shape.rows as usize
    }

    /// Rows that are left out.
    pub(super) fn dropped_rows(&self) -> u64 {
        self.dropped.map_or(0, RowMarks::count)
    }

    /// Rows and dimensions of what is kept.
    pub(super) fn kept(&self) -> Shape {
        let shape = self.shards.shape;
        Shape { rows: shape.rows - self.dropped_rows(), ..shape }
    }

    /// Whether a row of the files is kept.
    pub(super) fn keeps(&self, input_row: u64) -> bool {
        self.dropped.is_none_or(|dropped| !dropped.has(input_row))
    }
}
