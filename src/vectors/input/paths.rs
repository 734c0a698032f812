//! Input paths: files, folders and globs become a list of files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::folder::in_folder;
use super::globs::{is_glob, matches};
use super::kinds::InputFile;
use super::saved_dataset::refuse_unsaved;
use super::stored::{in_store, recorded_in_store};
use super::tables::refuse_inside_tables;
use crate::error::{Error, Result};
use crate::objects::{Stores, is_url};

/// Files, folders' files and globs' matches in the order given; those of one folder or glob sorted by path.
///
/// # Errors
/// A path, folder or glob that yields no file; a file that is no input, that is named twice, or that belongs to a table
/// whose folder was not named.
pub(crate) fn find(inputs: &[String]) -> Result<Vec<InputFile>> {
    let mut files = Vec::new();
    let mut stores = None;
    for input in inputs {
        let path = Path::new(input);
        if is_url(input) && !path.exists() {
            let stores = match &mut stores {
                Some(stores) => stores,
                none => none.insert(Stores::new()?),
            };
            files.extend(in_store(stores, input)?);
        } else if path.is_dir() {
            files.extend(in_folder(path)?);
        } else if path.exists() {
            files.extend(named(vec![path.to_owned()])?);
        } else if is_glob(input) {
            files.extend(named(matches(input)?)?);
        } else {
            return Err(Error::input("no such file or folder")
                .path(path)
                .expected("a Parquet, Arrow or .npy file, a folder of them, or a glob")
                .found("nothing at this path")
                .remedy("check the spelling and the current folder"));
        }
    }
    refuse_twice(&files)?;
    Ok(files)
}

/// A file that an earlier call recorded, by its path or URL.
///
/// # Errors
/// It is not there, or no input.
pub(crate) fn recorded_file(path: &Path) -> Result<InputFile> {
    match path.to_str().filter(|url| is_url(url) && !path.exists()) {
        Some(url) => recorded_in_store(url),
        None => InputFile::new(path.to_owned()),
    }
}

/// Files that were named one by one, or by a glob.
fn named(paths: Vec<PathBuf>) -> Result<Vec<InputFile>> {
    refuse_inside_tables(&paths)?;
    refuse_unsaved(&paths)?;
    paths.into_iter().map(InputFile::new).collect()
}

fn refuse_twice(files: &[InputFile]) -> Result<()> {
    let mut seen = HashSet::new();
    for InputFile { path, stored, .. } in files {
        let real = match stored {
            // Of a server what follows a question mark is no part of the path.
            Some(stored) => Ok(stored.whole_name()),
            None => path.canonicalize(),
        };
        let real = real.map_err(|e| Error::io("a file cannot be opened", path, e))?;
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
