//! The batch tables in the programs that people read them with: DuckDB, Polars and PyArrow.

use std::path::Path;
use std::process::Command;

use super::command::{Place, batchmine, mine, skipped};
use super::dataset::Dataset;

pub fn python() -> Command {
    Command::new(std::env::var_os("BATCHMINE_PYTHON").unwrap_or_else(|| "python3".into()))
}

/// The readers that this Python has; all `None`: there is no Python either.
fn readers() -> Vec<&'static str> {
    let has = |module: &&str| {
        let output = python().args(["-c", &format!("import {module}")]).output();
        output.is_ok_and(|output| output.status.success())
    };
    ["duckdb", "polars", "pyarrow"].into_iter().filter(has).collect()
}

#[test]
fn batch_tables_open_in_other_readers() {
    let readers = readers();
    if readers.is_empty() {
        skipped("no duckdb, polars or pyarrow for the Python in BATCHMINE_PYTHON (else python3)");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers.py");
    let data = Dataset::planted(200, 16, 71).with_tasks(|row| ["a", "b"][row % 2].into());
    for (kind, data) in [("int64", data.clone()), ("string", data.with_text_ids())] {
        let place = Place::with(&data);
        let run = place.path("run");
        let flags = "--task-column task --skip 3 --window 12 --cluster-size 4 --batch-size 16 --epochs 2";
        mine(&place.input(), &run, flags).ok();
        let drawn = place.path("drawn");
        mine(&place.input(), &drawn, &format!("{flags} --hard-negatives 5")).ok();
        for (run, words) in [(run, vec![kind]), (drawn, vec![kind, "negatives"])] {
            let output = python().arg(&script).arg(run.join("batches")).args(&words).output().unwrap();
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{words:?} in {readers:?}:\n{said}");
            eprintln!("{words:?} in {readers:?}:\n{said}");
        }
    }
}

/// An implementation of the paper's rule that shares nothing with this one agrees pair by pair.
#[test]
fn windows_and_mutual_edges_are_the_papers_by_numpy() {
    let has = python().args(["-c", "import numpy, pyarrow"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        skipped("no numpy and pyarrow for the Python in BATCHMINE_PYTHON (else python3)");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (place, script) = (Place::empty(), root.join("tests/paper_rule.py"));
    let compared = |data: &Path, [skip, window]: [&str; 2], flags: &str| -> String {
        let run = place.path("run");
        let flags = format!("{flags} --skip {skip} --window {window} --edges mutual --replace");
        mine(data, &run, &flags).ok();
        let lines = std::fs::File::create(place.path("lines")).unwrap();
        let mut inspect = batchmine();
        inspect.arg("inspect").arg(&run).args(["--rows", "0..2000", "--json"]).stdout(lines);
        assert!(inspect.status().unwrap().success());
        let mut rule = python();
        rule.arg(&script).arg(data).args([skip, window]);
        let output = rule.stdin(std::fs::File::open(place.path("lines")).unwrap()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("paper's rule: {said}");
        said + &String::from_utf8_lossy(&output.stderr)
    };
    let data = root.join("fixtures/debian");
    let said = compared(&data, ["30", "100"], "--task-column dataset --cluster-size 8 --batch-size 64");
    assert!(said.matches(" 0 differ").count() == 2, "{said}");
    let classes = place.path("classes");
    let mut write = python();
    let written = write.arg(&script).arg("--classes").arg(&data).arg(&classes).status().unwrap();
    assert!(written.success());
    let flags = "--positive-key dataset --same-query allow --cluster-size 4 --batch-size 8";
    for window in [["0", "30%"], ["1", "50%"]] {
        let said = compared(&classes, window, flags);
        assert!([" 0 differ", " 0 others are", " 0 are missing"].iter().all(|words| said.contains(words)), "{said}");
    }
}
