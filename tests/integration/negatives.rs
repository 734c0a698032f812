//! Hard negatives of each batch, against the lists that `inspect` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Float32Type, Int64Type};
use serde_json::Value;

use super::command::{Line, Place, inspect, mine, verify};
use super::dataset::Dataset;
use super::oracle::{Cut, Oracle, Part};
use super::promises::{self, Terms};
use super::table;
use super::verify::forge;

/// How each line's list is cut.
pub type Cutting<'a> = &'a dyn Fn(&Line) -> Cut;

/// A batch's rank windows: in how many of them each row stands whose positive is not in the batch.
fn pool(data: &Dataset, lines: &[Line], batch: &[table::Row], cut: Cutting) -> BTreeMap<usize, u64> {
    let members: BTreeSet<Vec<u32>> = batch.iter().map(|row| data.positive_bits(row.row)).collect();
    let mut counts = BTreeMap::new();
    for row in batch {
        for other in part(&lines[row.row], cut(&lines[row.row]), Part::Preferred) {
            if !members.contains(&data.positive_bits(other)) {
                *counts.entry(other).or_insert(0) += 1;
            }
        }
    }
    counts
}

pub fn part(line: &Line, cut: Cut, part: Part) -> BTreeSet<usize> {
    (0..line.neighbors.len()).filter(|rank| cut.part(line, *rank) == part).map(|rank| line.neighbors[rank].0).collect()
}

/// Those of a pool that a row may have; with `lenient` also those whose score meets a limit but for rounding.
pub fn allowed(
    oracle: &Oracle,
    line: &Line,
    pool: &BTreeMap<usize, u64>,
    cut: Cut,
    lenient: bool,
) -> Vec<(usize, u64)> {
    let suspects = part(line, cut, Part::Suspect);
    let own = f64::from(line.score);
    let limits = [cut.relative_margin.map(|margin| own - margin * own.abs()), cut.max_score];
    let limit = limits.into_iter().flatten().fold(f64::INFINITY, f64::min);
    let may = |other: &usize| {
        let (score, slack) = oracle.score(line.row, *other);
        let slack = if lenient { slack } else { -slack };
        // Too easy a candidate is no suspect, however high it scores beside the own positive.
        let close = score > limit + slack && cut.min_score.is_none_or(|least| score >= least + slack);
        let (surely, perhaps) = cut.too_close(oracle, line.row, *other);
        let easy = cut.min_score.is_some_and(|least| score < least);
        let sides = !easy && if lenient { surely } else { perhaps };
        oracle.is_candidate(line.row, *other) && !suspects.contains(other) && !close && !sides
    };
    pool.iter().filter(|(other, _)| may(other)).map(|(other, count)| (*other, *count)).collect()
}

/// Checks every row's negatives; returns how many rows have fewer than `count`.
pub fn check(data: &Dataset, lines: &[Line], table: &[table::Row], cosine: bool, cut: Cutting, count: usize) -> u64 {
    check_parted(data, lines, table, cosine, (cut, count), &|_, _| false)
}

/// The same, where the first row's query and the second one's positive may have been judged to belong together.
pub fn check_parted(
    data: &Dataset,
    lines: &[Line],
    table: &[table::Row],
    cosine: bool,
    (cut, count): (Cutting, usize),
    are_parted: &dyn Fn(usize, usize) -> bool,
) -> u64 {
    let oracle = Oracle::new(data, cosine);
    let mut short = 0;
    for batch in table.chunk_by(|a, b| a.batch == b.batch) {
        let mut pool = pool(data, lines, batch, cut);
        pool.retain(|other, _| !batch.iter().any(|row| are_parted(row.row, *other)));
        for row in batch {
            let [sure, allowed] =
                [false, true].map(|lenient| allowed(&oracle, &lines[row.row], &pool, cut(&lines[row.row]), lenient));
            let negatives = row.negatives.as_ref().expect("there are hard negatives");
            let place = format!("batch {}, row {}: {negatives:?}", row.batch, row.row);
            let (least, most) = (sure.len().min(count), allowed.len().min(count));
            assert!((least..=most).contains(&negatives.len()), "{least} to {most} expected, {place}");
            let distinct: BTreeSet<usize> = negatives.iter().map(|negative| negative.0).collect();
            assert_eq!(distinct.len(), negatives.len(), "one twice, {place}");
            for (other, id, score) in negatives {
                assert!(allowed.iter().any(|(may, _)| may == other), "{other} may not be there, {place}");
                assert_eq!(*id, data.id(*other), "{place}");
                let (expected, slack) = oracle.score(row.row, *other);
                assert!((expected - f64::from(*score)).abs() <= slack, "{other} scores {expected}, {place}");
            }
            short += u64::from(negatives.len() < count);
        }
    }
    short
}

