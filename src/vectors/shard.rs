//! Input shards: finding them, mapping them, and agreeing on their columns.
//!
//! A shard is a Parquet file or a `.npy` matrix. Only footers and headers are read here; the values
//! are decoded by [`super::decode`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::PageIndexPolicy;
use xxhash_rust::xxh3::xxh3_64;

use super::columns::{dimensions, resolve};
use super::store::{ROWS_MAX, Shape, StoreType};
use crate::config::Columns;
use crate::error::{Error, Result};
use crate::run::mapped::Mapped;
use crate::run::record::{FileIdentity, Roles};

/// One input file, mapped.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Path as it was found.
    pub path: PathBuf,
    /// Ordinal of its first row in the whole input.
    pub first_row: u64,
    /// Rows.
    pub rows: u64,
    /// What kind of file it is.
    pub source: Source,
    /// Size, time and footer hash.
    pub identity: FileIdentity,
}

/// The kinds of input files.
#[derive(Debug, Clone)]
pub enum Source {
    /// A Parquet file; `bytes` is the map.
    Parquet {
        /// The mapped file.
        bytes: Bytes,
        /// Its footer.
        metadata: ArrowReaderMetadata,
    },
    /// A `.npy` array of [rows, dim] or [rows, 2, dim].
    Npy(NpyArray),
}

/// A mapped `.npy` array of little-endian f16 or f32 in C order.
#[derive(Debug, Clone)]
pub struct NpyArray {
    /// The mapped file of the queries, or of both sides.
    pub queries: Mapped,
    /// The mapped file of the positives, where they lie in a file of their own.
    pub positives: Option<Mapped>,
    /// Where the values begin, in each.
    pub data_start: [usize; 2],
    /// Number type, of each.
    pub precision: [StoreType; 2],
    /// Rows hold a query and a positive, one after the other.
    pub paired: bool,
    /// Dimensions of one vector.
    pub dim: usize,
}

/// All shards, and what their columns are.
#[derive(Debug, Clone)]
pub struct Shards {
    /// In input order.
    pub list: Vec<Shard>,
    /// Rows and dimensions of the whole input.
    pub shape: Shape,
    /// Columns by role.
    pub roles: Roles,
    /// Number type of each side's store.
    pub store_types: [StoreType; 2],
}

impl Shards {
    /// Finds, maps and reconciles the input files. Reads footers only.
    ///
    /// # Errors
    /// A path or column that is not there, a file that is no Parquet or npy, types or dimensions that
    /// do not fit.
    pub fn open(inputs: &[String], columns: &Columns) -> Result<Shards> {
        let paths = find(inputs)?;
        let npy = paths.iter().filter(|path| is_npy(path)).count();
        if npy > 0 && npy < paths.len() {
            return Err(Error::input("Parquet and .npy files are mixed")
                .expected("files of one kind")
                .found(format!("{npy} .npy files among {} files", paths.len()))
                .remedy("mine them apart, or convert one kind"));
        }
        let mut list = if npy > 0 { open_npy(&paths)? } else { open_parquet(&paths)? };
        let mut rows = 0;
        for shard in &mut list {
            shard.first_row = rows;
            rows += shard.rows;
        }
        if rows == 0 || rows > ROWS_MAX {
            return Err(Error::input("the number of rows is out of range")
                .path(&paths[0])
                .expected(format!("from 1 to {ROWS_MAX} rows"))
                .found(format!("{rows} rows in {} files", paths.len()))
                .remedy("check that these are the files you mean"));
        }
        let roles = resolve(&list[0], columns)?;
        let (dim, store_types) = dimensions(&list, &roles, columns.dtype)?;
        Ok(Shards { list, shape: Shape { rows, dim }, roles, store_types })
    }

    /// Bytes of all input files.
    pub fn input_bytes(&self) -> u64 {
        self.list.iter().map(|shard| shard.identity.bytes).sum()
    }
}

/// Whether a path names a `.npy` file.
pub(crate) fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "npy")
}

