//! The batch table: Parquet files that any lake reads.
//!
//! Sorted by (epoch, batch_id, position), declared as such; zstd; page index; no unsigned, half or
//! fixed-size list columns. Memory: one row group.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::Result;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::pack::Order;
use crate::clusters::NO_CLUSTER;
use crate::config::Config;
use crate::run::sealed::PartWriter;
use crate::run::{Run, Stage};
use crate::vectors::Vectors;
use crate::vectors::rows::Ids;

/// Rows encoded at a time.
const CHUNK_ROWS: usize = 8192;
/// Names of the columns, in order.
pub const COLUMNS: [&str; 8] = ["epoch", "batch_id", "position", "cluster_id", "task", "id", "row", "score"];

/// The table's schema.
pub fn schema(ids: &Ids) -> Schema {
    let id = if matches!(ids, Ids::Text(_)) { DataType::Utf8 } else { DataType::Int64 };
    let types = [
        (DataType::Int32, false),
        (DataType::Int64, false),
        (DataType::Int32, false),
        (DataType::Int64, true),
        (DataType::Utf8, true),
        (id, false),
        (DataType::Int64, false),
        (DataType::Float32, false),
    ];
    Schema::new(
        COLUMNS.iter().zip(types).map(|(name, (kind, nullable))| Field::new(*name, kind, nullable)).collect::<Vec<_>>(),
    )
}

/// Where a row's values come from.
pub struct Source<'a> {
    /// Ids, tasks, scores.
    pub vectors: &'a Vectors,
    /// Cluster by row.
    pub labels: &'a [u32],
}

/// One epoch's batches and their numbers.
pub struct Layout<'a> {
    /// Epoch, from 0.
    pub epoch: u32,
    /// Number of its first batch: numbers go on from epoch to epoch.
    pub first_batch: u64,
    /// Its batches.
    pub order: &'a Order,
}

impl Layout<'_> {
    /// Cuts the batches into files of about `rows` rows.
    pub fn cut(&self, rows: usize) -> Vec<Range<usize>> {
        let (mut files, mut start, mut filled) = (Vec::new(), 0, 0);
        for index in 0..self.order.count() {
            filled += self.order.batch(index).len();
            if filled >= rows {
                files.push(start..index + 1);
                (start, filled) = (index + 1, 0);
            }
        }
        if start < self.order.count() {
            files.push(start..self.order.count());
        }
        files
    }
}

/// Footer key-values: what made the table.
pub fn footer(run: &Run, config: &Config) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue::new(format!("batchmine.{key}"), value);
    let sizes = config.sizes();
    let mut pairs = vec![
        pair("version", env!("CARGO_PKG_VERSION").into()),
        pair("seed", config.seed.to_string()),
        pair("settings", run.record(Stage::Batches).fingerprint),
        pair("inputs", run.record(Stage::Vectors).fingerprint),
        pair("batch_size", config.batches.size.to_string()),
        pair("cluster_size", config.clusters.size.to_string()),
    ];
    if !sizes.tasks.is_empty() {
        pairs.push(pair("tasks", serde_json::json!(sizes.tasks).to_string()));
    }
    pairs
}

/// Writes one file. O(rows).
///
/// # Errors
/// The write fails.
pub fn write_file(
    out: &mut PartWriter,
    source: &Source<'_>,
    layout: &Layout<'_>,
    batches: Range<usize>,
    row_group_rows: usize,
    footer: Vec<KeyValue>,
) -> Result<()> {
    let schema = Arc::new(schema(&source.vectors.ids));
    let sorted_by = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: false };
    let properties = WriterProperties::builder()
        .set_created_by(format!("batchmine {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_sorting_columns(Some((0..3).map(sorted_by).collect()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(footer))
        .build();
    let mut writer = ArrowWriter::try_new(&mut *out, schema.clone(), Some(properties))?;
    let mut places = batches.flat_map(|index| {
        let rows = layout.order.batch(index).iter().enumerate();
        rows.map(move |(position, row)| (layout.first_batch + index as u64, position, *row))
    });
    loop {
        let chunk: Vec<(u64, usize, u32)> = places.by_ref().take(CHUNK_ROWS).collect();
        if chunk.is_empty() {
            break;
        }
        writer.write(&RecordBatch::try_new(schema.clone(), columns(source, layout.epoch, &chunk))?)?;
    }
    writer.close()?;
    Ok(())
}

fn columns(source: &Source<'_>, epoch: u32, chunk: &[(u64, usize, u32)]) -> Vec<ArrayRef> {
    let vectors = source.vectors;
    let input_rows = vectors.rows.input_rows();
    let rows = || chunk.iter().map(|(.., row)| *row);
    let cluster = |row: u32| Some(source.labels[row as usize]).filter(|label| *label != NO_CLUSTER).map(i64::from);
    let task = |row: u32| Some(vectors.tasks.name(vectors.tasks.of(row))).filter(|_| vectors.has_tasks());
    let ids: ArrayRef = match &vectors.ids {
        Ids::Text(_) => Arc::new(StringArray::from_iter_values(
            rows().map(|row| vectors.ids.text(input_rows[row as usize]).unwrap_or_default()),
        )),
        _ => Arc::new(Int64Array::from_iter_values(
            rows().map(|row| vectors.ids.int(input_rows[row as usize]).unwrap_or_default()),
        )),
    };
    vec![
        Arc::new(Int32Array::from_value(epoch as i32, chunk.len())),
        Arc::new(Int64Array::from_iter_values(chunk.iter().map(|(batch, ..)| *batch as i64))),
        Arc::new(Int32Array::from_iter_values(chunk.iter().map(|(_, position, _)| *position as i32))),
        Arc::new(Int64Array::from_iter(rows().map(cluster))),
        Arc::new(StringArray::from_iter(rows().map(task))),
        ids,
        Arc::new(Int64Array::from_iter_values(rows().map(|row| i64::from(input_rows[row as usize])))),
        Arc::new(Float32Array::from_iter_values(rows().map(|row| vectors.rows.scores()[row as usize]))),
    ]
}
