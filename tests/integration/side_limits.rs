//! Limits for what queries, and positives, score with each other: which candidates they make suspects, and what
//! follows from it.

use std::path::PathBuf;

use super::command::{Place, assert_same, batchmine, call, inspect, mine, verify};
use super::dataset::Dataset;
use super::negatives;
use super::oracle::{Cut, Exactness, Oracle, Part, check_cut_graph};
use super::promises::{self, Terms};
use super::table;

fn debian() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian")
}

const FLAGS: &str = "--task-column dataset --skip 5 --window 60 --cluster-size 8 --batch-size 64";

#[test]
fn real_rows_that_are_close_on_the_other_side_are_suspects() {
    let data = Dataset::debian(&debian());
    let oracle = Oracle::new(&data, true);
    let place = Place::empty();
    let plain = place.path("plain");
    mine(&debian(), &plain, FLAGS).ok();
    let mut marked = Vec::new();
    for (name, sides) in [("queries", [Some(0.7), None]), ("positives", [None, Some(0.75)])] {
        let cut = Cut { min_score: Some(0.2), sides, ..Cut::skip(5) };
        let run = place.path(name);
        let said =
            mine(&debian(), &run, &format!("{FLAGS} --hard-negatives 3 --memory 1GiB{}", cut.flags())).ok().stderr;
        let verified = verify(&run).ok().stdout;
        assert!(verified.contains("too close on the other side are marked"), "{verified}");
        assert_same(&run, &plain, &["neighbors"]);
        let lines = inspect(&run, 0..data.rows());
        oracle.check(&lines, 65, Exactness::NearTies);
        let count = oracle.check_too_close(&lines, |_| cut);
        check_cut_graph(&lines, |_| cut, false);
        let part = |line: &super::command::Line| {
            (0..line.neighbors.len()).filter(|rank| cut.part(line, *rank) == Part::Suspect).count()
        };
        let suspects: usize = lines.iter().map(part).sum();
        let by_rank: usize = lines.iter().map(|line| line.window.start).sum();
        assert_eq!(suspects - by_rank, count);
        let grouped = |number: usize| {
            let digits = number.to_string().into_bytes();
            let groups: Vec<String> =
                digits.rchunks(3).rev().map(|part| String::from_utf8_lossy(part).into()).collect();
            groups.join(",")
        };
        assert!(said.contains(&format!("{} more by score", grouped(count))), "{count}: {said}");
        let table = table::read(&run);
        negatives::check(&data, &lines, &table, true, &|_| cut, 3);
        let terms = Terms { cluster_size: 8, batch_size: 64, epochs: 1, remainder: "short" };
        promises::check(&data, &lines, &table, terms);
        let text = call(["inspect", run.to_str().unwrap(), "--rows", "0..300"]).ok().stdout;
        assert!(text.contains("too close on the other side"), "{text}");
        let (other, small) = (place.path(&format!("{name}-small")), "--threads 1 --memory 128MiB");
        mine(&debian(), &other, &format!("{FLAGS} --hard-negatives 3 {small}{}", cut.flags())).ok();
        assert_same(&run, &other, &["edges", "clusters", "batches"]);
        call(["report", run.to_str().unwrap(), "--sample", "50"]).ok();
        marked.push(count);
    }
    assert!(marked.iter().all(|count| *count > 1000), "limits that touch nothing would prove nothing: {marked:?}");
}

#[test]
fn hard_negatives_of_a_row_and_of_a_cluster_leave_them_out() {
    let data = Dataset::debian(&debian());
    let oracle = Oracle::new(&data, true);
    let place = Place::empty();
    let cut = Cut { sides: [Some(0.7), Some(0.8)], ..Cut::skip(5) };
    for of in ["row-top", "cluster"] {
        let run = place.path(of);
        mine(&debian(), &run, &format!("{FLAGS} --hard-negatives 3 --negatives-of {of}{}", cut.flags())).ok();
        verify(&run).ok();
        for row in table::read(&run) {
            for (other, ..) in row.negatives.unwrap() {
                let (surely, _) = cut.too_close(&oracle, row.row, other);
                assert!(!surely, "{of}: {other} is too close to {}", row.row);
            }
        }
    }
}

#[test]
fn limits_change_the_graph_and_no_search_and_are_gone_when_they_are_lifted() {
    let data = Dataset::planted(300, 16, 5);
    let place = Place::with(&data);
    let (run, plain) = (place.path("run"), place.path("plain"));
    let flags = "--skip 2 --window 30 --cluster-size 4 --batch-size 16";
    mine(&place.input(), &plain, flags).ok();
    mine(&place.input(), &run, &format!("{flags} --max-query-score 0.5")).ok();
    let refused = mine(&place.input(), &run, flags).fails(2, &["--replace"]);
    assert!(refused.stderr.contains("max-query-score"), "{}", refused.stderr);
    mine(&place.input(), &run, &format!("{flags} --replace")).ok();
    assert_same(&run, &plain, &["neighbors", "edges", "clusters", "batches"]);
    for wrong in ["--max-query-score 1.5", "--max-positive-score=-2", "--max-positive-score NaN"] {
        mine(&place.input(), &run, &format!("{flags} {wrong}")).refuses(&[wrong.split(['=', ' ']).next().unwrap()]);
    }
    // Of vectors that are alike everything is a suspect.
    mine(&place.input(), &place.path("none"), &format!("{flags} --max-positive-score=-1"))
        .refuses(&["the score limits leave no row a preferred negative"]);
}

#[test]
fn what_is_marked_is_known_until_the_edges_are_cleaned() {
    let data = Dataset::planted(300, 16, 6);
    let place = Place::with(&data);
    let run = place.path("run");
    let flags = "--skip 2 --window 30 --cluster-size 4 --batch-size 16 --max-query-score 0.5 --hard-negatives 2";
    mine(&place.input(), &run, flags).ok();
    let marks = run.join("edges/marks-000000.bit");
    let bytes = std::fs::read(&marks).unwrap();
    for at in [70, bytes.len() / 2, bytes.len() - 30] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        std::fs::write(&marks, damaged).unwrap();
        verify(&run).fails(3, &["marks-000000.bit"]);
        let mut report = batchmine();
        report.arg("report").arg(&run);
        let outcome: super::command::Outcome = report.output().unwrap().into();
        outcome.fails(1, &["marks-000000.bit"]);
    }
    std::fs::write(&marks, bytes).unwrap();
    verify(&run).ok();
    call(["clean", run.to_str().unwrap()]).ok();
    let said = verify(&run).ok().stdout;
    assert!(!marks.exists() && said.contains("not checked"), "{said}");
}
