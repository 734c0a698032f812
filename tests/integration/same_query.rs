//! Rows whose queries are bit-identical, or whose query is the other's positive, share no batch.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::command::{Line, MADE, Place, assert_same, call, files, inspect, mine, verify};
use super::dataset::{Dataset, Float, npy};
use super::oracle::{Exactness, Oracle};
use super::promises::{self, Terms};
use super::table::{self, Row};
use super::verify::payload;

/// 40 queries of 30 passages each, query by query: in a random batch of 16 rows 3 pairs have one query.
fn questions() -> Dataset {
    let mut data = Dataset::planted(1200, 24, 91);
    for row in 0..1200 {
        data.queries[row] = data.queries[row / 30 * 30].clone();
    }
    data
}

const FLAGS: &str = "--skip 4 --window 16 --cluster-size 8 --batch-size 16";

fn facts(run: &Path) -> Value {
    let manifest: Value = serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap();
    let facts = &manifest["stages"]["vectors"]["facts"];
    ["rows_of_same_positive", "rows_of_same_query", "rows_of_query_as_positive"].map(|name| facts[name].clone()).into()
}

/// Pairs of rows of one batch, once each, that satisfy something.
fn pairs(table: &[Row], is: impl Fn(usize, usize) -> bool) -> usize {
    let others = |batch: &[Row], at: usize| batch[at + 1..].iter().filter(|other| is(batch[at].row, other.row)).count();
    let of_batch = |batch: &[Row]| (0..batch.len()).map(|at| others(batch, at)).sum::<usize>();
    table.chunk_by(|a, b| a.batch == b.batch).map(of_batch).sum()
}

/// Hard negatives that satisfy something with their row.
fn drawn(table: &[Row], is: impl Fn(usize, usize) -> bool) -> usize {
    let of_row = |row: &Row| row.negatives.iter().flatten().filter(|negative| is(row.row, negative.0)).count();
    table.iter().map(of_row).sum()
}

fn report(run: &Path, against: &Path) -> (Value, String) {
    let words = ["report".as_ref(), run.as_os_str(), "--against".as_ref(), against.as_os_str()];
    let shown = call(words).ok().stdout;
    (serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap(), shown)
}

/// Checks lists, clusters and batches by brute force.
fn check(data: &Dataset, run: &Path, remainder: &str) -> (Vec<Line>, Vec<Row>) {
    verify(run).ok();
    let (lines, table) = (inspect(run, 0..data.rows()), table::read(run));
    Oracle::new(data, true).check(&lines, 20, Exactness::NearTies);
    promises::check(data, &lines, &table, Terms { cluster_size: 8, batch_size: 16, epochs: 1, remainder });
    (lines, table)
}

#[test]
fn right_answers_of_one_query_are_never_its_negatives() {
    let data = questions();
    let place = Place::with(&data);
    let one_query = |a: usize, b: usize| a / 30 == b / 30;
    let allowed = place.path("allowed");
    let outcome = mine(&place.input(), &allowed, &format!("{FLAGS} --hard-negatives 4 --same-query allow")).ok();
    assert!(outcome.stderr.contains("1200 rows have the query of another row: with --same-query allow"), "{outcome:?}");
    verify(&allowed).ok();
    let before = table::read(&allowed);
    let shared = pairs(&before, one_query);
    assert!(shared > 100 && drawn(&before, one_query) > 0, "{shared} pairs: there would be nothing to part");
    for remainder in ["short", "drop"] {
        let run = place.path(remainder);
        let flags = format!("{FLAGS} --hard-negatives 4 --remainder {remainder}");
        let outcome = mine(&place.input(), &run, &flags).ok();
        let words = "1200 rows have the query of another row: rows with a vector in common share no batch";
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        assert_eq!(facts(&run), serde_json::json!([0, 1200, 0]));
        let (_, table) = check(&data, &run, remainder);
        assert_eq!((pairs(&table, one_query), drawn(&table, one_query)), (0, 0));
        let (found, shown) = report(&run, &allowed.join("batches"));
        assert_eq!(found["overall"]["mined"]["key_pairs"], 0);
        assert_eq!(found["overall"]["against"]["key_pairs"], 2 * shared);
        assert!(found["overall"]["random"]["key_pairs"].as_u64().unwrap() > 100);
        assert!(shown.contains("No two rows that share a key or a vector are in one batch"), "{shown}");
    }
}

#[test]
fn the_report_counts_what_was_allowed() {
    let data = questions();
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --same-query allow")).ok();
    let shared = pairs(&table::read(&run), |a, b| a / 30 == b / 30);
    let (found, shown) = report(&run, &run.join("batches"));
    assert_eq!(found["overall"]["mined"]["key_pairs"], 2 * shared);
    assert_eq!(found["terms"]["same_query"], "allow");
    let line = shown.lines().find(|line| line.contains("Duplicates  ")).unwrap();
    assert!(line.contains(" ~ ") && line.contains(" a batch"), "{shown}");
    assert!(shown.contains("--same-query allow"), "{shown}");
}

