//! What all files agree on: the number of dimensions and each side's number type.

use super::columns::column_type;
use super::decode::{first_fault_of, usual_length_of};
use super::embedding_type::EmbeddingType;
use super::shape::{DIM_MAX, StoreType};
use super::shard::{Shard, Source};
use crate::config::Columns;
use crate::error::{Error, Result};
use crate::run::record::Roles;

/// What flags are that say what no column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdleFlags {
    Refuse,
    /// They are for the rows, and these are documents.
    Allow,
}

/// Dimensions and number type of both sides, from types where they tell, else from the first rows. Files without rows
/// say nothing.
///
/// # Errors
/// A column is missing or holds no embeddings, the number of dimensions is out of range or differs, or a flag says
/// what no column is.
///
/// `idle_flags`: whether flags that say what no column is are a fault.
pub(super) fn dimensions(
    list: &[Shard],
    roles: &Roles,
    columns: &Columns,
    idle_flags: IdleFlags,
) -> Result<(usize, [StoreType; 2])> {
    let mut agreed: Option<(usize, &Shard)> = None;
    let mut store_types = [StoreType::F16; 2];
    let (mut binary, mut integer) = (false, false);
    for shard in list.iter().filter(|shard| shard.rows > 0) {
        for (side, name) in [&roles.query, &roles.positive].into_iter().enumerate() {
            let place = |error: Error| {
                let error = error.path(&shard.path);
                if let Some(name) = name { error.column(name.clone()) } else { error }
            };
            let (dim, store_type) = match &shard.source {
                Source::Npy(array) => (Some(array.dim), array.store_type(side)),
                Source::Parquet { .. } | Source::Arrow(_) | Source::Memory(_) => {
                    refuse_missing_labels(shard, roles)?;
                    let name = name.as_deref().unwrap_or_default();
                    let column = column_embeddings(shard, name, columns)?;
                    binary |= column.binary;
                    integer |= column.is_integer();
                    (column.dim, column.store_type(columns.scale))
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
    if idle_flags == IdleFlags::Refuse {
        refuse_idle_flags(list, columns, [binary, integer])?;
    }
    let Some((dim, _)) = agreed else { return Err(no_embedding(list, roles, columns)?) };
    Ok((dim, store_types))
}

fn refuse_missing_labels(shard: &Shard, roles: &Roles) -> Result<()> {
    let Some(schema) = shard.schema() else { return Ok(()) };
    let mut labels = roles.task.iter().chain(&roles.id).chain(&roles.keys);
    labels.try_for_each(|name| column_type(shard, schema, name).map(|_| ()))
}

/// The error for an input without one vector: what is wrong with its first row.
fn no_embedding(list: &[Shard], roles: &Roles, columns: &Columns) -> Result<Error> {
    let first = list.iter().find(|shard| shard.rows > 0);
    let fault = match (first, &roles.query) {
        (Some(shard), Some(name)) => first_fault_of(shard, name, columns.dtype)?,
        _ => None,
    };
    Ok(fault.unwrap_or_else(|| {
        Error::input("the input has no embedding").found("nulls only").remedy("check that this is the embedding column")
    }))
}

/// What a column's vectors are; without dimensions where neither type nor rows tell.
fn column_embeddings(shard: &Shard, name: &str, columns: &Columns) -> Result<EmbeddingType> {
    let nothing = EmbeddingType { dim: None, number: None, binary: false };
    let Some(schema) = shard.file_schema() else { return Ok(nothing) };
    let data_type = column_type(shard, schema, name)?;
    let column = EmbeddingType::of(data_type, columns.dtype).map_err(|error| error.path(&shard.path).column(name))?;
    match column.dim {
        None if column.number.is_some() => {
            Ok(EmbeddingType { dim: usual_length_of(shard, name, columns.dtype)?, ..column })
        }
        _ => Ok(column),
    }
}

/// Fails where a flag says what no column is: it would do nothing, in silence.
fn refuse_idle_flags(list: &[Shard], columns: &Columns, [binary, integer]: [bool; 2]) -> Result<()> {
    let path = list.first().map(|shard| shard.path.clone()).unwrap_or_default();
    if let Some(dtype) = columns.dtype.filter(|_| !binary) {
        return Err(Error::input("--dtype says what binary embeddings are, and there are none")
            .path(path)
            .expected("an embedding column of binary or fixed_size_binary")
            .found(format!("--dtype {}", crate::config::name_of(dtype)))
            .remedy("leave --dtype out: other columns have a number type of their own"));
    }
    match columns.scale.filter(|_| !integer) {
        None => Ok(()),
        Some(scale) => Err(Error::input("--embedding-scale is for int8 and uint8 embeddings, and there are none")
            .path(path)
            .expected("an embedding column of int8 or uint8")
            .found(format!("--embedding-scale {scale}"))
            .remedy("leave --embedding-scale out: floats are read as they are")),
    }
}
