//! The lists of a run as three tables, against what `inspect` shows and the source rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Int32Type, Int64Type};

use super::budgets::measured;
use super::command::{Line, Place, batchmine, call, export, inspect, mine};
use super::dataset::Dataset;
use super::exported::parquet;
use super::oracle::{Cut, Part};

const FLAGS: &str = "--skip 3 --window 20 --cluster-size 4 --batch-size 16";

fn pairs(rows: usize) -> Dataset {
    Dataset::planted(rows, 16, 91)
        .with_text_ids()
        .with_tasks(|row| ["news", "wiki", "rare"][if row % 40 == 0 { 2 } else { row % 2 }].into())
        .with_key(|row| Some(format!("{} {}", row % 2, row / 4)))
        .with_text("query", |row| Some(format!("question {row}{}", " more".repeat(row % 7))))
        .with_text("positive", |row| Some(format!("answer {row}")))
}

fn texts(rows: &RecordBatch, name: &str) -> Vec<String> {
    let column = cast(rows.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
    column.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
}

/// Query, then (document, score, rank, kind) of each.
type Scored = (String, Vec<(String, f32, Option<i32>, String)>);

fn scores(folder: &Path) -> Vec<Scored> {
    let rows = parquet(&folder.join("scores/part-00000.parquet"));
    let list = |name: &str, row: usize| rows.column_by_name(name).unwrap().as_list::<i32>().value(row);
    let line = |(row, query): (usize, String)| {
        let documents = cast(&list("document_ids", row), &DataType::Utf8).unwrap();
        let kinds = cast(&list("kinds", row), &DataType::Utf8).unwrap();
        let [documents, kinds] = [&documents, &kinds]
            .map(|texts| texts.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>());
        let (scores, ranks) = (list("scores", row), list("ranks", row));
        let scores = scores.as_primitive::<Float32Type>().values().to_vec();
        let ranks: Vec<Option<i32>> = ranks.as_primitive::<Int32Type>().iter().collect();
        let entries = documents.into_iter().zip(scores).zip(ranks).zip(kinds);
        (query, entries.map(|(((document, score), rank), kind)| (document, score, rank, kind)).collect())
    };
    texts(&rows, "query_id").into_iter().enumerate().map(line).collect()
}

/// What a line's list says, by brute force over the list: the row's own positive first.
fn wanted(data: &Dataset, line: &Line, cut: Cut, ranks: usize) -> Scored {
    let before = line.neighbors.iter().filter(|(row, score)| (-score, *row) < (-line.score, line.row)).count();
    let is_known = before < line.neighbors.len() || line.neighbors.len() < ranks;
    let own = (data.id(line.row), line.score, is_known.then_some(before as i32), "positive".to_owned());
    let others = line.neighbors.iter().enumerate().map(|(rank, (row, score))| {
        let kind = match cut.part(line, rank) {
            Part::Suspect => "suspect",
            Part::Preferred => "preferred",
            Part::Neither => "too-easy",
        };
        (data.id(*row), *score, Some(rank as i32), kind.to_owned())
    });
    (data.id(line.row), std::iter::once(own).chain(others).collect())
}

#[test]
fn lists_come_with_scores_ranks_and_texts() {
    let data = pairs(403);
    let place = Place::with(&data);
    let limited = Cut { min_score: Some(0.2), sides: [Some(0.6), None], ..Cut::skip(3) };
    for (name, cut) in [("plain", Cut::skip(3)), ("limits", limited)] {
        let (run, out) = (place.path(name), place.path(&format!("{name}-out")));
        mine(&place.input(), &run, &format!("{FLAGS} {}{}", data.column_flags(), cut.flags())).ok();
        let said = export(&run, "neighbors", &out, "").ok().stderr;
        assert!(said.contains("403 rows: 3 files"), "{said}");
        let lines = inspect(&run, 0..data.rows());
        let found = scores(&out);
        let kinds: BTreeMap<&str, usize> = found.iter().flat_map(|(_, list)| list).fold(BTreeMap::new(), |mut n, d| {
            *n.entry(&d.3[..]).or_default() += 1;
            n
        });
        assert_eq!(kinds["positive"], 403);
        assert_eq!(kinds.contains_key("too-easy"), name == "limits", "{kinds:?}");
        // Tasks of fewer rows than ranks, and own positives beyond the list.
        assert!(found.iter().any(|(_, list)| list.len() < 12) && found.iter().any(|(_, list)| list.len() == 24));
        assert!(found.iter().any(|(_, list)| list[0].2 == Some(0)));
        let wanted: Vec<Scored> = lines.iter().map(|line| wanted(&data, line, cut, 23)).collect();
        assert_eq!(found, wanted);
        for (table, id, text) in [("queries", "query_id", "query"), ("documents", "document_id", "positive")] {
            let rows = parquet(&out.join(table).join("part-00000.parquet"));
            let source = parquet(&place.input().join("part-0.parquet"));
            assert_eq!(texts(&rows, id), (0..403).map(|row| data.id(row)).collect::<Vec<_>>());
            assert_eq!(texts(&rows, "text"), texts(&source, text));
        }
        let again = export(&run, "neighbors", &out, "").ok().stderr;
        assert!(again.contains("already"), "{again}");
    }
}

#[test]
fn an_own_positive_beyond_the_list_has_no_rank() {
    // Queries that look for the positive of another row.
    let mut data = Dataset::planted(200, 16, 7).with_text("query", |row| Some(row.to_string()));
    data.queries.rotate_left(100);
    let data = data.with_text("positive", |row| Some(row.to_string()));
    let place = Place::with(&data);
    let (run, out) = (place.path("run"), place.path("out"));
    mine(&place.input(), &run, FLAGS).ok();
    export(&run, "neighbors", &out, "").ok();
    let lines = inspect(&run, 0..200);
    let found = scores(&out);
    assert!(found.iter().filter(|(_, list)| list[0].2.is_none()).count() > 100);
    assert_eq!(found, lines.iter().map(|line| wanted(&data, line, Cut::skip(3), 23)).collect::<Vec<_>>());
    // Without an id column ids are row numbers.
    let ids = parquet(&out.join("queries/part-00000.parquet"));
    assert_eq!(ids.column(0).as_primitive::<Int64Type>().values().to_vec(), (0..200).collect::<Vec<i64>>());
}

#[test]
fn budgets_change_no_byte_and_are_kept() {
    let data = Dataset::planted(3000, 16, 92)
        .with_text_ids()
        .with_text("query", |row| Some(format!("{row} {}", "q".repeat(row % 9 * 500))))
        .with_text("positive", |row| Some(format!("{row} {}", "p".repeat(if row == 7 { 3 << 20 } else { 900 }))));
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, FLAGS).ok();
    // The first refusal knows no text yet, the second one the longest.
    let mut least = 100;
    for _ in 0..2 {
        let flags = format!("--memory {least}MiB");
        let refused = export(&run, "neighbors", &place.path("refused"), &flags).fails(4, &["--memory"]);
        let named = refused.stderr.split("raise --memory to ").nth(1).unwrap();
        least = named.split("MiB").next().unwrap().parse().unwrap();
    }
    for (name, mib) in [("least", least), ("more", 2048u64)] {
        let mut command = batchmine();
        command.arg("export").arg(&run).args(["--format", "neighbors", "--memory", &format!("{mib}MiB")]);
        command.args(["--progress", "none", "--out"]).arg(place.path(name));
        let outcome = measured(command, &place.path(name));
        outcome.outcome.ok();
        assert!(outcome.peak <= mib << 20, "{} of {mib} MiB", outcome.peak);
    }
    for table in ["queries", "documents", "scores"] {
        let bytes = |name: &str| fs::read(place.path(name).join(table).join("part-00000.parquet")).unwrap();
        assert_eq!(bytes("least"), bytes("more"), "{table}");
    }
}

#[test]
fn what_lists_cannot_be_is_refused() {
    let data = pairs(80);
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} {}", data.column_flags())).ok();
    let out = place.path("out");
    for flags in ["--epoch all", "--negatives 3"] {
        export(&run, "neighbors", &out, flags).refuses(&["--format neighbors", flags]);
    }
    let words = ["export", run.to_str().unwrap(), "--format", "neighbours", "--out", out.to_str().unwrap()];
    call(words).fails(2, &["neighbors"]);
}
