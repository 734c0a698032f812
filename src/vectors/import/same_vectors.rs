//! Equal vectors become key codes: the first key column, and a key list where a query is another row's vector.
//!
//! Memory: what [`super::equal_vectors`] holds.

use super::context::Import;
use super::equal_vectors::{EqualCounts, Numbering, VectorHashes, VectorNumber};
use crate::config::SameQuery;
use crate::error::Result;
use crate::run::ScatteredPart;
use crate::run::mapped::Mapped;
use crate::run::sealed::HEADER_BYTES;
use crate::vectors::dot::widen;
use crate::vectors::key_lists::{key_lists_name, write_row_codes};
use crate::vectors::row_table::{BothSides, RowLayout};
use crate::vectors::shape::StoreType;

/// Writes the codes of equal positives, and of both sides' vectors where those tell more; returns the layout with them.
///
/// # Errors
/// The disk fails.
pub(super) fn write_same_vectors(
    import: &Import<'_>,
    hashes: VectorHashes,
    stores: &[ScatteredPart],
    table: &ScatteredPart,
    layout: RowLayout,
) -> Result<(RowLayout, EqualCounts)> {
    let types = import.input.shards.store_types;
    let side = |(part, store_type)| StoredSide::map(part, store_type, import.input.shards.shape.dim);
    let sides = stores.iter().zip(types).map(side).collect::<Result<Vec<_>>>()?;
    let numbering = hashes.numbering();
    let equal = hashes.equal(|a, b| same(&sides, numbering, a, b));
    table.write_at(bytemuck::cast_slice(&equal.positive_codes()), layout.key(0))?;
    let counts = equal.counts();
    if !equal.part_more_than_positives() {
        return Ok((layout, counts));
    }
    let codes = equal.into_row_codes();
    import.stage.commit(&key_lists_name(layout.lists), |out| write_row_codes(out, layout.rows, &codes))?;
    let both_sides = match import.input.config.same_query {
        SameQuery::Exclude => BothSides::Part,
        SameQuery::Allow => BothSides::Tell,
    };
    Ok((RowLayout { lists: layout.lists + 1, both_sides, ..layout }, counts))
}

/// One side's store while it is made.
struct StoredSide {
    file: Mapped,
    store_type: StoreType,
    dim: usize,
}

impl StoredSide {
    fn map(part: &ScatteredPart, store_type: StoreType, dim: usize) -> Result<StoredSide> {
        Ok(StoredSide { file: part.map()?, store_type, dim })
    }

    /// A row's values, as stored.
    fn row(&self, row: usize) -> &[u8] {
        let row_bytes = self.dim * self.store_type.bytes();
        &self.file.bytes()[HEADER_BYTES + row * row_bytes..][..row_bytes]
    }
}

/// Whether two vectors are bit-identical, as f32 where one is stored in half precision.
fn same(sides: &[StoredSide], numbering: Numbering, a: VectorNumber, b: VectorNumber) -> bool {
    let of = |number: VectorNumber| {
        let side = &sides[if numbering.is_positive(number) { sides.len() - 1 } else { 0 }];
        (side.row(numbering.row(number) as usize), side.store_type)
    };
    let ((a, type_a), (b, type_b)) = (of(a), of(b));
    match (type_a, type_b) {
        (StoreType::F16, StoreType::F32) => is_widened(a, b),
        (StoreType::F32, StoreType::F16) => is_widened(b, a),
        _ => a == b,
    }
}

/// Whether values of half precision, made wider, are those of single precision.
fn is_widened(halves: &[u8], singles: &[u8]) -> bool {
    let mut wide = vec![0f32; halves.len() / 2];
    widen(bytemuck::cast_slice(halves), &mut wide);
    bytemuck::cast_slice::<f32, u8>(&wide) == singles
}

impl EqualCounts {
    /// Says which rows have a vector of another row, if there are any, and what follows.
    pub(super) fn log(&self, same_query: SameQuery) {
        let EqualCounts { positives, queries, crossed } = *self;
        let count = |rows: u64, what: &str| (rows > 0).then(|| format!("{rows} rows have {what}"));
        let positives = count(positives, "the positive of another row");
        let queries =
            [count(queries, "the query of another row"), count(crossed, "another row's positive as their query")];
        let say = |found: Vec<String>, what: &str| {
            if !found.is_empty() {
                tracing::info!("{}: {what}", found.join(", "));
            }
        };
        let apart = "rows with a vector in common share no batch";
        let queries: Vec<String> = queries.into_iter().flatten().collect();
        match same_query {
            SameQuery::Exclude => say(positives.into_iter().chain(queries).collect(), apart),
            SameQuery::Allow => {
                say(positives.into_iter().collect(), "rows with one positive share no batch");
                say(queries, "with --same-query allow they may share a batch, and be negatives of each other");
            }
        }
    }
}