/// Files, folders' files and globs' matches, each input's sorted by name.
pub(crate) fn find(inputs: &[String]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        if path.is_dir() {
            let mut inside = Vec::new();
            let failed = |e| Error::io("the folder cannot be listed", path, e);
            for entry in std::fs::read_dir(path).map_err(failed)? {
                let entry = entry.map_err(failed)?.path();
                let name = entry.file_name().unwrap_or_default().to_string_lossy();
                let wanted = entry.extension().is_some_and(|e| e == "parquet" || e == "pq" || e == "npy");
                if wanted && !name.starts_with(['.', '_']) {
                    inside.push(entry);
                }
            }
            if inside.is_empty() {
                return Err(Error::input("the folder holds no embedding shards")
                    .path(path)
                    .expected("files that end in .parquet, .pq or .npy")
                    .found("none")
                    .remedy(
                        "name the folder that holds the shards themselves, or a glob such as 'data/**/*.parquet'",
                    ));
            }
            inside.sort();
            paths.extend(inside);
        } else if path.exists() {
            paths.push(path.to_owned());
        } else if input.contains(['*', '?', '[']) {
            let bad = |found: String| {
                Error::input("the glob matches no file")
                    .path(path)
                    .expected("a pattern such as 'data/*.parquet'")
                    .found(found)
                    .remedy("check the pattern; quote it so that the shell leaves it alone")
            };
            let matches: Vec<PathBuf> = glob::glob(input)
                .map_err(|e| bad(e.to_string()))?
                .filter_map(|found| found.ok())
                .filter(|found| found.is_file())
                .collect();
            if matches.is_empty() {
                return Err(bad("no match".into()));
            }
            paths.extend(matches);
        } else {
            return Err(Error::input("no such file or folder")
                .path(path)
                .expected("a Parquet file, a .npy file, a folder of them, or a glob")
                .found("nothing at this path")
                .remedy("check the spelling and the current folder"));
        }
    }
    let mut seen = std::collections::HashSet::new();
    for path in &paths {
        let real = path.canonicalize().map_err(|e| Error::io("a file cannot be opened", path, e))?;
        if !seen.insert(real) {
            return Err(Error::input("a file is named twice")
                .path(path)
                .expected("each file once")
                .found("the same file through two of the given paths")
                .remedy("drop one of them"));
        }
    }
    Ok(paths)
}

fn identity(path: &Path, footer: &[u8]) -> Result<FileIdentity> {
    let failed = |e| Error::io("a file cannot be examined", path, e);
    let meta = path.metadata().map_err(failed)?;
    let modified = meta.modified().map_err(failed)?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let real = path.canonicalize().map_err(failed)?;
    Ok(FileIdentity {
        path: real.display().to_string(),
        bytes: meta.len(),
        modified_ns: since.as_nanos() as u64,
        footer: format!("{:016x}", xxh3_64(footer)),
    })
}

pub(crate) fn open_parquet(paths: &[PathBuf]) -> Result<Vec<Shard>> {
    let mut list: Vec<Shard> = Vec::with_capacity(paths.len());
    for path in paths {
        let wrong = |found: String| {
            Error::input("not a readable Parquet file")
                .path(path)
                .expected("a complete Parquet file")
                .found(found)
                .remedy("write or download the file again")
        };
        let meta = File::open(path).and_then(|file| file.metadata());
        let bytes = meta.map_err(|e| Error::io("a file cannot be opened", path, e))?.len();
        if bytes < 12 {
            return Err(wrong(format!("{bytes} bytes")));
        }
        let mapped = Mapped::open(path)?;
        let bytes = Bytes::from_owner(mapped);
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        let metadata = ArrowReaderMetadata::load(&bytes, options).map_err(|e| wrong(e.to_string()))?;
        let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        let footer_bytes = crate::run::sealed::u32_at(&bytes, bytes.len() - 8) as usize;
        let footer_start = bytes.len().saturating_sub(8 + footer_bytes);
        let identity = identity(path, &bytes[footer_start..])?;
        list.push(Shard {
            path: path.clone(),
            first_row: 0,
            rows,
            source: Source::Parquet { bytes, metadata },
            identity,
        });
    }
    Ok(list)
}

