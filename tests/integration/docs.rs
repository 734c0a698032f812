//! README and docs/: every command and program in them runs, prints what is shown, and every link leads somewhere.
//!
//! The blocks of a page run in their order in one temporary folder that looks like a clone: shell blocks first, then
//! Python blocks. docs/testing.md says what comments above a block mean.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::command::skipped;
use super::pages::{Block, Kind, Page, REASONS, prints, root, transcript};

/// Blocks that are shown and do not run. Whoever adds one changes this number, and says why above the block.
const NOT_RUN: usize = 50;
const README_LINES: usize = 150;
const COLUMNS: usize = 120;

/// A test for each page, in the order of the book.
macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        const PAGES: &[&str] = &[$($path),*];
        $(
            #[test]
            fn $name() {
                run($path);
            }
        )*
    };
}

pages! {
    readme: "README.md",
    tutorial: "docs/tutorial.md",
    input: "docs/input.md",
    settings: "docs/settings.md",
    tasks: "docs/tasks.md",
    table: "docs/table.md",
    training: "docs/training.md",
    python: "docs/python.md",
    verdicts: "docs/verdicts.md",
    publishing: "docs/publishing.md",
    resume: "docs/resume.md",
    pieces: "docs/pieces.md",
    ray: "docs/ray.md",
    scale: "docs/scale.md",
    checking: "docs/checking.md",
    report: "docs/report.md",
    choosing: "docs/choosing.md",
    gpu: "docs/gpu.md",
    memory: "docs/memory.md",
    algorithms: "docs/algorithms.md",
    formats: "docs/formats.md",
    architecture: "docs/architecture.md",
    performance: "docs/performance.md",
    testing: "docs/testing.md",
    unsafe_code: "docs/unsafe.md",
    limits: "docs/limits.md",
    glossary: "docs/glossary.md",
    reference: "docs/reference.md",
}

/// Pages beside the book whose links are checked, too.
const OTHERS: [&str; 4] =
    ["CHANGELOG.md", "fixtures/README.md", "benches/compare/README.md", "benches/scale/README.md"];

/// A folder that looks like a clone, with `batchmine` and `python` on the path.
struct Clone {
    folder: tempfile::TempDir,
    python: std::ffi::OsString,
}

impl Clone {
    fn new() -> Clone {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(root()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            if name != "target" && name != "RUN" {
                std::os::unix::fs::symlink(entry.path(), folder.path().join(name)).unwrap();
            }
        }
        let bin = folder.path().join(".bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_batchmine"), bin.join("batchmine")).unwrap();
        Clone { folder, python: std::env::var_os("BATCHMINE_PYTHON").unwrap_or_else(|| "python3".into()) }
    }

    fn command(&self, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BATCHMINE_") {
                command.env_remove(name);
            }
        }
        let mut path = self.folder.path().join(".bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(self.folder.path()).env("PATH", path).env("NO_COLOR", "1");
        command
    }

    /// What a command prints on both streams, and whether it succeeds.
    fn shell(&self, text: &str) -> (bool, Vec<String>) {
        let output =
            self.command("bash".as_ref()).arg("-c").arg(format!("exec 2>&1\nset -e\n{text}")).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// The same of a Python program; `None` where this Python lacks a module that it imports.
    fn python(&self, block: &Block) -> Option<(bool, Vec<String>)> {
        // A Python that was named has to have everything; any other may lack it.
        if std::env::var_os("BATCHMINE_PYTHON").is_none() {
            let imports = block.text.lines().filter(|line| line.starts_with("import ") || line.starts_with("from "));
            for line in imports {
                let found = self.command(&self.python).args(["-c", line]).output();
                if !found.is_ok_and(|output| output.status.success()) {
                    skipped(&format!(
                        "{}: python3 fails at `{line}`, and BATCHMINE_PYTHON names no other",
                        block.place
                    ));
                    return None;
                }
            }
        }
        // Readers' threads may still be at work, and abort a process that takes itself apart.
        let text = format!("{}\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n", block.text);
        let output = self.command(&self.python).args(["-c", &text]).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        Some((output.status.success(), said.lines().map(str::to_owned).collect()))
    }
}

fn has_feature(block: &Block) -> bool {
    let Some(feature) = &block.needs else { return true };
    let built = match feature.as_str() {
        "export" => cfg!(feature = "export"),
        "lake" => cfg!(feature = "lake"),
        _ => panic!("{}: no test has the feature {feature}", block.place),
    };
    if !built {
        skipped(&format!("{}: this build lacks the feature {feature}", block.place));
    }
    built
}

#[track_caller]
fn assert_prints(place: &str, command: &str, expected: &[String], printed: &[String]) {
    let (shown, found) = (expected.join("\n"), printed.join("\n"));
    assert!(prints(expected, printed), "{place}: {command}\n--- the page shows\n{shown}\n--- it prints\n{found}");
}

