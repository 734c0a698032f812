//! Pages of the documentation: their blocks, what comments say of these, their headings and links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Why a block may not run in the tests.
pub const REASONS: [&str; 6] = ["builds", "installs", "device", "network", "trainer", "sketch"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a block is to the tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A command that readers do not see: `<!-- setup: COMMAND -->`.
    Setup,
    /// A file of this name with the block's text: `<!-- file: NAME -->`.
    File(String),
    /// Commands.
    Shell,
    /// Commands after `$ `, each with what it prints.
    Transcript,
    /// A program.
    Python,
    /// What the Python block before it prints: `<!-- output -->`.
    Output,
}

/// A block that the tests run, or that says why they do not.
#[derive(Debug, Clone)]
pub struct Block {
    /// Page and line, for messages.
    pub place: String,
    pub kind: Kind,
    pub text: String,
    /// The cargo feature without which it cannot run: `<!-- needs: FEATURE -->`.
    pub needs: Option<String>,
    /// `<!-- not run: REASON -->`.
    pub not_run: Option<String>,
}

/// A Markdown file of this repository.
#[derive(Debug)]
pub struct Page {
    /// From the repository's root.
    pub path: String,
    pub lines: Vec<String>,
}

/// What stands between two blocks.
#[derive(Default)]
struct Comments {
    needs: Option<String>,
    not_run: Option<String>,
    file: Option<String>,
    output: bool,
}

impl Page {
    pub fn read(path: &str) -> Page {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        Page { path: path.to_owned(), lines: text.lines().map(str::to_owned).collect() }
    }

    /// The blocks that the tests run or count, in order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut comments = Comments::default();
        let mut lines = self.lines.iter().enumerate();
        while let Some((at, line)) = lines.next() {
            let place = format!("{}:{}", self.path, at + 1);
            if let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
                match comment.split_once(": ").unwrap_or((comment, "")) {
                    ("setup", command) => {
                        let needs = std::mem::take(&mut comments).needs;
                        blocks.push(Block { place, kind: Kind::Setup, text: command.into(), needs, not_run: None });
                    }
                    ("needs", feature) => comments.needs = Some(feature.into()),
                    ("not run", reason) => {
                        assert!(REASONS.contains(&reason), "{place}: {reason} is none of {REASONS:?}");
                        comments.not_run = Some(reason.into());
                    }
                    ("file", name) => comments.file = Some(name.into()),
                    ("output", "") => comments.output = true,
                    ("terms" | "census" | "end of census", _) => {}
                    _ => panic!("{place}: nobody knows the comment {comment:?}"),
                }
                continue;
            }
            assert!(!line.starts_with("<!--"), "{place}: a comment is one line");
            let Some(language) = line.strip_prefix("```") else {
                let unused = comments.needs.is_some() || comments.not_run.is_some() || comments.file.is_some();
                assert!(!unused && !comments.output, "{place}: the comment above stands above no block");
                continue;
            };
            let body: Vec<&str> = lines.by_ref().map(|(_, line)| line.as_str()).take_while(|l| *l != "```").collect();
            let Comments { needs, not_run, file, output } = std::mem::take(&mut comments);
            let kind = match (language, file, output) {
                (_, Some(name), false) => Kind::File(name),
                ("text", None, true) => Kind::Output,
                ("sh", None, false) => Kind::Shell,
                ("python", None, false) => Kind::Python,
                ("text", None, false) if body.first().is_some_and(|line| line.starts_with("$ ")) => Kind::Transcript,
                _ => {
                    assert!(needs.is_none() && not_run.is_none(), "{place}: this block is not run anyway");
                    continue;
                }
            };
            blocks.push(Block { place, kind, text: body.join("\n") + "\n", needs, not_run });
        }
        blocks
    }

    /// Lines outside of blocks, with their numbers.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let mut prose = Vec::new();
        for (at, line) in self.lines.iter().enumerate() {
            let fence = line.starts_with("```");
            inside ^= fence;
            if !inside && !fence {
                prose.push((at + 1, line.as_str()));
            }
        }
        prose
    }

    /// The anchors of the headings, as GitHub makes them.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut anchors = BTreeSet::new();
        for (_, line) in self.prose().into_iter().filter(|(_, line)| line.starts_with('#')) {
            let anchor = anchor(line.trim_start_matches('#').trim());
            let before = seen.entry(anchor.clone()).or_default();
            anchors.insert(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
            *before += 1;
        }
        anchors
    }

    /// The links that are no URLs: line and target.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (at, line) in self.prose() {
            let line = without_code(line);
            for rest in line.split("](").skip(1) {
                let target = rest.split(')').next().unwrap_or_default();
                if !target.contains("://") {
                    links.push((at, target.to_owned()));
                }
            }
        }
        links
    }

    /// The folder of the page.
    pub fn folder(&self) -> PathBuf {
        root().join(&self.path).parent().map_or_else(|| root().to_owned(), Path::to_owned)
    }
}

fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// The line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("")
}

/// The commands of a transcript, each with the lines that it prints.
pub fn transcript(text: &str) -> Vec<(String, Vec<String>)> {
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), Vec::new())),
            (None, Some((command, printed))) if printed.is_empty() && command.ends_with('\\') => {
                *command += &format!("\n{line}");
            }
            (None, Some((_, printed))) => printed.push(line.to_owned()),
            (None, None) => unreachable!("a transcript begins with a command"),
        }
    }
    commands
}

/// The line without what differs from machine to machine and from call to call: times, rates, sizes in bytes, numbers
/// of threads, absolute paths, and widths of columns.
fn masked(line: &str) -> String {
    const UNITS: [&str; 12] =
        ["s", "ms", "B", "KiB", "MiB", "GiB", "TiB", "bytes", "threads", "thread", "rows/s", "GOP/s"];
    let bare = |word: &str| word.trim_matches([',', ';', '.', ')', '(', ':']).to_owned();
    let number = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || ['.', ','].contains(&c));
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut masked = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let plain = bare(word);
        let unit = words.get(at + 1).is_some_and(|next| UNITS.contains(&bare(next).as_str()));
        let glued = ["KiB", "MiB", "GiB"].iter().any(|unit| plain.strip_suffix(unit).is_some_and(number));
        let path = plain.strip_prefix('/').is_some_and(|rest| rest.contains('/'));
        let unit_itself = at > 0 && UNITS.contains(&plain.as_str()) && number(&bare(words[at - 1]));
        masked.push(match () {
            () if number(&plain) && unit || glued => word.replace(&plain, "#"),
            // Memory may be said in KiB here and in MiB there.
            () if unit_itself && plain.ends_with('B') => word.replace(&plain, "B"),
            () if path => word.replace(&plain, "/PATH"),
            () => (*word).to_owned(),
        });
    }
    masked.join(" ")
}

/// Whether `printed` is what is `expected`, where masked lines count and `...` stands for any lines.
pub fn prints(expected: &[String], printed: &[String]) -> bool {
    let lines = |lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| masked(line)).filter(|line| !line.is_empty()).collect()
    };
    fits(&lines(expected), &lines(printed))
}

fn fits(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "..." => (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..])),
        Some((first, rest)) => printed.split_first().is_some_and(|(line, others)| line == first && fits(rest, others)),
    }
}

#[test]
fn masks_hide_what_differs_and_nothing_else() {
    let same = |a: &str, b: &str| prints(&[a.into()], &[b.into()]);
    assert!(same(
        " INFO    vectors      0.05 s   peak   4.08 MiB of 1 GiB",
        " INFO vectors 1 s  peak 960 KiB of 2.5 GiB"
    ));
    assert!(same("2 files (3.20 MiB), 2 threads", "2 files (3.25 MiB), 16 threads"));
    assert!(!same("2 files (3.20 MiB), 2 threads", "3 files (3.20 MiB), 2 threads"));
    assert!(same("--memory 101MiB or more", "--memory 97MiB or more"));
    assert!(same("where:    /home/me/RUN", "where:    /tmp/x/RUN"));
    assert!(!same("recall@110 1.0000", "recall@110 0.9999"));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(prints(&lines("a\n...\nd"), &lines("a\nb\nc\nd")));
    assert!(!prints(&lines("a\n...\nd"), &lines("a\nb\nc")));
}
