//! Score limits: what they make of lists and graph, and what they refuse.

use std::path::{Path, PathBuf};

use batchmine::run::Manifest;
use batchmine::run::Stage;
use serde_json::json;

use super::command::{Line, Place, assert_same, inspect, mine, verify};
use super::dataset::Dataset;
use super::oracle::{Cut, Exactness, Oracle, Part, check_cut_graph};
use super::promises::{self, Terms};
use super::table;

fn debian() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian")
}

const FLAGS: &str = "--skip 4 --window 16 --cluster-size 8 --batch-size 32";

/// How many neighbours of all lines are of a part.
fn count(lines: &[Line], cut: Cut, part: Part) -> usize {
    let of = |line: &Line| (0..line.neighbors.len()).filter(|rank| cut.part(line, *rank) == part).count();
    lines.iter().map(of).sum()
}

#[test]
fn limits_cut_the_lists_of_real_rows_and_change_no_search() {
    let data = Dataset::debian(&debian());
    let place = Place::empty();
    let plain = place.path("plain");
    let flags = "--task-column dataset --skip 10 --window 100 --cluster-size 32 --batch-size 64";
    mine(&debian(), &plain, flags).ok();
    let cut =
        Cut { skip: 10, relative_margin: Some(0.05), max_score: Some(0.8), min_score: Some(0.25), sides: [None; 2] };
    for mutual in [false, true] {
        let run = place.path(if mutual { "mutual" } else { "any" });
        let rule = if mutual { "mutual" } else { "any" };
        let outcome = mine(&debian(), &run, &format!("{flags} --edges {rule}{}", cut.flags())).ok();
        assert!(outcome.stderr.contains("more by score"), "the log counts suspects:\n{}", outcome.stderr);
        verify(&run).ok();
        assert_same(&run, &plain, &["neighbors"]);
        let lines = inspect(&run, 0..data.rows());
        Oracle::new(&data, true).check(&lines, 110, Exactness::NearTies);
        check_cut_graph(&lines, |_| cut, mutual);
        let by_rank = count(&lines, Cut { relative_margin: None, max_score: None, ..cut }, Part::Suspect);
        assert!(count(&lines, cut, Part::Suspect) > by_rank, "limits that touch nothing would prove nothing");
        assert!(count(&lines, cut, Part::Neither) > 0, "limits that touch nothing would prove nothing");
        let terms = Terms { cluster_size: 32, batch_size: 64, epochs: 1, remainder: "short" };
        promises::check(&data, &lines, &table::read(&run), terms);
        assert_eq!(counts(&run)["rows_without_window"], lines.iter().filter(|line| line.window.is_empty()).count());
        assert_eq!(counts(&run)["suspects_by_score"], count(&lines, cut, Part::Suspect) - by_rank);
        assert_eq!(counts(&run)["too_easy"], count(&lines, cut, Part::Neither));
    }
}

/// What the edges stage counted.
fn counts(run: &Path) -> serde_json::Value {
    let manifest = Manifest::read(&run.join("manifest.json")).unwrap().unwrap();
    manifest.stages[&Stage::Edges].facts["windows"].clone()
}

#[test]
fn margins_of_negative_own_scores_lie_below_them() {
    // Every query points away from its own positive.
    let mut data = Dataset::planted(200, 16, 71);
    data.queries.iter_mut().step_by(2).flatten().for_each(|value| *value = -*value);
    let place = Place::with(&data);
    let run = place.path("run");
    let cut = Cut { skip: 2, relative_margin: Some(0.25), ..Cut::default() };
    let flags = "--skip 2 --window 180 --cluster-size 8 --batch-size 32";
    mine(&place.input(), &run, &format!("{flags}{}", cut.flags())).ok();
    verify(&run).ok();
    let lines = inspect(&run, 0..200);
    assert!(lines.iter().filter(|line| line.score < 0.0).count() > 50);
    check_cut_graph(&lines, |_| cut, false);
}

#[test]
fn a_limit_that_empties_every_window_is_refused_and_many_are_warned_of() {
    let place = Place::with(&Dataset::planted(300, 32, 72));
    let run = place.path("run");
    let limited = |limit: &str| format!("{FLAGS} {limit}");
    mine(&place.input(), &run, &limited("--max-score=-1")).refuses(&["--max-score", "--window", "--replace"]);
    mine(&place.input(), &run, &limited("--min-score 1 --replace")).refuses(&["--min-score", "--replace"]);
    // The remedy that is named: the lists are there already.
    let outcome = mine(&place.input(), &run, &limited("--relative-margin 0.05 --replace")).ok();
    assert!(outcome.stderr.contains("replacing edges"), "{}", outcome.stderr);
    verify(&run).ok();
    // Half of the rows have nobody below the median of the last ranks' scores.
    let mut last: Vec<f32> = inspect(&run, 0..300).iter().map(|line| line.neighbors[19].1).collect();
    last.sort_unstable_by(f32::total_cmp);
    let half = mine(&place.input(), &place.path("half"), &limited(&format!("--max-score {}", last[150]))).ok();
    let lines = inspect(&place.path("half"), 0..300);
    let empty = lines.iter().filter(|line| line.window.is_empty()).count();
    assert!((100..200).contains(&empty), "{empty} rows without a window");
    assert!(half.stderr.contains(&format!("all ranks of {empty} rows are suspects")), "{}", half.stderr);
    assert!(half.stderr.contains("--window"), "{}", half.stderr);
}

#[test]
fn limits_that_are_none_are_no_limits() {
    let place = Place::with(&Dataset::planted(300, 32, 73));
    let (plain, run) = (place.path("plain"), place.path("run"));
    mine(&place.input(), &plain, FLAGS).ok();
    let config = place.path("batchmine.toml");
    std::fs::write(&config, "max-score = 0.5\n").unwrap();
    mine(&place.input(), &run, &format!("{FLAGS} --config {} --max-score none", config.display())).ok();
    assert_same(&run, &plain, &["neighbors", "edges", "clusters", "batches"]);
}

#[test]
fn limits_out_of_range_are_refused() {
    let place = Place::with(&Dataset::planted(100, 8, 74));
    for (flags, word) in [
        ("--relative-margin 1.5", "from 0 to 1"),
        ("--relative-margin nan", "from 0 to 1"),
        ("--max-score 2", "--max-score"),
        ("--min-score=-1.5", "--min-score"),
        ("--min-score 0.5 --max-score 0.5", "--min-score below --max-score"),
        ("--metric dot --max-score inf", "finite"),
    ] {
        mine(&place.input(), &place.path("run"), &format!("{FLAGS} {flags}")).refuses(&[word]);
    }
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --max-score high")).fails(2, &["expected a number"]);
}

#[test]
fn verify_cuts_lists_by_the_limits_on_record() {
    let place = Place::with(&Dataset::planted(300, 32, 75));
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --relative-margin 0.05")).ok();
    verify(&run).ok();
    let path = run.join("manifest.json");
    let mut manifest = Manifest::read(&path).unwrap().unwrap();
    let edges = manifest.stages.get_mut(&Stage::Edges).unwrap();
    assert_eq!(edges.settings["relative-margin"], 0.05);
    edges.settings["relative-margin"] = json!(0.3);
    manifest.chain_fingerprints();
    std::fs::write(&path, manifest.to_bytes()).unwrap();
    verify(&run).fails(3, &["its edges are not those of the neighbor lists"]);
}
