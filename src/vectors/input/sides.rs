//! Which `.npy` files belong together: one has the queries of rows, the other their positives.
//!
//! Names decide. A word of one side (`queries`) is put out of a path, and a file of the other side (`positives`) whose
//! path is the same without its word is the partner. Words are those of the file's name and of its folders.
//!
//! Memory: for each file a few copies of its path.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Words of files that hold queries.
const QUERY_WORDS: [&str; 9] = ["query", "queries", "q", "qry", "anchor", "anchors", "question", "questions", "qs"];
/// Words of files that hold positives.
const POSITIVE_WORDS: [&str; 17] = [
    "positive",
    "positives",
    "p",
    "pos",
    "ps",
    "passage",
    "passages",
    "document",
    "documents",
    "doc",
    "docs",
    "corpus",
    "answer",
    "answers",
    "response",
    "responses",
    "psg",
];
/// Words of files that hold neither.
const NEGATIVE_WORDS: [&str; 6] = ["negative", "negatives", "neg", "negs", "hardneg", "hardnegs"];
/// Words that are known inside of longer ones, too, such as `myqueries`.
const INSIDE: [(&str, WordSide); 4] = [
    ("queries", WordSide::Query),
    ("query", WordSide::Query),
    ("positives", WordSide::Positive),
    ("positive", WordSide::Positive),
];
/// Stands for the word that was put out.
const GAP: &str = "\0";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum WordSide {
    Query,
    Positive,
    Negative,
}

/// The files of some rows, by their numbers in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vectors) struct Sides {
    pub(in crate::vectors) query: usize,
    /// `None`: the first file serves both sides.
    pub(in crate::vectors) positive: Option<usize>,
}

/// A word of a side in a path.
#[derive(Debug, Clone)]
struct SideWord {
    side: WordSide,
    /// Number of its component, and the bytes that it takes there.
    component: usize,
    start: usize,
    end: usize,
    /// It can be nothing else: a letter before a number, as in `queries_p0`, may be another word's.
    certain: bool,
}

/// A path without its ending, in small letters.
struct NamedPath {
    components: Vec<String>,
    words: Vec<SideWord>,
}

/// Pairs files by their paths; `whole`: a file has both sides itself.
///
/// # Errors
/// A file could be paired in two ways, or its name says that it is one side, and the other is not there.
pub(in crate::vectors) fn pair(paths: &[PathBuf], whole: &[bool]) -> Result<Vec<Sides>> {
    let named: Vec<NamedPath> = paths.iter().map(|path| NamedPath::new(path)).collect();
    let mut by_template: BTreeMap<String, [BTreeSet<usize>; 2]> = BTreeMap::new();
    for (file, name) in named.iter().enumerate().filter(|(file, _)| !whole[*file]) {
        for (side, template) in name.templates() {
            by_template.entry(template).or_default()[usize::from(side == WordSide::Positive)].insert(file);
        }
    }
    let mut partners: Vec<BTreeSet<(usize, WordSide)>> = vec![BTreeSet::new(); paths.len()];
    for [queries, positives] in by_template.values() {
        for (query, positive) in queries.iter().flat_map(|q| positives.iter().map(move |p| (*q, *p))) {
            if query != positive {
                partners[query].insert((positive, WordSide::Query));
                partners[positive].insert((query, WordSide::Positive));
            }
        }
    }
    let mut sides = Vec::new();
    for (file, path) in paths.iter().enumerate() {
        let mut own = partners[file].iter();
        match (own.next(), own.next()) {
            (Some((first, _)), Some((second, _))) => return Err(ambiguous(path, [&paths[*first], &paths[*second]])),
            (Some((positive, WordSide::Query)), None) => sides.push(Sides { query: file, positive: Some(*positive) }),
            (Some(_), None) => {}
            (None, _) if whole[file] => sides.push(Sides { query: file, positive: None }),
            (None, _) => match named[file].certain_side() {
                Some(word) => return Err(half(path, word)),
                None => sides.push(Sides { query: file, positive: None }),
            },
        }
    }
    Ok(sides)
}

