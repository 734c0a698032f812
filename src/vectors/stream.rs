//! An Arrow stream as input: it can be read once, and import reads its columns one after the other. So the columns that
//! a job needs are written to a temporary file of the run folder, which the job then maps like any other.
//!
//! Rows are written in batches of a number that the columns' types decide, whatever batches they come in: the same rows
//! give the same file, and a call that is repeated finds its input unchanged.
//!
//! Memory: two batches of 8 MiB at most where the types fix the length of vectors, else of 512 rows. What the stream's
//! owner holds is not counted.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchReader};
use arrow::compute::{BatchCoalescer, cast};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;

use super::embedding_type::EmbeddingType;
use crate::config::{Columns, EmbeddingColumns, IdColumn};
use crate::error::{Error, Result};
use crate::run::{Run, STREAM};

/// Bytes of a batch.
const BATCH_BYTES: usize = 8 << 20;
/// Rows of a batch where types do not fix its bytes.
const BATCH_ROWS: usize = 512;
const BATCH_ROWS_MAX: usize = 8192;

/// Writes the columns of a stream that a job with these `columns` needs to a file that the run folder keeps until it is
/// opened again, or until [`Run::discard`]. The file's path. O(bytes).
///
/// # Errors
/// A column that is named is not there; the stream fails; the file cannot be written; the user interrupts.
pub(crate) fn keep_stream(run: &Run, mut stream: impl RecordBatchReader, columns: &Columns) -> Result<PathBuf> {
    let given = stream.schema();
    let wanted = wanted(&given, columns)?;
    let fields = wanted.iter().map(|at| {
        let field = given.field(*at);
        Field::new(field.name(), kept_type(field.data_type()), true)
    });
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let rows_of_batch = batch_rows(&schema);
    let (path, mut file) = run.scratch(STREAM)?;
    let unwritten = |e: ArrowError| match e {
        ArrowError::IoError(_, e) => Error::io("the rows of the stream cannot be written", &path, e),
        other => broken(&other),
    };
    let mut writer = StreamWriter::try_new(&mut file, &schema).map_err(unwritten)?;
    let mut coalescer = BatchCoalescer::new(schema.clone(), rows_of_batch);
    let mut rows = 0u64;
    for batch in &mut stream {
        let batch = batch.map_err(|e| broken(&e))?;
        rows += batch.num_rows() as u64;
        for start in (0..batch.num_rows()).step_by(rows_of_batch) {
            run.check_interrupt()?;
            let piece = batch.slice(start, rows_of_batch.min(batch.num_rows() - start));
            coalescer.push_batch(kept(&piece, &wanted, &schema).map_err(|e| broken(&e))?).map_err(|e| broken(&e))?;
            while let Some(whole) = coalescer.next_completed_batch() {
                writer.write(&whole).map_err(unwritten)?;
            }
        }
    }
    coalescer.finish_buffered_batch().map_err(|e| broken(&e))?;
    while let Some(whole) = coalescer.next_completed_batch() {
        writer.write(&whole).map_err(unwritten)?;
    }
    writer.finish().map_err(unwritten)?;
    drop(writer);
    let bytes = file.unsynced().map_err(|e| Error::io("the rows of the stream cannot be written", &path, e))?;
    tracing::info!("{rows} rows of a stream, {} are in a temporary file", bytesize::ByteSize(bytes).display().iec());
    Ok(path)
}

fn broken(error: &ArrowError) -> Error {
    Error::input("the Arrow stream cannot be read")
        .expected("record batches of the stream's schema")
        .found(error.to_string())
        .remedy("read the stream by itself, to see where it fails")
}

/// The columns of a stream that a job may need: those that are named, those of embeddings, and an id.
fn wanted(schema: &Schema, columns: &Columns) -> Result<Vec<usize>> {
    let embeddings = match &columns.embeddings {
        EmbeddingColumns::Shared(name) => vec![name],
        EmbeddingColumns::Pair { query, positive } => query.iter().chain(positive).collect(),
    };
    let id = if let IdColumn::Named(name) = &columns.id { Some(name) } else { None };
    let named: Vec<&String> = embeddings.into_iter().chain(id).chain(&columns.task).chain(&columns.keys).collect();
    if let Some(missing) = named.iter().find(|name| schema.field_with_name(name).is_err()) {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Error::input("no such column")
            .column(missing.as_str())
            .expected(format!("one of: {}", names.join(", ")))
            .found("no column of this name in the stream")
            .remedy("check the spelling; names are case-sensitive"));
    }
    let found_id = |name: &str| columns.id == IdColumn::Found && name == "id";
    let is_wanted = |field: &Field| {
        let name = field.name();
        named.contains(&name)
            || found_id(name)
            || EmbeddingType::of(field.data_type(), columns.dtype).is_ok_and(|found| found.number.is_some())
    };
    Ok((0..schema.fields().len()).filter(|at| is_wanted(schema.field(*at))).collect())
}

