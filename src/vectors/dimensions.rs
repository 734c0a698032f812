//! What all files agree on: the number of dimensions and each side's number type.

use super::columns::{column_type, embedding_type};
use super::decode::first_length;
use super::shape::{DIM_MAX, StoreType};
use super::shard::{Shard, Source};
use crate::config::BinaryType;
use crate::error::{Error, Result};
use crate::run::record::Roles;

/// Dimensions and number type of both sides, from types where they tell, else from the first row.
///
/// # Errors
/// A column is missing or holds no embeddings, or the number of dimensions is out of range or differs.
pub(super) fn dimensions(list: &[Shard], roles: &Roles, dtype: Option<BinaryType>) -> Result<(usize, [StoreType; 2])> {
    let mut agreed: Option<(usize, &Shard)> = None;
    let mut store_types = [StoreType::F16; 2];
    for shard in list {
        for (side, name) in [&roles.query, &roles.positive].into_iter().enumerate() {
            let place = |error: Error| {
                let error = error.path(&shard.path);
                if let Some(name) = name { error.column(name.clone()) } else { error }
            };
            let (dim, store_type) = match &shard.source {
                Source::Npy(array) => (Some(array.dim), array.store_type(side)),
                Source::Parquet { .. } | Source::Arrow(_) => {
                    refuse_missing_labels(shard, roles)?;
                    column_dimensions(shard, name.as_deref().unwrap_or_default(), dtype)?
                }
            };
            if store_type == StoreType::F32 {
                store_types[side] = StoreType::F32;
            }
            let Some(dim) = dim else { continue };
            if dim == 0 || dim > DIM_MAX {
                return Err(place(
                    Error::input("the number of dimensions is out of range")
                        .expected(format!("from 1 to {DIM_MAX}"))
                        .found(dim.to_string())
                        .remedy("check that this is the embedding column"),
                ));
            }
            let (first, whose) = *agreed.get_or_insert((dim, shard));
            if first != dim {
                return Err(place(
                    Error::input("embeddings differ in their number of dimensions")
                        .expected(format!("{first} dimensions, as in {}", whose.path.display()))
                        .found(format!("{dim} dimensions"))
                        .remedy("embed all rows and both sides with one model"),
                ));
            }
        }
    }
    let (dim, _) = agreed.ok_or_else(|| Error::input("the input has no rows"))?;
    Ok((dim, store_types))
}

fn refuse_missing_labels(shard: &Shard, roles: &Roles) -> Result<()> {
    let Some(schema) = shard.schema() else { return Ok(()) };
    let mut labels = roles.task.iter().chain(&roles.id).chain(&roles.keys);
    labels.try_for_each(|name| column_type(shard, schema, name).map(|_| ()))
}

/// Dimensions of a column's vectors, unless neither type nor row tells, and their number type.
fn column_dimensions(shard: &Shard, name: &str, dtype: Option<BinaryType>) -> Result<(Option<usize>, StoreType)> {
    let Some(schema) = shard.file_schema() else { return Ok((None, StoreType::F16)) };
    let data_type = column_type(shard, schema, name)?;
    let (dim, store_type) = embedding_type(data_type, dtype).map_err(|error| error.path(&shard.path).column(name))?;
    match dim {
        None if shard.rows > 0 => Ok((Some(first_length(shard, name)?), store_type)),
        dim => Ok((dim, store_type)),
    }
}
