//! Which column plays which part, and what its type says.

use arrow::datatypes::{DataType, Schema};

use super::shard::{Shard, Source};
use super::store::{DIM_MAX, StoreType};
use crate::config::{BinaryType, Columns, EmbeddingColumns};
use crate::error::{Error, Result};
use crate::run::record::Roles;

const QUERY_NAMES: &[&str] =
    &["query_embedding", "query_embeddings", "anchor_embedding", "query_vector", "query_emb", "q_embedding"];
const POSITIVE_NAMES: &[&str] = &[
    "positive_embedding",
    "positive_embeddings",
    "document_embedding",
    "passage_embedding",
    "positive_vector",
    "positive_emb",
    "p_embedding",
];
const SHARED_NAMES: &[&str] = &["embedding", "embeddings", "vector"];

/// Finds the columns of each role in the first file.
pub(super) fn resolve(first: &Shard, columns: &Columns) -> Result<Roles> {
    let Source::Parquet { metadata, .. } = &first.source else {
        let Source::Npy(array) = &first.source else { unreachable!("a shard is Parquet or npy") };
        let named = columns.task.iter().chain(&columns.id).chain(&columns.keys).next();
        if let Some(name) = named {
            return Err(Error::input(".npy files have no columns")
                .path(&first.path)
                .expected("no --id-column, --task-column or --key-column")
                .found(name.clone())
                .remedy("write the embeddings with their columns to Parquet"));
        }
        let shared = !array.paired && array.positives.is_none();
        return Ok(Roles { query: None, positive: None, shared, id: None, task: None, keys: Vec::new() });
    };
    let schema = metadata.schema();
    let present = |name: &String| match schema.field_with_name(name) {
        Ok(_) => Ok(name.clone()),
        Err(_) => Err(no_such_column(first, schema, name)),
    };
    let found =
        |names: &[&str]| names.iter().find(|name| schema.field_with_name(name).is_ok()).map(|name| (*name).to_owned());
    let (query, positive) = match &columns.embeddings {
        EmbeddingColumns::Shared(name) => (present(name)?, None),
        EmbeddingColumns::Pair { query, positive } => {
            let query_found = query.as_ref().map(present).transpose()?.or_else(|| found(QUERY_NAMES));
            let positive_found = positive.as_ref().map(present).transpose()?.or_else(|| found(POSITIVE_NAMES));
            match (query_found, positive_found, found(SHARED_NAMES)) {
                (Some(query), Some(positive), _) => (query, Some(positive)),
                (None, None, Some(shared)) => (shared, None),
                (query_found, ..) => {
                    let missing = if query_found.is_none() { "query" } else { "positive" };
                    return Err(Error::input(format!("no {missing} embedding column was found"))
                        .path(&first.path)
                        .expected(format!(
                            "one of: {}",
                            if missing == "query" { QUERY_NAMES } else { POSITIVE_NAMES }.join(", ")
                        ))
                        .found(format!("columns {}", names_of(schema)))
                        .remedy(format!(
                            "name it with --{missing}-column, or give one column for both sides with --embedding-column"
                        )));
                }
            }
        }
    };
    let shared = positive.is_none() || positive.as_ref() == Some(&query);
    let id = match &columns.id {
        Some(name) => Some(present(name)?),
        None => schema.field_with_name("id").ok().map(|field| field.name().clone()),
    };
    let task = columns.task.as_ref().map(present).transpose()?;
    let keys = columns.keys.iter().map(present).collect::<Result<Vec<_>>>()?;
    Ok(Roles { positive: positive.or_else(|| Some(query.clone())), query: Some(query), shared, id, task, keys })
}