impl NamedPath {
    fn new(path: &Path) -> NamedPath {
        let stem = path.with_extension("");
        let normal = stem.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            Component::ParentDir => Some("..".to_owned()),
            _ => None,
        });
        let mut named = NamedPath { components: Vec::new(), words: Vec::new() };
        for (number, component) in normal.enumerate() {
            let words = words_of(&component).into_iter();
            named.words.extend(words.map(|(side, start, end, certain)| SideWord {
                side,
                component: number,
                start,
                end,
                certain,
            }));
            // Lower case of other letters may have another length, and words are cut by their bytes.
            named.components.push(component.to_ascii_lowercase());
        }
        named
    }

    /// The path without a word of a side, or without all of them.
    fn templates(&self) -> Vec<(WordSide, String)> {
        let mut templates = Vec::new();
        for side in [WordSide::Query, WordSide::Positive] {
            let own: Vec<&SideWord> = self.words.iter().filter(|word| word.side == side).collect();
            templates.extend(own.iter().map(|word| (side, self.without(&[word]))));
            if own.len() > 1 {
                templates.push((side, self.without(&own)));
            }
        }
        templates
    }

    /// `words` are in the order of the path.
    fn without(&self, words: &[&SideWord]) -> String {
        let mut components = self.components.clone();
        for word in words.iter().rev() {
            components[word.component].replace_range(word.start..word.end, GAP);
        }
        components.join("/")
    }

    /// The word that says that the file is one side, in the file's name or that of its folder.
    ///
    /// A letter or two of a folder's name prove nothing: random names, as of temporary folders, have them.
    fn certain_side(&self) -> Option<(WordSide, &str)> {
        let file = self.components.len().checked_sub(1)?;
        let says = |word: &SideWord| {
            let whole = word.end - word.start == self.components[word.component].len();
            let in_folder = word.component + 1 == file && (whole || word.end - word.start > 2);
            word.certain && (word.component == file || in_folder)
        };
        let word = self.words.iter().rev().find(|word| says(word))?;
        Some((word.side, &self.components[word.component][word.start..word.end]))
    }
}

/// The words of a name that stand for a side: where they begin and end, and whether they can be nothing else.
fn words_of(name: &str) -> Vec<(WordSide, usize, usize, bool)> {
    let mut found = Vec::new();
    for (start, end) in tokens(name) {
        let token = name[start..end].to_ascii_lowercase();
        let of = |words: &[&str]| words.contains(&token.as_str());
        let side = match () {
            () if of(&QUERY_WORDS) => Some(WordSide::Query),
            () if of(&POSITIVE_WORDS) => Some(WordSide::Positive),
            () if of(&NEGATIVE_WORDS) => Some(WordSide::Negative),
            () => None,
        };
        if let Some(side) = side {
            let before_number = name[end..].starts_with(|next: char| next.is_ascii_digit());
            found.push((side, start, end, token.len() > 2 || !before_number));
        } else if let Some((word, side)) = INSIDE.iter().find(|(word, _)| token.contains(word)) {
            let at = start + token.find(word).unwrap_or(0);
            found.push((*side, at, at + word.len(), true));
        }
    }
    found
}

/// The words of a name: runs of letters, which a capital letter after a small one divides.
fn tokens(name: &str) -> Vec<(usize, usize)> {
    let (mut all, mut start, mut was_small) = (Vec::new(), None, false);
    for (at, letter) in name.char_indices() {
        let begins = letter.is_alphabetic() && (start.is_none() || (was_small && letter.is_uppercase()));
        if let Some(first) = start.filter(|_| begins || !letter.is_alphabetic()) {
            all.push((first, at));
            start = None;
        }
        if begins {
            start = Some(at);
        }
        was_small = letter.is_lowercase();
    }
    all.extend(start.map(|first| (first, name.len())));
    all
}

fn half(path: &Path, (side, word): (WordSide, &str)) -> Error {
    let (holds, other) = match side {
        WordSide::Query => ("queries", partner("positives", &POSITIVE_WORDS)),
        WordSide::Positive => ("positives", partner("queries", &QUERY_WORDS)),
        WordSide::Negative => ("negatives", "files of queries and positives: negatives are what is mined".to_owned()),
    };
    let remedy = match side {
        WordSide::Negative => "leave the file out",
        _ => {
            "give the other file, too; or name both sides: --query-file FILE --positive-file FILE (the same file twice \
             if each row is its own positive)"
        }
    };
    Error::input("a .npy file looks like one side of pairs, and the other side is not there")
        .path(path)
        .expected(other)
        .found(format!("a file of {holds}, by the word `{word}`"))
        .remedy(remedy)
}

