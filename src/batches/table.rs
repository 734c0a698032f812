//! The batch table: Parquet files that any lake reads.
//!
//! Sorted by (epoch, batch_id, position), declared as such; zstd; page index; no unsigned, half or
//! fixed-size list columns. Memory: one row group, and the hard negatives of some batches.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::{ParquetError, Result};
#[cfg(feature = "lake")]
use parquet::file::metadata::ParquetMetaData;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::mask::{Masker, rows_of_chunk};
use super::negatives::NegativeSampler;
use super::order::BatchOrder;
use crate::clusters::NO_CLUSTER;
use crate::config::{Config, Mask};
use crate::neighbors::own_ranks::OwnRanks;
use crate::neighbors::topk::Candidate;
use crate::run::sealed::PartWriter;
use crate::run::{Run, Stage, json};
use crate::vectors::{Ids, RowId, Vectors, read_metadata};
use crate::watch::Watch;

/// Rows encoded at a time.
const CHUNK_ROWS: usize = 8192;
/// Bytes of a row's text that a chunk has room for, and of each of its negatives.
const TEXT_BYTES: [usize; 2] = [160, 40];
/// Bytes of the encoded row group that are there in any case.
const GROUP_BYTES_MIN: usize = 8 << 20;
/// Footer key: rows of the file that have fewer hard negatives than asked for.
const SHORT_ROWS: &str = "batchmine.rows_short_of_negatives";

/// What tables differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableForm {
    /// Ids are text, not int64.
    pub text_ids: bool,
    /// There are hard negatives.
    pub negatives: bool,
    /// There are the ranks of own positives.
    pub own_ranks: bool,
    /// There are the positions of masked rows.
    pub masked: bool,
}

/// The table's schema.
pub(crate) fn schema(form: TableForm) -> Schema {
    let id = if form.text_ids { DataType::Utf8 } else { DataType::Int64 };
    let mut fields = vec![
        Field::new("epoch", DataType::Int32, false),
        Field::new("batch_id", DataType::Int64, false),
        Field::new("position", DataType::Int32, false),
        Field::new("cluster_id", DataType::Int64, true),
        Field::new("task", DataType::Utf8, true),
        Field::new("id", id.clone(), false),
        Field::new("row", DataType::Int64, false),
        Field::new("score", DataType::Float32, false),
    ];
    if form.negatives {
        let list = |name: &str, kind| Field::new(name, DataType::List(element(kind)), false);
        fields.extend([
            list("negatives", id),
            list("negative_rows", DataType::Int64),
            list("negative_scores", DataType::Float32),
        ]);
    }
    if form.own_ranks {
        fields.push(Field::new("own_rank", DataType::Int32, true));
    }
    if form.masked {
        fields.push(Field::new("masked", DataType::List(element(DataType::Int32)), false));
    }
    Schema::new(fields)
}

/// An element of a list, by the name that Parquet gives it.
fn element(kind: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", kind, false))
}

/// What the table's values are read from.
pub(crate) struct TableSource<'a> {
    pub vectors: &'a Vectors,
    /// Cluster by row.
    pub labels: &'a [u32],
    /// Ranks of own positives, where they are wanted.
    pub own_ranks: Option<&'a OwnRanks>,
    /// Hard negatives, where they are wanted.
    pub negatives: Option<NegativeSampler<'a>>,
    /// Finds masked rows, where they are wanted.
    pub masker: Option<Masker<'a>>,
}

/// One epoch's batches and their numbers.
pub(crate) struct EpochLayout<'a> {
    /// From 0.
    pub epoch: u32,
    /// Number of its first batch: numbers go on from epoch to epoch.
    pub first_batch: u64,
    pub order: &'a BatchOrder,
}

/// Batch, position in it, row.
type TableEntry = (u64, usize, RowId);

