//! Damaged, hostile and wrong inputs: each ends with its exit code and its message, soon, and before any long work.
//!
//! The messages are in `fixtures/corrupt/expected.txt`; BATCHMINE_REWRITE_CORRUPT=1 writes that file anew.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::command::{Place, batchmine, mine};
use super::pages::root;

/// More than this no refusal takes, on a slow machine and unoptimised.
const LONGEST: Duration = Duration::from_secs(5);

struct Case {
    name: String,
    /// Arguments, parted by spaces.
    command: String,
}

/// What a case came to.
struct Ended {
    text: String,
    code: Option<i32>,
    took: Duration,
    /// The search began, although the case failed.
    searched: bool,
}

/// What stands for the word FLAGS in a command.
const FLAGS: &str = "--out RUN --skip 1 --window 4 --cluster-size 2 --batch-size 4 --threads 2";

/// Everything under `from`, copied.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn pipe(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What no repository can hold: pipes, sockets, links and files of zeros.
fn irregular(folder: &Path, cases: &mut Vec<Case>) {
    let mut add = |name: &str, command: &str| {
        cases.push(Case { name: name.into(), command: command.into() });
    };
    let at = |name: &str| folder.join(name);
    pipe(&at("pipe"));
    pipe(&at("pipes/pipe.parquet"));
    pipe(&at("piped/state.json"));
    fs::write(at("piped/dataset_info.json"), "{}").unwrap();
    pipe(&at("delta-pipe/_delta_log/00000000000000000000.json"));
    fs::create_dir(at("nothing")).unwrap();
    drop(UnixListener::bind(at("socket")).unwrap());
    symlink(at("nowhere"), at("link-to-nothing")).unwrap();
    symlink(at("link-to-itself"), at("link-to-itself")).unwrap();
    fs::create_dir(at("long-state")).unwrap();
    fs::write(at("long-state/dataset_info.json"), "{}").unwrap();
    for name in ["zeros.toml", "long-state/state.json"] {
        fs::File::create(at(name)).unwrap().set_len(10 << 30).unwrap();
    }
    for name in ["pipe", "pipes", "piped", "delta-pipe", "nothing", "socket", "link-to-nothing", "link-to-itself"] {
        add(&format!("{name}-as-input"), &format!("mine IN/{name} FLAGS"));
    }
    add("device-as-input", "mine /dev/zero FLAGS");
    add("null-as-input", "mine /dev/null FLAGS");
    add("long-state-as-input", "mine IN/long-state FLAGS");
    add("pipe-as-one-side", "mine --query-file IN/pipe --positive-file IN/array-nan.npy FLAGS");
    add("pipe-to-inspect", "inspect IN/pipe");
    add("device-to-inspect", "inspect /dev/zero");
    add("pipes-to-inspect", "inspect IN/pipes");
    add("pipe-to-plan", "plan IN/pipe");
    for name in ["pipe", "nothing", "zeros.toml", "missing.toml"] {
        add(&format!("{name}-as-settings"), &format!("mine IN/texts.parquet FLAGS --config IN/{name}"));
    }
    add("device-as-settings", "mine IN/texts.parquet FLAGS --config /dev/zero");
    add("pipe-as-list", "report GOOD --out RUN --against IN/pipe");
    add("array-as-list", "report GOOD --out RUN --against IN/array-nan.npy");
    add("pages-as-list", "report GOOD --out RUN --against IN/page-values-2-gib.parquet");
    // A column that is not a list's: its pages are looked at all the same.
    let slow = root().join("tests/fuzz/corpus/parquet/page-header-slow-to-skip.parquet");
    fs::copy(slow, at("slow.parquet")).unwrap();
    add("slow-header-as-list", "report GOOD --out RUN --against IN/slow.parquet");
    add("footer-as-list", "report GOOD --out RUN --against IN/schema-1000-levels-deep.parquet");
    if cfg!(feature = "export") {
        let export = "export GOOD --format sentence-transformers --out RUN --source";
        add("pipe-as-source", &format!("{export} IN/pipe"));
        add("device-as-source", &format!("{export} /dev/zero"));
        add("array-as-source", &format!("{export} IN/array-nan.npy"));
        add("footer-as-source", &format!("{export} IN/schema-1000-levels-deep.parquet"));
    }
    add("text-page-shown", "inspect GOOD --rows 0..2 --source IN/text-page-of-2-gib.parquet");
    add("text-no-text-shown", "inspect GOOD --rows 0..2 --source IN/text-no-text.parquet");
}

/// The cases of the fixtures that this build can read, and those made here.
fn cases(folder: &Path) -> Vec<Case> {
    let text = fs::read_to_string(root().join("fixtures/corrupt/cases.tsv")).unwrap();
    let line = |line: &str| {
        let (name, command) = line.split_once('\t').unwrap();
        Case { name: name.into(), command: command.into() }
    };
    let mut cases: Vec<Case> = text.lines().map(line).collect();
    irregular(folder, &mut cases);
    cases.retain(|case| cfg!(feature = "lake") || !case.name.starts_with("delta-"));
    cases.retain(|case| cfg!(feature = "export") || !case.command.starts_with("export"));
    cases
}

