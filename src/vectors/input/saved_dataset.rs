//! Folders that Hugging Face `datasets` wrote: saved with `save_to_disk`, or its cache.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::regular;

/// Says which files a saved data set has.
const STATE: &str = "state.json";
/// Says which splits a saved dictionary of data sets has.
const SPLITS: &str = "dataset_dict.json";
/// Describes a data set, saved or cached.
const INFO: &str = "dataset_info.json";

/// What `state.json` says.
#[derive(Debug, Deserialize)]
struct SavedState {
    #[serde(rename = "_data_files")]
    data_files: Vec<SavedFile>,
    #[serde(rename = "_indices_data_files", default)]
    indices_data_files: Option<Vec<SavedFile>>,
    #[serde(rename = "_indices_files", default)]
    indices_files: Option<Vec<SavedFile>>,
}

#[derive(Debug, Deserialize)]
struct SavedFile {
    filename: String,
}

/// What `dataset_dict.json` says.
#[derive(Debug, Deserialize)]
struct SavedSplits {
    splits: Vec<String>,
}

/// Whether a file of a folder belongs to the cache of `datasets`: results of `map` and `filter`, and indices.
pub(super) fn is_cached(name: &str) -> bool {
    name.ends_with(".arrow") && (name.starts_with("cache-") || name.starts_with("indices"))
}

/// Whether a folder is a saved data set.
///
/// # Errors
/// It is a saved dictionary of data sets.
pub(super) fn is_saved(folder: &Path) -> Result<bool> {
    let splits = folder.join(SPLITS);
    if splits.is_file() {
        let names = json::<SavedSplits>(&splits)?.splits;
        let first = names.first().map_or_else(|| folder.to_owned(), |name| folder.join(name));
        return Err(Error::input("the folder is a saved DatasetDict, which has several data sets")
            .path(folder)
            .expected("the folder of one split")
            .found(format!("the splits {}", names.join(", ")))
            .remedy(format!("name a split's folder: {}", first.display())));
    }
    Ok(folder.join(STATE).is_file() && folder.join(INFO).is_file())
}

/// The files of a saved data set, in the order of its rows.
///
/// # Errors
/// Its rows are chosen by a mapping of indices, a file is not there, or the state cannot be read.
pub(super) fn saved_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let path = folder.join(STATE);
    let state = json::<SavedState>(&path)?;
    if [&state.indices_data_files, &state.indices_files].into_iter().flatten().any(|files| !files.is_empty()) {
        return Err(Error::input("the data set's rows are chosen by a mapping of indices")
            .path(&path)
            .expected("a data set whose files hold its rows, and no others")
            .found("a mapping, as `select`, `shuffle` or `filter` make it")
            .remedy("apply it: datasets.load_from_disk(FOLDER).flatten_indices().save_to_disk(ANOTHER)"));
    }
    let files: Vec<PathBuf> = state.data_files.iter().map(|file| folder.join(&file.filename)).collect();
    if files.is_empty() {
        return Err(broken(&path, "no data files".into()));
    }
    match files.iter().find(|file| !file.is_file()) {
        Some(missing) => Err(broken(&path, format!("{}, which is not there", missing.display()))),
        None => Ok(files),
    }
}

/// Fails where a file that was named by itself lies in a saved data set, and is none of its files.
///
/// # Errors
/// A file is none of its data set's; or the data set cannot be read.
pub(super) fn refuse_unsaved(paths: &[PathBuf]) -> Result<()> {
    let folders: BTreeSet<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
    for folder in folders {
        if !(folder.join(STATE).is_file() && folder.join(INFO).is_file()) {
            continue;
        }
        let saved = saved_files(folder)?;
        let mut inside = paths.iter().filter(|path| path.parent() == Some(folder));
        if let Some(path) = inside.find(|path| !saved.contains(path)) {
            return Err(Error::input("the file is none of the saved data set's")
                .path(path)
                .expected(format!("one of the files that {} lists", folder.join(STATE).display()))
                .found("another")
                .remedy(format!("name the folder: {}", folder.display())));
        }
    }
    Ok(())
}

/// Fails where a folder of the cache has files of several splits.
///
/// # Errors
/// It has.
pub(super) fn refuse_splits(folder: &Path, files: &[PathBuf]) -> Result<()> {
    if !folder.join(INFO).is_file() {
        return Ok(());
    }
    let splits: BTreeSet<String> = files.iter().filter_map(|file| split_of(file)).collect();
    let Some(first) = splits.first().filter(|_| splits.len() > 1) else { return Ok(()) };
    Err(Error::input("the folder holds several splits of a data set")
        .path(folder)
        .expected("the files of one split")
        .found(splits.iter().map(|split| format!("{split}*.arrow")).collect::<Vec<_>>().join(", "))
        .remedy(format!("take one with a glob: '{}*.arrow'", folder.join(first).display())))
}

/// The name of an Arrow file without its number, as `train` of `train-00000-of-00002.arrow`.
fn split_of(file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_str().filter(|_| file.extension().is_some_and(|ending| ending == "arrow"))?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = stem.rsplit_once("-of-").filter(|(_, last)| is_number(last));
    let name = numbered.and_then(|(front, _)| front.rsplit_once('-')).filter(|(_, number)| is_number(number));
    Some(name.map_or(stem, |(name, _)| name).to_owned())
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = regular::read(path, regular::TEXT_MAX)?;
    serde_json::from_slice(&text).map_err(|e| broken(path, e.to_string()))
}

fn broken(path: &Path, found: String) -> Error {
    Error::input("the saved data set cannot be read")
        .path(path)
        .expected("what `Dataset.save_to_disk` writes")
        .found(found)
        .remedy("save it again, or name its files themselves")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_file_is_no_part_of_its_split() {
        let of = |name: &str| split_of(Path::new(name));
        assert_eq!(of("pairs-train-00000-of-00002.arrow").as_deref(), Some("pairs-train"));
        assert_eq!(of("pairs-test.arrow").as_deref(), Some("pairs-test"));
        assert_eq!(of("a-1-of-2.arrow").as_deref(), Some("a-1-of-2"));
        assert_eq!(of("a.parquet"), None);
    }

    #[test]
    fn caches_are_known_by_their_names() {
        assert!(is_cached("cache-0123.arrow") && is_cached("indices.arrow"));
        assert!(!is_cached("data-00000-of-00001.arrow") && !is_cached("cache-0.parquet"));
    }
}