/// A type that holds the same values without dictionaries, runs and views, which differ by how a stream is cut.
fn kept_type(data_type: &DataType) -> DataType {
    let item = |field: &Field| Arc::new(Field::new("item", kept_type(field.data_type()), true));
    match data_type {
        DataType::Dictionary(_, values) => kept_type(values),
        DataType::RunEndEncoded(_, values) => kept_type(values.data_type()),
        DataType::Utf8View => DataType::LargeUtf8,
        DataType::BinaryView => DataType::LargeBinary,
        DataType::List(field) | DataType::ListView(field) => DataType::List(item(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => DataType::LargeList(item(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(item(field), *length),
        other => other.clone(),
    }
}

/// The wanted columns of a batch, in their kept types.
fn kept(batch: &RecordBatch, wanted: &[usize], schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |(at, field): (&usize, &Arc<Field>)| -> Result<ArrayRef, ArrowError> {
        let array = batch.column(*at);
        if array.data_type() == field.data_type() { Ok(array.clone()) } else { cast(array, field.data_type()) }
    };
    let arrays = wanted.iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
}

/// Rows of a batch, by the types of its columns alone.
fn batch_rows(schema: &Schema) -> usize {
    let bytes = |field: &Arc<Field>| match field.data_type() {
        DataType::FixedSizeList(item, length) => {
            let width = item.data_type().primitive_width()?;
            Some(width.saturating_mul(usize::try_from(*length).unwrap_or(0)))
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::Struct(_) => None,
        _ => Some(64),
    };
    match schema.fields().iter().map(bytes).try_fold(0usize, |sum, bytes| Some(sum.saturating_add(bytes?))) {
        Some(row) => (BATCH_BYTES / row.max(1)).clamp(1, BATCH_ROWS_MAX),
        None => BATCH_ROWS,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use arrow::array::{
        DictionaryArray, FixedSizeListArray, Float32Array, RecordBatchIterator, StringArray, StringViewArray,
    };
    use arrow::datatypes::Int8Type;

    use super::*;
    use crate::config::{Config, Settings};
    use crate::run::{Disk, Progress};

    fn batch(rows: usize) -> RecordBatch {
        let values: ArrayRef = Arc::new(Float32Array::from_iter_values((0..rows * 2).map(|at| at as f32)));
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, 2, values, None));
        let tasks: DictionaryArray<Int8Type> =
            (0..rows).map(|row| Some(if row % 3 == 0 { "a" } else { "b" })).collect();
        let ids: ArrayRef =
            Arc::new(StringViewArray::from_iter_values((0..rows).map(|row| format!("the row of number {row}"))));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("text {row}"))));
        let columns: [(&str, ArrayRef); 4] =
            [("embedding", vectors), ("task", Arc::new(tasks)), ("id", ids), ("text", texts)];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn columns(task: &str) -> Columns {
        let settings = Settings { task_column: Some(task.to_owned()), ..Settings::default() };
        Config::without_files(settings).unwrap().columns
    }

    fn kept_bytes(pieces: &[RecordBatch], columns: &Columns) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::open(
            &folder.path().join("run"),
            None,
            Arc::new(Disk),
            Progress::silent(),
            Arc::new(AtomicBool::new(false)),
        )?;
        let schema = pieces[0].schema();
        let stream = RecordBatchIterator::new(pieces.iter().cloned().map(Ok), schema);
        Ok(std::fs::read(keep_stream(&run, stream, columns)?).unwrap())
    }

    #[test]
    fn a_file_does_not_tell_how_the_stream_was_cut() {
        let (whole, columns) = (batch(20_000), columns("task"));
        let expected = kept_bytes(std::slice::from_ref(&whole), &columns).unwrap();
        let cuts = [0, 1, 7, 8000, 8192, 19_999, 20_000];
        let pieces: Vec<RecordBatch> = cuts.windows(2).map(|cut| whole.slice(cut[0], cut[1] - cut[0])).collect();
        assert!(kept_bytes(&pieces, &columns).unwrap() == expected);
        assert!(kept_bytes(&[whole.slice(0, 19_999)], &columns).unwrap() != expected);
    }

    #[test]
    fn what_a_job_does_not_need_is_left_out_and_what_it_needs_must_be_there() {
        let given = batch(2);
        let names = |columns: &Columns| {
            let wanted = wanted(&given.schema(), columns).unwrap();
            wanted.iter().map(|at| given.schema().field(*at).name().clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&columns("task")), ["embedding", "task", "id"]);
        assert_eq!(names(&columns("text")), ["embedding", "id", "text"]);
        let error = kept_bytes(std::slice::from_ref(&given), &columns("dataset")).unwrap_err().to_string();
        assert!(error.contains("dataset") && error.contains("embedding, task, id, text"), "{error}");
    }

    #[test]
    fn batches_are_of_eight_mebibytes_where_types_say_so() {
        let vectors = |length| Field::new("v", DataType::new_fixed_size_list(DataType::Float32, length, true), true);
        assert_eq!(batch_rows(&Schema::new(vec![vectors(1024), vectors(1024)])), 1024);
        assert_eq!(batch_rows(&Schema::new(vec![vectors(2)])), BATCH_ROWS_MAX);
        assert_eq!(batch_rows(&Schema::new(vec![vectors(1 << 30)])), 1);
        assert_eq!(
            batch_rows(&Schema::new(vec![Field::new("v", DataType::new_list(DataType::Float32, true), true)])),
            512
        );
    }
}
