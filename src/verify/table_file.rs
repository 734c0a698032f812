//! A file of the batch table, read in order.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};

use crate::batches::read::unreadable;
use crate::error::Result;
use crate::vectors::{guarded_batches, open_table};

/// Rows that are held at a time.
const BATCH_ROWS: usize = 8192;

/// Calls `each` for every batch of a file that has the columns `wanted`.
///
/// # Errors
/// The file cannot be read, or has other columns.
pub(crate) fn for_each_batch(path: &Path, wanted: &Schema, mut each: impl FnMut(&RecordBatch)) -> Result<()> {
    let unreadable = |found: String| unreadable(path, found);
    let builder = open_table(path, unreadable)?.with_batch_size(BATCH_ROWS);
    for batch in guarded_batches(path, builder).map_err(unreadable)? {
        let batch = batch.map_err(unreadable)?;
        let found = columns(batch.schema_ref());
        if found != columns(wanted) {
            return Err(unreadable(format!("columns {found:?}")));
        }
        each(&batch);
    }
    Ok(())
}

fn columns(schema: &Schema) -> Vec<(&str, &DataType)> {
    schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect()
}
