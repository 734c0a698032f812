//! The files that a run was mined from, as the export reads them: checked to be unchanged, with their text columns.
//!
//! Only footers are read here. [`Sources::scan`] is the lazy frame that joins are made with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use indicatif::HumanCount;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use polars::prelude::*;

use super::settings::ExportSettings;
use crate::error::{Error, Result};
use crate::run::RunReader;
use crate::run::record::{Roles, VectorsFacts, VectorsSettings};
use crate::vectors::{FileKind, ROWS_MAX, Shard, Source, find, is_same, kind_of, open_parquet};

const QUERY_NAMES: &[&str] =
    &["query", "anchor", "question", "query_text", "qry", "sentence1", "sentence_0", "instruction"];
const POSITIVE_NAMES: &[&str] = &[
    "positive",
    "passage",
    "document",
    "doc",
    "answer",
    "pos",
    "pos_text",
    "positive_text",
    "passage_text",
    "document_text",
    "sentence2",
    "sentence_1",
    "response",
];
const SHARED_NAMES: &[&str] = &["text", "sentence", "content"];
/// Column of a scan: the row's number in the input. No source is likely to have this name, or the next two.
pub(crate) const ROW: &str = "__batchmine_row";
/// Column of a scan: the query's text.
pub(crate) const QUERY: &str = "__batchmine_query";
/// Column of a scan: the positive's text.
pub(crate) const POSITIVE: &str = "__batchmine_positive";
/// Bytes of a decoded text beside its characters: a view.
const VIEW_BYTES: u64 = 16;

/// The source files and the columns that an export reads.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Files in the input's order.
    pub paths: Vec<PathBuf>,
    /// Rows of all files.
    pub rows: u64,
    /// Column of the queries' texts.
    pub query: String,
    /// Column of the positives' texts; the queries' own where one column serves both.
    pub positive: String,
    /// Other columns that tables can keep: strings, booleans, numbers of 32 or 64 bits.
    pub kept: Vec<String>,
    /// The columns that a scan may select, and the types that they are read as.
    schema: SchemaRef,
    /// Decoded bytes of both texts in the largest row group.
    pub group_bytes: u64,
}

impl Sources {
    /// Finds the files of a run, or those given in their place, and the text columns.
    ///
    /// # Errors
    /// A file is gone or has changed, has no texts, or has another number of rows.
    pub(crate) fn open(run: &RunReader, settings: &ExportSettings) -> Result<Sources> {
        let recorded: VectorsSettings = run.settings()?;
        let roles = &recorded.columns;
        let shards = match settings.source.is_empty() {
            true => open_recorded(run, &recorded)?,
            false => given(&settings.source)?,
        };
        let rows = shards.iter().fold(0, |rows: u64, shard| rows.saturating_add(shard.rows));
        let expected = run.facts::<VectorsFacts>()?.rows;
        if rows != expected || rows > ROWS_MAX {
            return Err(Error::input("the sources do not have the run's rows")
                .path(&shards[0].path)
                .expected(format!("{expected} rows, one for each row that was mined, in the same order"))
                .found(format!("{rows} rows in {} files", shards.len()))
                .remedy("give the files that hold the texts of exactly the mined rows to --source"));
        }
        let (query, positive) = text_columns(&shards[0], schema_of(&shards[0]), settings, roles.shared)?;
        for shard in &shards {
            expect_text(shard, &query)?;
            expect_text(shard, &positive)?;
        }
        let groups = shards.iter().flat_map(|shard| groups_of(shard).iter());
        let group_bytes = groups.map(|group| text_bytes(group, [&query, &positive])).max().unwrap_or(0);
        let kept = kept_columns(&shards, roles, [&query, &positive]);
        let named = [&query, &positive].into_iter().chain(&kept);
        let read_as = |name: &String| (name.as_str().into(), engine_type(kind_of(&shards[0], name)));
        let schema = Arc::new(named.map(read_as).collect::<polars::prelude::Schema>());
        let paths = shards.into_iter().map(|shard| shard.path).collect();
        Ok(Sources { paths, rows, query, positive, kept, schema, group_bytes })
    }