/// What the other file would be called.
fn partner(holds: &str, words: &[&str]) -> String {
    format!("a file of {holds}, of the same name but for that word: {}", words.join(", "))
}

fn ambiguous(path: &Path, others: [&PathBuf; 2]) -> Error {
    Error::input("a .npy file could be paired with two others")
        .path(path)
        .expected("one file of queries for each file of positives")
        .found(format!("{} and {}", others[0].display(), others[1].display()))
        .remedy("name both sides: --query-file FILE --positive-file FILE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(names: &[&str]) -> Result<Vec<(String, Option<String>)>, String> {
        let paths: Vec<PathBuf> = names.iter().map(|name| PathBuf::from(format!("{name}.npy"))).collect();
        let sides = pair(&paths, &vec![false; paths.len()]).map_err(|error| error.to_string())?;
        let name = |file: usize| names[file].to_owned();
        Ok(sides.into_iter().map(|sides| (name(sides.query), sides.positive.map(name))).collect())
    }

    #[test]
    fn usual_names_are_paired() {
        for (query, positive) in [
            ("queries", "corpus"),
            ("anchors", "positives"),
            ("q", "p"),
            ("Q", "P"),
            ("query_embeddings", "passage_embeddings"),
            ("Queries", "Positives"),
            ("queries/0", "positives/0"),
            ("queries/queries_0", "positives/positives_0"),
            ("docs/queries", "docs/positives"),
            ("doc_queries", "doc_positives"),
            ("query-3", "positive-3"),
            ("questions.part1", "answers.part1"),
            ("trainQueries", "trainDocs"),
            ("myqueries", "mypositives"),
            ("q0", "p0"),
            ("queries_p0", "positives_p0"),
            ("q_docs", "p_docs"),
            ("a/b/queries/x/0", "a/b/corpus/x/0"),
            ("ä_QUERY", "ä_doc"),
        ] {
            let pair = vec![(query.to_owned(), Some(positive.to_owned()))];
            assert_eq!(paired(&[query, positive]), Ok(pair.clone()), "{query}");
            assert_eq!(paired(&[positive, query]), Ok(pair), "{query}");
        }
        let names = ["p_0", "p_1", "q_1", "q_0"];
        let expected = [("q_1", "p_1"), ("q_0", "p_0")].map(|(q, p)| (q.to_owned(), Some(p.to_owned())));
        assert_eq!(paired(&names).unwrap(), expected);
    }

    #[test]
    fn neutral_names_are_whole() {
        for name in [
            "embeddings",
            "emb_0",
            "emb_p0",
            "docs/v1/embeddings",
            "vectors/a",
            "quantised",
            "positions",
            ".tmp1aOb9Q/input",
            "tmpxPs3/input",
        ] {
            assert_eq!(paired(&[name]), Ok(vec![(name.to_owned(), None)]));
        }
        let paths = [PathBuf::from("queries.npy")];
        assert_eq!(pair(&paths, &[true]).unwrap(), [Sides { query: 0, positive: None }]);
    }

    #[test]
    fn half_a_pair_is_refused() {
        for name in ["queries", "p", "positives_3", "queries/0", "corpus", "doc_emb", "x/Docs/part-0", "q/0"] {
            let text = paired(&["embeddings", name]).unwrap_err();
            assert!(text.contains(name) && text.contains("looks like one side"), "{text}");
        }
        let text = paired(&["queries_0", "positives_0", "queries_1"]).unwrap_err();
        assert!(text.contains("queries_1") && text.contains("--query-file"), "{text}");
        let text = paired(&["queries", "positives", "negatives"]).unwrap_err();
        assert!(text.contains("negatives are what is mined"), "{text}");
    }

    #[test]
    fn pairs_of_three_are_refused() {
        let text = paired(&["queries", "positives", "passages"]).unwrap_err();
        assert!(text.contains("two others") && text.contains("positives.npy and passages.npy"), "{text}");
    }
}
