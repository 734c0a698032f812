//! Which column has which role, and what its type says.

use arrow::datatypes::{DataType, Schema};

use super::shape::StoreType;
use super::shard::{NpyArray, Shard, Source};
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
    let schema = match &first.source {
        Source::Npy(array) => return roles_of_npy(first, array, columns),
        Source::Parquet { metadata, .. } => metadata.schema(),
    };
    let present = |name: &String| column_type(first, schema, name).map(|_| name.clone());
    let (query, positive) = embedding_columns(first, schema, &columns.embeddings)?;
    let shared = positive.is_none() || positive.as_ref() == Some(&query);
    let id = match &columns.id {
        Some(name) => Some(present(name)?),
        None => schema.field_with_name("id").ok().map(|field| field.name().clone()),
    };
    let task = columns.task.as_ref().map(present).transpose()?;
    let keys = columns.keys.iter().map(present).collect::<Result<Vec<_>>>()?;
    Ok(Roles { positive: positive.or_else(|| Some(query.clone())), query: Some(query), shared, id, task, keys })
}

fn roles_of_npy(first: &Shard, array: &NpyArray, columns: &Columns) -> Result<Roles> {
    let sides = match &columns.embeddings {
        EmbeddingColumns::Shared(name) => [Some(name), None],
        EmbeddingColumns::Pair { query, positive } => [query.as_ref(), positive.as_ref()],
    };
    let named = sides.into_iter().flatten().chain(&columns.task).chain(&columns.id).chain(&columns.keys);
    if let Some(name) = named.into_iter().next() {
        return Err(Error::input(".npy files have no columns")
            .path(&first.path)
            .expected("no flag that names a column")
            .found(format!("a column {name}"))
            .remedy("write the embeddings with their columns to Parquet"));
    }
    let shared = !array.paired && array.positives.is_none();
    Ok(Roles { query: None, positive: None, shared, id: None, task: None, keys: Vec::new() })
}

/// Names of the query and positive columns; no positive column: one column serves both sides.
fn embedding_columns(first: &Shard, schema: &Schema, named: &EmbeddingColumns) -> Result<(String, Option<String>)> {
    let present = |name: &String| column_type(first, schema, name).map(|_| name.clone());
    let has = |name: &&&str| schema.field_with_name(name).is_ok();
    let find = |names: &[&str]| names.iter().find(has).map(|name| (*name).to_owned());
    let (query, positive) = match named {
        EmbeddingColumns::Shared(name) => return Ok((present(name)?, None)),
        EmbeddingColumns::Pair { query, positive } => (query, positive),
    };
    let query = query.as_ref().map(present).transpose()?.or_else(|| find(QUERY_NAMES));
    let positive = positive.as_ref().map(present).transpose()?.or_else(|| find(POSITIVE_NAMES));
    let (missing, names) = match (query, positive, find(SHARED_NAMES)) {
        (Some(query), Some(positive), _) => return Ok((query, Some(positive))),
        (None, None, Some(shared)) => return Ok((shared, None)),
        (None, ..) => ("query", QUERY_NAMES),
        (Some(_), None, _) => ("positive", POSITIVE_NAMES),
    };
    Err(Error::input(format!("no {missing} embedding column was found"))
        .path(&first.path)
        .expected(format!("one of: {}", names.join(", ")))
        .found(format!("columns {}", names_of(schema)))
        .remedy(format!("name it with --{missing}-column, or give one column for both sides with --embedding-column")))
}

fn names_of(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

/// The type of a column.
///
/// # Errors
/// There is no such column.
pub(super) fn column_type<'s>(shard: &Shard, schema: &'s Schema, name: &str) -> Result<&'s DataType> {
    schema.field_with_name(name).map(|field| field.data_type()).map_err(|_| {
        Error::input("no such column")
            .path(&shard.path)
            .column(name)
            .expected(format!("one of: {}", names_of(schema)))
            .found("no column of this name")
            .remedy("check the spelling; names are case-sensitive")
    })
}

/// Length of the vectors where the type fixes it, and the number type that stores them without loss (f64: f32).
pub(super) fn embedding_type(data_type: &DataType, dtype: Option<BinaryType>) -> Result<(Option<usize>, StoreType)> {
    let wrong = || {
        Error::input("the embedding column has a type that holds no embeddings")
            .expected(
                "list, large_list or fixed_size_list of float16, float32 or float64, or fixed_size_binary with --dtype",
            )
            .found(data_type.to_string())
            .remedy("name the right column, or cast it before mining")
    };
    let store_type = |item: &DataType| match item {
        DataType::Float16 => Ok(StoreType::F16),
        DataType::Float32 | DataType::Float64 => Ok(StoreType::F32),
        _ => Err(wrong()),
    };
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => Ok((None, store_type(item.data_type())?)),
        DataType::FixedSizeList(item, length) => {
            let length = usize::try_from(*length).unwrap_or(0);
            Ok((Some(length), store_type(item.data_type())?))
        }
        DataType::FixedSizeBinary(width) => {
            let Some(dtype) = dtype else {
                return Err(wrong().remedy("say what the bytes are: --dtype f16, f32 or f64"));
            };
            let width = usize::try_from(*width).unwrap_or(0);
            if !width.is_multiple_of(dtype.bytes()) {
                return Err(wrong().found(format!("{width} bytes, no multiple of --dtype's {}", dtype.bytes())));
            }
            let store_type = if dtype == BinaryType::F16 { StoreType::F16 } else { StoreType::F32 };
            Ok((Some(width / dtype.bytes()), store_type))
        }
        _ => Err(wrong()),
    }
}