fn run(case: &Case, number: usize, place: &Place) -> Ended {
    let (input, good, out) = (place.path("in"), place.path("good"), place.path(&format!("run-{number}")));
    let shown = [("IN", &input), ("GOOD", &good), ("RUN", &out)].map(|(name, path)| (name, path.display().to_string()));
    let command = case.command.replace("FLAGS", FLAGS);
    let words = command.split(' ').map(|word| {
        let whole = shown.iter().find(|(name, _)| word == *name || word.starts_with(&format!("{name}/")));
        whole.map_or(word.to_owned(), |(name, path)| word.replacen(*name, path, 1))
    });
    let begin = Instant::now();
    let mut child = batchmine();
    child.args(words).env_remove("RUST_BACKTRACE").stdin(std::process::Stdio::null());
    let output = child.output().unwrap();
    let took = begin.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr);
    // What the log says before the error is no part of it.
    let error = stderr.find("error: ").map_or("", |at| &stderr[at..]);
    let mut text = error.trim_end().to_owned();
    for (name, path) in &shown {
        text = text.replace(path.as_str(), name);
    }
    let searched = fs::read_dir(out.join("neighbors")).is_ok_and(|mut files| files.next().is_some());
    Ended { text: masked(&text), code: output.status.code(), took, searched: searched && !output.status.success() }
}

/// The text without the machine's memory, and without the list of all settings.
fn masked(text: &str) -> String {
    let line = |line: &str| match (line.split_once(" bytes in one piece"), line.split_once(", expected one of ")) {
        (Some(_), _) => "  expected: at most SO MANY bytes in one piece".to_owned(),
        (None, Some((unknown, _))) => format!("{unknown}, expected one of ..."),
        (None, None) => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A finished run of the good input.
fn place() -> Place {
    let place = Place::empty();
    copy(&root().join("fixtures/corrupt"), &place.path("in"));
    let flags = "--skip 1 --window 4 --cluster-size 2 --batch-size 4 --hard-negatives 2";
    mine(&place.path("in/texts.parquet"), &place.path("good"), flags).ok();
    place
}

fn end_all(cases: &[Case], place: &Place) -> Vec<Ended> {
    let halves: Vec<Vec<(usize, Ended)>> = std::thread::scope(|scope| {
        let half = |first: usize| {
            let own = cases.iter().enumerate().skip(first).step_by(2);
            own.map(|(number, case)| (number, run(case, number, place))).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..2).map(|first| scope.spawn(move || half(first))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut all: Vec<_> = halves.into_iter().flatten().collect();
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, ended)| ended).collect()
}

#[test]
fn every_corrupt_input_ends_with_its_message() {
    let place = place();
    let cases = cases(&place.path("in"));
    let ended = end_all(&cases, &place);
    let mut found = String::new();
    let mut faults = Vec::new();
    for (case, ended) in cases.iter().zip(&ended) {
        let code = ended.code.map_or("a signal".into(), |code| format!("exit {code}"));
        write!(found, "## {}\n$ batchmine {}\n{code}\n{}\n\n", case.name, case.command, ended.text).unwrap();
        let sound = match ended.code {
            Some(0) => ended.text.is_empty(),
            Some(1 | 2 | 4) => ended.text.contains("remedy:") || ended.text.contains("error: "),
            _ => false,
        };
        let ours = ended.text.contains("fault of the program") || ended.text.contains("panicked");
        if !sound || ours || ended.searched || ended.took > LONGEST {
            faults.push(format!("{}: {code} after {:?}, search {}", case.name, ended.took, ended.searched));
        }
    }
    let count = |code| ended.iter().filter(|ended| ended.code == Some(code)).count();
    let slowest = ended.iter().map(|ended| ended.took).max().unwrap_or_default();
    println!(
        "corrupt inputs: {} cases, {} refused as input, {} failed, {} taken, 0 panics, slowest {slowest:.1?}",
        cases.len(),
        count(2),
        count(1) + count(4),
        count(0)
    );
    assert!(faults.is_empty(), "\n{}\n{found}", faults.join("\n"));
    compare(&root().join("fixtures/corrupt/expected.txt"), &found);
}

/// Compares the messages with the file's: those of cases that this build does not have are passed over.
fn compare(path: &PathBuf, found: &str) {
    if std::env::var_os("BATCHMINE_REWRITE_CORRUPT").is_some() {
        fs::write(path, found).unwrap();
        return;
    }
    let known = fs::read_to_string(path).unwrap();
    let of = |text: &str| -> Vec<(String, String)> {
        let case = |part: &str| part.split_once('\n').map(|(name, rest)| (name.to_owned(), rest.trim_end().to_owned()));
        text.split("## ").filter_map(case).collect()
    };
    let (known, found) = (of(&known), of(found));
    for (name, text) in &found {
        let expected = known.iter().find(|(other, _)| other == name).map(|(_, text)| text);
        assert_eq!(Some(text), expected, "{name}: BATCHMINE_REWRITE_CORRUPT=1 writes {} anew", path.display());
    }
    if cfg!(all(feature = "lake", feature = "export")) {
        assert_eq!(known.len(), found.len(), "{} has other cases", path.display());
    }
}
