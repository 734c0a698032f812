//! Snowflake's arctic-embed: a folder for each batch, `data/batch_NNNNNNNN/`, with `queries.parquet`,
//! `documents.parquet` and `relations.parquet`.
//!
//! Queries are numbered within the batch, and so are documents: a row's positive, then those of its negatives
//! that the batch did not have yet. A relation is 1 for a query's positive and -1 for its negatives. The trainer
//! reads tokens, which need a tokenizer: the script in `python/` adds them to the files.
//!
//! Memory: the ids of a batch's documents.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};

use super::folder::Folder;
use super::join::{Id, Joined};
use super::tables::{PIECE_BYTES, PIECE_ROWS, TableFile};
use super::trainer::Trainer;
use crate::error::Result;

/// The export under way.
pub(crate) struct Arctic {
    group_rows: usize,
    open: Option<ArcticBatch>,
}

/// A batch's three files.
struct ArcticBatch {
    batch: i64,
    queries: Texts,
    documents: Texts,
    relations: Relations,
    numbers: HashMap<String, i32>,
    rows: i32,
}

/// Numbered texts with their ids.
struct Texts {
    file: TableFile,
    schema: Arc<Schema>,
    numbers: Int32Builder,
    ids: StringBuilder,
    texts: StringBuilder,
}

/// Which document belongs to which query, and whether as positive or negative.
struct Relations {
    file: TableFile,
    schema: Arc<Schema>,
    columns: [Int32Builder; 3],
}

impl Texts {
    fn create(folder: &mut Folder, name: &str, side: &str, group_rows: usize) -> Result<Texts> {
        let schema = Arc::new(Schema::new(vec![
            Field::new(format!("BATCH_{side}_ID"), DataType::Int32, false),
            Field::new(format!("{side}_ID"), DataType::Utf8, false),
            Field::new(format!("{side}_TEXT"), DataType::Utf8, false),
        ]));
        let file = TableFile::create(folder, name, schema.clone(), group_rows)?;
        Ok(Texts { file, schema, numbers: Default::default(), ids: Default::default(), texts: Default::default() })
    }

    fn add(&mut self, number: i32, id: Id<'_>, text: &str) -> Result<()> {
        self.numbers.append_value(number);
        self.ids.append_value(id.to_string());
        self.texts.append_value(text);
        let full = self.numbers.values_slice().len() >= PIECE_ROWS || self.bytes() >= PIECE_BYTES;
        if full { self.encode() } else { Ok(()) }
    }

    fn bytes(&self) -> u64 {
        self.texts.values_slice().len() as u64
    }

    fn encode(&mut self) -> Result<()> {
        let bytes = self.bytes();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(self.numbers.finish()), Arc::new(self.ids.finish()), Arc::new(self.texts.finish())];
        self.file.write(RecordBatch::try_new(self.schema.clone(), columns).expect("columns of the schema"), bytes)
    }

    fn finish(mut self, folder: &mut Folder) -> Result<()> {
        self.encode()?;
        self.file.finish(folder)
    }
}

impl Relations {
    fn create(folder: &mut Folder, name: &str, group_rows: usize) -> Result<Relations> {
        let names = ["BATCH_QUERY_ID", "BATCH_DOCUMENT_ID", "RELEVANCE"];
        let schema = Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Int32, false)).to_vec()));
        let file = TableFile::create(folder, name, schema.clone(), group_rows)?;
        Ok(Relations { file, schema, columns: Default::default() })
    }

    fn add(&mut self, relation: [i32; 3]) -> Result<()> {
        self.columns.iter_mut().zip(relation).for_each(|(column, value)| column.append_value(value));
        if self.columns[0].values_slice().len() < PIECE_ROWS { Ok(()) } else { self.encode() }
    }

    fn encode(&mut self) -> Result<()> {
        let columns = self.columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        self.file.write(RecordBatch::try_new(self.schema.clone(), columns).expect("columns of the schema"), 0)
    }

    fn finish(mut self, folder: &mut Folder) -> Result<()> {
        self.encode()?;
        self.file.finish(folder)
    }
}

impl ArcticBatch {
    fn create(folder: &mut Folder, batch: i64, group_rows: usize) -> Result<ArcticBatch> {
        let path = |name: &str| format!("data/batch_{batch:08}/{name}.parquet");
        Ok(ArcticBatch {
            batch,
            queries: Texts::create(folder, &path("queries"), "QUERY", group_rows)?,
            documents: Texts::create(folder, &path("documents"), "DOCUMENT", group_rows)?,
            relations: Relations::create(folder, &path("relations"), group_rows)?,
            numbers: HashMap::new(),
            rows: 0,
        })
    }

    /// The number of a document, which is written when it comes for the first time.
    fn document(&mut self, id: Id<'_>, text: &str) -> Result<i32> {
        let next = self.numbers.len() as i32;
        let number = *self.numbers.entry(id.to_string()).or_insert(next);
        if number == next {
            self.documents.add(number, id, text)?;
        }
        Ok(number)
    }

    fn finish(self, folder: &mut Folder) -> Result<()> {
        self.queries.finish(folder)?;
        self.documents.finish(folder)?;
        self.relations.finish(folder)
    }
}

impl Arctic {
    pub(crate) fn new(group_rows: usize) -> Arctic {
        Arctic { group_rows, open: None }
    }
}

impl Trainer for Arctic {
    fn write(&mut self, rows: &Joined, folder: &mut Folder) -> Result<()> {
        for at in 0..rows.len() {
            let row = rows.row(at);
            if self.open.as_ref().is_none_or(|open| open.batch != row.batch) {
                if let Some(batch) = self.open.take() {
                    batch.finish(folder)?;
                }
                self.open = Some(ArcticBatch::create(folder, row.batch, self.group_rows)?);
            }
            let batch = self.open.as_mut().expect("opened above");
            let query = batch.rows;
            batch.rows += 1;
            batch.queries.add(query, row.id, row.query)?;
            let positive = batch.document(row.id, row.positive)?;
            batch.relations.add([query, positive, 1])?;
            for negative in rows.negatives(at) {
                let document = batch.document(negative.id, negative.text)?;
                batch.relations.add([query, document, -1])?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, folder: &mut Folder) -> Result<()> {
        self.open.take().map_or(Ok(()), |batch| batch.finish(folder))
    }
}
