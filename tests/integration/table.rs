//! Reads the batch tables, and writes them again with something changed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float32Type, Int32Type, Int64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;

/// One row of the batch table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub epoch: i32,
    pub batch: i64,
    pub position: i32,
    pub cluster: Option<i64>,
    pub task: Option<String>,
    pub id: String,
    pub row: usize,
    pub score: f32,
    /// Input row, id and score of each hard negative; `None`: there are no such columns.
    pub negatives: Option<Vec<(usize, String, f32)>>,
    /// Positions in the batch; `None`: there is no such column.
    pub masked: Option<Vec<i32>>,
}

/// The run's `batches/part-*.parquet`, in order; nothing else may lie there.
pub fn parts(run: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(run.join("batches")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in &paths {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(name.starts_with("part-") && name.ends_with(".parquet"), "{name} among the batch tables");
    }
    paths
}

/// One part's rows as Arrow has them, and its footer.
pub fn load(part: &Path) -> (RecordBatch, Arc<ParquetMetaData>) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(part).unwrap()).unwrap();
    let (schema, footer) = (reader.schema().clone(), reader.metadata().clone());
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
    (concat_batches(&schema, &batches).unwrap(), footer)
}

/// Writes a part again, as its footer says that it was written.
pub fn store(part: &Path, rows: &RecordBatch, footer: &ParquetMetaData) {
    let mut pairs = footer.file_metadata().key_value_metadata().cloned().unwrap_or_default();
    // The writer adds its own.
    pairs.retain(|pair| pair.key != "ARROW:schema");
    let first = footer.row_group(0);
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(pairs))
        .set_sorting_columns(first.sorting_columns().cloned())
        .set_compression(first.column(0).compression())
        .set_max_row_group_row_count(Some(first.num_rows() as usize))
        .build();
    let mut writer = ArrowWriter::try_new(File::create(part).unwrap(), rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

/// The whole batch table of a run, in file order.
pub fn read(run: &Path) -> Vec<Row> {
    parts(run).iter().flat_map(|part| rows(&load(part).0)).collect()
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let column = |name: &str| -> &ArrayRef { batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}")) };
    let text = |name: &str| cast(column(name), &DataType::Utf8).unwrap();
    let (tasks, ids) = (text("task"), text("id"));
    let (tasks, ids) = (tasks.as_string::<i32>(), ids.as_string::<i32>());
    let small = |name: &str, row: usize| column(name).as_primitive::<Int32Type>().value(row);
    let large = |name: &str, row: usize| column(name).as_primitive::<Int64Type>().value(row);
    let row = |row: usize| Row {
        epoch: small("epoch", row),
        batch: large("batch_id", row),
        position: small("position", row),
        cluster: column("cluster_id").is_valid(row).then(|| large("cluster_id", row)),
        task: (tasks.is_valid(row) && !tasks.value(row).is_empty()).then(|| tasks.value(row).to_owned()),
        id: ids.value(row).to_owned(),
        row: large("row", row) as usize,
        score: column("score").as_primitive::<Float32Type>().value(row),
        negatives: batch.column_by_name("negatives").map(|_| negatives(batch, row)),
        masked: batch.column_by_name("masked").map(|lists| {
            let list = lists.as_list::<i32>().value(row);
            list.as_primitive::<Int32Type>().values().to_vec()
        }),
    };
    (0..batch.num_rows()).map(row).collect()
}

/// The three lists of a row, which are of one length.
fn negatives(batch: &RecordBatch, row: usize) -> Vec<(usize, String, f32)> {
    let list = |name: &str| batch.column_by_name(name).unwrap().as_list::<i32>().value(row);
    let ids = cast(&list("negatives"), &DataType::Utf8).unwrap();
    let (rows, scores) = (list("negative_rows"), list("negative_scores"));
    let (rows, scores) = (rows.as_primitive::<Int64Type>(), scores.as_primitive::<Float32Type>());
    assert_eq!((ids.len(), scores.len()), (rows.len(), rows.len()), "lists of one length");
    let negative = |at: usize| (rows.value(at) as usize, ids.as_string::<i32>().value(at).to_owned(), scores.value(at));
    (0..rows.len()).map(negative).collect()
}
