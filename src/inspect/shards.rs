//! Files that `mine` may take: their columns, what `mine` would take each for, and a look at their first row.

use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::line::one_line;
use crate::batches::texts::TextSource;
use crate::batches::texts::columns::{is_text, sides};
use crate::config::{Columns, EmbeddingColumns};
use crate::error::{Error, Result};
use crate::regular::text_of;
use crate::run::record::Roles;
use crate::vectors::dot::dot;
use crate::vectors::{EmbeddingRows, LabelShape, Shard, Shards, Source, Unit, label_shape, open_files};

/// Rows whose norms are sampled.
const SAMPLE_ROWS: usize = 1000;
/// Elements of a list that are shown.
const ELEMENTS: usize = 6;
/// Characters of a value that are shown.
const VALUE_CHARS: usize = 60;

/// Input files.
#[derive(Debug, Serialize)]
pub(crate) struct InputShards {
    path: PathBuf,
    rows: u64,
    bytes: u64,
    /// Dimensions of an embedding; null where `mine` would refuse the files.
    dimensions: Option<usize>,
    /// The columns that `mine` would take without flags; null where it would refuse the files, and for `.npy`.
    roles: Option<Roles>,
    /// Why `mine` would refuse the files.
    refused: Option<String>,
    /// Columns of the first file; none for `.npy`.
    columns: Vec<InputColumn>,
    files: Vec<InspectedFile>,
    norms: Vec<ColumnNorms>,
}

#[derive(Debug, Serialize)]
struct InspectedFile {
    path: PathBuf,
    rows: u64,
    /// Row groups, or stretches of a `.npy` file, that are read at a time.
    row_groups: usize,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct InputColumn {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// Other types that the column has in other files; `absent` where a file lacks it.
    other_types: Vec<String>,
    /// What the column is taken for, or may be.
    role: ColumnRole,
    /// Nulls by the footers' statistics, of all files; null where a footer has none, and for lists and structs.
    nulls: Option<u64>,
    /// Value of the first row, shortened.
    first: Option<String>,
}

/// What a column is to `mine`, to `export`, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ColumnRole {
    QueryEmbedding,
    PositiveEmbedding,
    /// One column for both sides.
    Embedding,
    Id,
    /// A column of the path.
    Path,
    QueryText,
    PositiveText,
    /// One column of texts for both sides.
    Text,
    /// Lists of numbers.
    MaybeEmbedding,
    /// One label a row.
    MaybeIdTaskOrKey,
    /// Lists of labels.
    MaybeKey,
    None,
}

impl ColumnRole {
    fn words(self) -> &'static str {
        match self {
            ColumnRole::QueryEmbedding => "query embedding",
            ColumnRole::PositiveEmbedding => "positive embedding",
            ColumnRole::Embedding => "embedding of both sides",
            ColumnRole::Id => "id",
            ColumnRole::Path => "of the path; may be task or key",
            ColumnRole::QueryText => "query text",
            ColumnRole::PositiveText => "positive text",
            ColumnRole::Text => "text of both sides",
            ColumnRole::MaybeEmbedding => "may be an embedding",
            ColumnRole::MaybeIdTaskOrKey => "may be id, task or key",
            ColumnRole::MaybeKey => "may be a key",
            ColumnRole::None => "no role",
        }
    }
}

/// Lengths of the first vectors of a column.
#[derive(Debug, Serialize)]
struct ColumnNorms {
    column: String,
    rows: usize,
    /// Of these, rows that cannot be used.
    unusable: usize,
    least: f64,
    most: f64,
}

impl InputShards {
    /// Opens files as `mine` would, and looks at their first row.
    ///
    /// # Errors
    /// A path is not there, a file cannot be read, or a column that the user named is not there.
    pub(crate) fn read(path: &Path, columns: &Columns) -> Result<InputShards> {
        let inputs = vec![text_of(path)?.to_owned()].into();
        // A damaged file is an error, whatever its columns are.
        let mut list = open_files(&inputs)?;
        let columnar = list.iter().all(|shard| shard.schema().is_some());
        let opened = Shards::open_unlabelled(&inputs, columns);
        let named = !matches!(columns.embeddings, EmbeddingColumns::Pair { query: None, positive: None });
        let (shards, refused) = match opened {
            Ok(shards) => (Some(shards), None),
            Err(error) if named || !columnar => return Err(error),
            Err(error) => (None, Some(error.to_string())),
        };
        if let Some(shards) = &shards {
            list.clone_from(&shards.list);
        }
        let roles = shards.as_ref().map(|shards| shards.roles.clone());
        Ok(InputShards {
            path: path.to_owned(),
            rows: list.iter().fold(0, |sum, shard| sum.saturating_add(shard.rows)),
            bytes: list.iter().map(|shard| shard.input_bytes()).sum(),
            dimensions: shards.as_ref().map(|shards| shards.shape.dim),
            columns: input_columns(&list, roles.as_ref())?,
            roles: roles.filter(|_| columnar),
            refused,
            files: list.iter().map(input_file).collect(),
            norms: shards.as_ref().map_or(Ok(Vec::new()), norms)?,
        })
    }

