//! `report`: its figures against brute force, its files, its faults.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scraper::{Html, Selector};
use serde_json::Value;

use super::command::{Outcome, Place, batchmine, inspect, mine, verify};
use super::dataset::{Dataset, Ids};
use super::oracle::Cut;
use super::table;
use super::worth::{List, Terms, measure};

fn report(run: &Path, flags: &str) -> Outcome {
    let mut command = batchmine();
    command.arg("report").arg(run).args(flags.split_whitespace());
    command.output().unwrap().into()
}

fn read(run: &Path) -> Value {
    serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap()
}

/// The batches of an epoch.
fn batches(run: &Path, epoch: i32) -> Vec<Vec<usize>> {
    let table = table::read(run);
    let batches = table.chunk_by(|a, b| a.batch == b.batch).filter(|batch| batch[0].epoch == epoch);
    batches.map(|batch| batch.iter().map(|row| row.row).collect()).collect()
}

/// Columns with their names.
type Columns<'a> = Vec<(&'a str, ArrayRef)>;

fn write_list(path: &Path, columns: Columns<'_>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Compares a report with brute force: a list over all queries and over each task.
fn check(data: &Dataset, run: &Path, found: &Value, name: &str, list: &List<'_>, terms: Terms) {
    let lines = inspect(run, 0..data.rows());
    let (overall, tasks) = measure(data, &lines, list, terms);
    let clusters = list.clusters.is_some();
    overall.check(&found["overall"][name], clusters);
    let reported: BTreeMap<Option<String>, &Value> = found["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| (task["task"].as_str().map(str::to_owned), &task[name]))
        .collect();
    for (task, worth) in &tasks {
        worth.check(reported[task], clusters);
    }
    let bounds: Vec<u64> =
        found["window_hits"]["bounds"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as u64).collect();
    let mut buckets = vec![0u64; bounds.len()];
    overall.hits.iter().for_each(|hits| buckets[bounds.iter().rposition(|bound| bound <= hits).unwrap()] += 1);
    let found: Vec<u64> = found["window_hits"][name].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!(found, buckets, "queries by preferred negatives");
}

#[test]
fn every_figure_of_the_fixture_is_what_brute_force_says() {
    let input = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian");
    let data = Dataset::debian(&input);
    let place = Place::empty();
    let run = place.path("run");
    mine(&input, &run, "--task-column dataset --skip 30 --window 100 --cluster-size 32 --batch-size 64").ok();
    // A given list: all rows at random, tasks mixed, batches of 50, one of 1, some rows in none.
    let mut order: Vec<usize> = (0..data.rows()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(3));
    let given: Vec<Vec<usize>> = order[..1901].chunks(50).map(<[usize]>::to_vec).collect();
    let flat = || given.iter().enumerate().flat_map(|(batch, rows)| rows.iter().map(move |row| (batch, *row)));
    let columns: Columns<'_> = vec![
        ("batch_id", Arc::new(flat().map(|(batch, _)| Some(batch as i32 - 5)).collect::<Int32Array>())),
        ("row", Arc::new(flat().map(|(_, row)| Some(row as i64)).collect::<Int64Array>())),
    ];
    let path = place.path("given.parquet");
    write_list(&path, columns);
    report(&run, &format!("--sample 2000 --against {}", path.display())).ok();
    let found = read(&run);
    let terms = Terms { cut: Cut::skip(30), ranks: 130, top: 32, temperature: 0.02 };
    let lines = inspect(&run, 0..data.rows());
    let own = List { batches: batches(&run, 0), clusters: Some(&lines) };
    assert!(own.batches.iter().any(|batch| batch.len() < 64), "short batches are there");
    check(&data, &run, &found, "mined", &own, terms);
    check(&data, &run, &found, "against", &List { batches: given, clusters: None }, terms);
    // Mining did its work, and the report says so.
    let figure = |list: &str, name: &str| found["overall"][list][name].as_f64().unwrap();
    assert!(figure("mined", "window_per_query") > 1.2 * figure("random", "window_per_query"));
    assert!(figure("mined", "duplicates_per_batch") == 0.0 && figure("random", "duplicates_per_batch") > 0.0);
    let gap = |list: &str| found["overall"][list]["gap"]["mean"].as_f64().unwrap();
    assert!(gap("mined") < gap("random"), "{} and {}", gap("mined"), gap("random"));
}

/// Two tasks with keys, text ids and rows that fill no whole batch.
fn keyed() -> Dataset {
    Dataset::planted(400, 24, 11)
        .with_text_ids()
        .with_tasks(|row| ["a", "b"][usize::from(row % 5 == 0)].into())
        .with_key(|row| (row % 10 < 9).then(|| format!("page {}", row % 130)))
        .with_key(|row| (row % 3 == 0).then(|| format!("author {}", row % 111)))
}

const KEYED: &str =
    "--task-column task --key-column key0 --key-column key1 --skip 4 --window 16 --cluster-size 8 --batch-size 32";

#[test]
fn keys_epochs_other_k_and_lists_by_id_are_counted_as_brute_force_does() {
    let data = keyed();
    let place = Place::with(&data);
    let limited = Cut {
        skip: 4,
        relative_margin: Some(0.1),
        max_score: Some(0.9),
        min_score: Some(0.3),
        sides: [Some(0.8), Some(0.85)],
    };
    for (remainder, cut) in [("short", Cut::skip(4)), ("drop", limited), ("fill", Cut::skip(4))] {
        let terms = Terms { cut, ranks: 20, top: 8, temperature: 0.02 };
        let run = place.path(remainder);
        mine(&place.input(), &run, &format!("{KEYED} --epochs 2 --remainder {remainder}{}", cut.flags())).ok();
        let lines = inspect(&run, 0..data.rows());
        // The other epoch as the given list, rows by id and in any order.
        let other = batches(&run, 0);
        let mut rows: Vec<(usize, usize)> =
            other.iter().enumerate().flat_map(|(batch, rows)| rows.iter().map(move |row| (batch, *row))).collect();
        rows.shuffle(&mut ChaCha8Rng::seed_from_u64(4));
        let path = place.path("given.parquet");
        write_list(
            &path,
            vec![
                ("id", Arc::new(rows.iter().map(|(_, row)| Some(data.id(*row))).collect::<StringArray>()) as ArrayRef),
                ("batch_id", Arc::new(rows.iter().map(|(batch, _)| Some(-7 * *batch as i64)).collect::<Int64Array>())),
            ],
        );
        let flags = format!("--epoch 1 --sample 400 --against {}", path.display());
        report(&run, &flags).ok();
        let found = read(&run);
        check(&data, &run, &found, "mined", &List { batches: batches(&run, 1), clusters: Some(&lines) }, terms);
        check(&data, &run, &found, "against", &List { batches: other, clusters: None }, terms);
        // The shuffled list has the same batches, clusters and tasks: the same pairs in each task.
        for task in found["tasks"].as_array().unwrap().iter().chain([&found["overall"]]) {
            for name in ["queries", "pairs", "batches"] {
                assert_eq!(task["random"][name], task["mined"][name], "{name}, --remainder {remainder}");
            }
            assert_eq!(task["random"]["in_cluster"]["pairs"], task["mined"]["in_cluster"]["pairs"]);
        }
        assert!(found["overall"]["random"]["key_pairs"].as_u64().unwrap() > 0, "nobody guards random batches");
        // A K beyond the lists is cut to them, and said to be.
        report(
            &run,
            &format!("--epoch 1 --sample 400 --top 50 --temperature 0.5 --out {}", run.join("other").display()),
        )
        .ok();
        let found = read(&run.join("other"));
        assert_eq!((found["terms"]["top"].as_u64(), found["terms"]["top_wanted"].as_u64()), (Some(20), Some(50)));
        let terms = Terms { top: 20, temperature: 0.5, ..terms };
        check(&data, &run, &found, "mined", &List { batches: batches(&run, 1), clusters: Some(&lines) }, terms);
    }
}

#[test]
fn a_list_equal_to_the_runs_own_has_its_figures() {
    let place = Place::with(&keyed());
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{KEYED} --epochs 2")).ok();
    report(&run, &format!("--epoch 1 --sample 60 --against {}", run.join("batches").display())).ok();
    let found = read(&run);
    for all in found["tasks"].as_array().unwrap().iter().chain([&found["overall"]]) {
        assert_eq!(all["mined"], all["against"]);
    }
    assert_eq!(found["similarity"]["mined"], found["similarity"]["against"]);
}

#[test]
fn a_sample_is_near_the_truth_by_its_own_account() {
    let place = Place::with(
        &Dataset::planted(3000, 24, 5).with_tasks(|row| ["big", "small"][usize::from(row % 40 == 0)].into()),
    );
    let run = place.path("run");
    mine(&place.input(), &run, "--task-column task --skip 4 --window 16 --cluster-size 8 --batch-size 32").ok();
    report(&run, "--sample 3000").ok();
    let all = read(&run);
    report(&run, "--sample 300").ok();
    let some = read(&run);
    let lists = |report: &Value| {
        let tasks = report["tasks"].as_array().unwrap().clone();
        tasks.into_iter().chain([report["overall"].clone()]).collect::<Vec<_>>()
    };
    for (some, all) in lists(&some).iter().zip(&lists(&all)) {
        for list in ["mined", "random"] {
            for count in ["window_pairs", "suspect_pairs", "key_pairs", "queries_without"] {
                assert_eq!(some[list][count], all[list][count], "counts need no sample");
            }
            for figure in ["top_similarity", "gap"] {
                let number = |report: &Value, name: &str| report[list][figure][name].as_f64().unwrap();
                let (found, truth, error) = (number(some, "mean"), number(all, "mean"), number(some, "standard_error"));
                assert!(
                    (found - truth).abs() <= 5.0 * error + 1e-12,
                    "{list} {figure}: {found} ± {error}, in truth {truth}"
                );
                assert!(error < 0.1 * truth.abs(), "{list} {figure}: an error of {error} says nothing");
                assert!(number(some, "queries") < 310.0);
            }
        }
    }
}

#[test]
fn threads_change_no_byte_and_json_is_the_report() {
    let place = Place::with(&keyed());
    let run = place.path("run");
    mine(&place.input(), &run, KEYED).ok();
    let outputs = ["1", "2", "8"].map(|threads| {
        let out = place.path(&format!("out-{threads}"));
        let said = report(&run, &format!("--sample 100 --threads {threads} --out {}", out.display())).ok();
        (fs::read(out.join("report.json")).unwrap(), fs::read(out.join("report.html")).unwrap(), said.stdout)
    });
    assert!(outputs[0] == outputs[1] && outputs[0] == outputs[2]);
    for word in ["mined", "random", "Preferred negatives", "Theorem 1's gap", "±", "peak memory"] {
        assert!(outputs[0].2.contains(word), "no {word} in\n{}", outputs[0].2);
    }
    assert!(outputs[0].2.lines().count() <= 45, "one screen:\n{}", outputs[0].2);
    let said = report(&run, "--sample 100 --json").ok().stdout;
    assert_eq!(said.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), serde_json::from_slice::<Value>(&outputs[0].0).unwrap());
    verify(&run).ok();
    mine(&place.input(), &run, KEYED).ok();
    assert!(run.join("report.html").exists(), "mining again leaves the report alone");
}