pub fn counted(run: &Path) -> Option<u64> {
    let manifest = std::fs::read_to_string(run.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    manifest["stages"]["batches"]["facts"]["rows_short_of_negatives"].as_u64()
}

/// Two tasks, two keys with gaps, copies of a positive.
pub fn sample() -> Dataset {
    let mut data = Dataset::planted(400, 24, 81)
        .with_text_ids()
        .with_tasks(|row| ["news", "wiki"][usize::from(row % 5 == 0)].into())
        .with_key(|row| (row % 10 < 9).then(|| format!("page {}", row % 150)));
    for row in 0..10 {
        data.positives[row + 100] = data.positives[row].clone();
    }
    data
}

const SIZES: &str = "--window 16 --cluster-size 8 --batch-size 32";
const FLAGS: &str = "--skip 4 --window 16 --cluster-size 8 --batch-size 32";

#[test]
fn they_are_drawn_out_of_the_batchs_windows_and_scored() {
    let data = sample();
    let place = Place::with(&data);
    for (name, more) in [("short", ""), ("drop", "--remainder drop"), ("fill", "--remainder fill")] {
        let run = place.path(name);
        let flags = format!("{FLAGS} {} --epochs 2 --hard-negatives 5 {more}", data.column_flags());
        mine(&place.input(), &run, &flags).ok();
        let outcome = verify(&run).ok();
        assert!(outcome.stdout.contains("5 hard negatives a row"), "{}", outcome.stdout);
        let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
        let short = check(&data, &lines, &table, true, &|_| Cut::skip(4), 5);
        assert_eq!(counted(&run), Some(short), "{name}");
        let terms = Terms { cluster_size: 8, batch_size: 32, epochs: 2, remainder: name };
        promises::check(&data, &lines, &table, terms);
    }
}

#[test]
fn score_limits_hold_for_them_too() {
    let data = Dataset::planted(300, 24, 85);
    let place = Place::with(&data);
    // Some lists are all suspects, so that rows beyond them may be suspects, too.
    let cuts = [
        Cut { relative_margin: Some(0.25), ..Cut::skip(4) },
        Cut { max_score: Some(0.75), min_score: Some(0.1), ..Cut::skip(0) },
    ];
    for (number, cut) in cuts.into_iter().enumerate() {
        let run = place.path(&format!("run-{number}"));
        mine(&place.input(), &run, &format!("{SIZES} --skip {} --hard-negatives 5 {}", cut.skip, cut.flags())).ok();
        verify(&run).ok();
        let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
        let closed = lines.iter().filter(|line| part(line, cut, Part::Suspect).len() == line.neighbors.len()).count();
        assert!(closed > 0 && closed < 300, "{closed} lists are all suspects by {cut:?}");
        assert_eq!(counted(&run), Some(check(&data, &lines, &table, true, &|_| cut, 5)));
    }
}

#[test]
fn each_task_has_windows_of_its_own() {
    let data = sample();
    let place = Place::with(&data);
    let (run, config) = (place.path("run"), place.path("batchmine.toml"));
    let text = "[task.wiki]\nskip = 9\nwindow = 5\ncluster-size = 4\nbatch-size = 16\nrelative-margin = 0.05\n";
    std::fs::write(&config, text).unwrap();
    let flags = format!("{FLAGS} {} --hard-negatives 4 --world-size 2", data.column_flags());
    mine(&place.input(), &run, &format!("{flags} --config {}", config.display())).ok();
    verify(&run).ok();
    let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
    let cut = |line: &Line| match line.task.as_deref() {
        Some("wiki") => Cut { relative_margin: Some(0.05), ..Cut::skip(9) },
        _ => Cut::skip(4),
    };
    assert_eq!(counted(&run), Some(check(&data, &lines, &table, true, &cut, 4)));
    // A task's sizes must fit the ranks, too.
    std::fs::write(&config, "[task.wiki]\ncluster-size = 16\nbatch-size = 16\n").unwrap();
    mine(&place.input(), &place.path("refused"), &format!("{flags} --config {}", config.display())).refuses(&[
        "wiki",
        "--world-size 2",
        "--batch-size 32",
    ]);
}

#[test]
fn real_rows_have_them_and_the_log_counts_those_that_lack_some() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian");
    let data = Dataset::debian(&folder);
    let place = Place::empty();
    let run = place.path("run");
    let flags = "--task-column dataset --skip 30 --cluster-size 32 --batch-size 64 --hard-negatives 7";
    let outcome = mine(&folder, &run, flags).ok();
    let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
    let short = check(&data, &lines, &table, true, &|_| Cut::skip(30), 7);
    // Rows of a task of fewer than 31 have no window at all.
    assert!(short > 0 && short < 1000, "{short} rows");
    assert!(outcome.stderr.contains(&format!("{short} rows have fewer than 7 hard negatives")), "{}", outcome.stderr);
    assert_eq!(counted(&run), Some(short));
    verify(&run).ok();
}

