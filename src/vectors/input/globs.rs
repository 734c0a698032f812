//! Globs: patterns become the paths of the files that they match.

use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::hive::is_hive;
use crate::error::{Error, Result};

/// Letters that make a path a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// Whether a path that does not exist may be a pattern.
pub(super) fn is_glob(input: &str) -> bool {
    input.contains(WILD)
}

/// Whether writers hide files or folders of this name from readers, as Spark (`_temporary`), Jupyter
/// (`.ipynb_checkpoints`) and Delta (`_delta_log`) do. Hive's folders are not hidden, whatever their column is called.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !is_hive(name))
}

/// The files that a pattern matches, sorted by path. Folders that exist are taken by their names, whatever letters
/// these have; below them nothing hidden is taken.
///
/// # Errors
/// The pattern is none, matches no file, or leads into a folder that cannot be listed.
pub(super) fn matches(input: &str) -> Result<Vec<PathBuf>> {
    let (prefix, rest) = literal_prefix(Path::new(input));
    let pattern = Path::new(&Pattern::escape(&prefix.to_string_lossy())).join(&rest);
    let wrong = |found: String| {
        Error::input("the glob matches no file")
            .path(input)
            .expected("a pattern such as 'data/*.parquet'")
            .found(found)
            .remedy("check the pattern; quote it so that the shell leaves it alone")
    };
    let options = MatchOptions::new();
    let found = glob::glob_with(&pattern.to_string_lossy(), options).map_err(|e| wrong(e.to_string()))?;
    let (mut files, mut hidden, mut folders) = (Vec::new(), 0usize, 0usize);
    for path in found {
        let path = path.map_err(|e| {
            let folder = e.path().to_owned();
            Error::io("a folder cannot be listed", &folder, e.into())
        })?;
        let below = path.strip_prefix(&prefix).unwrap_or(&path);
        if names(below).any(|name| is_hidden(&name)) {
            hidden += usize::from(path.is_file());
        } else if path.is_dir() {
            folders += 1;
        } else {
            files.push(path);
        }
    }
    files.sort();
    match (files.is_empty(), hidden, folders) {
        (false, ..) => Ok(files),
        (true, 0, 0) => Err(wrong("no match".into())),
        (true, 0, folders) => Err(wrong(format!("{folders} folders and no file"))
            .remedy(format!("match the files in them: '{}/*.parquet'", input.trim_end_matches('/')))),
        (true, hidden, _) => Err(wrong(format!("{hidden} files whose names, or folders, begin with . or _"))
            .remedy("name the folder that holds them: what begins with . or _ is skipped below it only")),
    }
}

fn names(path: &Path) -> impl Iterator<Item = String> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    })
}

/// The longest beginning of a path that exists, and the rest.
fn literal_prefix(path: &Path) -> (PathBuf, PathBuf) {
    let mut components = path.components();
    let mut prefix = PathBuf::new();
    let mut rest = components.as_path().to_owned();
    while let Some(component) = components.next() {
        let next = prefix.join(component);
        if !next.exists() {
            break;
        }
        prefix = next;
        rest = components.as_path().to_owned();
    }
    (prefix, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a folder that match a pattern below it.
    fn found(files: &[&str], pattern: &str) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let input = folder.path().join(pattern);
        let paths = matches(input.to_str().unwrap())?;
        let below = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
        Ok(paths.iter().map(below).collect())
    }

    #[test]
    fn what_writers_hide_is_skipped_below_the_literal_prefix() {
        let files =
            ["a.parquet", "s/b.parquet", "_temporary/c.parquet", ".ipynb_checkpoints/d.parquet", "s/_e.parquet"];
        assert_eq!(found(&files, "**/*.parquet").unwrap(), ["a.parquet", "s/b.parquet"]);
        assert_eq!(found(&files, "_temporary/*.parquet").unwrap(), ["_temporary/c.parquet"]);
        assert_eq!(found(&["_year=1/a.parquet"], "*/*.parquet").unwrap(), ["_year=1/a.parquet"]);
        let text = found(&["s/_e.parquet"], "s/*.parquet").unwrap_err().to_string();
        assert!(text.contains("1 files whose names, or folders, begin with . or _"), "{text}");
    }

    #[test]
    fn folders_that_exist_are_taken_by_their_names() {
        let files = ["run[1]/x*/a.parquet", "run[1]/x*/b.pq", "run1/xy/c.parquet"];
        assert_eq!(found(&files, "run[1]/x*/*.parquet").unwrap(), ["run[1]/x*/a.parquet"]);
        assert_eq!(found(&files, "run[12]/*/*.parquet").unwrap(), ["run1/xy/c.parquet"]);
    }

    #[test]
    fn a_glob_that_matches_folders_only_says_so() {
        let text = found(&["s/a.parquet", "t/b.parquet"], "*").unwrap_err().to_string();
        assert!(text.contains("2 folders and no file") && text.contains("/*.parquet'"), "{text}");
    }
}