/// `.npy` files: `NAME.npy` alone serves both sides or holds pairs; a file whose name has the word
/// `query` or `queries` is joined with its sibling that has `positive` or `positives` instead.
fn open_npy(paths: &[PathBuf]) -> Result<Vec<Shard>> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sibling = |path: &Path| {
        let name = name(path);
        let other = if name.contains("queries") {
            name.replace("queries", "positives")
        } else {
            name.replace("query", "positive")
        };
        (other != name).then(|| path.with_file_name(other))
    };
    let partners: Vec<PathBuf> =
        paths.iter().filter_map(|path| sibling(path)).filter(|other| paths.contains(other)).collect();
    let mut list = Vec::new();
    for path in paths.iter().filter(|path| !partners.contains(path)) {
        let (mapped, matrix) = npy_header(path)?;
        let partner = sibling(path).filter(|other| partners.contains(other));
        let mut array = NpyArray {
            queries: mapped.clone(),
            positives: None,
            data_start: [matrix.data_start; 2],
            precision: [matrix.precision; 2],
            paired: matrix.paired,
            dim: matrix.dim,
        };
        let header = mapped.bytes()[..matrix.data_start].to_vec();
        if let Some(other) = partner {
            let (positives, second) = npy_header(&other)?;
            if (second.rows, second.dim, second.paired || matrix.paired) != (matrix.rows, matrix.dim, false) {
                return Err(Error::input("query and positive arrays differ in shape")
                    .path(&other)
                    .expected(format!("[{}, {}] as in {}", matrix.rows, matrix.dim, path.display()))
                    .found(format!("[{}, {}]", second.rows, second.dim))
                    .remedy("save both sides with one row for each pair"));
            }
            array.positives = Some(positives);
            array.data_start[1] = second.data_start;
            array.precision[1] = second.precision;
        }
        list.push(Shard {
            path: path.clone(),
            first_row: 0,
            rows: matrix.rows,
            identity: identity(path, &header)?,
            source: Source::Npy(array),
        });
    }
    Ok(list)
}

struct NpyHeader {
    rows: u64,
    dim: usize,
    paired: bool,
    precision: StoreType,
    data_start: usize,
}

fn npy_header(path: &Path) -> Result<(Mapped, NpyHeader)> {
    let wrong = |found: String| {
        Error::input("not a usable .npy file")
            .path(path)
            .expected("a little-endian float16 or float32 array in C order, [rows, dim] or [rows, 2, dim]")
            .found(found)
            .remedy("save it with numpy.save(path, np.ascontiguousarray(x, dtype=np.float32))")
    };
    let mapped = Mapped::open(path)?;
    let mut cursor = std::io::Cursor::new(mapped.bytes());
    let header = npyz::NpyHeader::from_reader(&mut cursor).map_err(|e| wrong(e.to_string()))?;
    let precision = match header.dtype() {
        npyz::DType::Plain(ty) if ty.to_string() == "<f2" => StoreType::F16,
        npyz::DType::Plain(ty) if ty.to_string() == "<f4" => StoreType::F32,
        other => return Err(wrong(format!("dtype {}", other.descr()))),
    };
    let shape = header.shape().to_vec();
    let (rows, paired, dim) = match shape[..] {
        [rows, dim] => (rows, false, dim),
        [rows, 2, dim] => (rows, true, dim),
        _ => return Err(wrong(format!("shape {shape:?}"))),
    };
    if header.order() != npyz::Order::C && rows > 1 && dim > 1 {
        return Err(wrong("Fortran order".into()));
    }
    let data_start = cursor.position() as usize;
    let sides = if paired { 2 } else { 1 };
    let wanted = rows.checked_mul(dim * sides * precision.bytes() as u64);
    let found = (mapped.bytes().len() - data_start) as u64;
    if wanted != Some(found) {
        return Err(wrong(format!("shape {shape:?} with {found} bytes of values: the file is cut short or damaged")));
    }
    Ok((mapped, NpyHeader { rows, dim: dim as usize, paired, precision, data_start }))
}

/// A shard's Arrow schema; `None` for `.npy`.
pub(crate) fn schema(shard: &Shard) -> Option<&Arc<Schema>> {
    match &shard.source {
        Source::Parquet { metadata, .. } => Some(metadata.schema()),
        Source::Npy(_) => None,
    }
}