#[test]
fn the_page_is_sound_html_asks_for_nothing_and_shows_names_as_text() {
    let evil = "<script>alert(\"1\")</script> & 'x' <b>\u{1b}[31m";
    let data = Dataset::planted(120, 16, 6).with_tasks(|row| [evil, "plain"][row % 2].into());
    let place = Place::with(&data);
    let run = place.path("<i>run & co");
    mine(&place.input(), &run, "--task-column task --skip 2 --window 8 --cluster-size 4 --batch-size 16").ok();
    let outcome = report(&run, "").ok();
    assert!(!outcome.stdout.contains('\u{1b}'), "names cannot steer the terminal");
    let text = fs::read_to_string(run.join("report.html")).unwrap();
    let page = Html::parse_document(&text);
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    let all = |selector: &str| page.select(&Selector::parse(selector).unwrap()).collect::<Vec<_>>();
    for sought in
        ["script", "link", "img", "iframe", "object", "embed", "base", "[src]", "[href]", "[onload]", "i", "b"]
    {
        assert!(all(sought).is_empty(), "{sought} in the page");
    }
    for word in ["http:", "https:", "url(", "@import"] {
        assert!(!text.contains(word), "{word} in the page");
    }
    assert_eq!(all("svg").len(), 7);
    assert!(all("svg").iter().all(|svg| svg.attr("aria-label").is_some() && svg.attr("viewBox").is_some()));
    let names: Vec<String> = all(".tasks tbody th").iter().map(|cell| cell.text().collect()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&evil.replace('\u{1b}', "\u{FFFD}")), "{names:?}");
    for measure in all("table.measures tbody tr") {
        assert!(measure.text().collect::<String>().len() > 30, "each measure is explained");
    }
}