    /// All files as one lazy frame of some columns, rows numbered in the input's order as [`ROW`].
    ///
    /// # Errors
    /// None in practice: files are read when the frame is.
    pub(crate) fn scan(&self, columns: Vec<Expr>) -> PolarsResult<LazyFrame> {
        let paths = self.paths.iter().map(|path| PlRefPath::new(path.to_string_lossy())).collect();
        let hive = polars::io::HiveOptions { enabled: Some(false), ..Default::default() };
        let arguments = UnifiedScanArgs {
            glob: false,
            hive_options: hive,
            row_index: Some(polars::io::RowIndex { name: ROW.into(), offset: 0 }),
            // Files may differ in columns that are not selected, and in how they store those that are.
            extra_columns_policy: ExtraColumnsPolicy::Ignore,
            cast_columns_policy: CastColumnsPolicy {
                categorical_to_string: true,
                ..CastColumnsPolicy::ERROR_ON_MISMATCH
            },
            ..Default::default()
        };
        let options = ParquetOptions { schema: Some(self.schema.clone()), ..Default::default() };
        let plan = DslBuilder::scan_parquet(ScanSources::Paths(paths), options, arguments)?.build();
        let all: Vec<Expr> = std::iter::once(col(ROW)).chain(columns).collect();
        Ok(LazyFrame::from(plan).select(all))
    }

    /// The two texts, under the names [`QUERY`] and [`POSITIVE`].
    pub(crate) fn texts(&self) -> Vec<Expr> {
        vec![col(self.query.as_str()).alias(QUERY), col(self.positive.as_str()).alias(POSITIVE)]
    }
}

/// The name of a kept column in a frame, where other columns may have its own name.
pub(crate) fn kept_name(name: &str) -> String {
    format!("__batchmine_kept_{name}")
}

/// The type that a column is read as. Strings may be stored in another way in other files.
fn engine_type(kind: &DataType) -> polars::prelude::DataType {
    use polars::prelude::DataType as Engine;
    match kind {
        DataType::Boolean => Engine::Boolean,
        DataType::Float32 => Engine::Float32,
        DataType::Float64 => Engine::Float64,
        DataType::Int32 => Engine::Int32,
        DataType::Int64 => Engine::Int64,
        DataType::UInt32 => Engine::UInt32,
        DataType::UInt64 => Engine::UInt64,
        _ => Engine::String,
    }
}

/// The files where the manifest saw them last, each with the content that was mined. Those that were written or moved
/// meanwhile are hashed.
fn open_recorded(run: &RunReader, recorded: &VectorsSettings) -> Result<Vec<Shard>> {
    let places = &run.manifest().inputs;
    let paths: Vec<PathBuf> = places.iter().map(|place| PathBuf::from(&place.path)).collect();
    let Some(first) = paths.first() else {
        return Err(Error::runtime("the manifest names no input files").remedy("mine again into a new folder"));
    };
    let gone = |path: &PathBuf| {
        Error::input("a file that was mined is gone")
            .path(path)
            .expected("the input files where they were")
            .found("nothing at this path")
            .remedy(
                "bring it back, or repeat the `mine` command with its new place: it finds the same content and mines \
                 nothing. Or give the files that hold the texts to --source",
            )
    };
    if let Some(path) = paths.iter().find(|path| !path.exists()) {
        return Err(gone(path));
    }
    for path in &paths {
        refuse_textless(path, kind_of(path)?)?;
    }
    let shards = open_parquet(&paths)?;
    for ((shard, identity), place) in shards.iter().zip(&recorded.inputs).zip(places) {
        let (file, bytes) = (&shard.files[0], shard.contents()[0]);
        if !is_same((identity, place), (&file.identity, &file.place), bytes)? {
            return Err(Error::input("a file has changed since it was mined")
                .path(&shard.path)
                .expected(format!("the {} bytes that were mined", HumanCount(identity.bytes)))
                .found(format!("{} bytes, with another content", HumanCount(file.identity.bytes)))
                .remedy("mine again, or give files with the mined rows in the same order to --source"));
        }
    }
    Ok(shards)
}

/// The files that the user gave instead.
fn given(source: &[String]) -> Result<Vec<Shard>> {
    let files = find(source)?;
    files.iter().try_for_each(|file| refuse_textless(&file.path, file.kind))?;
    let paths: Vec<PathBuf> = files.into_iter().map(|file| file.path).collect();
    open_parquet(&paths)
}

/// Fails on a kind of file that texts are not read from.
fn refuse_textless(path: &Path, kind: FileKind) -> Result<()> {
    let found = match kind {
        FileKind::Parquet => return Ok(()),
        FileKind::Npy => "a .npy file, which holds no texts",
        FileKind::Arrow => "an Arrow file: texts are read from Parquet only",
    };
    Err(Error::input("a file is no source of texts")
        .path(path)
        .expected("Parquet files with the texts")
        .found(found)
        .remedy("give Parquet files with the texts, one row for each mined row in the same order, to --source"))
}