#[test]
fn who_stands_in_more_windows_is_drawn_more_often() {
    let data = Dataset::planted(600, 16, 82);
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --epochs 8 --hard-negatives 2")).ok();
    let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
    let oracle = Oracle::new(&data, true);
    // Of the first one drawn: the windows that it stands in, beside what its law says; of the second one, given the
    // first. Sums of many independent draws are normal.
    let (mut found, mut expected, mut variance, mut even) = (0.0, 0.0, 0.0, 0.0);
    for batch in table.chunk_by(|a, b| a.batch == b.batch) {
        let pool = pool(&data, &lines, batch, &|_| Cut::skip(4));
        for row in batch {
            let mut left = allowed(&oracle, &lines[row.row], &pool, Cut::skip(4), false);
            for (drawn, ..) in row.negatives.as_ref().unwrap() {
                let moment = |power: i32| left.iter().map(|(_, count)| (*count as f64).powi(power)).sum::<f64>();
                let mean = moment(2) / moment(1);
                found += pool[drawn] as f64;
                expected += mean;
                variance += moment(3) / moment(1) - mean * mean;
                even += moment(1) / moment(0);
                left.retain(|(other, _)| other != drawn);
            }
        }
    }
    let deviation = variance.sqrt();
    assert!((found - expected).abs() < 4.0 * deviation, "{found}, expected {expected} +- {deviation}");
    assert!(expected - even > 20.0 * deviation, "an even draw ({even}) would not be told from {expected}");
}

#[test]
fn a_rows_negatives_depend_on_its_batch_alone() {
    let place = Place::with(&sample());
    let drawn = |name: &str, more: &str| {
        let run = place.path(name);
        mine(&place.input(), &run, &format!("{FLAGS} --hard-negatives 3 {more}")).ok();
        let mut rows = table::read(&run);
        rows.retain(|row| row.epoch == 0);
        rows.sort_by_key(|row| (row.batch, row.row));
        rows.into_iter().map(|row| (row.batch, row.row, row.negatives)).collect::<Vec<_>>()
    };
    let one = drawn("one", "");
    assert_eq!(one, drawn("two-epochs", "--epochs 2"));
    assert_eq!(one, drawn("ranks", "--world-size 4 --rank-layout strided"));
    assert_ne!(one, drawn("seed", "--seed 1"));
}

#[test]
fn a_window_that_the_batch_itself_fills_leaves_none() {
    // One batch of all rows: every window lies within it.
    let data = Dataset::planted(32, 8, 83);
    let place = Place::with(&data);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{FLAGS} --hard-negatives 4")).ok();
    assert!(table::read(&run).iter().all(|row| row.negatives == Some(Vec::new())));
    assert_eq!(counted(&run), Some(32));
    verify(&run).ok();
}

#[test]
fn too_many_are_refused() {
    let place = Place::with(&sample());
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --hard-negatives 257")).refuses(&["--hard-negatives"]);
}