#[test]
fn pairs_stored_both_ways_round_share_no_batch() {
    let mut data = Dataset::planted(600, 24, 92);
    for row in 0..300 {
        data.queries[row + 300] = data.positives[row].clone();
        data.positives[row + 300] = data.queries[row].clone();
    }
    // A query that is its own positive, and a copy of a positive.
    data.queries[7] = data.positives[7].clone();
    data.queries[307] = data.positives[307].clone();
    data.positives[20] = data.positives[10].clone();
    let place = Place::with(&data);
    let run = place.path("run");
    let outcome = mine(&place.input(), &run, FLAGS).ok();
    assert!(outcome.stderr.contains("rows have another row's positive as their query"), "{}", outcome.stderr);
    let (_, table) = check(&data, &run, "short");
    assert_eq!(pairs(&table, |a, b| a % 300 == b % 300 && a % 300 != 7), 0);
    let labels: Vec<_> = (0..600).map(|row| data.labels(row)).collect();
    assert_eq!(pairs(&table, |a, b| Dataset::conflict(&labels[a], &labels[b])), 0);
}

#[test]
fn allowed_queries_leave_equal_positives_apart_and_the_same_codes() {
    let mut data = questions();
    for row in 0..60 {
        data.positives[row + 600] = data.positives[row].clone();
    }
    let place = Place::with(&data);
    let (parted, allowed) = (place.path("parted"), place.path("allowed"));
    mine(&place.input(), &parted, FLAGS).ok();
    mine(&place.input(), &allowed, &format!("{FLAGS} --same-query allow")).ok();
    check(&data, &parted, "short");
    check(&Dataset { same_query: true, ..data }, &allowed, "short");
    let [parted, allowed] = [&parted, &allowed].map(|run| files(run, &["vectors"]));
    for ((name, parted), (_, allowed)) in parted.iter().zip(&allowed) {
        match name.as_str() {
            // The header tells what the list is for.
            "vectors/rows.col" => assert_eq!((parted[40], allowed[40]), (1, 2)),
            _ => assert!(parted == allowed, "{name}"),
        }
        assert!(payload(parted) == payload(allowed), "{name}");
    }
}

#[test]
fn without_equal_queries_the_setting_changes_nothing() {
    let copies = |mut data: Dataset| {
        data.positives[100] = data.positives[3].clone();
        data.queries[5] = data.positives[5].clone();
        data
    };
    let own = |mut data: Dataset| {
        data.queries = data.positives.clone();
        data
    };
    let plain = || Dataset::planted(300, 24, 93);
    for data in [copies(plain()), own(copies(plain())), Dataset { one_column: true, ..own(copies(plain())) }] {
        let place = Place::with(&data);
        let [exclude, allow] = ["exclude", "allow"].map(|choice| {
            let run = place.path(choice);
            mine(&place.input(), &run, &format!("{FLAGS} --same-query {choice}")).ok();
            run
        });
        assert_same(&exclude, &allow, &["vectors", "neighbors", "edges", "clusters"]);
        assert_eq!(table::read(&exclude), table::read(&allow), "the footer alone names the settings");
        let names: Vec<String> = files(&exclude, &["vectors"]).into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().all(|name| !name.ends_with(".lst")), "{names:?}");
        let (_, rows) = files(&exclude, &["vectors"]).pop().unwrap();
        assert_eq!(rows[32..64], [0; 32], "rows.col is the last file, and says nothing of lists");
        check(&data, &exclude, "short");
    }
}

#[test]
fn sides_of_two_number_types_are_compared_by_value() {
    let mut data = Dataset::planted(300, 24, 94).in_halves();
    for row in 0..40 {
        data.queries[row + 40] = data.queries[row].clone();
        data.positives[row + 100] = data.queries[row + 200].clone();
    }
    let place = Place::empty();
    fs::create_dir(place.input()).unwrap();
    for (name, float, side) in [("queries", Float::F16, &data.queries), ("positives", Float::F32, &data.positives)] {
        let bytes = npy(float, &[300, 24], false, side.iter().flatten().copied());
        fs::write(place.input().join(format!("{name}.npy")), bytes).unwrap();
    }
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    assert_eq!(facts(&run), serde_json::json!([0, 80, 40]));
    check(&data, &run, "short");
}

#[test]
fn threads_do_not_change_the_codes() {
    let place = Place::with(&Dataset { files: 3, row_group_rows: 50, ..questions() });
    let runs = ["1", "2", "8"].map(|threads| {
        let run = place.path(threads);
        mine(&place.input(), &run, &format!("{FLAGS} --threads {threads}")).ok();
        run
    });
    for run in &runs[1..] {
        assert_same(run, &runs[0], &["vectors"]);
        assert_same(run, &runs[0], &MADE);
    }
    let described = call(["inspect".as_ref(), runs[0].join("vectors/keys-000.lst").as_os_str()]).ok().stdout;
    assert!(described.contains("key list file") && described.contains("1,200"), "{described}");
}

#[test]
fn another_choice_is_another_job() {
    let place = Place::with(&questions());
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    mine(&place.input(), &run, &format!("{FLAGS} --same-query allow")).refuses(&["same-query", "--replace"]);
    mine(&place.input(), &run, &format!("{FLAGS} --same-query allow --replace")).ok();
    verify(&run).ok();
    mine(&place.input(), &run, &format!("{FLAGS} --same-query sometimes")).fails(2, &["exclude", "allow"]);
}

#[test]
fn a_damaged_list_is_found() {
    let place = Place::with(&questions());
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    let path = run.join("vectors/keys-000.lst");
    let mut bytes = fs::read(&path).unwrap();
    let code = bytes.len() - 28;
    bytes[code] ^= 1;
    fs::write(&path, bytes).unwrap();
    verify(&run).fails(3, &["keys-000.lst"]);
    call(["report".as_ref(), run.as_os_str()]).fails(1, &["keys-000.lst"]);
}
