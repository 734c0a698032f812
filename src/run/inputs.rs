//! What changed among the input files, in words.
//!
//! A file is what it contains. Its place serves to name it in messages, and to spare a look at its content.

use indicatif::HumanCount;

use super::json::differences;
use super::manifest::Manifest;
use super::record::{CorpusSettings, FileIdentity, FilePlace, JobSettings, VectorsSettings};

/// Changed files that are named one by one.
const NAMED_MAX: usize = 3;

/// The input files of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct InputFiles<'a> {
    pub identities: &'a [FileIdentity],
    /// One for each.
    pub places: &'a [FilePlace],
}

impl InputFiles<'_> {
    fn name(&self, index: usize) -> &str {
        let path = self.places.get(index).map_or("", |place| &place.path);
        path.rsplit('/').next().unwrap_or(path)
    }
}

/// What differs in the settings of the vectors stage: files in words, the others by name.
pub(super) fn vectors_changes(
    manifest: &Manifest,
    recorded: VectorsSettings,
    settings: &JobSettings,
    places: &[FilePlace],
) -> Vec<String> {
    let before = InputFiles { identities: &recorded.inputs, places: &manifest.inputs };
    let mut names = changes(before, InputFiles { identities: &settings.vectors.inputs, places });
    let [was, is] = [&recorded.corpus, &settings.vectors.corpus].map(Option::as_ref);
    let others = VectorsSettings { inputs: recorded.inputs.clone(), ..settings.vectors.clone() };
    let others = match (was, is) {
        (Some(_), Some(_)) | (None, None) => others,
        (was, is) => {
            let words = |corpus: Option<&CorpusSettings>| match corpus {
                Some(corpus) => format!("{} files", corpus.files),
                None => "none".into(),
            };
            names.push(format!("corpus: {} before, {} now", words(was), words(is)));
            VectorsSettings { corpus: recorded.corpus.clone(), ..others }
        }
    };
    names.extend(differences(&recorded, &others));
    names
}

/// What differs, a line for each change; empty where nothing does. A content that one of both does not know is none.
fn changes(before: InputFiles<'_>, now: InputFiles<'_>) -> Vec<String> {
    let (old, new) = (before.identities, now.identities);
    let changed: Vec<usize> = (0..old.len().min(new.len())).filter(|index| !same(&old[*index], &new[*index])).collect();
    if old.len() != new.len() {
        let mut line = format!("input files: {} before, {} now", count(old.len()), count(new.len()));
        if let Some(first) = changed.first() {
            line += &format!("; {} is the first that differs", named(before, now, *first));
        }
        return vec![line];
    }
    let known = old.iter().chain(new).all(|file| file.content.is_some());
    if changed.len() > 1 && sorted(old, known) == sorted(new, known) {
        let first = changed[0];
        return vec![format!(
            "the order of the input files, and so of the rows: file {} was another of them, it is {} now",
            first + 1,
            now.name(first)
        )];
    }
    let mut lines: Vec<String> = changed
        .iter()
        .take(NAMED_MAX)
        .map(|index| {
            let (old, new) = (&old[*index], &new[*index]);
            let what = match old.bytes == new.bytes {
                true if old.path_columns != new.path_columns => {
                    format!("its folders gave {} before, {} now", folders(old), folders(new))
                }
                false => format!("{} bytes before, {} now", HumanCount(old.bytes), HumanCount(new.bytes)),
                true => format!("{} bytes as before, with another content", HumanCount(new.bytes)),
            };
            format!("file {}: {what}", named(before, now, *index))
        })
        .collect();
    if changed.len() > NAMED_MAX {
        let rest = changed.len() - NAMED_MAX;
        lines.push(format!("and {} more of {} input files", count(rest), count(new.len())));
    }
    lines
}

/// The columns that a file's folders give, as folders write them.
fn folders(file: &FileIdentity) -> String {
    let of = |(name, value): &(String, Option<String>)| format!("{name}={}", value.as_deref().unwrap_or("null"));
    if file.path_columns.is_empty() {
        return "no column".into();
    }
    file.path_columns.iter().map(of).collect::<Vec<_>>().join("/")
}

/// Whether two files are one, as far as both are known.
fn same(old: &FileIdentity, new: &FileIdentity) -> bool {
    let content = old.content.is_none() || new.content.is_none() || old.content == new.content;
    content && (old.bytes, &old.footer, &old.path_columns) == (new.bytes, &new.footer, &new.path_columns)
}

