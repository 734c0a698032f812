//! Rules of this repository that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

const LONGEST_SOURCE: usize = 550;
const LONGEST_TEST: usize = 500;
const COLUMNS: usize = 120;
/// Lines above an `unsafe` in which its reason has to stand.
const REASON_WITHIN: usize = 12;

/// A file: path from the repository's root, and lines.
pub struct Source {
    pub path: String,
    pub lines: Vec<String>,
}

/// The Rust files of some folders, in the order of their paths.
pub fn sources(folders: &[&str]) -> Vec<Source> {
    files(folders, &["rs"])
}

/// The files of some folders with some endings, in the order of their paths.
fn files(folders: &[&str], endings: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut all = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| endings.iter().any(|ending| extension == *ending)) {
            let lines = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
            all.push(Source { path: path.strip_prefix(root).unwrap().display().to_string(), lines });
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// The line without its comment. A `//` inside a string cuts too much, which these rules can bear.
pub fn code(line: &str) -> &str {
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
pub fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let mut faults = Vec::new();
    for (folder, longest) in
        [("src", LONGEST_SOURCE), ("python", LONGEST_SOURCE), ("tests", LONGEST_TEST), ("benches", LONGEST_TEST)]
    {
        for source in sources(&[folder]).iter().filter(|source| source.lines.len() > longest) {
            faults.push(format!("{} has {} lines, more than {longest}", source.path, source.lines.len()));
        }
    }
    assert_none(faults);
}

#[test]
fn unsafe_code_stays_behind_its_fences() {
    let mut faults = Vec::new();
    for source in sources(&["src", "python"]) {
        let name = source.path.rsplit('/').next().unwrap();
        let fences = [
            "allocator.rs",
            "mapped.rs",
            "bus_error.rs",
            "dot.rs",
            "blas.rs",
            "plugin.rs",
            "shared.rs",
            "simd.rs",
            "foreign.rs",
        ];
        let fenced = fences.contains(&name);
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
    for source in sources(&["src", "python", "benches"]) {
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
    for source in sources(&["src", "python", "tests", "benches"]) {
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
    for source in sources(&["src", "python", "tests", "benches"]) {
        for (at, line) in source.lines.iter().enumerate() {
            for word in later.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{}: {word}", source.path, at + 1));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn lines_have_120_columns_at_most() {
    let mut faults = Vec::new();
    for source in files(&["src", "python", "tests", "benches"], &["rs", "py", "pyi", "sh", "toml"]) {
        let long = source.lines.iter().enumerate().filter(|(_, line)| line.chars().count() > COLUMNS);
        faults.extend(long.map(|(at, line)| format!("{}:{}: {} columns", source.path, at + 1, line.chars().count())));
    }
    assert_none(faults);
}

/// The lines before the unit tests, which come last in a file.
fn before_tests(source: &Source) -> &[String] {
    let end = source.lines.iter().position(|line| line == "#[cfg(test)]").unwrap_or(source.lines.len());
    if source.path.ends_with("/tests.rs") { &[] } else { &source.lines[..end] }
}

#[test]
fn json_without_a_type_stays_in_the_run_folder() {
    let untyped = ["serde_json::Value", "json!", "serde_json::from_value", "serde_json::to_value"];
    let is_untyped = |line: &str| {
        let imported =
            line.contains("use serde_json::") && ["Value", "Map", "json"].iter().any(|name| has_word(line, name));
        imported || untyped.iter().any(|form| line.contains(form))
    };
    let mut faults = Vec::new();
    for source in sources(&["src"]) {
        // Delta's log takes values: the statistics of a file, and what a commit says of itself.
        if source.path.starts_with("src/run/") || source.path.starts_with("src/batches/lake/") {
            continue;
        }
        let lines = before_tests(&source).iter().enumerate().filter(|(_, line)| is_untyped(code(line)));
        faults.extend(lines.map(|(at, line)| format!("{}:{}: {}", source.path, at + 1, line.trim())));
    }
    assert_none(faults);
}

/// Names of types that are defined more than once, and why.
const DEFINED_TWICE: [(&str, &str); 3] = [
    ("Lake", "the lake, and what stands for it in a build without"),
    ("StoredFile", "a file in a store, and what stands for it in a build without"),
    ("Stores", "stores, and what stands for them in a build without"),
];

#[test]
fn a_type_has_a_name_of_its_own() {
    let mut places: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for source in sources(&["src"]) {
        for line in before_tests(&source) {
            let line = code(line);
            let words: Vec<&str> = line.split_whitespace().skip_while(|word| word.starts_with("pub")).collect();
            // An indented `type` is an associated one.
            let is_type = match words.first() {
                Some(&("struct" | "enum" | "trait")) => true,
                Some(&"type") => !line.starts_with(' '),
                _ => false,
            };
            let name = words.get(1).and_then(|name| name.split(|c: char| !c.is_alphanumeric()).next());
            if let Some(name) = name.filter(|_| is_type) {
                places.entry(name.to_owned()).or_default().push(source.path.clone());
            }
        }
    }
    let twice = places.into_iter().filter(|(_, paths)| paths.len() > 1);
    let twice = twice.filter(|(name, _)| !DEFINED_TWICE.iter().any(|(known, _)| known == name));
    assert_none(twice.map(|(name, paths)| format!("{name} is defined in {}", paths.join(", "))).collect());
}

#[test]
fn the_census_of_unsafe_code_is_of_the_versions_that_are_built() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap();
    let page = fs::read_to_string(root.join("docs/unsafe.md")).unwrap();
    let census = page.split("<!-- census").nth(1).unwrap().split("<!-- end of census").next().unwrap();
    let rows: Vec<Vec<&str>> = census.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    let crates: Vec<&Vec<&str>> = rows.iter().filter(|cells| cells.len() == 7).skip(2).collect();
    assert!(crates.len() > 40, "{} crates", crates.len());
    let built = |cells: &&&Vec<&str>| lock.contains(&format!("name = \"{}\"\nversion = \"{}\"\n", cells[1], cells[2]));
    let old = crates.iter().filter(|cells| !built(cells));
    assert_none(old.map(|cells| format!("docs/unsafe.md: no {} {}", cells[1], cells[2])).collect());
}

/// Nothing prints past `stdio`: what `println` and its kin cannot write, they make a panic of.
#[test]
fn everything_is_printed_in_one_place() {
    let printing = ["println!", "print!(", "dbg!(", "stdout().lock", "stderr().lock"];
    let mut faults = Vec::new();
    for source in sources(&["src"]) {
        // A worker's stdout is its protocol.
        // An allocator must not allocate.
        if ["src/stdio.rs", "src/neighbors/gpu/worker.rs", "src/guard/allocator.rs"].contains(&&*source.path) {
            continue;
        }
        let lines = before_tests(&source).iter().enumerate();
        let prints = |line: &str| printing.iter().any(|form| code(line).contains(form));
        faults.extend(
            lines
                .filter(|(_, line)| prints(line))
                .map(|(at, line)| format!("{}:{}: {}", source.path, at + 1, line.trim())),
        );
    }
    assert_none(faults);
}