    pub(crate) fn text(&self) -> String {
        let dimensions = self.dimensions.map_or(String::new(), |dim| format!(" x {dim} dimensions"));
        let mut lines = vec![format!(
            "{} rows{dimensions} in {} files, {}",
            HumanCount(self.rows),
            self.files.len(),
            HumanBytes(self.bytes)
        )];
        if let Some(roles) = &self.roles {
            let name = |role: &Option<String>| role.clone().unwrap_or_else(|| "none".into());
            lines.push(format!(
                "query {}, positive {}{}, id {}",
                name(&roles.query),
                name(&roles.positive),
                if roles.shared { " (one side serves as both)" } else { "" },
                roles.id.clone().unwrap_or_else(|| "row number".into())
            ));
        }
        if let Some(refused) = &self.refused {
            lines.push(format!("`mine` would refuse this input: {refused}"));
        }
        for column in &self.columns {
            let nulls = column.nulls.map_or("nulls unknown".into(), |nulls| format!("{} nulls", HumanCount(nulls)));
            let others = match &column.other_types[..] {
                [] => String::new(),
                others => format!(" (in other files {})", others.join(", ")),
            };
            lines.push(format!("  {:<24} {}{others}", column.name, column.kind));
            let first = column.first.as_deref().unwrap_or("none");
            lines.push(format!("  {:<24}   {}; {nulls}; first row: {first}", "", column.role.words()));
        }
        for file in &self.files {
            let groups = file.row_groups;
            lines.push(format!("{}: {} rows in {groups} row groups", file.path.display(), HumanCount(file.rows)));
        }
        for norms in &self.norms {
            let ColumnNorms { column, rows, unusable, least, most } = norms;
            let bad = match unusable {
                0 => String::new(),
                bad => format!("; {bad} of them cannot be used: `mine --dry-run` names them"),
            };
            lines.push(format!("{column}: norms of the first {rows} rows {least:.4} to {most:.4}{bad}"));
        }
        lines.join("\n")
    }
}

fn input_file(shard: &Shard) -> InspectedFile {
    InspectedFile {
        path: shard.path.clone(),
        rows: shard.rows,
        row_groups: Unit::all(std::slice::from_ref(shard)).len(),
        bytes: shard.input_bytes(),
    }
}

fn input_columns(list: &[Shard], roles: Option<&Roles>) -> Result<Vec<InputColumn>> {
    let Some(schema) = list.first().and_then(Shard::schema) else { return Ok(Vec::new()) };
    let none = Roles { query: None, positive: None, shared: false, id: None, task: None, keys: Vec::new() };
    let texts = sides(schema, &TextSource::default(), roles.unwrap_or(&none));
    let texts = texts.each_ref().map(|side| side.text());
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let first = first_row(list, &names)?;
    let column = |(at, field): (usize, &std::sync::Arc<arrow::datatypes::Field>)| InputColumn {
        name: field.name().clone(),
        kind: field.data_type().to_string(),
        other_types: other_types(list, field.name(), field.data_type()),
        role: match list.iter().any(|shard| shard.is_of_path(field.name())) {
            true => ColumnRole::Path,
            false => role(field.name(), field.data_type(), roles.unwrap_or(&none), texts),
        },
        nulls: nulls(list, field.name(), field.data_type()),
        first: first.get(at).map(value),
    };
    Ok(schema.fields().iter().enumerate().map(column).collect())
}

/// The types that a column has in the files behind the first one, where they differ from the first one's.
fn other_types(list: &[Shard], name: &str, kind: &DataType) -> Vec<String> {
    let mut others: Vec<String> = Vec::new();
    for schema in list.iter().skip(1).filter_map(Shard::schema) {
        let found = schema.field_with_name(name).map_or("absent".to_owned(), |field| field.data_type().to_string());
        if found != kind.to_string() && !others.contains(&found) {
            others.push(found);
        }
    }
    others
}

fn role(name: &str, kind: &DataType, roles: &Roles, [query, positive]: [Option<&str>; 2]) -> ColumnRole {
    let is = |role: &Option<String>| role.as_deref() == Some(name);
    match (is(&roles.query), is(&roles.positive)) {
        (true, true) => return ColumnRole::Embedding,
        (true, false) => return ColumnRole::QueryEmbedding,
        (false, true) => return ColumnRole::PositiveEmbedding,
        (false, false) => {}
    }
    match (query == Some(name), positive == Some(name)) {
        _ if is(&roles.id) => ColumnRole::Id,
        (true, true) => ColumnRole::Text,
        (true, false) => ColumnRole::QueryText,
        (false, true) => ColumnRole::PositiveText,
        (false, false) if is_vector(kind) => ColumnRole::MaybeEmbedding,
        (false, false) => match label_shape(kind) {
            Some(LabelShape::One) => ColumnRole::MaybeIdTaskOrKey,
            Some(LabelShape::List) => ColumnRole::MaybeKey,
            None => ColumnRole::None,
        },
    }
}