/// The files without their order; `contents`: by their content, too.
fn sorted(files: &[FileIdentity], contents: bool) -> Vec<(u64, &str, Option<&str>)> {
    let mut keys: Vec<_> =
        files.iter().map(|file| (file.bytes, &*file.footer, file.content.as_deref().filter(|_| contents))).collect();
    keys.sort_unstable();
    keys
}

fn named(before: InputFiles<'_>, now: InputFiles<'_>, index: usize) -> String {
    let (old, new) = (before.name(index), now.name(index));
    if old == new { new.to_owned() } else { format!("{new} (in the place of {old})") }
}

fn count(number: usize) -> HumanCount {
    HumanCount(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64, footer: &str, content: Option<&str>) -> FileIdentity {
        FileIdentity { bytes, footer: footer.into(), content: content.map(Into::into), path_columns: Vec::new() }
    }

    fn said(old: &[(&str, FileIdentity)], new: &[(&str, FileIdentity)]) -> Vec<String> {
        let split = |files: &[(&str, FileIdentity)]| -> (Vec<FileIdentity>, Vec<FilePlace>) {
            let place = |name: &str| FilePlace { path: format!("/data/{name}"), modified_ns: 0, version: None };
            files.iter().map(|(name, identity)| (identity.clone(), place(name))).unzip()
        };
        let (old, new) = (split(old), split(new));
        let files = |files| -> InputFiles<'_> {
            let (identities, places): &(Vec<FileIdentity>, Vec<FilePlace>) = files;
            InputFiles { identities, places }
        };
        changes(files(&old), files(&new))
    }

    #[test]
    fn changes_are_named_in_words() {
        let a = || ("a.parquet", file(12_034, "f", Some("c")));
        let b = || ("b.parquet", file(5, "g", Some("d")));
        assert_eq!(said(&[a()], &[("moved.parquet", file(12_034, "f", Some("c")))]), [""; 0]);
        assert_eq!(said(&[a()], &[("a.parquet", file(12_034, "f", None))]), [""; 0]);
        assert_eq!(
            said(&[a()], &[("a.parquet", file(13_000, "h", None))]),
            ["file a.parquet: 12,034 bytes before, 13,000 now"]
        );
        assert_eq!(
            said(&[a(), b()], &[a(), ("x.parquet", file(5, "g", Some("e")))]),
            ["file x.parquet (in the place of b.parquet): 5 bytes as before, with another content"]
        );
        assert_eq!(
            said(&[a(), b()], &[b(), a()]),
            ["the order of the input files, and so of the rows: file 1 was another of them, it is b.parquet now"]
        );
        let twin = |name, content| (name, file(5, "g", Some(content)));
        assert_eq!(
            said(&[twin("x", "1"), twin("y", "2")], &[twin("x", "1"), twin("y", "3")]),
            ["file y: 5 bytes as before, with another content"]
        );
        assert_eq!(
            said(&[twin("x", "1"), twin("y", "2")], &[twin("x", "2"), twin("y", "1")]),
            ["the order of the input files, and so of the rows: file 1 was another of them, it is x now"]
        );
        assert_eq!(said(&[a()], &[a(), b()]), ["input files: 1 before, 2 now"]);
        let path_columns = vec![("task".to_owned(), Some("fonts".to_owned()))];
        let in_folder = FileIdentity { path_columns, ..a().1 };
        assert_eq!(
            said(&[("a.parquet", in_folder)], &[a()]),
            ["file a.parquet: its folders gave task=fonts before, no column now"]
        );
        assert_eq!(
            said(&[a(), b()], &[b()]),
            ["input files: 2 before, 1 now; b.parquet (in the place of a.parquet) is the first that differs"]
        );
    }

    #[test]
    fn of_a_thousand_changed_files_three_are_named() {
        let names: Vec<String> = (0..1000).map(|number| format!("{number}.parquet")).collect();
        let files = |bytes| names.iter().map(|name| (&**name, file(bytes, "f", None))).collect::<Vec<_>>();
        let lines = said(&files(1), &files(2));
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[2], "file 2.parquet: 1 bytes before, 2 now");
        assert_eq!(lines[3], "and 997 more of 1,000 input files");
    }
}
