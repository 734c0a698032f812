//! Arrays of label columns, read in batches whose bytes are known beforehand.
//!
//! In Parquet text and bytes are read as views, so that a value of a dictionary is there once, however many rows have
//! it. A batch has so few rows that the pages that its views point into are some MiB, or one page.
//!
//! Memory: the dictionary and a page of a column chunk, and [`BATCH_BYTES`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::PageIndexPolicy;

use super::decode::Unit;
use super::input_bytes::FileBytes;
use super::labels::{as_views, lengths, pieces, slice, value_type};
use super::page_sizes::{PageSizes, page_sizes};
use super::shard::{Shard, Source};
use crate::error::Result;

/// Values decoded at a time.
const BATCH_VALUES: u64 = 8192;
/// Bytes of pages that the views of a batch point into, beside the dictionary and one page.
pub(crate) const BATCH_BYTES: u64 = 2 << 20;

impl Unit<'_> {
    /// The pages of a column of a row group, by their headers: the largest of each kind among its leaves. None where
    /// the unit is of no Parquet file.
    pub(crate) fn page_sizes(&self, column: &str) -> Option<PageSizes> {
        let (Source::Parquet { bytes, metadata }, Some(row_group)) = (&self.shard.source, self.row_group) else {
            return None;
        };
        let leaves = metadata.metadata().row_groups().get(row_group)?.columns().iter();
        let own = leaves.filter(|leaf| leaf.column_path().parts().first().is_some_and(|root| root == column));
        own.map(|leaf| {
            let (start, length) = leaf.byte_range();
            let all = u64::try_from(leaf.uncompressed_size()).unwrap_or(0);
            let values = u64::try_from(leaf.num_values()).unwrap_or(0);
            let range = start as usize..start.saturating_add(length) as usize;
            match bytes {
                FileBytes::Mapped(bytes) => {
                    bytes.get(range).and_then(page_sizes).unwrap_or(PageSizes::of_one_page(all, values))
                }
                FileBytes::Stored(stored) => stored.page_sizes(leaf, values),
            }
        })
        .reduce(PageSizes::max)
    }
}

/// Calls `each(first row within the unit, array)` for all rows of a column; `values_of_row`: about how many values a
/// row has. Text and bytes that are lists' may come as views, other values as the file's schema has them.
///
/// # Errors
/// The column cannot be decoded, or the closure fails.
pub(crate) fn for_each_label_array(
    unit: &Unit<'_>,
    column: &str,
    values_of_row: u64,
    mut each: impl FnMut(u64, &ArrayRef) -> Result<()>,
) -> Result<()> {
    let sizes = unit.page_sizes(column).unwrap_or_default();
    let values = BATCH_VALUES.min(BATCH_BYTES / sizes.value.max(1));
    let rows = (values / values_of_row.max(1)).max(1) as usize;
    let viewed = with_views(unit.shard, column);
    let unit = Unit { shard: viewed.as_ref().unwrap_or(unit.shard), ..*unit };
    let kind = unit.shard.schema().and_then(|schema| Some(schema.field_with_name(column).ok()?.data_type().clone()));
    unit.for_each_batch(&[column], rows, |first, arrays| {
        let array = &arrays[0];
        let leaf = kind.as_ref().map_or(array.data_type(), value_type);
        if viewed.is_none() || leaf.is_nested() || array.data_type() == leaf {
            return each(first, array);
        }
        for rows in lengths(array).map_or_else(|| std::iter::once(0..array.len()).collect(), pieces) {
            let piece = slice(array, &rows);
            let piece = if viewable(array.data_type()) { cast(&piece, leaf).unwrap_or(piece) } else { piece };
            each(first + rows.start as u64, &piece)?;
        }
        Ok(())
    })
}

fn viewable(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8View | DataType::BinaryView)
}

/// The shard with a column of text or bytes read as views; none where it needs none, or its reader cannot do so.
fn with_views(shard: &Shard, column: &str) -> Option<Shard> {
    let Source::Parquet { bytes, metadata } = &shard.source else { return None };
    let schema = metadata.schema();
    let (at, field) = schema.fields().find(column)?;
    let viewed = as_views(field.data_type());
    if viewed == *field.data_type() {
        return None;
    }
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields[at] = Arc::new(field.as_ref().clone().with_data_type(viewed));
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip).with_schema(schema);
    let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).ok()?;
    Some(shard.read_from(Source::Parquet { bytes: bytes.clone(), metadata }))
}
