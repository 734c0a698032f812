//! The Parquet file that lists every row whose embedding cannot be used.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, StringBuilder, UInt32Builder};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::context::Input;
use crate::error::{Error, Result};
use crate::run::sealed::PartWriter;
use crate::vectors::decode::Unit;
use crate::vectors::row_fault::RowFault;

/// The file's name, beside the manifest: of rows, and of documents.
pub(crate) const BAD_ROW_TABLES: [&str; 2] = ["bad_rows.parquet", "bad_documents.parquet"];

/// The file's name for an input.
pub(super) fn bad_row_table(input: &Input<'_>) -> &'static str {
    BAD_ROW_TABLES[usize::from(input.is_corpus())]
}
/// Lines that are kept before they are written.
const LINES: usize = 8192;

/// One side of a row that cannot be used.
pub(super) struct BadRow<'u> {
    pub(super) unit: &'u Unit<'u>,
    /// Within the unit.
    pub(super) row: u64,
    pub(super) column: &'u str,
    pub(super) fault: RowFault,
}

impl BadRow<'_> {
    pub(super) fn error(&self) -> Error {
        self.unit.place(self.fault.error(), self.column, Some(self.row))
    }

    /// Where it is and what is wrong, on one line.
    pub(super) fn line(&self) -> String {
        let group = self.unit.row_group.map_or_else(String::new, |group| format!(", row group {group}"));
        let column = if self.column.is_empty() { String::new() } else { format!(", column {}", self.column) };
        let row = self.unit.start + self.row;
        format!("{}{group}, row {row}{column}: {}", self.unit.shard.path.display(), self.fault)
    }
}

/// The table while it is written. Holds some lines.
pub(super) struct BadRowTable<'w> {
    writer: ArrowWriter<&'w mut PartWriter>,
    schema: Arc<Schema>,
    rows: Int64Builder,
    files: StringBuilder,
    row_groups: UInt32Builder,
    rows_in_file: Int64Builder,
    columns: StringBuilder,
    kinds: StringBuilder,
    found: StringBuilder,
    lines: usize,
}

impl<'w> BadRowTable<'w> {
    pub(super) fn new(out: &'w mut PartWriter) -> Result<BadRowTable<'w>> {
        let field = |name: &str, data_type, nullable| Field::new(name, data_type, nullable);
        let schema = Arc::new(Schema::new(vec![
            field("row", DataType::Int64, false),
            field("file", DataType::Utf8, false),
            field("row_group", DataType::UInt32, true),
            field("row_in_file", DataType::Int64, false),
            field("column", DataType::Utf8, false),
            field("fault", DataType::Utf8, false),
            field("found", DataType::Utf8, false),
        ]));
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(failed)?;
        Ok(BadRowTable {
            writer,
            schema,
            rows: Int64Builder::new(),
            files: StringBuilder::new(),
            row_groups: UInt32Builder::new(),
            rows_in_file: Int64Builder::new(),
            columns: StringBuilder::new(),
            kinds: StringBuilder::new(),
            found: StringBuilder::new(),
            lines: 0,
        })
    }

    pub(super) fn add(&mut self, bad: &BadRow<'_>) -> Result<()> {
        self.rows.append_value((bad.unit.first_input_row() + bad.row) as i64);
        self.files.append_value(bad.unit.shard.path.display().to_string());
        self.row_groups.append_option(bad.unit.row_group.map(|group| group as u32));
        self.rows_in_file.append_value((bad.unit.start + bad.row) as i64);
        self.columns.append_value(bad.column);
        self.kinds.append_value(bad.fault.kind());
        self.found.append_value(bad.fault.to_string());
        self.lines += 1;
        if self.lines < LINES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<()> {
        self.lines = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.rows.finish()),
            Arc::new(self.files.finish()),
            Arc::new(self.row_groups.finish()),
            Arc::new(self.rows_in_file.finish()),
            Arc::new(self.columns.finish()),
            Arc::new(self.kinds.finish()),
            Arc::new(self.found.finish()),
        ];
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| failed(e.into()))?;
        self.writer.write(&batch).map_err(failed)
    }

    pub(super) fn close(mut self) -> Result<()> {
        self.flush()?;
        self.writer.close().map(drop).map_err(failed)
    }
}

fn failed(e: parquet::errors::ParquetError) -> Error {
    Error::runtime("the list of bad rows cannot be written")
        .found(e.to_string())
        .remedy("fix the cause and run the same command again")
}
