//! A folder's files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::content::Ends;
use super::delta::table_files;
use super::foreign::foreign;
use super::globs::is_hidden;
use super::hive::is_hive;
use super::kinds::{InputFile, has_input_ending};
use super::saved_dataset::{is_cached, is_saved, refuse_splits, saved_files};
use super::tables::{TableFolder, refuse_below_table, table_of};
use crate::error::{Error, Result};

/// Folders that are looked into for the glob that a remedy proposes.
const LOOKED_AT: usize = 1000;

/// What a folder shows: hidden names are left out.
#[derive(Default)]
struct Listing {
    /// Files with an input's ending, sorted.
    files: Vec<PathBuf>,
    /// Other files, sorted.
    others: Vec<PathBuf>,
    /// Folders whose names give a column's value, sorted.
    hive: Vec<PathBuf>,
    /// Other folders, sorted.
    folders: Vec<PathBuf>,
}

/// The files of a folder: those of the table or the data set that it is, else those in it, or in its Hive folders.
///
/// # Errors
/// The folder cannot be listed, holds no input, or is a table's or a data set's that cannot be read as it is.
pub(super) fn in_folder(folder: &Path) -> Result<Vec<InputFile>> {
    match table_of(folder)? {
        Some(TableFolder::Delta) => return table_files(folder),
        Some(other) => return Err(other.refusal(folder)),
        None => refuse_below_table(folder, folder)?,
    }
    if is_saved(folder)? {
        return saved_files(folder)?.into_iter().map(InputFile::new).collect();
    }
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    paths.into_iter().map(InputFile::new).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let listing = Listing::of(folder)?;
    match (listing.files.is_empty(), listing.hive.is_empty()) {
        (false, true) => {
            refuse_splits(folder, &listing.files)?;
            listing.log_what_is_left(folder);
            paths.extend(listing.files);
            Ok(())
        }
        (true, false) => listing.hive.iter().try_for_each(|inner| collect(inner, paths)),
        (false, false) => Err(Error::input("the folder holds files beside Hive folders")
            .path(folder)
            .expected("files, or folders such as task=fonts that hold them")
            .found(format!("{} and {}", listing.files[0].display(), listing.hive[0].display()))
            .remedy(format!("take all with the glob '{}'", folder.join("**/*.parquet").display()))),
        (true, true) => Err(listing.nothing(folder)),
    }
}

impl Listing {
    fn of(folder: &Path) -> Result<Listing> {
        let mut listing = Listing::default();
        let failed = |e| Error::io("the folder cannot be listed", folder, e);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_hidden(&name) || is_cached(&name) {
                continue;
            }
            let list = match (path.is_dir(), is_hive(&name), has_input_ending(&path)) {
                (true, true, _) => &mut listing.hive,
                (true, false, _) => &mut listing.folders,
                (false, _, true) => &mut listing.files,
                (false, _, false) => &mut listing.others,
            };
            list.push(path);
        }
        for list in [&mut listing.files, &mut listing.others, &mut listing.hive, &mut listing.folders] {
            list.sort();
        }
        Ok(listing)
    }

    /// Says which files are not taken, though they are input by their content; and that subfolders are not searched.
    fn log_what_is_left(&self, folder: &Path) {
        let is_input = |path: &&PathBuf| Ends::read(path).is_ok_and(|ends| ends.kind().is_some());
        for path in self.others.iter().filter(is_input) {
            tracing::warn!("{}: not taken for its name; name the file if it is input", path.display());
        }
        if let Some(inner) = self.folders.first() {
            let count = self.folders.len();
            tracing::info!("{}: {count} subfolders are not searched, such as {}", folder.display(), inner.display());
        }
    }

    /// The error for a folder without an input.
    fn nothing(&self, folder: &Path) -> Error {
        let error = Error::input("the folder holds no embedding shards")
            .path(folder)
            .expected("files that end in .parquet, .pq, .arrow, .feather or .npy");
        let mut kinds: BTreeMap<&str, (usize, String)> = BTreeMap::new();
        for path in &self.others {
            let Ok(ends) = Ends::read(path) else { continue };
            if ends.kind().is_some() {
                return error
                    .found(format!("{}, whose name ends otherwise", path.display()))
                    .remedy(format!("rename it, or name the files: '{}'", folder.join("*").display()));
            }
            if let Some(format) = foreign(path, &ends) {
                kinds.entry(format.what).or_insert_with(|| (0, format.remedy(path))).0 += 1;
            }
        }
        if let Some(found) = self.folders.iter().find_map(|inner| glob_below(folder, inner)) {
            return error.found("subfolders only").remedy(format!("take the files in them with the glob '{found}'"));
        }
        match kinds.iter().max_by_key(|(_, (count, _))| *count) {
            Some((what, (count, remedy))) => {
                let more = if kinds.len() > 1 { ", and files of other kinds" } else { "" };
                let found =
                    if *count == 1 { format!("{what}{more}") } else { format!("{count} files like {what}{more}") };
                error.found(found).remedy(remedy.clone())
            }
            None => error
                .found("none")
                .remedy("name the folder that holds the shards themselves, or a glob such as 'data/**/*.parquet'"),
        }
    }
}

/// A glob below `folder` that takes the files in one of its subfolders, if there are any.
fn glob_below(folder: &Path, inner: &Path) -> Option<String> {
    let mut waiting = vec![inner.to_owned()];
    for _ in 0..LOOKED_AT {
        let listing = Listing::of(&waiting.pop()?).ok()?;
        if let Some(file) = listing.files.first() {
            let ending = file.extension()?.to_string_lossy().into_owned();
            return Some(folder.join(format!("**/*.{ending}")).display().to_string());
        }
        waiting.extend(listing.folders);
        waiting.extend(listing.hive);
    }
    None
}
