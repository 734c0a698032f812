//! The files that a run was mined from, as the export reads them: checked to be unchanged, with their text columns.
//!
//! Only footers are read here. [`Sources::scan`] is the lazy frame that joins are made with.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::DataType;
use parquet::basic::Encoding;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use polars::prelude::*;

use super::settings::{ExportSettings, Format};
use crate::batches::texts::TextSource;
use crate::batches::texts::columns::{TEXT_TYPES, both, expect_text, is_text, sides};
use crate::batches::texts::files::{self, schema_of};
use crate::error::{Error, Result};
use crate::run::RunReader;
use crate::run::record::{Roles, VectorsSettings};
use crate::vectors::{FileKind, Shard, Source, Unit, open_file};

/// Column of a scan: the row's number in the input. No source is likely to have this name, or the next two.
pub(crate) const ROW: &str = "__batchmine_row";
/// Column of a scan: the query's text.
pub(crate) const QUERY: &str = "__batchmine_query";
/// Column of a scan: the positive's text.
pub(crate) const POSITIVE: &str = "__batchmine_positive";
/// Image paths of the queries, for trainers that read images.
pub(crate) const QUERY_IMAGE: &str = "qry_image_path";
/// The same of the positives.
pub(crate) const IMAGE: &str = "pos_image_path";
/// Rows that are read at a time where a fault is looked for.
const ROWS_READ: usize = 1024;
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
    /// Texts are stored as differences, in pages whose decoder reserves what they claim.
    pub has_deltas: bool,
}