fn names_of(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn no_such_column(shard: &Shard, schema: &Schema, name: &str) -> Error {
    Error::input("no such column")
        .path(&shard.path)
        .column(name)
        .expected(format!("one of: {}", names_of(schema)))
        .found("no column of this name")
        .remedy("check the spelling; names are case-sensitive")
}

/// Dimensions and store precision of both sides, from types where they tell, else from the first row.
pub(super) fn dimensions(list: &[Shard], roles: &Roles, dtype: Option<BinaryType>) -> Result<(usize, [StoreType; 2])> {
    let mut agreed: Option<(usize, String)> = None;
    let mut precision = [StoreType::F16; 2];
    for shard in list {
        for (side, name) in [&roles.query, &roles.positive].into_iter().enumerate() {
            let place = |error: Error| {
                let error = error.path(&shard.path);
                if let Some(name) = name { error.column(name.clone()) } else { error }
            };
            let (dim, wide) = match &shard.source {
                Source::Npy(array) => (Some(array.dim), array.precision[side] == StoreType::F32),
                Source::Parquet { metadata, .. } => {
                    let name = name.as_deref().unwrap_or_default();
                    for column in
                        roles.task.iter().chain(&roles.id).chain(&roles.keys).map(String::as_str).chain([name])
                    {
                        metadata
                            .schema()
                            .field_with_name(column)
                            .map_err(|_| no_such_column(shard, metadata.schema(), column))?;
                    }
                    let field = metadata
                        .schema()
                        .field_with_name(name)
                        .map_err(|_| no_such_column(shard, metadata.schema(), name))?;
                    let (dim, wide) = embedding_type(field.data_type(), dtype).map_err(place)?;
                    match dim {
                        None if shard.rows > 0 => (Some(super::decode::first_length(shard, name)?), wide),
                        dim => (dim, wide),
                    }
                }
            };
            if wide {
                precision[side] = StoreType::F32;
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
            match &agreed {
                Some((first, whose)) if *first != dim => {
                    return Err(place(
                        Error::input("embeddings differ in their number of dimensions")
                            .expected(format!("{first} dimensions, as in {whose}"))
                            .found(format!("{dim} dimensions"))
                            .remedy("embed all rows and both sides with one model"),
                    ));
                }
                Some(_) => {}
                None => agreed = Some((dim, shard.path.display().to_string())),
            }
        }
    }
    let (dim, _) = agreed.ok_or_else(|| Error::input("the input has no rows"))?;
    Ok((dim, precision))
}

/// Length of the vectors where the type fixes it, and whether they need f32.
fn embedding_type(data_type: &DataType, dtype: Option<BinaryType>) -> Result<(Option<usize>, bool)> {
    let wide = |item: &DataType| match item {
        DataType::Float16 => Some(false),
        DataType::Float32 | DataType::Float64 => Some(true),
        _ => None,
    };
    let wrong = || {
        Error::input("the embedding column has a type that holds no embeddings")
            .expected(
                "list, large_list or fixed_size_list of float16, float32 or float64, or fixed_size_binary with --dtype",
            )
            .found(data_type.to_string())
            .remedy("name the right column, or cast it before mining")
    };
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => {
            wide(item.data_type()).map(|wide| (None, wide)).ok_or_else(wrong)
        }
        DataType::FixedSizeList(item, length) => {
            let length = usize::try_from(*length).unwrap_or(0);
            wide(item.data_type()).map(|wide| (Some(length), wide)).ok_or_else(wrong)
        }
        DataType::FixedSizeBinary(width) => {
            let Some(dtype) = dtype else {
                return Err(wrong().remedy("say what the bytes are: --dtype f16, f32 or f64"));
            };
            let (bytes, wide) = binary_width(dtype);
            let width = usize::try_from(*width).unwrap_or(0);
            if !width.is_multiple_of(bytes) {
                return Err(wrong().found(format!("{width} bytes, no multiple of --dtype's {bytes}")));
            }
            Ok((Some(width / bytes), wide))
        }
        _ => Err(wrong()),
    }
}

/// Bytes of a value in a binary column, and whether it needs f32.
pub(super) fn binary_width(dtype: BinaryType) -> (usize, bool) {
    match dtype {
        BinaryType::F16 => (2, false),
        BinaryType::F32 => (4, true),
        BinaryType::F64 => (8, true),
    }
}
