//! What each verb that writes leaves where nothing disturbs it, to compare with what disturbed ones leave.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::command::{Outcome, Place, batchmine, mine, mine_command};
use super::dataset::Dataset;

pub const FLAGS: &str = "--task-column task --skip 4 --window 16 --max-query-score 0.9 --cluster-size 8 \
    --batch-size 32 --hard-negatives 2 --epochs 2 --threads 2";

/// A call that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Mine,
    #[cfg(feature = "export")]
    Export,
    Report,
    Gen,
    Clean,
    /// `mine --table parquet` of a finished run.
    #[cfg(feature = "lake")]
    Publish,
    /// `mine --table delta` of a finished run.
    #[cfg(feature = "lake")]
    Commit,
}

impl Verb {
    pub const ALL: &[Verb] = &[
        Verb::Mine,
        #[cfg(feature = "export")]
        Verb::Export,
        Verb::Report,
        Verb::Gen,
        Verb::Clean,
        #[cfg(feature = "lake")]
        Verb::Publish,
        #[cfg(feature = "lake")]
        Verb::Commit,
    ];

    /// A store is asked again where a first request failed.
    pub fn asks_again(self) -> bool {
        ["Publish", "Commit"].contains(&format!("{self:?}").as_str())
    }
}

/// An input and a finished run, from which every verb can work; and what each verb leaves, undisturbed.
pub struct Bench {
    pub place: Place,
}

/// A file: path within the folder, and bytes.
pub type Made = Vec<(String, Vec<u8>)>;

impl Bench {
    pub fn new() -> Bench {
        let data = Dataset { files: 2, ..Dataset::planted(240, 16, 61) }
            .with_text_ids()
            .with_tasks(|row| ["a", "b"][row % 2].into())
            .with_text("query", |row| Some(format!("question {row}")))
            .with_text("positive", |row| Some(format!("answer {row}")));
        let place = Place::with(&data);
        mine(&place.input(), &place.path("run"), FLAGS).ok();
        Bench { place }
    }

    /// The folder that a verb writes into.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// What has to be there before the verb is called.
    pub fn prepare(&self, verb: Verb, name: &str) {
        if verb == Verb::Clean {
            copy(&self.place.path("run"), &self.folder(name));
        }
    }

    pub fn command(&self, verb: Verb, name: &str) -> Command {
        let (run, out) = (self.place.path("run"), self.folder(name));
        let mut command = match verb {
            Verb::Mine => mine_command(&self.place.input(), &out, FLAGS),
            #[cfg(feature = "lake")]
            Verb::Publish | Verb::Commit => {
                let format = if verb == Verb::Publish { "parquet" } else { "delta" };
                let flags = format!("{FLAGS} --table {format} --table-out {}", out.display());
                mine_command(&self.place.input(), &run, &flags)
            }
            _ => batchmine(),
        };
        match verb {
            #[cfg(feature = "export")]
            Verb::Export => {
                command.arg("export").arg(run).args(["--format", "sentence-transformers", "--out"]).arg(out)
            }
            Verb::Report => command.arg("report").arg(run).args(["--threads", "2", "--out"]).arg(out),
            Verb::Gen => {
                let words = "gen --rows 9000 --dim 8 --clusters 40 --tasks 2 --out";
                command.args(words.split(' ')).arg(out)
            }
            Verb::Clean => command.arg("clean").arg(out),
            _ => &mut command,
        };
        command.stdin(Stdio::null());
        command
    }

    pub fn call(&self, verb: Verb, name: &str) -> Outcome {
        self.command(verb, name).output().unwrap().into()
    }

    /// What the verb made: without locks, times and what killed calls may leave.
    pub fn made(&self, verb: Verb, name: &str) -> Made {
        let mut all = Vec::new();
        collect(&self.folder(name), "", &mut all);
        let is_of_run = |file: &str| ["manifest.json", "lock"].contains(&file) || file.starts_with("tmp/");
        all.retain(|(file, _)| match verb {
            // Of the stages without those whose order of rows in a file is open.
            Verb::Mine => !is_of_run(file) && !file.starts_with("vectors/"),
            Verb::Clean => !is_of_run(file),
            _ => file != "lock" && !file.starts_with("_batchmine_probe"),
        });
        all.sort();
        all
    }

    /// Makes the folder of an undisturbed call.
    pub fn undisturbed(&self, verb: Verb) -> Made {
        let name = format!("undisturbed-{verb:?}");
        self.prepare(verb, &name);
        self.call(verb, &name).ok();
        self.made(verb, &name)
    }

    /// Repeats the verb, and holds what it makes to what an undisturbed call made.
    #[track_caller]
    pub fn finish(&self, verb: Verb, name: &str, undisturbed: &Made, disturbance: &str) {
        let outcome = self.call(verb, name);
        assert_eq!(outcome.code, Some(0), "{verb:?} after {disturbance}: {}", outcome.said());
        let made = self.made(verb, name);
        let names = |made: &Made| made.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&made), names(undisturbed), "{verb:?} after {disturbance}");
        for ((file, made), (_, expected)) in made.iter().zip(undisturbed) {
            assert!(made == expected, "{verb:?} after {disturbance}: {file} differs");
        }
    }

    pub fn remove(&self, name: &str) {
        match fs::remove_dir_all(self.folder(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{name}: {e}"),
            _ => {}
        }
    }
}

/// The files below a folder, but hidden ones; of a Delta log, whose commits have a time, the names.
fn collect(folder: &Path, prefix: &str, all: &mut Made) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), all);
        } else {
            let bytes = if prefix == "_delta_log/" { Vec::new() } else { fs::read(&path).unwrap() };
            all.push((format!("{prefix}{name}"), bytes));
        }
    }
}

/// Copies a folder with all below it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A number that the environment may raise.
pub fn count_of(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}

/// Prints a figure past the harness, which keeps what passing tests print to itself.
pub fn figures(line: &str) {
    use std::io::Write;
    #[allow(clippy::explicit_write, reason = "the harness captures what `eprintln` says")]
    writeln!(std::io::stderr(), "{line}").unwrap();
}
