//! The input's files as later steps see them: mapped, with their number of rows and their identity.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use xxhash_rust::xxh3::xxh3_64;

use super::arrow_ipc::ArrowFile;
use super::file_content::FileContent;
use super::in_memory::MemoryRows;
use super::input::PartitionValue;
use super::input_bytes::FileBytes;
use super::npy_rows::NpyArray;
use super::row::ROWS_MAX;
use super::stored_bytes::range_of;
use crate::error::{Error, Result};
use crate::objects::StoredFile;
use crate::regular;
use crate::run::record::{FileIdentity, FilePlace, Roles};

/// An input file: what it is, and where.
#[derive(Debug, Clone)]
pub(crate) struct ShardFile {
    /// Path as it was found.
    pub(crate) path: PathBuf,
    pub(crate) identity: FileIdentity,
    pub(crate) place: FilePlace,
}

/// One input file, or the two that hold both sides of the same rows; mapped.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    /// Path as it was found.
    pub(crate) path: PathBuf,
    /// Ordinal of its first row in the whole input.
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    pub(crate) source: Source,
    /// The file; of `.npy` files of both sides, first that of the queries.
    pub(crate) files: Vec<ShardFile>,
    /// Ordinal of its first file among all files of the input.
    pub(crate) first_file: usize,
    /// Columns with one value in all rows, which the file itself does not have.
    partitions: Vec<PartitionValue>,
    /// All columns; `None` for `.npy`.
    schema: Option<Arc<Schema>>,
    /// The columns that are used, once that is known.
    used: Option<Arc<[String]>>,
}

/// The kinds of input files.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Parquet {
        bytes: FileBytes,
        /// Its footer. The row groups' numbers of rows add up to the shard's.
        metadata: ArrowReaderMetadata,
    },
    /// An Arrow IPC file or stream.
    Arrow(Arc<ArrowFile>),
    /// A `.npy` array of [rows, dim] or [rows, 2, dim].
    Npy(NpyArray),
    /// Columns that somebody holds in memory.
    Memory(MemoryRows),
}

impl Shard {
    /// A file that is the first of the input, and has no columns but its own.
    pub(super) fn new(path: &Path, rows: u64, files: Vec<ShardFile>, source: Source) -> Shard {
        let shard = Shard {
            path: path.to_owned(),
            first_row: 0,
            rows,
            source,
            files,
            first_file: 0,
            partitions: Vec::new(),
            schema: None,
            used: None,
        };
        Shard { schema: shard.file_schema().cloned(), ..shard }
    }

    /// The shard with the columns of its path. A column of the file itself is the stronger one.
    pub(super) fn with_partitions(mut self, mut partitions: Vec<PartitionValue>) -> Shard {
        let Some(own) = self.file_schema() else { return self };
        partitions.retain(|column| own.field_with_name(&column.name).is_err());
        let more = partitions.iter().map(|column| Arc::new(Field::new(&column.name, DataType::Utf8, true)));
        let fields: Vec<_> = own.fields().iter().cloned().chain(more).collect();
        self.schema = Some(Arc::new(Schema::new(fields)));
        self.partitions = partitions;
        self
    }

    /// The shard, read in another way: the same rows, columns and files.
    pub(super) fn read_from(&self, source: Source) -> Shard {
        Shard { source, ..self.clone() }
    }

    /// The Arrow schema of all columns; `None` for `.npy`.
    pub(crate) fn schema(&self) -> Option<&Arc<Schema>> {
        self.schema.as_ref()
    }

    /// The Arrow schema of the columns in the file itself; `None` for `.npy`.
    pub(crate) fn file_schema(&self) -> Option<&Arc<Schema>> {
        match &self.source {
            Source::Parquet { metadata, .. } => Some(metadata.schema()),
            Source::Arrow(file) => Some(file.schema()),
            Source::Memory(rows) => Some(rows.schema()),
            Source::Npy(_) => None,
        }
    }

    /// A column that has one value in all rows, by its name.
    pub(super) fn partition(&self, name: &str) -> Option<&PartitionValue> {
        self.partitions.iter().find(|column| column.name == name)
    }

    /// Whether a column is one of the path, and not of the file itself.
    pub(crate) fn is_of_path(&self, name: &str) -> bool {
        self.partition(name).is_some()
    }