/// Whether a column of this type can hold embeddings: lists of floats, or bytes of a fixed length.
fn is_vector(kind: &DataType) -> bool {
    match kind {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            field.data_type().is_floating()
        }
        DataType::FixedSizeBinary(_) => true,
        _ => false,
    }
}

/// Nulls of a column by the statistics of all row groups.
fn nulls(list: &[Shard], name: &str, kind: &DataType) -> Option<u64> {
    if kind.is_nested() && !is_text(kind) {
        return None;
    }
    let mut sum = 0u64;
    for shard in list {
        let Source::Parquet { metadata, .. } = &shard.source else { return None };
        for group in metadata.metadata().row_groups() {
            let mut leaves = group.columns().iter().filter(|leaf| leaf.column_path().parts() == [name.to_owned()]);
            let nulls = leaves.next()?.statistics()?.null_count_opt()?;
            sum = sum.saturating_add(nulls);
        }
    }
    Some(sum)
}

/// Each column's value in the first row; nothing where there is no row.
fn first_row(list: &[Shard], names: &[&str]) -> Result<Vec<ArrayRef>> {
    match Unit::all(list).into_iter().find(|unit| unit.rows > 0) {
        Some(unit) if !names.is_empty() => unit.some_rows(names, &[0]),
        _ => Ok(Vec::new()),
    }
}

/// The first value of an array in one line; of a list its first elements.
fn value(array: &ArrayRef) -> String {
    if array.is_empty() || array.is_null(0) {
        return "null".into();
    }
    let list = array.as_list_opt::<i32>().map(|list| list.value(0));
    let list = list.or_else(|| array.as_list_opt::<i64>().map(|list| list.value(0)));
    let list = list.or_else(|| array.as_fixed_size_list_opt().map(|list| list.value(0)));
    let Some(list) = list else { return one_line(&printed(array, 0), VALUE_CHARS) };
    let elements: Vec<String> = (0..list.len().min(ELEMENTS)).map(|at| one_line(&printed(&list, at), 24)).collect();
    let more = if list.len() > ELEMENTS { format!(", … {} in all", list.len()) } else { String::new() };
    format!("[{}{more}]", elements.join(", "))
}

fn printed(array: &ArrayRef, at: usize) -> String {
    let options = FormatOptions::default().with_null("null").with_display_error(true);
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options);
    formatter.map_or_else(|_| format!("a value of type {}", array.data_type()), |values| values.value(at).to_string())
}

/// Norms of the first rows of each embedding column of Parquet files.
fn norms(shards: &Shards) -> Result<Vec<ColumnNorms>> {
    let units = Unit::all(&shards.list);
    let Some(unit) = units.iter().find(|unit| unit.shard.schema().is_some() && unit.rows > 0) else {
        return Ok(Vec::new());
    };
    let dim = shards.shape.dim;
    let mut columns: Vec<&String> = [&shards.roles.query, &shards.roles.positive].into_iter().flatten().collect();
    columns.dedup();
    let mut found = Vec::new();
    for column in columns {
        let (mut norms, mut unusable) = (Vec::<f64>::new(), 0);
        let read = unit.for_each_batch(&[column], SAMPLE_ROWS, |_, arrays| {
            let embeddings = EmbeddingRows::new(&arrays[0], dim, None)
                .map_err(|(error, row)| unit.place(error, column, Some(row)))?;
            let values = embeddings.values();
            let mut row = vec![0f32; dim];
            let faults = embeddings.faults();
            for index in 0..arrays[0].len() {
                values.copy_f32(index * dim, &mut row);
                let norm = dot(&row, &row).sqrt();
                let whole = faults.binary_search_by_key(&index, |(row, _)| *row).is_err();
                if whole && norm > 0.0 && norm.is_finite() { norms.push(norm) } else { unusable += 1 }
            }
            // One batch is enough; the error only ends the reading.
            Err(Error::runtime("enough"))
        });
        if let Err(error) = read
            && norms.is_empty()
            && unusable == 0
        {
            return Err(error);
        }
        // Where no row can be used, there is no norm.
        let most = norms.iter().copied().fold(0.0, f64::max);
        let least = norms.iter().copied().fold(most, f64::min);
        found.push(ColumnNorms { column: column.clone(), rows: norms.len() + unusable, unusable, least, most });
    }
    Ok(found)
}
