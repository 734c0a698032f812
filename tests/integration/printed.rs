//! What cannot be printed: data that are lost are an error, messages that are lost are none.

use std::fs::{File, OpenOptions};
use std::process::{Command, Stdio};

use super::command::{Outcome, batchmine};
use super::undisturbed::{Bench, FLAGS, Verb, figures};

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A call that prints data.
struct Printing {
    /// Split at spaces; `NEW` is a folder that is not there.
    words: String,
    /// Its code where all is well.
    code: i32,
    /// It takes a second: of its kind one is called in all ways.
    is_slow: bool,
}

fn calls(bench: &Bench) -> Vec<Printing> {
    let path = |name: &str| bench.folder(name).display().to_string();
    let (run, input) = (path("run"), path("input"));
    bench.prepare(Verb::Clean, "damaged");
    std::fs::write(bench.folder("damaged").join("notes.txt"), "no file of the run").unwrap();
    let job = format!("{input} {FLAGS}");
    let usual = [
        format!("inspect {run}"),
        format!("inspect {run} --json"),
        format!("inspect {input}"),
        format!("inspect {run} --rows 0..200"),
        format!("inspect {run} --rows 0..200 --json"),
        format!("verify {run}"),
        format!("verify {run} --json"),
        format!("mine {job} --out NEW --json"),
        format!("report {run} --out NEW"),
        format!("report {run} --out NEW --json"),
        "gen --rows 100 --dim 4 --out NEW --json".into(),
        format!("clean {run} --dry-run --json"),
        "completions bash".into(),
        "man".into(),
        "man mine".into(),
        "reference".into(),
        "--version".into(),
        "--help".into(),
        "mine --help".into(),
        "help".into(),
        #[cfg(feature = "export")]
        format!("export {run} --format tevatron --out NEW --json"),
    ];
    let slow = [format!("plan {job}"), format!("plan {job} --json"), format!("mine {job} --out NEW --dry-run")];
    let usual = usual.map(|words| Printing { words, code: 0, is_slow: false });
    let slow = slow.map(|words| Printing { words, code: 0, is_slow: true });
    let faulty = Printing { words: format!("verify {}", path("damaged")), code: 3, is_slow: false };
    usual.into_iter().chain(slow).chain([faulty]).collect()
}

/// Calls of batchmine, each with new folders.
struct Calls<'a> {
    bench: &'a Bench,
    count: std::cell::Cell<u32>,
}

impl Calls<'_> {
    fn command(&self, words: &str) -> Command {
        let new = self.bench.folder(&format!("new-{}", self.count.replace(self.count.get() + 1)));
        let mut command = batchmine();
        let new = new.display().to_string();
        command.args(words.split_whitespace().map(|word| if word == "NEW" { new.as_str() } else { word }));
        command.stdin(Stdio::null());
        command
    }
}

#[test]
fn what_cannot_be_printed_is_an_error_and_what_cannot_be_said_is_none() {
    let bench = Bench::new();
    let run = Calls { bench: &bench, count: 0.into() };
    let calls = calls(&bench);
    for (at, Printing { words, code, is_slow }) in calls.iter().enumerate() {
        let outcome = Outcome::from(run.command(words).stdout(full()).output().unwrap());
        assert_eq!(outcome.code, Some(1), "{words}, stdout full: {}", outcome.said());
        assert!(outcome.stderr.contains("error: stdout cannot be written"), "{words}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("remedy:") && !outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        if *is_slow && calls[at - 1].is_slow {
            continue;
        }
        let outcome = Outcome::from(run.command(words).stderr(full()).output().unwrap());
        assert_eq!(outcome.code, Some(*code), "{words}, stderr full");
        let both = run.command(words).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(both.code(), Some(1), "{words}, both full");

        // A closed stdout or stderr is /dev/null; no file takes its number.
        for closed in [">&-", "2>&-", "<&- >&- 2>&-"] {
            let mut shell = Command::new("sh");
            let own = run.command(words);
            shell.args(["-c", &format!("exec \"$@\" {closed}"), "sh"]).arg(own.get_program()).args(own.get_args());
            assert_eq!(shell.output().unwrap().status.code(), Some(*code), "{words} {closed}");
        }
    }
    figures(&format!("printed: {} calls, with stdout full, stderr full, both full, and closed", calls.len()));
}

#[test]
fn the_work_whose_events_are_lost_is_done() {
    let bench = Bench::new();
    let calls = Calls { bench: &bench, count: 0.into() };
    let run = bench.folder("new-0");
    let words = format!("mine {} {FLAGS} --out NEW --json", bench.folder("input").display());
    let outcome = Outcome::from(calls.command(&words).stdout(full()).output().unwrap());
    let outcome = outcome.fails(1, &["stdout cannot be written", "the work itself is done"]);
    assert!(run.join("_SUCCESS").exists(), "{}", outcome.stderr);
    // A message that cannot be written changes neither the bytes nor the code of a failure.
    for refused in [&words.replace("--skip 4", "--skip 4000"), "mine --no-such-flag", "gen --rows 9 --dim 4 --noise -1"]
    {
        assert_eq!(calls.command(refused).stderr(full()).status().unwrap().code(), Some(2), "{refused}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_nothing_but_the_printing() {
    let bench = Bench::new();
    let run = Calls { bench: &bench, count: 0.into() };
    for Printing { words, code, .. } in calls(&bench).iter().filter(|call| !call.is_slow) {
        let mut child = run.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let outcome = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&outcome.stderr);
        assert_eq!(outcome.status.code(), Some(*code), "{words}: {said}");
        assert!(!said.contains("panicked") && !said.contains("cannot be written"), "{words}: {said}");
    }
}