fn schema_of(shard: &Shard) -> &Schema {
    shard.schema().expect("only Parquet files come here")
}

fn kind_of<'a>(shard: &'a Shard, column: &str) -> &'a DataType {
    schema_of(shard).field_with_name(column).map_or(&DataType::Null, |field| field.data_type())
}

fn groups_of(shard: &Shard) -> &[RowGroupMetaData] {
    match &shard.source {
        Source::Parquet { metadata, .. } => metadata.metadata().row_groups(),
        Source::Arrow(_) | Source::Npy(_) => &[],
    }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// The columns named by the user, else those of the usual names.
fn text_columns(first: &Shard, schema: &Schema, settings: &ExportSettings, shared: bool) -> Result<(String, String)> {
    let usual = |names: &[&str]| {
        let found = names.iter().find(|name| schema.field_with_name(name).is_ok_and(|f| is_text(f.data_type())));
        found.map(|name| (*name).to_owned())
    };
    let query = settings.query_text.clone().or_else(|| usual(QUERY_NAMES));
    let positive = settings.positive_text.clone().or_else(|| usual(POSITIVE_NAMES));
    match (query, positive, usual(SHARED_NAMES)) {
        (Some(query), Some(positive), _) => Ok((query, positive)),
        // Where one embedding serves both sides, so does one text.
        (Some(query), None, _) if shared => Ok((query.clone(), query)),
        (None, Some(positive), _) if shared => Ok((positive.clone(), positive)),
        (None, None, Some(text)) => Ok((text.clone(), text)),
        (query, ..) => {
            let (side, names) = if query.is_none() { ("query", QUERY_NAMES) } else { ("positive", POSITIVE_NAMES) };
            Err(Error::input(format!("no column of {side} texts was found"))
                .path(&first.path)
                .expected(format!("one of: {}; or one column for both: {}", names.join(", "), SHARED_NAMES.join(", ")))
                .found(format!("columns {}", names_of(schema)))
                .remedy(format!("name it with --{side}-text, or give files that hold the texts to --source")))
        }
    }
}

fn expect_text(shard: &Shard, name: &str) -> Result<()> {
    let schema = schema_of(shard);
    let wrong = |found: String, remedy: &str| {
        Error::input("not a column of texts")
            .path(&shard.path)
            .column(name)
            .expected("a column of strings")
            .found(found)
            .remedy(remedy)
    };
    match schema.field_with_name(name) {
        Ok(field) if is_text(field.data_type()) => Ok(()),
        Ok(field) => {
            Err(wrong(field.data_type().to_string(), "name a string column with --query-text and --positive-text"))
        }
        Err(_) => Err(wrong(
            format!("no column of this name among {}", names_of(schema)),
            "check the spelling; names are case-sensitive, and every file needs the column",
        )),
    }
}

fn names_of(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

/// Columns of all files that hold strings, booleans or numbers of 32 or 64 bits, and are neither texts.
fn kept_columns(shards: &[Shard], roles: &Roles, texts: [&String; 2]) -> Vec<String> {
    let embeddings = [roles.query.as_ref(), roles.positive.as_ref()];
    let plain = |kind: &DataType| {
        use DataType::{Boolean, Float32, Float64, Int32, Int64, UInt32, UInt64};
        is_text(kind) || matches!(kind, Boolean | Float32 | Float64 | Int32 | Int64 | UInt32 | UInt64)
    };
    let fields = schema_of(&shards[0]).fields().iter();
    let kept = fields.filter(|field| {
        let name = field.name();
        plain(field.data_type())
            && !embeddings.contains(&Some(name))
            && !texts.contains(&name)
            && shards
                .iter()
                .all(|s| schema_of(s).field_with_name(name).is_ok_and(|f| f.data_type() == field.data_type()))
    });
    kept.map(|field| field.name().clone()).collect()
}

/// Bytes of two columns of a row group, decoded.
fn text_bytes(group: &RowGroupMetaData, texts: [&String; 2]) -> u64 {
    let rows = u64::try_from(group.num_rows()).unwrap_or(0);
    let named =
        |column: &&ColumnChunkMetaData| column.column_path().parts().first().is_some_and(|name| texts.contains(&name));
    let bytes = |column: &ColumnChunkMetaData| {
        // With a dictionary, decoded texts share its bytes.
        u64::try_from(column.uncompressed_size()).unwrap_or(0).saturating_add(VIEW_BYTES.saturating_mul(rows))
    };
    group.columns().iter().filter(named).map(bytes).fold(0, u64::saturating_add)
}
