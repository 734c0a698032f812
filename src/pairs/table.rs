//! The file of pairs, for whoever judges them.
//!
//! Memory: the texts of one chunk of pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::select::MeetingPair;
use crate::batches::texts::{RowText, RowTexts};
use crate::error::{Error, Result};
use crate::run::storage::{Disk, Storage, folder_of};
use crate::vectors::{Ids, RowId, Vectors};

/// Most characters of a text: what is longer is cut, and ends with an ellipsis.
pub(super) const TEXT_CHARS: usize = 8192;
/// Pairs of the first chunk, and at least and at most of the others.
const CHUNK_PAIRS: [usize; 3] = [256, 64, 16_384];
/// Bytes of texts that a chunk is to have.
const CHUNK_BYTES: usize = 16 << 20;

/// Writes the closest pairs, and behind them those drawn evenly. The file is there whole, or as it was.
///
/// # Errors
/// The texts cannot be read, or the disk fails.
pub(super) fn write(
    path: &Path,
    vectors: &Vectors,
    texts: Option<&RowTexts>,
    [closest, sampled]: &[&[MeetingPair]; 2],
) -> Result<()> {
    let folder = folder_of(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temp = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let failed = |e: std::io::Error| Error::io("a file of pairs cannot be written", path, e);
    let encoded = |e: parquet::errors::ParquetError| failed(std::io::Error::other(e.to_string()));
    Disk.create_folder(folder).map_err(failed)?;
    let done = (|| {
        let schema = Arc::new(schema(vectors, texts.is_some()));
        let compression = Compression::ZSTD(ZstdLevel::try_new(3).map_err(encoded)?);
        let properties = WriterProperties::builder()
            .set_created_by(format!("batchmine {}", env!("CARGO_PKG_VERSION")))
            .set_compression(compression)
            .build();
        let file = Disk.create(&temp).map_err(failed)?;
        let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(encoded)?;
        for (pairs, is_sample) in [(closest, false), (sampled, true)] {
            let (mut at, mut count) = (0, CHUNK_PAIRS[0]);
            while at < pairs.len() {
                let chunk = &pairs[at..pairs.len().min(at + count)];
                let found = texts.map(|texts| texts_of(texts, vectors, chunk)).transpose()?;
                let bytes = found.as_ref().map_or(0, bytes_of);
                let arrays = columns(vectors, chunk, found.as_ref(), is_sample);
                let batch =
                    RecordBatch::try_new(schema.clone(), arrays).map_err(|e| failed(std::io::Error::other(e)))?;
                writer.write(&batch).map_err(encoded)?;
                if writer.memory_size() > CHUNK_BYTES {
                    writer.flush().map_err(encoded)?;
                }
                at += chunk.len();
                count = (CHUNK_BYTES / (bytes / chunk.len()).max(1)).clamp(CHUNK_PAIRS[1], CHUNK_PAIRS[2]);
            }
        }
        let file = writer.into_inner().map_err(encoded)?;
        file.sync().map_err(failed)?;
        drop(file);
        Disk.rename(&temp, path).and_then(|()| Disk.sync_folder(folder)).map_err(failed)
    })();
    if done.is_err() {
        let _ = Disk.remove(&temp);
    }
    done
}

fn schema(vectors: &Vectors, texts: bool) -> Schema {
    let id = if vectors.ids.are_text() { DataType::Utf8 } else { DataType::Int64 };
    let field = |name: &str, kind: DataType, nullable| Field::new(name, kind, nullable);
    let mut fields = vec![
        field("id", id.clone(), false),
        field("other_id", id, false),
        field("row", DataType::Int64, false),
        field("other_row", DataType::Int64, false),
        field("task", DataType::Utf8, true),
        field("score", DataType::Float32, false),
        field("own_score", DataType::Float32, false),
        field("rank", DataType::Int32, true),
        field("suspect", DataType::Boolean, false),
        field("batches", DataType::Int32, false),
        field("same_cluster", DataType::Boolean, false),
        field("hard_negative", DataType::Int32, false),
        field("sampled", DataType::Boolean, false),
    ];
    if texts {
        fields.extend(["query", "positive", "candidate"].map(|name| field(name, DataType::Utf8, true)));
    }
    Schema::new(fields)
}

/// The texts of both rows of some pairs, by input row.
fn texts_of(texts: &RowTexts, vectors: &Vectors, pairs: &[MeetingPair]) -> Result<BTreeMap<u32, RowText>> {
    let input = |row: RowId| vectors.rows.input_rows()[row as usize];
    let rows: BTreeSet<u32> = pairs.iter().flat_map(|pair| [input(pair.query), input(pair.other)]).collect();
    texts.read(&rows, TEXT_CHARS)
}

fn bytes_of(texts: &BTreeMap<u32, RowText>) -> usize {
    texts.values().flat_map(|text| [&text.query, &text.positive]).flatten().map(String::len).sum()
}

fn columns(
    vectors: &Vectors,
    pairs: &[MeetingPair],
    texts: Option<&BTreeMap<u32, RowText>>,
    is_sample: bool,
) -> Vec<ArrayRef> {
    let input = |row: RowId| vectors.rows.input_rows()[row as usize];
    let ids = |of: fn(&MeetingPair) -> RowId| -> ArrayRef {
        let rows = pairs.iter().map(|pair| input(of(pair)));
        match &vectors.ids {
            Ids::Text(_) => {
                Arc::new(StringArray::from_iter_values(rows.map(|row| vectors.ids.text(row).unwrap_or_default())))
            }
            _ => Arc::new(Int64Array::from_iter_values(rows.map(|row| vectors.ids.int(row).unwrap_or_default()))),
        }
    };
    let rows = |of: fn(&MeetingPair) -> RowId| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(pairs.iter().map(|pair| i64::from(input(of(pair))))))
    };
    let task =
        |pair: &MeetingPair| Some(vectors.tasks.name(vectors.tasks.of(pair.query))).filter(|_| vectors.named_tasks);
    let scores = vectors.rows.scores();
    let truth = |of: fn(&MeetingPair) -> bool| -> ArrayRef {
        Arc::new(BooleanArray::from_iter(pairs.iter().map(|pair| Some(of(pair)))))
    };
    let counts = |of: fn(&MeetingPair) -> u32| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(pairs.iter().map(|pair| of(pair).cast_signed())))
    };
    let mut columns: Vec<ArrayRef> = vec![
        ids(|pair| pair.query),
        ids(|pair| pair.other),
        rows(|pair| pair.query),
        rows(|pair| pair.other),
        Arc::new(StringArray::from_iter(pairs.iter().map(task))),
        Arc::new(Float32Array::from_iter_values(pairs.iter().map(|pair| pair.score))),
        Arc::new(Float32Array::from_iter_values(pairs.iter().map(|pair| scores[pair.query as usize]))),
        Arc::new(Int32Array::from_iter(pairs.iter().map(|pair| pair.rank.map(u32::cast_signed)))),
        truth(|pair| pair.suspect),
        counts(|pair| pair.batches),
        truth(|pair| pair.same_cluster),
        counts(|pair| pair.drawn),
        Arc::new(BooleanArray::from(vec![is_sample; pairs.len()])),
    ];
    if let Some(texts) = texts {
        let text = |row: RowId| texts.get(&input(row));
        let column = |of: &dyn Fn(&MeetingPair) -> Option<String>| -> ArrayRef {
            Arc::new(StringArray::from_iter(pairs.iter().map(of)))
        };
        columns.extend([
            column(&|pair| text(pair.query)?.query.clone()),
            column(&|pair| text(pair.query)?.positive.clone()),
            column(&|pair| text(pair.other)?.positive.clone()),
        ]);
    }
    columns
}