impl EpochLayout<'_> {
    /// The rows of some batches.
    fn entries(&self, batches: Range<usize>) -> impl Iterator<Item = TableEntry> + '_ {
        batches.flat_map(move |index| {
            let rows = self.order.batch(index).iter().enumerate();
            rows.map(move |(position, row)| (self.first_batch + index as u64, position, *row))
        })
    }

    /// Cuts batches into groups (files, or what is written at a time) of about `rows` rows.
    pub(crate) fn cut(&self, batches: Range<usize>, rows: usize) -> Vec<Range<usize>> {
        let (mut groups, mut start, mut filled) = (Vec::new(), batches.start, 0);
        for index in batches.clone() {
            filled += self.order.batch(index).len();
            if filled >= rows {
                groups.push(start..index + 1);
                (start, filled) = (index + 1, 0);
            }
        }
        if start < batches.end {
            groups.push(start..batches.end);
        }
        groups
    }
}

/// WriteSizes of a file's pieces, and its footer.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub row_group_rows: usize,
    /// Rows, about, that get their hard negatives and are written at a time.
    pub group_rows: usize,
    /// Key-values of the footer.
    pub footer: Vec<KeyValue>,
}

/// Footer key-values: what made the table.
pub(crate) fn footer(run: &Run, vectors: &Vectors, config: &Config) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue::new(format!("batchmine.{key}"), value);
    let sizes = config.sizes();
    let mut pairs = vec![
        pair("version", env!("CARGO_PKG_VERSION").into()),
        pair("seed", config.seed.to_string()),
        pair("settings", run.record(Stage::Batches).fingerprint),
        pair("inputs", run.record(Stage::Vectors).fingerprint),
        pair("batch_size", config.batches.size.to_string()),
        pair("cluster_size", config.clusters.size.to_string()),
        pair("hard_negatives", config.batches.hard_negatives.to_string()),
        pair("world_size", config.batches.world_size.to_string()),
        pair("rank_layout", config.batches.rank_layout.name().into()),
    ];
    if !config.batches.negatives_of.is_default() {
        pairs.push(pair("negatives_of", config.batches.negatives_of.name().into()));
    }
    if config.batches.mask == Mask::Suspects {
        pairs.push(pair("mask", "suspects".into()));
    }
    if let Some(mix) = &config.mix {
        pairs.push(pair("mix", json::line(mix).expect("names and numbers are plain data")));
    }
    if let Some(most) = config.max_own_rank {
        pairs.push(pair("max_own_rank", most.to_string()));
    }
    let dropped = vectors.rows.dropped();
    if dropped > 0 {
        pairs.push(pair("bad_rows_dropped", dropped.to_string()));
    }
    if !sizes.tasks.is_empty() {
        let tasks = json::line(&sizes.tasks).expect("names and sizes are plain data");
        pairs.push(pair("tasks", tasks));
    }
    pairs
}

