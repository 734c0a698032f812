//! Files in object stores: URLs become files, in the ways in which paths do.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::content::{Ends, FileKind, HEAD_BYTES, TAIL_BYTES};
use super::globs::{is_glob, is_hidden};
use super::hive::{is_hive, partitions_of};
use super::kinds::{InputFile, has_input_ending, kind_by};
use crate::error::{Error, Result};
use crate::objects::{Span, StoreListing, StorePlace, StoredFile, Stores};

/// Folders whose presence says that a folder is a table's, and what table it is.
const TABLES: [(&str, &str); 3] =
    [("_delta_log", "a Delta table"), (".hoodie", "a Hudi table"), ("_versions", "a Lance data set")];

/// The files of a URL: a file, a folder's files or a glob's.
///
/// # Errors
/// It yields no file, the store fails, or a folder is a table's.
pub(super) fn in_store(stores: &mut Stores, url: &str) -> Result<Vec<InputFile>> {
    let place = StorePlace::parse(url)?;
    if let Some(file) = stores.file(&place)? {
        return Ok(vec![InputFile::stored(file)]);
    }
    let files = if is_glob(&place.key) { glob_matches(stores, &place)? } else { in_folder(stores, &place)? };
    Ok(files.into_iter().map(InputFile::stored).collect())
}

/// The file of a URL that was recorded.
///
/// # Errors
/// It is not there, or the store fails.
pub(super) fn recorded_in_store(url: &str) -> Result<InputFile> {
    let place = StorePlace::parse(url)?;
    Stores::new()?.file(&place)?.map(InputFile::stored).ok_or_else(|| nothing(&place))
}

impl InputFile {
    /// A file in a store. Its kind is looked at when it is opened.
    fn stored(file: StoredFile) -> InputFile {
        let path = PathBuf::from(file.url());
        InputFile { partitions: partitions_of(&path), kind: FileKind::Parquet, stored: Some(file), path }
    }
}

/// Fails where a file in a store is no Parquet file.
///
/// # Errors
/// It is none, or the store fails.
pub(in crate::vectors) fn refuse_other_than_parquet(file: &StoredFile) -> Result<()> {
    let (path, bytes) = (Path::new(file.url()), file.bytes());
    let tail = match bytes {
        0 => Vec::new(),
        _ => file.read(bytes.saturating_sub(TAIL_BYTES)..bytes, &file.tail())?.to_vec(),
    };
    if Ends::is_parquet_tail(&tail) {
        return Ok(());
    }
    let head = 0..bytes.min(HEAD_BYTES);
    let head = match bytes {
        0 => Vec::new(),
        _ => file.read(head.clone(), &Span { range: head, exact: true })?.to_vec(),
    };
    let found = match kind_by(path, &Ends { head, tail, bytes })? {
        FileKind::Parquet => return Ok(()),
        FileKind::Arrow => "an Arrow file",
        FileKind::Npy => "a .npy array",
    };
    Err(Error::input("of files in stores only Parquet is read")
        .path(path)
        .expected("a Parquet file, whose columns can be fetched by themselves")
        .found(found)
        .remedy("copy it to a local disk, or write it as Parquet"))
}

/// The files of a folder, or of the Hive folders in it.
fn in_folder(stores: &mut Stores, place: &StorePlace) -> Result<Vec<StoredFile>> {
    if place.is_web {
        return Err(nothing(place));
    }
    let listing = stores.list(place, &place.key, false)?;
    let folders: Vec<&str> = listing.folders.iter().map(|folder| last(folder)).collect();
    refuse_table(place, &folders)?;
    let mut hive = folders.iter().filter(|name| is_hive(name) && !is_hidden(name));
    let others = folders.iter().filter(|name| !is_hive(name) && !is_hidden(name)).count();
    let (hive, first) = (hive.clone().count() > 0, hive.next().copied());
    let empty = listing.files.is_empty() && listing.folders.is_empty();
    let files = inputs(listing.files, &place.key);
    match (files.first(), first) {
        (Some(_), None) => {
            if others > 0 {
                tracing::info!("{}: {others} subfolders are not searched", place.url());
            }
            Ok(files)
        }
        (None, Some(_)) if hive => {
            let StoreListing { files, .. } = stores.list(place, &place.key, true)?;
            let below = inputs(files, &place.key);
            let is_below_hive = |file: &StoredFile| {
                let folders = relative(file, place, &place.key).rsplit_once('/').map_or("", |(folders, _)| folders);
                folders.split('/').all(is_hive)
            };
            let files: Vec<StoredFile> = below.into_iter().filter(is_below_hive).collect();
            if files.is_empty() { Err(no_input(place, "Hive folders without a file")) } else { Ok(files) }
        }
        (Some(file), Some(hive)) => Err(Error::input("the folder holds files beside Hive folders")
            .path(place.url())
            .expected("files, or folders such as task=fonts that hold them")
            .found(format!("{} and {hive}", file.url()))
            .remedy(format!("take all with the glob '{}/**/*.parquet'", place.url().trim_end_matches('/')))),
        (None, _) if empty => Err(nothing(place)),
        (None, _) => Err(no_input(place, if others > 0 { "subfolders only" } else { "other files" })),
    }
}