/// Runs the blocks of a page.
fn run(path: &str) {
    let blocks: Vec<Block> = Page::read(path).blocks();
    let (python, shell): (Vec<_>, Vec<_>) = blocks
        .into_iter()
        .filter(|block| block.not_run.is_none() && has_feature(block))
        .partition(|block| matches!(block.kind, Kind::Python | Kind::Output));
    if python.is_empty() && shell.is_empty() {
        return;
    }
    let clone = Clone::new();
    for Block { place, kind, text, .. } in shell {
        match kind {
            Kind::File(name) => fs::write(clone.folder.path().join(name), text).unwrap(),
            Kind::Transcript => {
                for (command, expected) in transcript(&text) {
                    let (success, printed) = clone.shell(&command);
                    let fails = expected.iter().any(|line| line.starts_with("error: "));
                    assert!(success != fails, "{place}: {command}\n{}", printed.join("\n"));
                    assert_prints(&place, &command, &expected, &printed);
                }
            }
            _ => {
                let (success, printed) = clone.shell(&text);
                assert!(success, "{place}: {text}\n{}", printed.join("\n"));
            }
        }
    }
    let mut printed: Option<Vec<String>> = None;
    for block in python {
        if block.kind == Kind::Output {
            let expected: Vec<String> = block.text.lines().map(str::to_owned).collect();
            if let Some(printed) = &printed {
                assert_prints(&block.place, "the program above", &expected, printed);
            }
            continue;
        }
        printed = clone.python(&block).map(|(success, printed)| {
            assert!(success, "{}:\n{}\n{}", block.place, block.text, printed.join("\n"));
            printed
        });
    }
}

#[test]
fn blocks_that_do_not_run_are_counted() {
    let mut counts: BTreeMap<&str, Vec<String>> = REASONS.iter().map(|reason| (*reason, Vec::new())).collect();
    let mut run = 0;
    for path in PAGES {
        for block in Page::read(path).blocks() {
            match block.not_run.as_deref() {
                Some(reason) => counts.get_mut(reason).unwrap().push(block.place),
                None => run += usize::from(!matches!(block.kind, Kind::Setup | Kind::File(_))),
            }
        }
    }
    let total: usize = counts.values().map(Vec::len).sum();
    let mut text = format!("documentation: {run} blocks run, {total} do not");
    for (reason, places) in &counts {
        text += &format!("\n  {reason} {}: {}", places.len(), places.join(" "));
    }
    // Past the harness, which keeps what passing tests print to itself.
    #[allow(clippy::explicit_write, reason = "the harness captures what `eprintln` says")]
    writeln!(std::io::stderr(), "{text}").unwrap();
    assert_eq!(total, NOT_RUN, "{text}\nif a block really cannot run here, change NOT_RUN");
}

#[test]
fn links_lead_somewhere() {
    let mut faults = Vec::new();
    for path in PAGES.iter().chain(&OTHERS) {
        let page = Page::read(path);
        for (line, target) in page.links() {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let there = if file.is_empty() { root().join(path) } else { page.folder().join(file) };
            if !there.exists() {
                faults.push(format!("{path}:{line}: there is no {file}"));
                continue;
            }
            let there = there.canonicalize().unwrap();
            let name = there.strip_prefix(root().canonicalize().unwrap()).unwrap().display().to_string();
            if !anchor.is_empty() && !Page::read(&name).anchors().contains(anchor) {
                faults.push(format!("{path}:{line}: {name} has no heading #{anchor}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn readme_is_short_and_lists_the_book_in_reading_order() {
    let readme = Page::read("README.md");
    assert!(readme.lines.len() <= README_LINES, "README.md has {} lines", readme.lines.len());
    let from = readme.lines.iter().position(|line| line == "## Documentation").expect("a list of the pages");
    let entry = |line: usize| line > from && readme.lines[line - 1].starts_with("- [");
    let listed: Vec<String> = readme.links().into_iter().filter(|(at, _)| entry(*at)).map(|(_, to)| to).collect();
    assert_eq!(listed, &PAGES[1..]);
    let mut files: Vec<String> = fs::read_dir(root().join("docs")).unwrap().map(name).collect();
    files.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let mut known: Vec<String> = PAGES[1..].iter().map(|path| path.replace("docs/", "")).collect();
    known.sort();
    assert_eq!(files, known, "every page of docs/ is in the book");
}

fn name(entry: std::io::Result<fs::DirEntry>) -> String {
    entry.unwrap().file_name().to_string_lossy().into_owned()
}

#[test]
fn prose_is_not_wider_than_a_screen() {
    let mut faults = Vec::new();
    for path in PAGES {
        for (at, line) in Page::read(path).prose() {
            let columns = line.chars().count();
            if columns > COLUMNS && !line.starts_with('|') {
                faults.push(format!("{path}:{at}: {columns} columns"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_table_of_places_names_files_that_are_there() {
    let page = Page::read("docs/architecture.md");
    let from = page.lines.iter().position(|line| line.starts_with("| to find")).expect("a table of places");
    let rows = page.lines[from + 2..].iter().take_while(|line| line.starts_with('|'));
    let named = rows.flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|word| word.ends_with(".rs"));
    let lost: Vec<&str> = named.filter(|path| !root().join("src").join(path).is_file()).collect();
    assert!(lost.is_empty(), "docs/architecture.md: src/ has no {lost:?}");
}

#[test]
#[cfg(feature = "export")] // its flags are part of the page
fn the_reference_is_the_programs_own() {
    let made = super::command::call(["reference"]).ok().stdout;
    let shown = fs::read_to_string(root().join("docs/reference.md")).unwrap();
    assert!(
        made == shown,
        "docs/reference.md is out of date: run `cargo run --features export -- reference > docs/reference.md`"
    );
}