impl Sources {
    /// Finds the files of a run, or those given in their place, and the text columns.
    ///
    /// # Errors
    /// A file is gone or has changed, has no texts, or has another number of rows.
    pub(crate) fn open(run: &RunReader, settings: &ExportSettings) -> Result<Sources> {
        let recorded: VectorsSettings = run.settings()?;
        let roles = &recorded.columns;
        let asked = TextSource {
            query: settings.query_text.clone(),
            positive: settings.positive_text.clone(),
            source: settings.source.clone(),
        };
        let mut shards = files::open(run, &recorded, &asked.source)?;
        if let Some(other) = shards.iter().find(|shard| !matches!(shard.source, Source::Parquet { .. })) {
            return Err(Error::input("an export reads texts from Parquet only")
                .path(&other.path)
                .expected("Parquet files with the texts")
                .found("an Arrow file")
                .remedy(
                    "write it as Parquet, one row for each mined row in the same order, and name it with --source",
                ));
        }
        let rows = shards.iter().fold(0, |rows: u64, shard| rows.saturating_add(shard.rows));
        // A file without rows has no texts, whatever the types of its columns are.
        shards.retain(|shard| shard.rows > 0);
        let Some(first) = shards.first() else {
            return Err(Error::runtime("the run has no rows").remedy("mine again into a new folder"));
        };
        let (query, positive) = both(sides(schema_of(first), &asked, roles), &first.path, schema_of(first))?;
        for shard in &shards {
            expect_text(&shard.path, schema_of(shard), &query, "--query-text")?;
            expect_text(&shard.path, schema_of(shard), &positive, "--positive-text")?;
        }
        for unit in Unit::all(&shards) {
            unit.refuse_large_pages(&[&query, &positive])?;
        }
        if settings.format == Format::B3 {
            image_paths(&shards)?;
        }
        let groups = shards.iter().flat_map(|shard| groups_of(shard).iter());
        let group_bytes = groups.map(|group| text_bytes(group, [&query, &positive])).max().unwrap_or(0);
        let [kept, left] = kept_columns(&shards, roles, [&query, &positive]);
        if settings.format == Format::B3 && !left.is_empty() {
            tracing::warn!(
                "columns that are not copied, since their type is another or differs between files: {}",
                left.join(", ")
            );
        }
        let named = [&query, &positive].into_iter().chain(&kept);
        let read_as = |name: &String| (name.as_str().into(), engine_type(kind_of(&shards[0], name)));
        let schema = Arc::new(named.map(read_as).collect::<polars::prelude::Schema>());
        let has_deltas = shards.iter().any(|shard| has_deltas(shard, [&query, &positive]));
        let paths = shards.into_iter().map(|shard| shard.path).collect();
        Ok(Sources { paths, rows, query, positive, kept, schema, group_bytes, has_deltas })
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

    /// Reads the texts once more, by another way: the error of the first file that cannot be read, if there is one.
    pub(crate) fn first_fault(&self) -> Option<Error> {
        let texts = if self.query == self.positive { vec![&*self.query] } else { vec![&*self.query, &*self.positive] };
        let read = |path: &PathBuf| {
            let shard = open_file(path, FileKind::Parquet)?;
            let units = Unit::all(std::slice::from_ref(&shard));
            units.iter().try_for_each(|unit| unit.for_each_batch(&texts, ROWS_READ, |_, _| Ok(())))
        };
        self.paths.iter().find_map(|path| read(path).err())
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

fn kind_of<'a>(shard: &'a Shard, column: &str) -> &'a DataType {
    schema_of(shard).field_with_name(column).map_or(&DataType::Null, |field| field.data_type())
}

fn groups_of(shard: &Shard) -> &[RowGroupMetaData] {
    match &shard.source {
        Source::Parquet { metadata, .. } => metadata.metadata().row_groups(),
        Source::Arrow(_) | Source::Npy(_) => &[],
    }
}

/// The image paths of both sides, where the sources have any: the trainer takes empty ones for none.
///
/// # Errors
/// A column of that name holds something else than strings, or some files lack it.
fn image_paths(shards: &[Shard]) -> Result<()> {
    for name in [QUERY_IMAGE, IMAGE] {
        if !shards.iter().any(|shard| schema_of(shard).field_with_name(name).is_ok()) {
            continue;
        }
        for shard in shards {
            let kind = schema_of(shard).field_with_name(name).map(|field| field.data_type());
            let found = match kind {
                Ok(kind) if is_text(kind) => continue,
                Ok(kind) => kind.to_string(),
                Err(_) => "no column of this name, which other files have".into(),
            };
            return Err(Error::input("image paths are no strings")
                .path(&shard.path)
                .column(name)
                .expected(TEXT_TYPES)
                .found(found)
                .remedy(
                    "write the paths as strings into every file, or rename the column: then no image is exported",
                ));
        }
    }
    Ok(())
}

/// Columns of the first file beside embeddings and texts: those that hold strings, booleans or numbers of 32 or 64
/// bits in all files, and the others.
fn kept_columns(shards: &[Shard], roles: &Roles, texts: [&String; 2]) -> [Vec<String>; 2] {
    let embeddings = [roles.query.as_ref(), roles.positive.as_ref()];
    let plain = |kind: &DataType| {
        use DataType::{Boolean, Float32, Float64, Int32, Int64, UInt32, UInt64};
        is_text(kind) || matches!(kind, Boolean | Float32 | Float64 | Int32 | Int64 | UInt32 | UInt64)
    };
    let same = |name: &str, kind: &DataType| {
        shards.iter().all(|shard| {
            let other = schema_of(shard).field_with_name(name).map(|field| field.data_type());
            other.is_ok_and(|other| other == kind || is_text(other) && is_text(kind))
        })
    };
    let fields = schema_of(&shards[0]).fields().iter();
    let others = fields.filter(|field| !embeddings.contains(&Some(field.name())) && !texts.contains(&field.name()));
    let (kept, left): (Vec<_>, Vec<_>) =
        others.partition(|field| plain(field.data_type()) && same(field.name(), field.data_type()));
    [kept, left].map(|fields| fields.iter().map(|field| field.name().clone()).collect())
}

/// Whether a file has texts in the encodings whose lengths are stored as differences.
fn has_deltas(shard: &Shard, texts: [&String; 2]) -> bool {
    let chunks = groups_of(shard).iter().flat_map(RowGroupMetaData::columns);
    let mut named =
        chunks.filter(|chunk| chunk.column_path().parts().first().is_some_and(|name| texts.contains(&name)));
    named.any(|chunk| {
        chunk.encodings().any(|known| matches!(known, Encoding::DELTA_BYTE_ARRAY | Encoding::DELTA_LENGTH_BYTE_ARRAY))
    })
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