    /// Bytes of all of its files.
    pub(crate) fn input_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.identity.bytes).sum()
    }

    /// The bytes of each of its files, without blocks that have nothing but columns that are not used.
    pub(crate) fn contents(&self) -> Vec<FileContent<'_>> {
        match &self.source {
            Source::Parquet { bytes, metadata } => {
                let columns = self.used.as_deref().map_or_else(Vec::new, |used| columns_of(metadata.metadata(), used));
                let content = match bytes {
                    FileBytes::Mapped(bytes) => FileContent::held(bytes),
                    FileBytes::Stored(stored) => FileContent::stored(stored.file()),
                };
                vec![content.of_columns(columns)]
            }
            Source::Arrow(file) => vec![FileContent::held(file.bytes())],
            Source::Memory(rows) => rows.contents().map(FileContent::held).collect(),
            Source::Npy(array) => {
                let sides = std::iter::once(&array.queries).chain(&array.positives);
                sides.map(|side| FileContent::held(side.mapped.bytes())).collect()
            }
        }
    }

    /// Says which columns are used. A column of the path that is used is a part of what the file is: in another folder
    /// it has other labels.
    pub(crate) fn use_columns(&mut self, roles: &Roles) {
        let used: Vec<String> = roles.names().map(str::to_owned).collect();
        let columns = self.partitions.iter().filter(|column| used.contains(&column.name));
        let columns = columns.map(|column| (column.name.clone(), column.value.clone())).collect();
        if let Some(file) = self.files.first_mut() {
            file.identity.path_columns = columns;
        }
        self.used = Some(used.into());
    }

    /// The file, if it is in a store.
    pub(crate) fn stored(&self) -> Option<&StoredFile> {
        match &self.source {
            Source::Parquet { bytes: FileBytes::Stored(stored), .. } => Some(stored.file()),
            _ => None,
        }
    }

    /// Fails if a file has changed since it was opened: what was read would be of no one version.
    ///
    /// # Errors
    /// The size or the time is another, or a file cannot be examined.
    pub(super) fn refuse_changed(&self) -> Result<()> {
        match (&self.source, self.stored()) {
            (Source::Memory(_), _) => Ok(()),
            (_, Some(stored)) => stored.refuse_changed(),
            _ => self.files.iter().try_for_each(ShardFile::refuse_changed),
        }
    }
}

impl ShardFile {
    /// Examines a file; `footer`: the bytes of its footer or header.
    ///
    /// # Errors
    /// The file cannot be examined.
    pub(super) fn new(path: &Path, footer: &[u8]) -> Result<ShardFile> {
        let failed = |e| Error::io("a file cannot be examined", path, e);
        let meta = path.metadata().map_err(failed)?;
        let modified = meta.modified().map_err(failed)?;
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        // The manifest names the file, and an export finds it there.
        let real = regular::utf8_path(path, "an input file")?;
        let footer = format!("{:016x}", xxh3_64(footer));
        Ok(ShardFile {
            path: path.to_owned(),
            identity: FileIdentity { bytes: meta.len(), footer, content: None, path_columns: Vec::new() },
            place: FilePlace { path: real.display().to_string(), modified_ns: since.as_nanos() as u64, version: None },
        })
    }

    /// A file in a store.
    pub(super) fn stored(file: &StoredFile, footer: &[u8]) -> ShardFile {
        let footer = format!("{:016x}", xxh3_64(footer));
        let (modified_ns, version) = (file.modified_ns(), file.version().map(str::to_owned));
        ShardFile {
            path: PathBuf::from(file.url()),
            identity: FileIdentity { bytes: file.bytes(), footer, content: None, path_columns: Vec::new() },
            place: FilePlace { path: file.url().to_owned(), modified_ns, version },
        }
    }

    /// A buffer in memory: of so many bytes, with words that say what it holds, seen at a time.
    pub(super) fn in_memory(path: PathBuf, bytes: u64, what: &[u8], modified_ns: u64) -> ShardFile {
        let footer = format!("{:016x}", xxh3_64(what));
        let place = FilePlace { path: path.display().to_string(), modified_ns, version: None };
        let identity = FileIdentity { bytes, footer, content: None, path_columns: Vec::new() };
        ShardFile { path, identity, place }
    }

    fn refuse_changed(&self) -> Result<()> {
        let meta = self.path.metadata().map_err(|e| Error::io("a file cannot be examined", &self.path, e))?;
        let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.map_or(0, |since| since.as_nanos() as u64);
        if (meta.len(), modified) == (self.identity.bytes, self.place.modified_ns) {
            return Ok(());
        }
        Err(Error::input("an input file changed while it was read")
            .path(&self.path)
            .expected("files that stay as they are")
            .found("another size or time")
            .remedy("run again when the file is complete"))
    }
}

/// Where the columns of all row groups lie, and whether they are used.
fn columns_of(metadata: &ParquetMetaData, used: &[String]) -> Vec<(Range<u64>, bool)> {
    let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let is_used =
        |column: &ColumnChunkMetaData| column.column_path().parts().first().is_some_and(|root| used.contains(root));
    columns.map(|column| (range_of(column), is_used(column))).collect()
}

/// The error for an input that no job can take; `path`: its first file.
pub(super) fn rows_out_of_range(path: &Path, rows: u64, files: usize) -> Error {
    Error::input("the number of rows is out of range")
        .path(path)
        .expected(format!("from 1 to {ROWS_MAX} rows"))
        .found(format!("{rows} rows in {files} files"))
        .remedy("check that these are the files you mean")
}