#[test]
fn what_cannot_be_reported_is_refused_with_a_remedy() {
    let data = Dataset::planted(200, 16, 7);
    assert!(matches!(data.ids, Ids::None));
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, "--skip 2 --window 8 --cluster-size 4 --batch-size 16 --epochs 2").ok();
    report(&place.input(), "").refuses(&["not a run folder"]);
    report(&run, "--epoch 2").refuses(&["no such epoch", "from 0 to 1"]);
    report(&run, "--temperature 0").refuses(&["temperature"]);
    report(&run, "--sample 0").refuses(&["sample"]);
    report(&run, "--against /no/such/list.parquet").fails(1, &["list.parquet", "remedy"]);
    report(&run, &format!("--against {}", run.display())).refuses(&["Parquet"]);
    let path = place.path("given.parquet");
    fs::write(&path, b"no Parquet at all").unwrap();
    let against = format!("--against {}", path.display());
    report(&run, &against).refuses(&["cannot be read", "remedy"]);
    let whole = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let rows = whole(vec![Some(0), Some(1), Some(2)]);
    let numbers = whole(vec![Some(0), Some(0), Some(1)]);
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, 1.0, 2.0]));
    let refused: [(Columns<'_>, &[&str]); 8] = [
        (vec![("row", rows.clone())], &["lacks a column", "batch_id"]),
        (vec![("batch_id", numbers.clone())], &["lacks a column", "row or id"]),
        (vec![("batch_id", floats), ("row", rows.clone())], &["another type", "Float64"]),
        (vec![("batch_id", numbers.clone()), ("row", whole(vec![Some(0), Some(200), Some(2)]))], &["unknown", "row 1"]),
        (vec![("batch_id", numbers.clone()), ("id", whole(vec![Some(0), Some(1), Some(-1)]))], &["unknown", "row 2"]),
        (
            vec![("batch_id", numbers.clone()), ("row", whole(vec![Some(0), Some(1), Some(0)]))],
            &["a row twice", "row 2"],
        ),
        (vec![("batch_id", whole(vec![Some(0), None, Some(1)])), ("row", rows.clone())], &["in no batch", "row 1"]),
        (vec![("batch_id", numbers), ("row", rows), ("epoch", whole(vec![Some(5); 3]))], &["no batches", "epoch 0"]),
    ];
    for (columns, words) in refused {
        write_list(&path, columns);
        report(&run, &against).refuses(words);
    }
    fs::remove_file(run.join("_SUCCESS")).unwrap();
    report(&run, "").refuses(&["not finished"]);
}

