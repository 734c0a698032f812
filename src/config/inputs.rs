//! What is mined, as the user names it.

use super::Settings;
use crate::error::{Error, Result};

/// Files, folders and globs, as given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Files of both sides, and `.npy` files that are paired by their names.
    pub paths: Vec<String>,
    /// `.npy` files of queries, and in the same order those of their positives; without `paths`.
    pub queries: Vec<String>,
    pub positives: Vec<String>,
}

impl From<Vec<String>> for Inputs {
    fn from(paths: Vec<String>) -> Inputs {
        Inputs { paths, ..Inputs::default() }
    }
}

impl Inputs {
    pub(super) fn new(paths: Vec<String>, settings: &Settings) -> Result<Inputs> {
        let inputs = Inputs { paths, queries: settings.query_file.clone(), positives: settings.positive_file.clone() };
        let wrong = |found: &str| {
            Error::input("the input is not named")
                .expected("files, folders or globs; or --query-file and --positive-file, both, and nothing else")
                .found(found)
                .remedy("name the input once, in one of the two ways")
        };
        match (inputs.paths.is_empty(), inputs.queries.is_empty(), inputs.positives.is_empty()) {
            (false, true, true) | (true, false, false) => Ok(inputs),
            (true, true, true) => Err(wrong("neither")),
            (true, true, false) => Err(wrong("--positive-file without --query-file")),
            (true, false, true) => Err(wrong("--query-file without --positive-file")),
            (false, ..) => Err(wrong("files besides --query-file or --positive-file")),
        }
    }

    /// Fails where settings name files.
    pub(super) fn refuse_files(settings: &Settings) -> Result<()> {
        match settings.query_file.first().or(settings.positive_file.first()) {
            None => Ok(()),
            Some(file) => Err(Error::input("the input is named twice")
                .expected("rows, or files")
                .found(format!("rows, and the file {file}"))
                .remedy("leave out query_file and positive_file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_is_named_in_one_way() {
        let of = |paths: &[&str], queries: &[&str], positives: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let settings =
                Settings { query_file: owned(queries), positive_file: owned(positives), ..Settings::default() };
            Inputs::new(owned(paths), &settings).map_err(|error| error.to_string())
        };
        assert_eq!(of(&["a"], &[], &[]).unwrap(), Inputs::from(vec!["a".to_owned()]));
        assert_eq!(of(&[], &["q"], &["p"]).unwrap().queries, ["q"]);
        for (paths, queries, positives, word) in [
            (&[][..], &[][..], &[][..], "neither"),
            (&[], &["q"], &[], "--query-file without"),
            (&[], &[], &["p"], "--positive-file without"),
            (&["a"], &["q"], &["p"], "files besides"),
        ] {
            let text = of(paths, queries, positives).unwrap_err();
            assert!(text.contains(word), "{text}");
        }
    }
}