/// How a file of the table is written. It has the first three columns at least: rows are sorted by them.
pub(super) fn properties(row_group_rows: usize, footer: Vec<KeyValue>) -> Result<WriterProperties> {
    let sorted_by = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: false };
    Ok(WriterProperties::builder()
        .set_created_by(format!("batchmine {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_sorting_columns(Some((0..3).map(sorted_by).collect()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(footer))
        .build())
}

/// What made the table, read from a file of it; without what holds for that file alone.
#[cfg(feature = "lake")]
pub(super) fn footer_of(metadata: &ParquetMetaData) -> Vec<KeyValue> {
    let pairs = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    pairs.filter(|pair| pair.key.starts_with("batchmine.") && pair.key != SHORT_ROWS).cloned().collect()
}

/// Writes one file; `watch` is told the rows written. O(rows), and what it costs to draw hard negatives.
///
/// # Errors
/// The write fails; or the watch stops it, and its error is inside [`ParquetError::External`].
pub(crate) fn write_file(
    out: &mut PartWriter,
    source: &TableSource<'_>,
    layout: &EpochLayout<'_>,
    batches: Range<usize>,
    form: Form,
    watch: Watch<'_>,
) -> Result<()> {
    let schema = Arc::new(schema(TableForm {
        text_ids: source.vectors.ids.are_text(),
        negatives: source.negatives.is_some(),
        own_ranks: source.own_ranks.is_some(),
        masked: source.masker.is_some(),
    }));
    let properties = properties(form.row_group_rows, form.footer)?;
    let mut writer = ArrowWriter::try_new(&mut *out, schema.clone(), Some(properties))?;
    let mut short_rows = 0;
    let sizes = WriteSizes::of(source, form.row_group_rows);
    for group in layout.cut(batches, form.group_rows) {
        let entries: Vec<TableEntry> = layout.entries(group.clone()).collect();
        let drawn = source.negatives.map(|negatives| {
            let lists = negatives.of_batches(layout.epoch, layout.order, group);
            short_rows += lists.iter().filter(|list| list.len() < negatives.count).count();
            lists
        });
        for (index, chunk) in entries.chunks(sizes.chunk_rows).enumerate() {
            let mut arrays = columns(source, layout.epoch, chunk);
            let lists = drawn.as_ref().map(|lists| &lists[index * sizes.chunk_rows..][..chunk.len()]);
            arrays.extend(lists.into_iter().flat_map(|lists| list_columns(source.vectors, lists)));
            arrays.extend(source.own_ranks.map(|ranks| rank_column(ranks, chunk)));
            arrays.extend(source.masker.map(|masker| mask_column(&masker, layout, chunk)));
            writer.write(&RecordBatch::try_new(schema.clone(), arrays)?)?;
            if writer.memory_size() > sizes.group_bytes {
                writer.flush()?;
            }
            watch.add(chunk.len() as u64).map_err(|stopped| ParquetError::External(Box::new(stopped)))?;
        }
    }
    if source.negatives.is_some() {
        writer.append_key_value_metadata(KeyValue::new(SHORT_ROWS.into(), short_rows.to_string()));
    }
    writer.close()?;
    Ok(())
}

/// What is written at a time. A function of the input and the settings: ids and tasks of usual length change nothing,
/// long ones make smaller chunks and row groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WriteSizes {
    /// Rows encoded at a time.
    chunk_rows: usize,
    /// Bytes of encoded rows after which a row group ends early.
    group_bytes: usize,
}

impl WriteSizes {
    fn of(source: &TableSource<'_>, row_group_rows: usize) -> WriteSizes {
        let negatives = source.negatives.map_or(0, |negatives| negatives.count);
        let task = source.vectors.tasks.names().map(str::len).max().unwrap_or(0);
        let sizes = WriteSizes::new(task, source.vectors.ids.longest(), negatives, row_group_rows);
        let most = source.masker.map_or(CHUNK_ROWS, |masker| rows_of_chunk(masker.most));
        WriteSizes { chunk_rows: sizes.chunk_rows.min(most), ..sizes }
    }

    fn new(task: usize, id: usize, negatives: usize, row_group_rows: usize) -> WriteSizes {
        let room = TEXT_BYTES[0] + negatives * TEXT_BYTES[1];
        let row = task + id * (negatives + 1);
        let chunk_rows = (CHUNK_ROWS * room / row.max(1)).clamp(1, CHUNK_ROWS);
        WriteSizes { chunk_rows, group_bytes: (row_group_rows * room).max(GROUP_BYTES_MIN) }
    }
}

/// Rows of a finished file that have fewer hard negatives than asked for.
///
/// # Errors
/// The file cannot be read, or does not say.
pub(crate) fn short_rows(path: &Path) -> Result<u64> {
    let metadata = read_metadata(path, &std::fs::File::open(path)?).map_err(ParquetError::General)?;
    let pairs = metadata.metadata().file_metadata().key_value_metadata();
    let known = pairs.into_iter().flatten().find(|pair| pair.key == SHORT_ROWS);
    let number = known.and_then(|pair| pair.value.as_ref()?.parse().ok());
    number.ok_or_else(|| ParquetError::General(format!("no {SHORT_ROWS} in the footer")))
}

/// Ids of some rows.
fn id_column(vectors: &Vectors, rows: impl Iterator<Item = RowId>) -> ArrayRef {
    let input = rows.map(|row| vectors.rows.input_rows()[row as usize]);
    match &vectors.ids {
        Ids::Text(_) => {
            Arc::new(StringArray::from_iter_values(input.map(|row| vectors.ids.text(row).unwrap_or_default())))
        }
        _ => Arc::new(Int64Array::from_iter_values(input.map(|row| vectors.ids.int(row).unwrap_or_default()))),
    }
}