/// Changes the lists of the table's first row that has all of them.
pub fn forge_first(run: &Path, change: impl FnOnce(&table::Row, &mut Vec<i64>, &mut Vec<f32>)) {
    let rows = table::read(run);
    let at = rows.iter().position(|row| row.negatives.as_ref().unwrap().len() == 3).unwrap();
    forge(run, |columns| {
        let list = |name: &str| columns[name].as_list::<i32>().clone();
        let (input, scores) = (list("negative_rows"), list("negative_scores"));
        let mut rows_of: Vec<Vec<i64>> =
            input.iter().map(|list| list.unwrap().as_primitive::<Int64Type>().values().to_vec()).collect();
        let mut scores_of: Vec<Vec<f32>> =
            scores.iter().map(|list| list.unwrap().as_primitive::<Float32Type>().values().to_vec()).collect();
        change(&rows[at], &mut rows_of[at], &mut scores_of[at]);
        let element = |list: &ListArray| match list.data_type() {
            arrow::datatypes::DataType::List(element) => element.clone(),
            other => panic!("{other}"),
        };
        let flat: ArrayRef = Arc::new(Int64Array::from(rows_of.concat()));
        let ends = || OffsetBuffer::from_lengths(rows_of.iter().map(Vec::len));
        // Ids are the input's row numbers here.
        let lists: ArrayRef = Arc::new(ListArray::new(element(&input), ends(), flat, None));
        let flat: ArrayRef = Arc::new(Float32Array::from(scores_of.concat()));
        let scores: ArrayRef = Arc::new(ListArray::new(element(&scores), ends(), flat, None));
        columns.insert("negatives".into(), lists.clone());
        columns.insert("negative_rows".into(), lists);
        columns.insert("negative_scores".into(), scores);
    });
}

#[test]
fn verify_finds_every_broken_promise() {
    let data = Dataset::planted(240, 24, 84).with_key(|row| (row < 20).then(|| format!("{}", row / 4)));
    let place = Place::with(&data);
    let base = place.path("run");
    let flags = "--key-column key0 --skip 3 --window 12 --cluster-size 4 --batch-size 16 --hard-negatives 3";
    mine(&place.input(), &base, flags).ok();
    let lines = inspect(&base, 0..data.rows());
    let oracle = Oracle::new(&data, true);
    let score = |query: usize, other: i64| oracle.score(query, other as usize).0 as f32;
    let table = table::read(&base);
    let mates = |row: &table::Row| table.iter().filter(|mate| mate.batch == row.batch).cloned().collect::<Vec<_>>();
    let put = |row: &table::Row, rows: &mut Vec<i64>, scores: &mut Vec<f32>, other: i64| {
        (rows[1], scores[1]) = (other, score(row.row, other));
    };
    type Change<'a> = Box<dyn Fn(&table::Row, &mut Vec<i64>, &mut Vec<f32>) + 'a>;
    let forgeries: Vec<(&str, Change)> = vec![
        (
            "in the batch",
            Box::new(|row, rows, scores| {
                let mate = mates(row).iter().find(|mate| mate.row != row.row).unwrap().row as i64;
                put(row, rows, scores, mate);
            }),
        ),
        (
            "suspect",
            Box::new(|row, rows, scores| {
                let members: BTreeSet<usize> = mates(row).iter().map(|mate| mate.row).collect();
                let suspect = lines[row.row].neighbors[..3].iter().find(|other| !members.contains(&other.0)).unwrap().0;
                put(row, rows, scores, suspect as i64);
            }),
        ),
        (
            "rank window",
            Box::new(|row, rows, scores| {
                let (mates, pool) = (mates(row), pool(&data, &lines, &mates(row), &|_| Cut::skip(0)));
                let mut strangers = (0..240).filter(|other| mates.iter().all(|mate| mate.row != *other));
                let stranger =
                    strangers.find(|other| !pool.contains_key(other) && oracle.is_candidate(row.row, *other));
                put(row, rows, scores, stranger.unwrap() as i64);
            }),
        ),
        ("score", Box::new(|_, _, scores| scores[2] += 0.125)),
        ("twice", Box::new(|_, rows, scores| (rows[2], scores[2]) = (rows[0], scores[0]))),
        (
            "could be 3",
            Box::new(|_, rows, scores| {
                rows.pop();
                scores.pop();
            }),
        ),
        ("known rows", Box::new(|_, rows, _| rows[0] = 1 << 40)),
    ];
    for (number, (word, change)) in forgeries.into_iter().enumerate() {
        let run = place.path(&format!("forged-{number}"));
        mine(&place.input(), &run, flags).ok();
        forge_first(&run, |_, _, _| ());
        verify(&run).ok();
        forge_first(&run, change);
        verify(&run).fails(3, &[word, "hard negatives"]);
    }
}
