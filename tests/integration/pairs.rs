//! `candidates`: the pairs whose judgement matters most, and the loop of judging and mining again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float32Type, Int32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::command::{Line, Outcome, Place, call, inspect, mine, verify};
use super::dataset::{Dataset, write_columns};
use super::table::{self, Row};

fn debian() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian")
}

pub fn candidates(run: &Path, out: &Path, flags: &str) -> Outcome {
    let [run, out] = [run, out].map(|path| path.to_str().unwrap());
    call(["candidates", run, "--replace", "--out", out].into_iter().chain(flags.split_whitespace()))
}

pub fn read(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub rows: (usize, usize),
    score: f32,
    own_score: f32,
    rank: Option<i32>,
    suspect: bool,
    pub batches: i32,
    same_cluster: bool,
    drawn: i32,
    sampled: bool,
}

pub fn found(batch: &RecordBatch) -> Vec<Found> {
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let row = |name: &str, at: usize| column(name).as_primitive::<Int64Type>().value(at) as usize;
    let score = |name: &str, at: usize| column(name).as_primitive::<Float32Type>().value(at);
    let count = |name: &str, at: usize| column(name).as_primitive::<Int32Type>().value(at);
    let truth = |name: &str, at: usize| column(name).as_boolean().value(at);
    let line = |at: usize| Found {
        rows: (row("row", at), row("other_row", at)),
        score: score("score", at),
        own_score: score("own_score", at),
        rank: column("rank").is_valid(at).then(|| count("rank", at)),
        suspect: truth("suspect", at),
        batches: count("batches", at),
        same_cluster: truth("same_cluster", at),
        drawn: count("hard_negative", at),
        sampled: truth("sampled", at),
    };
    (0..batch.num_rows()).map(line).collect()
}

/// All pairs that lists and batches imply, closest first.
fn expected(lines: &[Line], table: &[Row], skip: usize) -> Vec<Found> {
    let mut batches: BTreeMap<(usize, usize), i32> = BTreeMap::new();
    for batch in table.chunk_by(|a, b| a.batch == b.batch) {
        for row in batch {
            batch.iter().for_each(|other| *batches.entry((row.row, other.row)).or_default() += 1);
        }
    }
    let cluster: BTreeMap<usize, Option<i64>> = table.iter().map(|row| (row.row, row.cluster)).collect();
    let rank_of = |query: usize, other: usize| lines[query].neighbors.iter().position(|known| known.0 == other);
    let mut all: BTreeMap<(usize, usize), Found> = BTreeMap::new();
    let pair = |query: usize, other: usize, score: f32| {
        let rank = rank_of(query, other);
        Found {
            rows: (query, other),
            score,
            own_score: lines[query].score,
            rank: rank.map(|rank| rank as i32),
            suspect: rank.is_some_and(|rank| rank < skip && !lines[query].cleared.contains(&rank)),
            batches: 0,
            same_cluster: false,
            drawn: 0,
            sampled: false,
        }
    };
    // Of two rows that meet: with the query that scores higher, of those that have the other in their lists.
    let met = |a: usize, b: usize| -> Option<Found> {
        let batches = *batches.get(&(a, b))?;
        let one_way = |query: usize, other: usize| {
            let score = lines[query].neighbors[rank_of(query, other)?].1;
            let same_cluster = cluster[&query].is_some() && cluster[&query] == cluster[&other];
            Some(Found { batches, same_cluster, ..pair(query, other, score) })
        };
        let both = [one_way(a, b), one_way(b, a)].into_iter().flatten();
        both.max_by(|one, other| one.score.total_cmp(&other.score))
    };
    for line in lines {
        for (other, _) in &line.neighbors {
            if let Some(found) = met(line.row, *other) {
                all.insert(found.rows, found);
            }
        }
    }
    for row in table {
        for (other, _, score) in row.negatives.iter().flatten() {
            match met(row.row, *other) {
                Some(found) => all.entry(found.rows).or_insert(found).drawn += 1,
                None => {
                    let batches = batches.get(&(row.row, *other)).copied().unwrap_or(0);
                    let same_cluster = cluster[&row.row].is_some() && cluster.get(other) == Some(&cluster[&row.row]);
                    let new = || Found { batches, same_cluster, ..pair(row.row, *other, *score) };
                    all.entry((row.row, *other)).or_insert_with(new).drawn += 1;
                }
            }
        }
    }
    let mut all: Vec<Found> = all.into_values().collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all
}

