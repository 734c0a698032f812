//! Calls the real executable and reads what it says.

use std::ffi::OsStr;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::dataset::Dataset;

/// A temporary folder with one input and any number of runs.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn empty() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub fn with(data: &Dataset) -> Place {
        let place = Place::empty();
        data.write(&place.input());
        place
    }

    pub fn input(&self) -> PathBuf {
        self.path("input")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What a call came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Outcome {
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }
}

impl Outcome {
    /// Everything that it said.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    #[track_caller]
    pub fn ok(self) -> Outcome {
        assert_eq!(self.code, Some(0), "{}", self.said());
        self
    }

    /// Ended with `code` and said each of `words`.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Outcome {
        let said = self.said();
        assert_eq!(self.code, Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in:\n{said}");
        }
        self
    }

    /// Refused as bad input, with the given words and with what to do about it.
    #[track_caller]
    pub fn refuses(self, words: &[&str]) -> Outcome {
        let outcome = self.fails(2, words);
        assert!(outcome.stderr.contains("remedy:"), "no remedy in:\n{}", outcome.stderr);
        outcome
    }
}

/// Says that a test did not run, past the harness, which keeps what passing tests print to itself.
pub fn skipped(why: &str) {
    #[allow(clippy::explicit_write, reason = "the harness captures what `eprintln` says")]
    writeln!(std::io::stderr(), "SKIPPED: {why}").unwrap();
}

/// The executable, without settings of the shell that the tests run in.
pub fn batchmine() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchmine"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BATCHMINE_") {
            command.env_remove(name);
        }
    }
    command
}

pub fn call<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Outcome {
    batchmine().args(arguments).output().unwrap().into()
}

/// `batchmine mine INPUT --out RUN FLAGS`, ready to be started; flags are split at spaces.
pub fn mine_command(input: &Path, run: &Path, flags: &str) -> Command {
    let mut command = batchmine();
    command.arg("mine").arg(input).arg("--out").arg(run).args(flags.split_whitespace());
    if !flags.contains("--threads") {
        command.args(["--threads", "2"]);
    }
    command
}

pub fn mine(input: &Path, run: &Path, flags: &str) -> Outcome {
    mine_command(input, run, flags).output().unwrap().into()
}

pub fn verify(run: &Path) -> Outcome {
    call([OsStr::new("verify"), run.as_os_str()])
}

/// `batchmine export RUN --format FORMAT --out OUT FLAGS`, ready to be started; flags are split at spaces.
#[cfg(feature = "export")]
pub fn export_command(run: &Path, format: &str, out: &Path, flags: &str) -> Command {
    let mut command = batchmine();
    command.arg("export").arg(run).args(["--format", format]).arg("--out").arg(out).args(flags.split_whitespace());
    command
}

#[cfg(feature = "export")]
pub fn export(run: &Path, format: &str, out: &Path, flags: &str) -> Outcome {
    export_command(run, format, out, flags).output().unwrap().into()
}

/// One line of `inspect --rows --json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub row: usize,
    pub id: String,
    pub task: Option<String>,
    pub cluster: Option<i64>,
    pub score: f32,
    pub neighbors: Vec<(usize, f32)>,
    /// Ranks of the preferred negatives.
    pub window: Range<usize>,
    /// Ranks of the window that are suspects by a limit for sides.
    pub too_close: Vec<usize>,
    /// Ranks before the window that a verdict has cleared.
    pub cleared: Vec<usize>,
    pub arcs: Vec<(usize, u64)>,
    pub suspects: Vec<(usize, u64)>,
}

/// What the run knows of some input rows.
pub fn inspect(run: &Path, rows: Range<usize>) -> Vec<Line> {
    let range = format!("{}..{}", rows.start, rows.end);
    let words: [&OsStr; 5] =
        ["inspect".as_ref(), run.as_os_str(), "--rows".as_ref(), range.as_ref(), "--json".as_ref()];
    let outcome = call(words).ok();
    let lines: Vec<Line> = outcome.stdout.lines().map(line).collect();
    assert!(lines.iter().map(|line| line.row).eq(rows), "each row once, in order");
    lines
}

fn line(text: &str) -> Line {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"));
    let whole = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no whole number in {text}"));
    let pairs = |list: &str, second: &str| -> Vec<(usize, Value)> {
        let list = value[list].as_array().unwrap_or_else(|| panic!("no list {list} in {text}"));
        list.iter().map(|pair| (whole(&pair["row"]) as usize, pair[second].clone())).collect()
    };
    let counted = |list: &str, second: &str| -> Vec<(usize, u64)> {
        pairs(list, second).iter().map(|(row, value)| (*row, whole(value))).collect()
    };
    let score = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no score in {text}")) as f32;
    Line {
        row: whole(&value["row"]) as usize,
        id: value["id"].as_str().map_or_else(|| value["id"].to_string(), str::to_owned),
        task: value["task"].as_str().filter(|task| !task.is_empty()).map(str::to_owned),
        cluster: value["cluster_id"].as_i64(),
        score: score(&value["score"]),
        window: whole(&value["window"][0]) as usize..whole(&value["window"][1]) as usize,
        cleared: value["cleared"].as_array().into_iter().flatten().map(|rank| whole(rank) as usize).collect(),
        too_close: value["too_close"].as_array().into_iter().flatten().map(|rank| whole(rank) as usize).collect(),
        neighbors: pairs("neighbors", "score").iter().map(|(row, value)| (*row, score(value))).collect(),
        arcs: counted("arcs", "weight"),
        suspects: counted("suspects", "directions"),
    }
}

/// The files of some stages: path within the run, and bytes.
pub fn files(run: &Path, stages: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for stage in stages {
        let folder = run.join(stage);
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let entry = entry.unwrap();
            let name = format!("{stage}/{}", entry.file_name().to_string_lossy());
            all.push((name, std::fs::read(entry.path()).unwrap()));
        }
    }
    all.sort();
    all
}

/// Stages whose files must not depend on threads or interruptions.
pub const MADE: [&str; 4] = ["neighbors", "edges", "clusters", "batches"];

/// Two runs have the same files with the same bytes.
#[track_caller]
pub fn assert_same(run: &Path, reference: &Path, stages: &[&str]) {
    let (found, expected) = (files(run, stages), files(reference, stages));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        assert!(found == expected, "{name} differs between {} and {}", run.display(), reference.display());
    }
}