/// Input rows of some rows.
fn row_column(vectors: &Vectors, rows: impl Iterator<Item = RowId>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.map(|row| i64::from(vectors.rows.input_rows()[row as usize]))))
}

/// The columns that every table has.
fn columns(source: &TableSource<'_>, epoch: u32, chunk: &[TableEntry]) -> Vec<ArrayRef> {
    let vectors = source.vectors;
    let rows = || chunk.iter().map(|(.., row)| *row);
    let cluster = |row: RowId| Some(source.labels[row as usize]).filter(|label| *label != NO_CLUSTER).map(i64::from);
    let task = |row: RowId| Some(vectors.tasks.name(vectors.tasks.of(row))).filter(|_| vectors.named_tasks);
    vec![
        Arc::new(Int32Array::from_value(epoch as i32, chunk.len())),
        Arc::new(Int64Array::from_iter_values(chunk.iter().map(|(batch, ..)| *batch as i64))),
        Arc::new(Int32Array::from_iter_values(chunk.iter().map(|(_, position, _)| *position as i32))),
        Arc::new(Int64Array::from_iter(rows().map(cluster))),
        Arc::new(StringArray::from_iter(rows().map(task))),
        id_column(vectors, rows()),
        row_column(vectors, rows()),
        Arc::new(Float32Array::from_iter_values(rows().map(|row| vectors.rows.scores()[row as usize]))),
    ]
}

/// The ranks of some rows' own positives. Rows with none are left out, so that none is null today.
fn rank_column(ranks: &OwnRanks, chunk: &[TableEntry]) -> ArrayRef {
    Arc::new(Int32Array::from_iter(chunk.iter().map(|(.., row)| ranks.of(*row).map(|rank| rank as i32))))
}

/// The masked positions of some rows of an epoch.
fn mask_column(masker: &Masker<'_>, layout: &EpochLayout<'_>, chunk: &[TableEntry]) -> ArrayRef {
    let of_batch = |entries: &[TableEntry]| {
        let rows: Vec<RowId> = entries.iter().map(|(.., row)| *row).collect();
        masker.of_rows(layout.order.batch((entries[0].0 - layout.first_batch) as usize), &rows)
    };
    let lists: Vec<Vec<i32>> = chunk.chunk_by(|a, b| a.0 == b.0).flat_map(of_batch).collect();
    let ends = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
    let positions: ArrayRef = Arc::new(Int32Array::from_iter_values(lists.into_iter().flatten()));
    Arc::new(ListArray::new(element(DataType::Int32), ends, positions, None))
}

/// The columns of hard negatives.
fn list_columns(vectors: &Vectors, lists: &[Vec<Candidate>]) -> [ArrayRef; 3] {
    let all = || lists.iter().flatten();
    let scores: ArrayRef = Arc::new(Float32Array::from_iter_values(all().map(|negative| negative.score)));
    let rows = || all().map(|negative| negative.row);
    [id_column(vectors, rows()), row_column(vectors, rows()), scores].map(|values| {
        let ends = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
        let list: ArrayRef = Arc::new(ListArray::new(element(values.data_type().clone()), ends, values, None));
        list
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_ids_make_smaller_chunks() {
        for negatives in [0, 5, 50] {
            assert_eq!(WriteSizes::new(20, 36, negatives, 122_880).chunk_rows, CHUNK_ROWS);
            let long = WriteSizes::new(4096, 4096, negatives, 122_880).chunk_rows;
            let room = CHUNK_ROWS * (TEXT_BYTES[0] + negatives * TEXT_BYTES[1]);
            assert!(long * (4096 * (negatives + 2)) <= room && (long + 1) * 4096 * (negatives + 2) > room);
        }
        assert_eq!(WriteSizes::new(1 << 30, 0, 0, 1), WriteSizes { chunk_rows: 1, group_bytes: GROUP_BYTES_MIN });
    }
}
