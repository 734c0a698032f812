//! The one pass over the embeddings: decoded, checked, measured and written where they belong.
//!
//! Memory: for each thread one batch of both sides, decoded and encoded; 8 bytes a row and side, hashes of the vectors.

use std::sync::Mutex;

use super::bad_rows::refuse_bad_rows;
use super::context::Import;
use super::equal_vectors::VectorHashes;
use super::labels::for_each_unit;
use super::row_marks::RowMarks;
use super::row_writer::RowWriter;
use super::sides::for_each_pair_batch;
use crate::config::Metric;
use crate::error::{Error, Result};
use crate::run::{ScatteredPart, Stage};
use crate::vectors::content::ContentHashes;
use crate::vectors::open::{POSITIVES, QUERIES};
use crate::vectors::row::RowId;
use crate::vectors::row_table::RowLayout;
use crate::vectors::store::{VECTORS, VectorStore};
use crate::watch::Watch;

/// Writes the vectors and what is measured of them; returns the stores, and the hashes of the vectors.
///
/// `row_ids`: each input row's number in task-grouped order; `contents` is told what is read.
///
/// # Errors
/// Embeddings are null, not finite, of zero length or of another length; inner products beyond f32; a disk that
/// fails.
pub(super) fn write_embeddings(
    import: &Import<'_>,
    row_ids: &[RowId],
    table: &ScatteredPart,
    layout: RowLayout,
    contents: &ContentHashes<'_>,
) -> Result<(Vec<ScatteredPart>, VectorHashes)> {
    let shape = import.input.kept();
    let stores = new_stores(import)?;
    let hashes = VectorHashes::new(shape.rows as usize, stores.len());
    let bad = RowMarks::new(import.input.rows());
    let writer = RowWriter {
        shape,
        precision: import.input.shards.store_types,
        metric: import.input.config.metric,
        row_ids,
        stores: &stores,
        table,
        layout,
        hashes: &hashes,
        largest: Mutex::new([0.0; 2]),
        bad: &bad,
    };
    let meter = import.run.meter(Stage::Vectors, import.input.shards.shape.rows, "rows");
    let listen = |rows| meter.add(rows);
    let watch = Watch::new(&listen);
    for_each_unit(&import.input.units, |unit| {
        contents.read(unit);
        for_each_pair_batch(&import.input, unit, import.counts.batch_rows, |row, sides, rows| {
            writer.batch(unit, row, sides, rows)?;
            watch.add(rows as u64)
        })
    })?;
    let largest = writer.largest.into_inner().expect("no thread panics while it holds the norms");
    refuse_bad_rows(import.run, &import.input, import.counts.batch_rows, &bad)?;
    refuse_long(import.input.config.metric, largest)?;
    Ok((stores, hashes))
}

/// One store, or one for each side, with its header.
fn new_stores(import: &Import<'_>) -> Result<Vec<ScatteredPart>> {
    let shape = import.input.kept();
    let sides = if import.input.shards.roles.shared { 1 } else { 2 };
    let mut stores = Vec::new();
    for (name, precision) in [QUERIES, POSITIVES].into_iter().zip(import.input.shards.store_types).take(sides) {
        let store = import.stage.scattered(name, VectorStore::file_bytes(shape, precision))?;
        store.write_at(&VECTORS.header(VectorStore::header(shape, precision)), 0)?;
        stores.push(store);
    }
    Ok(stores)
}

/// Fails where an inner product can leave f32's range; `largest`: the largest norm of each side.
pub(super) fn refuse_long(metric: Metric, largest: [f64; 2]) -> Result<()> {
    let most = f64::from(f32::MAX) / 4.0;
    let too_long = largest.iter().any(|norm| *norm > most) || largest[0] * largest[1] > most;
    if metric == Metric::Cosine || !too_long {
        return Ok(());
    }
    Err(Error::input("inner products can leave the range of f32")
        .expected("norms, and their product, below 8e37")
        .found(format!("norms up to {:e} and {:e}", largest[0], largest[1]))
        .remedy("scale the embeddings down, or use --metric cosine"))
}
