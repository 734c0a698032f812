//! Input paths: files, folders and globs become a list of files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Whether a path names a `.npy` file.
pub(crate) fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "npy")
}

/// Files, folders' files and globs' matches in the order given; those of one folder or glob sorted by name.
///
/// # Errors
/// A path, folder or glob that yields no file, or a file that is named twice.
pub(crate) fn find(inputs: &[String]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        if path.is_dir() {
            paths.extend(in_folder(path)?);
        } else if path.exists() {
            paths.push(path.to_owned());
        } else if input.contains(['*', '?', '[']) {
            paths.extend(matches(input)?);
        } else {
            return Err(Error::input("no such file or folder")
                .path(path)
                .expected("a Parquet file, a .npy file, a folder of them, or a glob")
                .found("nothing at this path")
                .remedy("check the spelling and the current folder"));
        }
    }
    refuse_twice(&paths)?;
    Ok(paths)
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut inside = Vec::new();
    let failed = |e| Error::io("the folder cannot be listed", folder, e);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        let wanted = entry.extension().is_some_and(|e| e == "parquet" || e == "pq" || e == "npy");
        if wanted && !name.starts_with(['.', '_']) {
            inside.push(entry);
        }
    }
    if inside.is_empty() {
        return Err(Error::input("the folder holds no embedding shards")
            .path(folder)
            .expected("files that end in .parquet, .pq or .npy")
            .found("none")
            .remedy("name the folder that holds the shards themselves, or a glob such as 'data/**/*.parquet'"));
    }
    inside.sort();
    Ok(inside)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let bad = |found: String| {
        Error::input("the glob matches no file")
            .path(pattern)
            .expected("a pattern such as 'data/*.parquet'")
            .found(found)
            .remedy("check the pattern; quote it so that the shell leaves it alone")
    };
    let matches: Vec<PathBuf> = glob::glob(pattern)
        .map_err(|e| bad(e.to_string()))?
        .filter_map(|found| found.ok())
        .filter(|found| found.is_file())
        .collect();
    if matches.is_empty() { Err(bad("no match".into())) } else { Ok(matches) }
}

fn refuse_twice(paths: &[PathBuf]) -> Result<()> {
    let mut seen = HashSet::new();
    for path in paths {
        let real = path.canonicalize().map_err(|e| Error::io("a file cannot be opened", path, e))?;
        if !seen.insert(real) {
            return Err(Error::input("a file is named twice")
                .path(path)
                .expected("each file once")
                .found("the same file through two of the given paths")
                .remedy("drop one of them"));
        }
    }
    Ok(())
}
