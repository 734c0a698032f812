//! Rules of this repository that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

const LONGEST_SOURCE: usize = 550;
const LONGEST_TEST: usize = 500;
/// Lines above an `unsafe` in which its reason has to stand.
const REASON_WITHIN: usize = 12;

/// A source file: path from the repository's root, and lines.
struct Source {
    path: String,
    lines: Vec<String>,
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut all = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
            all.push(Source { path: path.strip_prefix(root).unwrap().display().to_string(), lines });
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// The line without its comment. A `//` inside a string cuts too much, which these rules can bear.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `word` stands in the line as a whole word.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|found| found == word)
}

/// Whether the line has the keyword `unsafe`; the word stands in texts, too (a page's `'unsafe-inline'`).
fn is_unsafe(line: &str) -> bool {
    let forms = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "unsafe("];
    has_word(code(line), "unsafe") && forms.iter().any(|form| code(line).contains(form))
}

#[track_caller]
fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let mut faults = Vec::new();
    for (folder, longest) in [("src", LONGEST_SOURCE), ("tests", LONGEST_TEST), ("benches", LONGEST_TEST)] {
        for source in sources(&[folder]).iter().filter(|source| source.lines.len() > longest) {
            faults.push(format!("{} has {} lines, more than {longest}", source.path, source.lines.len()));
        }
    }
    assert_none(faults);
}

#[test]
fn unsafe_code_stays_behind_its_fences() {
    let mut faults = Vec::new();
    for source in sources(&["src"]) {
        let name = source.path.rsplit('/').next().unwrap();
        let fenced = ["mapped.rs", "dot.rs", "blas.rs", "plugin.rs", "shared.rs"].contains(&name)
            || name.contains("simd")
            || name.contains("avx");
        let lines = source.lines.iter().enumerate().filter(|(_, line)| is_unsafe(line));
        if !fenced {
            faults.extend(lines.map(|(at, _)| format!("{}:{}: unsafe outside its fences", source.path, at + 1)));
        }
    }
    assert_none(faults);
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut faults = Vec::new();
    for source in sources(&["src", "benches"]) {
        for (at, line) in source.lines.iter().enumerate().filter(|(_, line)| is_unsafe(line)) {
            let above = &source.lines[at.saturating_sub(REASON_WITHIN)..at];
            // An unsafe function says in its documentation what its callers owe it.
            let reason = if line.contains("unsafe fn") { "# Safety" } else { "SAFETY" };
            if !above.iter().any(|line| line.contains(reason) || line.contains("SAFETY")) {
                faults.push(format!("{}:{}: unsafe without {reason} above it", source.path, at + 1));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn modules_are_named_after_what_they_do() {
    let vague = ["util", "utils", "helper", "helpers", "common", "manager", "misc"];
    let mut faults = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        for part in source.path.trim_end_matches(".rs").split('/').filter(|part| vague.contains(part)) {
            faults.push(format!("{}: {part} says nothing", source.path));
        }
        for line in source.lines.iter().filter(|line| has_word(line, "mod")) {
            let name = line.trim_start_matches("pub ").trim_start_matches("mod ").split([';', ' ']).next().unwrap();
            if vague.contains(&name) {
                faults.push(format!("{}: mod {name} says nothing", source.path));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let later = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!"), concat!("unimple", "mented!")];
    let mut faults = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        for (at, line) in source.lines.iter().enumerate() {
            for word in later.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{}: {word}", source.path, at + 1));
            }
        }
    }
    assert_none(faults);
}
