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
use super::tasks::Numbers;
use crate::config::Metric;
use crate::error::{Error, Result};
use crate::run::{ScatteredPart, Stage};
use crate::vectors::content::ContentHashes;
use crate::vectors::open::{POSITIVES, QUERIES};
use crate::vectors::row_table::RowLayout;
use crate::vectors::shape::Shape;
use crate::vectors::store::{VECTORS, VectorStore};
use crate::watch::Watch;

/// Writes the vectors and what is measured of them; returns the stores, and the hashes of the vectors.
///
/// `numbers`: each input row's, and each document's, in task-grouped order; `contents` is told what is read.
///
/// # Errors
/// Embeddings are null, not finite, of zero length or of another length; inner products beyond f32; a disk that
/// fails.
pub(super) fn write_embeddings(
    import: &Import<'_>,
    numbers: &Numbers,
    table: &ScatteredPart,
    layout: RowLayout,
    contents: &ContentHashes<'_>,
) -> Result<(Vec<ScatteredPart>, VectorHashes)> {
    let shape = import.input.kept();
    let stores = new_stores(import, numbers.kept)?;
    let hashes = VectorHashes::new(shape.rows as usize, numbers.kept as usize, stores.len());
    let mut largest = [0f64; 2];
    for (input, row_ids) in import.inputs().zip([&numbers.rows, &numbers.documents]) {
        let bad = RowMarks::new(input.rows());
        let writer = RowWriter {
            shape,
            first_number: input.first_number,
            documents: input.is_corpus(),
            precision: import.input.shards.store_types,
            metric: input.config.metric,
            row_ids,
            stores: &stores,
            table,
            layout,
            hashes: &hashes,
            largest: Mutex::new([0.0; 2]),
            bad: &bad,
        };
        let meter = import.run.meter(Stage::Vectors, input.shards.shape.rows, input.noun());
        let listen = |rows| meter.add(rows);
        let watch = Watch::new(&listen);
        for_each_unit(&input.units, |unit| {
            contents.read(unit);
            for_each_pair_batch(input, unit, import.counts.batch_rows, |row, sides, rows| {
                writer.batch(unit, row, sides, rows)?;
                watch.add(rows as u64)
            })
        })?;
        let [of_queries, of_positives] = writer.largest.into_inner().expect("no thread panics while it holds them");
        largest[1] = largest[1].max(of_positives);
        if !input.is_corpus() {
            largest[0] = of_queries;
        }
        refuse_bad_rows(import.run, input, import.counts.batch_rows, &bad)?;
    }
    refuse_long(import.input.config.metric, largest)?;
    Ok((stores, hashes))
}

/// One store, or one for each side, with its header. Documents lie behind the rows of the last.
fn new_stores(import: &Import<'_>, documents: u64) -> Result<Vec<ScatteredPart>> {
    let shape = import.input.kept();
    let sides = if import.input.shards.roles.shared { 1 } else { 2 };
    let mut stores = Vec::new();
    for (side, (name, precision)) in
        [QUERIES, POSITIVES].into_iter().zip(import.input.shards.store_types).take(sides).enumerate()
    {
        let behind = if side + 1 == sides { documents } else { 0 };
        let shape = Shape { rows: shape.rows + behind, ..shape };
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
