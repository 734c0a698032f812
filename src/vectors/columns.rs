//! Which column has which role, and what its type says.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};

use super::npy_rows::NpyArray;
use super::shard::{Shard, Source};
use crate::config::{Columns, EmbeddingColumns, IdColumn};
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
/// After those of one column for both sides.
const DOCUMENT_NAMES: &[&str] =
    &["document_embedding", "document_embeddings", "passage_embedding", "corpus_embedding", "positive_embedding"];

/// Finds the columns of each role in the first file.
pub(super) fn resolve(first: &Shard, columns: &Columns) -> Result<Roles> {
    if let Source::Npy(array) = &first.source {
        return roles_of_npy(first, array, columns);
    }
    // Labels may be columns of the path. Embeddings are not, and an id is such a column only where it is named.
    let none = Arc::new(Schema::empty());
    let (all, schema) = (first.schema().unwrap_or(&none), first.file_schema().unwrap_or(&none));
    let present = |name: &String| column_type(first, all, name).map(|_| name.clone());
    let (query, positive) = embedding_columns(first, schema, &columns.embeddings)?;
    let shared = positive.is_none() || positive.as_ref() == Some(&query);
    let id = match &columns.id {
        IdColumn::Named(name) => Some(present(name)?),
        IdColumn::Found => schema.field_with_name("id").ok().map(|field| field.name().clone()),
        IdColumn::RowNumber => refuse_column_of_none(first, schema).map(|()| None)?,
    };
    let task = columns.task.as_ref().map(present).transpose()?;
    let keys = columns.keys.iter().map(present).collect::<Result<Vec<_>>>()?;
    Ok(Roles { positive: positive.or_else(|| Some(query.clone())), query: Some(query), shared, id, task, keys })
}

/// Finds the columns of a corpus in its first file: those of the rows' labels that it has, and its own ids.
pub(super) fn resolve_corpus(first: &Shard, columns: &Columns, rows: &Roles) -> Result<Roles> {
    if let Source::Npy(array) = &first.source {
        let named = columns.document.iter().chain(rows.task.as_ref());
        let id = if let IdColumn::Named(name) = &columns.document_id { Some(name) } else { None };
        if let Some(name) = named.chain(id).next() {
            return Err(Error::input("a corpus of .npy files has no columns")
                .path(&first.path)
                .expected("no flag that names a column, and rows without tasks")
                .found(format!("a column {name}"))
                .remedy("write the documents with their columns to Parquet"));
        }
        if !array.is_shared() {
            return Err(Error::input("a corpus has one embedding for each document")
                .path(&first.path)
                .expected("a .npy array of [documents, dimensions]")
                .found("an array of [rows, 2, dimensions]")
                .remedy("name the documents' array alone"));
        }
        return Ok(Roles { query: None, positive: None, shared: true, id: None, task: None, keys: Vec::new() });
    }
    let none = Arc::new(Schema::empty());
    let (all, schema) = (first.schema().unwrap_or(&none), first.file_schema().unwrap_or(&none));
    let has = |name: &&str| schema.field_with_name(name).is_ok();
    let usual = SHARED_NAMES.iter().chain(DOCUMENT_NAMES).copied().find(has).map(str::to_owned);
    let embedding = match &columns.document {
        Some(name) => column_type(first, schema, name).map(|_| name.clone())?,
        None => usual.ok_or_else(|| {
            Error::input("no embedding column was found in the corpus")
                .path(&first.path)
                .expected(format!("one of: {}", [SHARED_NAMES, DOCUMENT_NAMES].concat().join(", ")))
                .found(format!("columns {}", names_of(schema)))
                .remedy("name it with --document-column")
        })?,
    };
    let id = match &columns.document_id {
        IdColumn::Named(name) => column_type(first, all, name).map(|_| Some(name.clone()))?,
        IdColumn::Found => Some("id".to_owned()).filter(|name| has(&name.as_str())),
        IdColumn::RowNumber => None,
    };
    let task = rows.task.as_ref().map(|name| match all.field_with_name(name) {
        Ok(_) => Ok(name.clone()),
        Err(_) => Err(Error::input("the corpus has no column of tasks")
            .path(&first.path)
            .column(name)
            .expected("each document's task, in a column of the same name as that of the rows")
            .found(format!("columns {}", names_of(all)))
            .remedy("add the column, or mine without --task-column")),
    });
    let task = task.transpose()?;
    let keys = rows.keys.iter().filter(|name| all.field_with_name(name).is_ok()).cloned().collect();
    Ok(Roles { query: Some(embedding.clone()), positive: Some(embedding), shared: true, id, task, keys })
}

fn roles_of_npy(first: &Shard, array: &NpyArray, columns: &Columns) -> Result<Roles> {
    let id = if let IdColumn::Named(name) = &columns.id { Some(name) } else { None };
    let embeddings = match &columns.embeddings {
        EmbeddingColumns::Shared(name) => Some(name),
        EmbeddingColumns::Pair { query, positive } => query.as_ref().or(positive.as_ref()),
    };
    if let Some(name) = columns.task.iter().chain(id).chain(&columns.keys).chain(embeddings).next() {
        return Err(Error::input(".npy files have no columns")
            .path(&first.path)
            .expected("no flag that names a column")
            .found(format!("a column {name}"))
            .remedy("write the embeddings with their columns to Parquet"));
    }
    let shared = array.is_shared();
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
/// There is no such column, or more than one.
pub(super) fn column_type<'s>(shard: &Shard, schema: &'s Schema, name: &str) -> Result<&'s DataType> {
    let mut fields = schema.fields().iter().filter(|field| field.name() == name);
    let field = fields.next().ok_or_else(|| {
        Error::input("no such column")
            .path(&shard.path)
            .column(name)
            .expected(format!("one of: {}", names_of(schema)))
            .found("no column of this name")
            .remedy("check the spelling; names are case-sensitive")
    })?;
    match fields.count() {
        0 => Ok(field.data_type()),
        others => Err(Error::input("a column's name is there more than once")
            .path(&shard.path)
            .column(name)
            .expected("one column of this name")
            .found(format!("{}", others + 1))
            .remedy("give each column a name of its own, and write the file again")),
    }
}

/// Fails where `--id-column none` could mean a column.
fn refuse_column_of_none(first: &Shard, schema: &Schema) -> Result<()> {
    match schema.field_with_name("none") {
        Err(_) => Ok(()),
        Ok(_) => Err(Error::input("--id-column none means no column, and there is one of this name")
            .path(&first.path)
            .column("none")
            .expected("no column called none")
            .found("one")
            .remedy("rename the column")),
    }
}