#[test]
fn a_damaged_run_gives_an_error_and_no_wrong_figures() {
    let place = Place::with(&keyed());
    let run = place.path("run");
    mine(&place.input(), &run, KEYED).ok();
    report(&run, "--sample 50").ok();
    let good = fs::read(run.join("report.json")).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(8);
    for (name, bytes) in super::command::files(&run, &["vectors", "neighbors", "batches"]) {
        // Of the vectors only some rows are read: their content is left to `verify`.
        if name.ends_with(".vec") {
            continue;
        }
        let path = run.join(&name);
        for _ in 0..4 {
            let mut flipped = bytes.clone();
            flipped[random.random_range(0..bytes.len())] ^= 0x11;
            fs::write(&path, flipped).unwrap();
            report(&run, "--sample 50").fails(1, &[path.file_name().unwrap().to_str().unwrap(), "remedy:"]);
        }
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        report(&run, "--sample 50").fails(1, &["remedy:"]);
        fs::remove_file(&path).unwrap();
        report(&run, "--sample 50").fails(1, &["remedy:"]);
        fs::write(&path, bytes).unwrap();
    }
    assert!(fs::read(run.join("report.json")).unwrap() == good, "a report that failed leaves the last one");
    report(&run, "--sample 50").ok();
    assert!(fs::read(run.join("report.json")).unwrap() == good);
}