/// The same pairs, but for the order of equal scores.
fn assert_same_pairs(found: &[Found], expected: &[Found]) {
    let sorted = |pairs: &[Found]| -> Vec<Found> {
        let mut pairs = pairs.to_vec();
        pairs.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.rows.cmp(&b.rows)));
        pairs
    };
    assert!(found.is_sorted_by(|a, b| a.score >= b.score), "closest first");
    let (found, expected) = (sorted(found), sorted(expected));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn they_are_the_closest_of_all_that_meet() {
    let data = Dataset::planted(500, 16, 31).with_text_ids();
    let place = Place::with(&data);
    let out = place.path("pairs.parquet");
    for (name, flags) in [
        ("plain", "--epochs 3"),
        ("cluster", "--hard-negatives 3 --epochs 2 --negatives-of cluster"),
        ("batch", "--hard-negatives 4 --remainder fill"),
    ] {
        let run = place.path(name);
        mine(&place.input(), &run, &format!("--skip 4 --window 20 --cluster-size 4 --batch-size 32 {flags}")).ok();
        let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
        let wanted = expected(&lines, &table, 4);
        candidates(&run, &out, "--budget 1000000 --sample 0").ok();
        let all = read(&out);
        assert_same_pairs(&found(&all), &wanted);
        let ids = cast(all.column_by_name("other_id").unwrap(), &DataType::Utf8).unwrap();
        let first = found(&all)[0].rows.1;
        assert_eq!(ids.as_string::<i32>().value(0), data.id(first));
        assert!(all.column_by_name("query").is_none(), "there are no texts");
        // A budget takes the first of them, and draws its share from the rest.
        candidates(&run, &out, "--budget 200 --sample 0.25").ok();
        let some = found(&read(&out));
        let (first, sample) = some.split_at(150);
        assert!(first.iter().all(|pair| !pair.sampled) && sample.len() == 50);
        assert_same_pairs(first, &wanted[..150]);
        let names: BTreeSet<_> = some.iter().map(|pair| pair.rows).collect();
        assert_eq!(names.len(), 200, "a pair comes twice");
        for pair in sample {
            let known = wanted.iter().find(|known| known.rows == pair.rows).unwrap();
            assert_eq!(&Found { sampled: false, ..pair.clone() }, known);
        }
        // The same on one thread, and with another seed another sample.
        let other = place.path("other.parquet");
        candidates(&run, &other, "--budget 200 --sample 0.25 --threads 1").ok();
        assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&other).unwrap());
        candidates(&run, &other, "--budget 200 --sample 0.25 --seed 1").ok();
        let drawn = found(&read(&other));
        assert_eq!(drawn[..150], some[..150]);
        assert_ne!(drawn[150..], some[150..]);
    }
}

