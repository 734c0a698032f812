//! The one pass over the embeddings: decoded, checked, measured and written where they belong.
//!
//! Memory: for each thread one batch of both sides, decoded and encoded; 8 bytes a row and side, hashes of the vectors.

use std::sync::Mutex;

use super::context::Import;
use super::equal_vectors::VectorHashes;
use super::labels::for_each_unit;
use super::row_writer::{RowWriter, Side};
use crate::config::Metric;
use crate::error::{Error, Result};
use crate::run::{ScatteredPart, Stage};
use crate::vectors::content::ContentHashes;
use crate::vectors::decode::Unit;
use crate::vectors::open::{POSITIVES, QUERIES};
use crate::vectors::row::RowId;
use crate::vectors::row_table::RowLayout;
use crate::vectors::shard::Source;
use crate::vectors::shards::Shards;
use crate::vectors::store::{VECTORS, VectorStore};
use crate::vectors::values::embedding_values;
use crate::watch::Watch;

/// Writes the vectors and what is measured of them; returns the stores, and the hashes of the vectors.
///
/// `row_ids`: each input row's number in task-grouped order; `contents` is told what is read.
///
/// # Errors
/// An embedding is null, not finite, of zero length or of another length; inner products beyond f32; a disk that
/// fails.
pub(super) fn write_embeddings(
    import: &Import<'_>,
    row_ids: &[RowId],
    table: &ScatteredPart,
    layout: RowLayout,
    contents: &ContentHashes<'_>,
) -> Result<(Vec<ScatteredPart>, VectorHashes)> {
    let shape = import.input.shards.shape;
    let stores = new_stores(import)?;
    let hashes = VectorHashes::new(import.input.rows(), stores.len());
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
    };
    let meter = import.run.meter(Stage::Vectors, shape.rows, "rows");
    let listen = |rows| meter.add(rows);
    let watch = Watch::new(&listen);
    for_each_unit(&import.input.units, |unit| {
        contents.read(unit);
        for_each_pair_batch(import, unit, |row, sides, rows| {
            writer.batch(unit, row, sides, rows, side_names(import.input.shards))?;
            watch.add(rows as u64)
        })
    })?;
    let largest = writer.largest.into_inner().expect("no thread panics while it holds the norms");
    refuse_long(import.input.config.metric, largest)?;
    Ok((stores, hashes))
}

/// One store, or one for each side, with its header.
fn new_stores(import: &Import<'_>) -> Result<Vec<ScatteredPart>> {
    let shape = import.input.shards.shape;
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
fn refuse_long(metric: Metric, largest: [f64; 2]) -> Result<()> {
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

fn side_names(shards: &Shards) -> [&str; 2] {
    [&shards.roles.query, &shards.roles.positive].map(|name| name.as_deref().unwrap_or(""))
}

/// Decodes a unit's two sides batch by batch.
fn for_each_pair_batch(
    import: &Import<'_>,
    unit: &Unit<'_>,
    mut each: impl FnMut(u64, [Side<'_>; 2], usize) -> Result<()>,
) -> Result<()> {
    let batch_rows = import.counts.batch_rows;
    let dim = import.input.shards.shape.dim;
    if let Source::Npy(array) = &unit.shard.source {
        let mut row = 0;
        while row < unit.rows {
            let rows = (unit.rows - row).min(batch_rows as u64);
            let side = |side| {
                let (values, stride) = array.rows(side, unit.start + row, rows);
                Side { values, stride }
            };
            each(row, [side(0), side(1)], rows as usize)?;
            row += rows;
        }
        return Ok(());
    }
    let names = side_names(import.input.shards);
    let columns = if import.input.shards.roles.shared { &names[..1] } else { &names[..] };
    let dtype = import.input.config.columns.dtype;
    unit.for_each_batch(columns, batch_rows, |row, arrays| {
        let view = |side: usize| {
            let array = &arrays[side.min(arrays.len() - 1)];
            embedding_values(array.as_ref(), dim, dtype)
                .map(|values| Side { values, stride: dim })
                .map_err(|(error, at)| unit.place(error, names[side], Some(row + at)))
        };
        each(row, [view(0)?, view(1)?], arrays[0].len())
    })
}