/// The files that a pattern matches.
fn glob_matches(stores: &mut Stores, place: &StorePlace) -> Result<Vec<StoredFile>> {
    let wrong = |found: String| {
        Error::input("the glob matches no file")
            .path(place.url())
            .expected("a pattern such as 's3://bucket/data/*.parquet'")
            .found(found)
            .remedy("check the pattern; quote it so that the shell leaves it alone")
    };
    let pattern = Pattern::new(&place.key).map_err(|e| wrong(e.to_string()))?;
    let prefix = literal_prefix(&place.key);
    let rest = place.key[prefix.len()..].trim_start_matches('/');
    let listing = stores.list(place, prefix, rest.contains('/') || rest == "**")?;
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    let (mut files, mut hidden) = (Vec::new(), 0usize);
    for file in listing.files {
        let below = relative(&file, place, prefix).to_owned();
        if !pattern.matches_with(relative(&file, place, ""), options) {
            continue;
        }
        if let Some(table) = TABLES.iter().find(|(folder, _)| below.split('/').any(|name| name == *folder)) {
            refuse_table(place, &[table.0])?;
        }
        if below.split('/').any(is_hidden) { hidden += 1 } else { files.push(file) }
    }
    match (files.is_empty(), hidden) {
        (false, _) => Ok(files),
        (true, 0) => Err(wrong("no match".into())),
        (true, hidden) => Err(wrong(format!("{hidden} files whose names, or folders, begin with . or _"))
            .remedy("name the folder that holds them: what begins with . or _ is skipped below it only")),
    }
}

/// The files of a folder that are taken for their names.
fn inputs(files: Vec<StoredFile>, folder: &str) -> Vec<StoredFile> {
    let is_taken = |file: &StoredFile| {
        // The bucket's name is none of a file.
        let key = file.url().splitn(4, '/').nth(3).unwrap_or_default();
        let below = key.strip_prefix(folder).unwrap_or(key).trim_start_matches('/');
        !below.split('/').any(is_hidden) && has_input_ending(Path::new(below))
    };
    files.into_iter().filter(is_taken).collect()
}

/// A file's key behind a prefix of it.
fn relative<'f>(file: &'f StoredFile, place: &StorePlace, prefix: &str) -> &'f str {
    let start = place.url_of(prefix).len().min(file.url().len());
    file.url()[start..].trim_start_matches('/')
}

/// The whole names that a pattern begins with.
fn literal_prefix(pattern: &str) -> &str {
    let mut end = 0;
    for name in pattern.split_inclusive('/') {
        if is_glob(name) || !name.ends_with('/') {
            break;
        }
        end += name.len();
    }
    pattern[..end].trim_end_matches('/')
}

fn last(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

/// Fails where a folder's folders show that it is a table's: its log says which files count.
fn refuse_table(place: &StorePlace, folders: &[&str]) -> Result<()> {
    let Some((_, table)) = TABLES.iter().find(|(folder, _)| folders.contains(folder)) else { return Ok(()) };
    Err(Error::input(format!("the folder is {table}, which is not read from a store"))
        .path(place.url())
        .expected("Parquet files, or a folder of them")
        .found(*table)
        .remedy("write its newest version as plain Parquet, or copy the table's folder to a local disk"))
}

fn no_input(place: &StorePlace, found: &str) -> Error {
    Error::input("the folder holds no embedding shards")
        .path(place.url())
        .expected("files that end in .parquet, .pq or .parq")
        .found(found)
        .remedy(format!(
            "name the folder of the shards, or a glob: '{}/**/*.parquet'",
            place.url().trim_end_matches('/')
        ))
}

fn nothing(place: &StorePlace) -> Error {
    Error::input("there is no such file or folder in the store")
        .path(place.url())
        .expected("a Parquet file, a folder of them, or a glob")
        .found("nothing of this name")
        .remedy("check the URL; and with it the region and the endpoint (AWS_REGION, AWS_ENDPOINT_URL)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_listed_from_their_literal_names_on() {
        for (pattern, prefix) in
            [("a/b/*.parquet", "a/b"), ("*.parquet", ""), ("a/b*/c/d", "a"), ("a/b", "a"), ("a/**/x", "a")]
        {
            assert_eq!(literal_prefix(pattern), prefix, "{pattern}");
        }
    }
}