#[test]
fn a_report_that_was_changed_or_is_of_other_batches_is_found() {
    let place = Place::with(&keyed());
    let run = place.path("run");
    mine(&place.input(), &run, KEYED).ok();
    report(&run, "--sample 50").ok();
    verify(&run).ok();
    let again = "run `batchmine report` again";
    for (name, old, new) in [("report.json", "\"queries\": ", "\"queries\": 1"), ("report.html", "random", "chosen")] {
        let path = run.join(name);
        let sound = fs::read_to_string(&path).unwrap();
        assert!(sound.contains(old), "{name}");
        fs::write(&path, sound.replacen(old, new, 1)).unwrap();
        verify(&run).fails(3, &[name, again]);
        fs::write(&path, sound).unwrap();
    }
    fs::write(run.join("report.html.tmp"), "").unwrap();
    verify(&run).fails(3, &["report.html.tmp"]);
    fs::remove_file(run.join("report.html.tmp")).unwrap();
    mine(&place.input(), &run, &format!("{KEYED} --seed 99 --replace")).ok();
    verify(&run).fails(3, &["report.json: it reports batches of fingerprint", again]);
    report(&run, "--sample 50").ok();
    verify(&run).ok();
    fs::remove_file(run.join("report.json")).unwrap();
    let said = verify(&run).ok().stdout;
    assert!(said.contains("not checked: report.html"), "{said}");
}

#[test]
fn the_best_and_the_worst_batches_are_shown_with_their_texts() {
    let data = Dataset { ids: Ids::None, ..Dataset::planted(300, 16, 4) };
    let data = data.with_text("question", |row| Some(format!("<b>question</b> {row} {}", "long ".repeat(100))));
    let data = data.with_text("answer", |row| (row % 7 > 0).then(|| format!("answer {row}")));
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, "--skip 3 --window 20 --cluster-size 4 --batch-size 16").ok();
    report(&run, "").ok();
    let found = read(&run)["examples"].clone();
    assert_eq!(found["text_columns"], serde_json::json!(["question", "answer"]));
    assert_eq!(found["no_texts"], Value::Null);
    // By brute force: the share of each batch's pairs that are in a rank window.
    let lines = inspect(&run, 0..300);
    let inside = |row: usize, batch: &[usize]| {
        let window = &lines[row].neighbors[lines[row].window.clone()];
        window.iter().filter(|(other, _)| batch.contains(other)).count() as u64
    };
    let batches = batches(&run, 0);
    let share = |batch: &[usize]| {
        let pairs: u64 = batch.iter().map(|row| inside(*row, batch)).sum();
        pairs as f64 / (batch.len() * (batch.len() - 1)) as f64
    };
    let mut shares: Vec<f64> = batches.iter().map(|batch| share(batch)).collect();
    for list in ["most", "least"] {
        for batch in found[list].as_array().unwrap() {
            let rows = &batches[batch["batch_id"].as_u64().unwrap() as usize];
            assert!((batch["window_share"].as_f64().unwrap() - share(rows)).abs() < 1e-12);
            assert_eq!(batch["rows"].as_u64(), Some(rows.len() as u64));
            let shown = batch["examples"].as_array().unwrap();
            assert_eq!(shown.len(), 8);
            for row in shown {
                let number = row["row"].as_u64().unwrap() as usize;
                assert!(rows.contains(&number));
                assert_eq!(row["preferred"].as_u64(), Some(inside(number, rows)));
                let query = row["query"].as_str().unwrap();
                assert!(query.starts_with(&format!("<b>question</b> {number} long")) && query.ends_with('…'));
                assert_eq!(query.chars().count(), 201);
                let answer = (!number.is_multiple_of(7)).then(|| format!("answer {number}"));
                assert_eq!(row["positive"].as_str(), answer.as_deref());
            }
        }
    }
    shares.sort_by(f64::total_cmp);
    let extreme = |list: &str| found[list][0]["window_share"].as_f64().unwrap();
    assert!((extreme("least") - shares[0]).abs() < 1e-12 && (extreme("most") - shares[shares.len() - 1]).abs() < 1e-12);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("&lt;b&gt;question&lt;/b&gt;") && !page.contains("<b>question"), "texts are escaped");
    report(&run, "--query-text no").fails(2, &["column no", "case-sensitive"]);
    // Without the files the figures are the same.
    fs::remove_dir_all(place.input()).unwrap();
    let said = report(&run, "").ok().stderr;
    assert_eq!(said.lines().filter(|line| line.contains("no texts are shown") && line.contains("is gone")).count(), 1);
    let without = read(&run);
    assert!(without["examples"]["no_texts"].as_str().unwrap().contains("is gone"));
    assert_eq!(without["examples"]["most"][0]["examples"][0]["query"], Value::Null);
    assert_eq!(without["examples"]["most"][0]["batch_id"], found["most"][0]["batch_id"]);
}