#[test]
fn documents_of_a_corpus_are_asked_for_and_judged() {
    let mut data = Dataset::planted(500, 16, 34);
    data.documents = 200;
    let place = Place::with(&data);
    let (run, out, file) = (place.path("run"), place.path("pairs.parquet"), place.path("judged.parquet"));
    for (by, of) in [("row", "row"), ("positive", "batch")] {
        let corpus = data.corpus_flags(&place.input());
        let flags = format!(
            "--skip 3 --window 25 --cluster-size 4 --batch-size 16 --hard-negatives 4 --negatives-of {of} \
             --rank-by {by} {corpus}"
        );
        mine(&place.input(), &run, &format!("{flags} --replace")).ok();
        candidates(&run, &out, "--budget 100000").ok();
        let pairs = read(&out);
        let documents: Vec<bool> = found(&pairs).iter().map(|pair| pair.rows.1 >= data.rows()).collect();
        assert!(documents.iter().filter(|is| **is).count() > 100, "{by}: documents were drawn");
        let labels: Vec<bool> = documents.iter().enumerate().map(|(at, is)| *is && at % 2 == 0).collect();
        write_judged(&file, &labels, &pairs);
        mine(&place.input(), &run, &format!("{flags} --replace --verdicts {}", file.display())).ok();
        verify(&run).ok();
        let right: BTreeSet<(usize, usize)> =
            found(&pairs).iter().zip(&labels).filter(|(_, label)| **label).map(|(pair, _)| pair.rows).collect();
        let table = table::read(&run);
        for batch in table.chunk_by(|a, b| a.batch == b.batch) {
            for row in batch {
                let mut drawn = batch.iter().flat_map(|other| other.negatives.iter().flatten());
                assert!(!drawn.any(|negative| right.contains(&(row.row, negative.0))), "{by}: {row:?}");
            }
        }
        let report = place.path("report");
        call(["report", run.to_str().unwrap(), "--sample", "50", "--out", report.to_str().unwrap()]).ok();
        candidates(&run, &out, "--budget 500").ok();
    }
}

#[test]
fn with_ranks_of_positives_each_positive_comes_once() {
    let mut data = Dataset::planted(300, 16, 32);
    for row in 0..300 {
        data.positives[row] = data.positives[row % 60].clone();
    }
    let place = Place::with(&data);
    let (run, out) = (place.path("run"), place.path("pairs.parquet"));
    mine(&place.input(), &run, "--rank-by positive --skip 3 --window 12 --cluster-size 4 --batch-size 16").ok();
    candidates(&run, &out, "--budget 100000 --sample 0").ok();
    let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
    let batch: BTreeMap<usize, i64> = table.iter().map(|row| (row.row, row.batch)).collect();
    let mut seen = BTreeSet::new();
    for pair in found(&read(&out)) {
        let (query, other) = pair.rows;
        assert_eq!(batch[&query], batch[&other], "{pair:?}");
        let listed = lines[query].neighbors[pair.rank.unwrap() as usize];
        assert_eq!(data.positive_bits(listed.0), data.positive_bits(other), "{pair:?}");
        assert_eq!(listed.1, pair.score);
        assert!(seen.insert((query, other % 60)), "{pair:?}");
    }
    let meets = |line: &Line| {
        let other = |candidate: usize| (0..5).map(move |copy| (candidate + 60 * copy) % 300);
        let met = |candidate: usize| other(candidate).any(|other| batch.get(&other) == batch.get(&line.row));
        line.neighbors.iter().filter(|(candidate, _)| batch.contains_key(&line.row) && met(*candidate)).count()
    };
    let all: usize = lines.iter().map(meets).sum();
    assert!(seen.len() > all / 3 && seen.len() <= all, "{} of {all}", seen.len());
}

