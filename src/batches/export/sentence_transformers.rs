//! sentence-transformers: `pairs.parquet` with columns `anchor`, `positive`, `negative_1`, … in batch order, and
//! `batches.parquet`, which says where each batch lies in it.
//!
//! The trainer takes every column of the pairs for a text, in this order, so there are no others. The sampler in
//! `python/` serves the batches to it. Every row needs every column: a row with fewer negatives than others repeats its
//! own, from the first on.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::folder::Folder;
use super::join::Joined;
use super::tables::{self, TableFile};
use super::trainer::{Trainer, needs_negatives};
use crate::error::Result;

/// The export under way.
pub(crate) struct SentenceTransformers {
    pairs: TableFile,
    batches: TableFile,
    schema: Arc<Schema>,
    index: Arc<Schema>,
    negatives: usize,
    /// Rows written so far.
    rows: i64,
    open: Option<OpenBatch>,
}

/// The batch whose rows are being written.
struct OpenBatch {
    epoch: i32,
    batch: i64,
    /// Its first row in `pairs.parquet`.
    start: i64,
    task: Option<String>,
}

impl SentenceTransformers {
    /// Starts both files.
    ///
    /// # Errors
    /// They cannot be created.
    pub(crate) fn create(folder: &mut Folder, negatives: u32, group_rows: usize) -> Result<SentenceTransformers> {
        let names = ["anchor".to_owned(), "positive".to_owned()].into_iter();
        let names = names.chain((1..=negatives).map(|number| format!("negative_{number}")));
        let schema =
            Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Utf8, false)).collect::<Vec<_>>()));
        let index = Arc::new(Schema::new(vec![
            Field::new("epoch", DataType::Int32, false),
            Field::new("batch_id", DataType::Int64, false),
            Field::new("start", DataType::Int64, false),
            Field::new("rows", DataType::Int32, false),
            Field::new("task", DataType::Utf8, true),
        ]));
        Ok(SentenceTransformers {
            pairs: TableFile::create(folder, "pairs.parquet", schema.clone(), group_rows)?,
            batches: TableFile::create(folder, "batches.parquet", index.clone(), tables::group_rows(0))?,
            schema,
            index,
            negatives: negatives as usize,
            rows: 0,
            open: None,
        })
    }

    fn end_batch(&mut self) -> Result<()> {
        let Some(batch) = self.open.take() else { return Ok(()) };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_value(batch.epoch, 1)),
            Arc::new(Int64Array::from_value(batch.batch, 1)),
            Arc::new(Int64Array::from_value(batch.start, 1)),
            Arc::new(Int32Array::from_value((self.rows - batch.start) as i32, 1)),
            Arc::new(StringArray::from_iter([batch.task])),
        ];
        self.batches.write(RecordBatch::try_new(self.index.clone(), columns).expect("columns of the schema"), 0)
    }
}

impl Trainer for SentenceTransformers {
    fn write(&mut self, rows: &Joined, _: &mut Folder) -> Result<()> {
        let mut at = 0;
        while at < rows.len() {
            let bytes = (at..rows.len()).map(|at| rows.bytes(at));
            let piece = at..at + self.pairs.room(bytes.clone());
            let bytes = bytes.take(piece.len()).sum();
            at = piece.end;
            let mut columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter_values(piece.clone().map(|at| rows.row(at).query))),
                Arc::new(StringArray::from_iter_values(piece.clone().map(|at| rows.row(at).positive))),
            ];
            for number in 0..self.negatives {
                let text = |at: usize| {
                    let own: Vec<&str> = rows.negatives(at).map(|negative| negative.text).collect();
                    let count = own.len();
                    own.get(number % count.max(1)).copied().ok_or_else(|| needs_negatives(rows.row(at).id))
                };
                let texts = piece.clone().map(text).collect::<Result<Vec<&str>>>()?;
                columns.push(Arc::new(StringArray::from_iter_values(texts)));
            }
            let columns = RecordBatch::try_new(self.schema.clone(), columns).expect("columns of the schema");
            self.pairs.write(columns, bytes)?;
            for row in piece.map(|at| rows.row(at)) {
                if self.open.as_ref().is_none_or(|open| (open.epoch, open.batch) != (row.epoch, row.batch)) {
                    self.end_batch()?;
                    let task = row.task.map(str::to_owned);
                    self.open = Some(OpenBatch { epoch: row.epoch, batch: row.batch, start: self.rows, task });
                }
                self.rows += 1;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, folder: &mut Folder) -> Result<()> {
        self.end_batch()?;
        self.pairs.finish(folder)?;
        self.batches.finish(folder)
    }
}