/// Words of a text.
fn words(text: &str) -> BTreeSet<String> {
    let letters = text.to_lowercase();
    letters.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// What stands for a judge: positives of mostly the same words are right answers to each other's queries.
fn alike(own: &str, other: &str) -> bool {
    let [own, other] = [own, other].map(words);
    own.intersection(&other).count() * 10 >= own.union(&other).count() * 6
}

fn judged(pairs: &RecordBatch) -> (Vec<bool>, RecordBatch) {
    let text = |name: &str| cast(pairs.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
    let [own, other] = ["positive", "candidate"].map(text);
    let label = |at: usize| alike(own.as_string::<i32>().value(at), other.as_string::<i32>().value(at));
    let labels: Vec<bool> = (0..pairs.num_rows()).map(label).collect();
    (labels, pairs.clone())
}

fn write_judged(path: &Path, labels: &[bool], pairs: &RecordBatch) {
    let label: ArrayRef = Arc::new(BooleanArray::from(labels.to_vec()));
    let columns = pairs.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let mut all: Vec<(&str, ArrayRef)> =
        columns.iter().map(|name| (name.as_str(), pairs.column_by_name(name).unwrap().clone())).collect();
    all.push(("label", label));
    write_columns(path, all);
}

#[test]
fn judged_and_mined_again_no_right_answer_meets_its_query() {
    let place = Place::empty();
    let run = place.path("run");
    let flags = "--task-column dataset --batch-size 64 --hard-negatives 2 --epochs 2";
    mine(&debian(), &run, flags).ok();
    let mut files: Vec<String> = Vec::new();
    let (mut right, mut known) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..2 {
        let out = place.path(&format!("pairs-{round}.parquet"));
        let said = candidates(&run, &out, "--budget 2000").ok().stderr;
        assert!(said.contains("2,000 pairs that were not judged"), "{said}");
        let (labels, pairs) = judged(&read(&out));
        let pairs_found = found(&pairs);
        for (pair, label) in pairs_found.iter().zip(&labels) {
            let (a, b) = pair.rows;
            assert!(known.insert((a, b)), "round {round}: {pair:?} was judged before");
            assert!(pair.drawn > 0 || !known.contains(&(b, a)), "round {round}: {pair:?}");
            right.extend(label.then_some(pair.rows));
        }
        let count = labels.iter().filter(|label| **label).count();
        assert!(count > 50, "round {round}: {count} right answers are too few to prove anything");
        let file = place.path(&format!("judged-{round}.parquet"));
        write_judged(&file, &labels, &pairs);
        files.push(format!("--verdicts {}", file.display()));
        let neighbors = std::fs::metadata(run.join("neighbors")).unwrap().modified().unwrap();
        mine(&debian(), &run, &format!("{flags} {} --replace", files.join(" "))).ok();
        assert_eq!(std::fs::metadata(run.join("neighbors")).unwrap().modified().unwrap(), neighbors, "a second search");
        verify(&run).ok();
        let table = table::read(&run);
        for batch in table.chunk_by(|a, b| a.batch == b.batch) {
            for row in batch {
                for other in batch {
                    assert!(!right.contains(&(row.row, other.row)), "round {round}: {} meets {}", row.row, other.row);
                    let drawn = other.negatives.iter().flatten();
                    assert!(!drawn.clone().any(|negative| right.contains(&(row.row, negative.0))), "round {round}");
                }
            }
        }
    }
    // What was judged of rows whose lists are known is what lists say.
    let lines = inspect(&run, 0..200);
    assert!(lines.iter().any(|line| !line.cleared.is_empty() || !line.too_close.is_empty()));
}

#[test]
fn what_cannot_be_asked_for_is_refused() {
    let data = Dataset::planted(120, 12, 33);
    let place = Place::with(&data);
    let (run, out) = (place.path("run"), place.path("pairs.parquet"));
    mine(&place.input(), &run, "--skip 2 --window 10 --cluster-size 4 --batch-size 8").ok();
    candidates(&run, &out, "--budget 0").refuses(&["--budget from 1"]);
    candidates(&run, &out, "--budget 5 --sample 1.5").refuses(&["--sample from 0 to 1"]);
    candidates(&place.path("none"), &out, "--budget 5").fails(2, &["none"]);
    candidates(&run, &out, "--budget 5 --query-text title").fails(2, &["title"]);
    assert!(!out.exists());
    let json = candidates(&run, &out, "--budget 5 --json").ok().stdout;
    assert!(json.contains(r#""pairs":5"#), "{json}");
    assert_eq!(read(&out).num_rows(), 5);
    let left: Vec<_> =
        std::fs::read_dir(out.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    // Nothing is written over without a word, and nothing among the run's own files.
    let words = ["candidates", run.to_str().unwrap(), "--budget", "5", "--out", out.to_str().unwrap()];
    let before = std::fs::read(&out).unwrap();
    call(words).refuses(&["pairs.parquet", "--replace"]);
    assert_eq!(std::fs::read(&out).unwrap(), before);
    candidates(&run, &run.join("manifest.json"), "--budget 5").refuses(&["a path in the run folder"]);
    candidates(&run, &run.join("batches/x.parquet"), "--budget 5").refuses(&["a path in the run folder"]);
    candidates(&run, &out.join("x"), "--budget 5").fails(1, &["cannot be written"]);
    verify(&run).ok();
    call(["clean", run.to_str().unwrap()]).ok();
    candidates(&run, &out, "--budget 5").fails(2, &["clean"]);
}

#[test]
fn the_report_says_what_verdicts_say_of_rules_and_of_the_rest() {
    let place = Place::empty();
    let run = place.path("run");
    let flags = "--task-column dataset --batch-size 64 --skip 5";
    mine(&debian(), &run, flags).ok();
    let plain = call(["report", run.to_str().unwrap(), "--sample", "100", "--json"]).ok().stdout;
    assert!(!plain.contains("verdicts"), "{plain}");
    let (out, file) = (place.path("pairs.parquet"), place.path("judged.parquet"));
    candidates(&run, &out, "--budget 1500 --sample 0.4").ok();
    let (labels, pairs) = judged(&read(&out));
    write_judged(&file, &labels, &pairs);
    mine(&debian(), &run, &format!("{flags} --verdicts {} --replace", file.display())).ok();
    let report = call(["report", run.to_str().unwrap(), "--sample", "100", "--json"]).ok().stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let verdicts = &report["verdicts"];
    let number = |path: &str| verdicts.pointer(path).and_then(serde_json::Value::as_f64).unwrap();
    let right = labels.iter().filter(|label| **label).count() as f64;
    // Two ids of one positive are one pair.
    assert!(number("/pairs/right") <= right && number("/pairs/right") > 0.9 * right, "{verdicts}");
    // By hand, out of the lists.
    let lines = inspect(&run, 0..2000);
    let texts = texts_of(&debian());
    let table = table::read(&run);
    let batch: BTreeMap<usize, i64> = table.iter().map(|row| (row.row, row.batch)).collect();
    let known: BTreeSet<(usize, usize)> = found(&pairs).iter().map(|pair| pair.rows).collect();
    let (mut open, mut wrong) = (0, 0);
    for line in &lines {
        for (other, _) in &line.neighbors {
            let meet = batch.contains_key(&line.row) && batch.get(&line.row) == batch.get(other);
            if meet && !known.contains(&(line.row, *other)) {
                open += 1;
                wrong += usize::from(alike(&texts[line.row], &texts[*other]));
            }
        }
    }
    assert!((number("/left/pairs") - f64::from(open)).abs() <= 0.02 * f64::from(open), "{verdicts}: {open}");
    let (low, high) = (number("/left/low"), number("/left/high"));
    let wrong = wrong as f64;
    assert!(low * 0.8 <= wrong && wrong <= high * 1.2, "{wrong} wrong negatives, by estimate {verdicts}");
    let precision = number("/precision");
    assert!(precision > number("/missed"), "{verdicts}");
    let text = call(["report", run.to_str().unwrap(), "--sample", "100"]).ok().stdout;
    assert!(text.contains("wrong negatives by estimate"), "{text}");
}

/// The positives' texts of some rows.
fn texts_of(folder: &Path) -> Vec<String> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "parquet"));
    paths.sort();
    let texts = |path: &PathBuf| -> Vec<String> {
        let column = cast(read(path).column_by_name("positive").unwrap(), &DataType::Utf8).unwrap();
        column.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()).collect()
    };
    paths.iter().flat_map(texts).collect()
}
