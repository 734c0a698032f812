//! Judged pairs: who is parted for good, who is no suspect any more, and what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int8Array, Int32Array, Int64Array,
    LargeStringArray, StringArray,
};
use arrow::datatypes::Int32Type;

use super::budgets::{Measured, least_mib, measured};
use super::command::{Line, Place, assert_same, call, inspect, mine, mine_command, verify};
use super::dataset::{Dataset, write_columns};
use super::negatives;
use super::oracle::{Cut, Exactness, Oracle, Part, check_cut_graph};
use super::promises::{self, Terms};
use super::table::{self, Row};

const FLAGS: &str = "--skip 5 --window 20 --cluster-size 4 --batch-size 16";

/// Rows of a pair, and whether the second one's positive is a right answer for the first one's query.
type Pair = (usize, usize, Option<bool>);

fn write(path: &Path, data: &Dataset, pairs: &[Pair]) {
    let ids = |of: fn(&Pair) -> usize| -> ArrayRef {
        let ids: Vec<String> = pairs.iter().map(|pair| data.id(of(pair))).collect();
        match ids.iter().map(|id| id.parse()).collect::<Result<Vec<i64>, _>>() {
            Ok(numbers) => Arc::new(Int64Array::from(numbers)),
            Err(_) => Arc::new(StringArray::from(ids)),
        }
    };
    let labels: ArrayRef = Arc::new(BooleanArray::from_iter(pairs.iter().map(|pair| pair.2)));
    write_columns(path, vec![("id", ids(|pair| pair.0)), ("other_id", ids(|pair| pair.1)), ("label", labels)]);
}

/// Judges some candidates of each list: suspects and preferred negatives, right and wrong.
fn judge(lines: &[Line]) -> Vec<Pair> {
    let ranks = |line: &Line| {
        let known = line.neighbors.len();
        [(0, true), (1, false), (3, false), (6, true), (11, false)].into_iter().filter(move |(rank, _)| *rank < known)
    };
    let of_line = |line: &Line| -> Vec<Pair> {
        ranks(line).map(|(rank, label)| (line.row, line.neighbors[rank].0, Some(label))).collect()
    };
    lines.iter().filter(|line| line.row % 3 == 0).flat_map(of_line).collect()
}

/// What every row was judged to be for a query, copies of a judged positive among them; right where both was said.
fn spread(data: &Dataset, pairs: &[Pair]) -> BTreeMap<(usize, usize), bool> {
    let mut copies: BTreeMap<Vec<u32>, Vec<usize>> = BTreeMap::new();
    (0..data.rows()).for_each(|row| copies.entry(data.positive_bits(row)).or_default().push(row));
    let mut all = BTreeMap::new();
    for (query, other, label) in pairs {
        let same = &copies[&data.positive_bits(*other)];
        if let Some(label) = label.filter(|_| !same.contains(query)) {
            same.iter().for_each(|row| *all.entry((*query, *row)).or_insert(false) |= label);
        }
    }
    all
}

/// Checks that parted rows share no cluster and no batch, and are no hard negatives of it.
fn check_parted(judged: &BTreeMap<(usize, usize), bool>, table: &[Row]) {
    let parted = |a: usize, b: usize| judged.get(&(a, b)) == Some(&true);
    for batch in table.chunk_by(|a, b| a.batch == b.batch) {
        for row in batch {
            for other in batch {
                assert!(!parted(row.row, other.row), "{} and {} share batch {}", row.row, other.row, row.batch);
                let drawn = other.negatives.iter().flatten();
                let right = drawn.filter(|negative| parted(row.row, negative.0)).count();
                assert_eq!(right, 0, "a negative of batch {} is judged right for row {}", row.batch, row.row);
            }
        }
    }
    let mut clusters: BTreeMap<i64, BTreeSet<usize>> = BTreeMap::new();
    for row in table {
        row.cluster.map(|cluster| clusters.entry(cluster).or_default().insert(row.row));
    }
    for rows in clusters.values() {
        assert!(!rows.iter().any(|a| rows.iter().any(|b| parted(*a, *b))), "{rows:?}");
    }
}

/// Compares what lists are cut into with the verdicts.
fn check_lists(judged: &BTreeMap<(usize, usize), bool>, lines: &[Line], cut: Cut) -> [usize; 2] {
    let mut counts = [0; 2];
    for line in lines {
        let plain = Line { cleared: Vec::new(), too_close: Vec::new(), ..line.clone() };
        for (rank, (other, _)) in line.neighbors.iter().enumerate() {
            let by_rule = cut.part(&plain, rank) == Part::Suspect;
            let wanted = judged.get(&(line.row, *other)).copied().unwrap_or(by_rule);
            let found = (rank < line.window.start && !line.cleared.contains(&rank)) || line.too_close.contains(&rank);
            assert_eq!(found, wanted, "rank {rank} of row {}", line.row);
            counts[0] += usize::from(wanted && !by_rule);
            counts[1] += usize::from(by_rule && !wanted);
        }
    }
    counts
}

#[test]
fn right_answers_are_parted_and_others_cleared() {
    let mut data = Dataset::planted(400, 16, 21).with_text_ids();
    // Copies, of which one is judged.
    for row in 0..40 {
        data.positives[row + 200] = data.positives[row].clone();
    }
    let place = Place::with(&data);
    let first = place.path("first");
    mine(&place.input(), &first, FLAGS).ok();
    let pairs = judge(&inspect(&first, 0..data.rows()));
    let judged = spread(&data, &pairs);
    let file = place.path("judged.parquet");
    write(&file, &data, &pairs);
    let oracle = Oracle::new(&data, true);
    let limits = Cut { max_score: Some(0.8), ..Cut::skip(5) };
    for (name, cut, more) in [
        ("plain", Cut::skip(5), "--hard-negatives 3 --epochs 2"),
        ("mutual", Cut::skip(5), "--edges mutual --hard-negatives 2 --negatives-of cluster"),
        ("limits", limits, "--hard-negatives 2 --negatives-of row --mask suspects"),
        ("fill", Cut::skip(5), "--remainder fill --mask suspects"),
    ] {
        let run = place.path(name);
        let flags = format!("{FLAGS} {more}{} --verdicts {}", cut.flags(), file.display());
        let said = mine(&place.input(), &run, &flags).ok().stderr;
        assert_same(&run, &first, &["vectors", "neighbors"]);
        let verified = verify(&run).ok().stdout;
        assert!(verified.contains("right answers are parted for good"), "{verified}");
        let (lines, table) = (inspect(&run, 0..data.rows()), table::read(&run));
        oracle.check(&lines, 25, Exactness::NearTies);
        let [parted, cleared] = check_lists(&judged, &lines, cut);
        assert!(parted > 50 && cleared > 100, "{parted} {cleared}");
        let counted = format!("{parted} candidates are suspects by verdict alone, {cleared} suspects are cleared");
        assert!(said.contains(&counted), "{counted}: {said}");
        check_cut_graph(&lines, |_| cut, more.contains("mutual"));
        check_parted(&judged, &table);
        if name == "plain" {
            let terms = Terms { cluster_size: 4, batch_size: 16, epochs: 2, remainder: "short" };
            promises::check(&data, &lines, &table, terms);
            let parted = |query, other| judged.get(&(query, other)) == Some(&true);
            negatives::check_parted(&data, &lines, &table, true, (&|_| cut, 3), &parted);
        }
        if name == "fill" {
            for batch in table.chunk_by(|a, b| a.batch == b.batch) {
                for row in batch {
                    let suspect = |other: usize| {
                        let rank = lines[row.row].neighbors.iter().position(|neighbor| neighbor.0 == other);
                        rank.is_some_and(|rank| cut.part(&lines[row.row], rank) == Part::Suspect)
                    };
                    let wanted: Vec<i32> =
                        (0..).zip(batch).filter(|(_, other)| suspect(other.row)).map(|(at, _)| at).collect();
                    assert_eq!(row.masked.as_ref(), Some(&wanted), "{row:?}");
                }
            }
        }
    }
}

#[test]
fn with_ranks_of_positives_a_verdict_holds_for_all_rows_of_one() {
    let mut data = Dataset::planted(300, 16, 22);
    for row in 0..300 {
        data.positives[row] = data.positives[row % 60].clone();
    }
    let place = Place::with(&data);
    let first = place.path("first");
    let flags = "--rank-by positive --skip 3 --window 12 --cluster-size 4 --batch-size 16";
    mine(&place.input(), &first, flags).ok();
    let lines = inspect(&first, 0..data.rows());
    let of_line = |line: &Line| -> Vec<Pair> {
        // A copy of the candidate, not the row that stands for it.
        let other = |rank: usize| (line.neighbors[rank].0 + 60) % 300;
        vec![(line.row, other(0), Some(false)), (line.row, other(5), Some(true))]
    };
    let pairs: Vec<Pair> = lines.iter().filter(|line| line.row % 7 == 0).flat_map(of_line).collect();
    let judged = spread(&data, &pairs);
    let file = place.path("judged.parquet");
    write(&file, &data, &pairs);
    let run = place.path("run");
    mine(&place.input(), &run, &format!("{flags} --hard-negatives 2 --verdicts {}", file.display())).ok();
    verify(&run).ok();
    let lines = inspect(&run, 0..data.rows());
    check_lists(&judged, &lines, Cut::skip(3));
    check_parted(&judged, &table::read(&run));
}

#[test]
fn a_verdict_holds_by_key_and_by_bits_and_by_both() {
    // Rows of one key, copies of one of them without it, and rows of another key of which one is a copy, too.
    let mut data = Dataset::planted(200, 12, 28).with_key(|row| match row {
        0..5 => Some("a".to_owned()),
        8..11 => Some("b".to_owned()),
        _ => None,
    });
    for row in 5..9 {
        data.positives[row] = data.positives[4].clone();
    }
    let place = Place::with(&data);
    let (run, file) = (place.path("run"), place.path("judged.parquet"));
    for judged in [0, 4, 6, 8, 10] {
        write(&file, &data, &[(100, judged, Some(true))]);
        let flags = format!("{FLAGS} --positive-key key0 --replace --verdicts {}", file.display());
        mine(&place.input(), &run, &flags).ok();
        let verified = verify(&run).ok().stdout;
        assert!(verified.contains("verdicts hold for 11 pairs"), "{judged}: {verified}");
        for batch in table::read(&run).chunk_by(|a, b| a.batch == b.batch) {
            let holds = |wanted: &dyn Fn(usize) -> bool| batch.iter().any(|row| wanted(row.row));
            assert!(!(holds(&|row| row == 100) && holds(&|row| row < 11)), "{judged}: {batch:?}");
        }
    }
}

#[test]
fn verdicts_are_read_in_every_form_and_in_any_order() {
    let data = Dataset::planted(200, 12, 23);
    let place = Place::with(&data);
    let first = place.path("first");
    mine(&place.input(), &first, FLAGS).ok();
    let pairs = judge(&inspect(&first, 0..data.rows()));
    let column = |of: fn(&Pair) -> usize| pairs.iter().map(move |pair| of(pair) as i64);
    let (ids, others) = (|| column(|pair| pair.0), || column(|pair| pair.1));
    let int = |ids: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(ids)) };
    let labels: Vec<bool> = pairs.iter().map(|pair| pair.2.unwrap()).collect();
    let scores: Vec<f32> = labels.iter().map(|label| if *label { 0.8 } else { 0.1 }).collect();
    let truth: ArrayRef = Arc::new(BooleanArray::from(labels.clone()));
    let small: ArrayRef = Arc::new(Int32Array::from_iter_values(others().map(|id| id as i32)));
    let floats: ArrayRef = Arc::new(Float64Array::from_iter_values(ids().map(|id| id as f64)));
    let keys = Int32Array::from_iter_values(0..pairs.len() as i32);
    let coded: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(keys, int(ids().collect())).unwrap());
    let bytes: ArrayRef = Arc::new(Int8Array::from_iter_values(labels.iter().map(|label| i8::from(*label))));
    let numbers: ArrayRef = Arc::new(Float64Array::from_iter_values(labels.iter().map(|label| f64::from(*label))));
    let relevance: ArrayRef = Arc::new(Float32Array::from(scores));
    let text: ArrayRef = Arc::new(LargeStringArray::from(vec!["kept"; pairs.len()]));
    let forms: Vec<(&str, Vec<(&str, ArrayRef)>)> = vec![
        ("", vec![("id", int(ids().collect())), ("other_id", int(others().collect())), ("label", truth)]),
        ("", vec![("note", text), ("other_id", small), ("id", floats), ("label", bytes)]),
        ("", vec![("id", coded), ("other_id", int(others().collect())), ("label", numbers)]),
        (
            "--verdict-threshold 0.5..0.75",
            vec![("id", int(ids().collect())), ("other_id", int(others().collect())), ("relevance", relevance)],
        ),
    ];
    for (number, (more, columns)) in forms.into_iter().enumerate() {
        let file = place.path(&format!("{number}.parquet"));
        write_columns(&file, columns);
        let run = place.path(&format!("run{number}"));
        mine(&place.input(), &run, &format!("{FLAGS} {more} --verdicts {}", file.display())).ok();
        assert_same(&run, &place.path("run0"), &["neighbors", "edges", "clusters"]);
    }
    // In two files, in either order, with pairs that are not judged.
    let (half, open) = (pairs.len() / 2, pairs.iter().map(|(a, b, _)| (*b, *a, None)).collect::<Vec<_>>());
    write(&place.path("a.parquet"), &data, &[&pairs[half..], &open].concat());
    write(&place.path("b.parquet"), &data, &pairs[..half]);
    for names in [["a", "b"], ["b", "a"]] {
        let run = place.path(&names.concat());
        let files = names.map(|name| format!("--verdicts {}", place.path(&format!("{name}.parquet")).display()));
        mine(&place.input(), &run, &format!("{FLAGS} {}", files.join(" "))).ok();
        assert_same(&run, &place.path("run0"), &["edges", "clusters"]);
        assert_same(&run, &place.path("ab"), &["batches"]);
    }
}

#[test]
fn many_verdicts_stay_within_the_least_budget() {
    let data = Dataset::planted(9_000, 8, 26).with_text_ids();
    let place = Place::with(&data);
    let (run, file) = (place.path("run"), place.path("many.parquet"));
    // Nine right answers of ten: each row gets some sixty keys.
    let pair = |number: usize| {
        let (query, step) = (number % 9_000, number / 9_000);
        (query, (query + 1 + step * 137) % 9_000, Some(!number.is_multiple_of(10)))
    };
    let pairs: Vec<Pair> = (0..300_000).map(pair).collect();
    write(&file, &data, &pairs);
    let flags =
        format!("--skip 3 --window 20 --cluster-size 8 --batch-size 32 --threads 2 --verdicts {}", file.display());
    let least = least_mib(mine_command(&place.input(), &run, &flags));
    let command = mine_command(&place.input(), &run, &format!("{flags} --memory {least}MiB"));
    let Measured { outcome, peak, .. } = measured(command, &run);
    outcome.ok();
    eprintln!("budget: {least} MiB, peak {:.1} MiB, of {} verdicts", peak as f64 / f64::from(1 << 20), pairs.len());
    assert!(peak <= least << 20, "{peak} bytes of {least} MiB");
    verify(&run).ok();
}

#[test]
fn another_verdict_redoes_the_graph_and_no_search() {
    let data = Dataset::planted(300, 12, 24);
    let place = Place::with(&data);
    let (plain, run) = (place.path("plain"), place.path("run"));
    mine(&place.input(), &plain, FLAGS).ok();
    mine(&place.input(), &run, FLAGS).ok();
    let pairs = judge(&inspect(&plain, 0..data.rows()));
    let file = place.path("judged.parquet");
    write(&file, &data, &pairs);
    let flags = format!("{FLAGS} --verdicts {}", file.display());
    mine(&place.input(), &run, &flags).refuses(&["verdicts", "--replace"]);
    let said = mine(&place.input(), &run, &format!("{flags} --replace")).ok().stderr;
    assert!(said.contains("right answers, whose rows never meet"), "{said}");
    assert_same(&run, &plain, &["vectors", "neighbors"]);
    // The same bytes at any number of threads, under any budget.
    let small = place.path("small");
    let least = super::budgets::least_mib(mine_command(&place.input(), &small, &flags));
    mine(&place.input(), &small, &format!("{flags} --threads 1 --memory {least}MiB")).ok();
    assert_same(&run, &small, &["neighbors", "edges", "clusters", "batches"]);
    // Asked for again it is there; changed in one label it is not.
    let said = mine(&place.input(), &run, &flags).ok().stderr;
    assert!(said.contains("finished"), "{said}");
    let mut other = pairs.clone();
    other[0].2 = other[0].2.map(|label| !label);
    write(&file, &data, &other);
    mine(&place.input(), &run, &flags).refuses(&["verdicts", "--replace"]);
    mine(&place.input(), &run, &format!("{FLAGS} --replace")).ok();
    assert_same(&run, &plain, &["neighbors", "edges", "clusters", "batches"]);
}

#[test]
fn damaged_verdicts_are_found_by_whoever_reads_them() {
    let data = Dataset::planted(120, 12, 27);
    let place = Place::with(&data);
    let first = place.path("first");
    mine(&place.input(), &first, FLAGS).ok();
    let file = place.path("judged.parquet");
    write(&file, &data, &judge(&inspect(&first, 0..data.rows())));
    let flags = format!("{FLAGS} --verdicts {}", file.display());
    mine(&place.input(), &first, &format!("{flags} --replace")).ok();
    for name in ["edges/verdicts.col", "edges/verdict_keys.lst"] {
        let sound = std::fs::read(first.join(name)).unwrap();
        for at in (0..sound.len()).step_by(sound.len() / 12 + 1) {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x40;
            std::fs::write(first.join(name), bytes).unwrap();
            verify(&first).fails(3, &[name]);
            let run = first.to_str().unwrap();
            if name.ends_with(".col") {
                call(["inspect", run, "--rows", "0..5"]).fails(1, &[name]);
                call(["report", run]).fails(1, &[name]);
                call(["candidates", run, "--budget", "5", "--out", place.path("x").to_str().unwrap()])
                    .fails(1, &[name]);
            }
            let copied = place.path("copied");
            super::undisturbed::copy(&first, &copied);
            mine(&place.input(), &copied, &format!("{flags} --cluster-passes 2 --replace")).fails(1, &[name]);
            std::fs::remove_dir_all(&copied).unwrap();
        }
        std::fs::write(first.join(name), sound).unwrap();
    }
    verify(&first).ok();
    let shown = call(["inspect", first.join("edges/verdicts.col").to_str().unwrap()]).ok().stdout;
    assert!(shown.contains("right answers of"), "{shown}");
}

#[test]
fn what_was_judged_both_ways_or_of_others_is_said() {
    let data = Dataset::planted(120, 12, 25);
    let place = Place::with(&data);
    let first = place.path("first");
    mine(&place.input(), &first, FLAGS).ok();
    let other = inspect(&first, 0..1)[0].neighbors[2].0;
    let file = place.path("judged.parquet");
    let number = |pairs: &[(i64, i64)]| -> Vec<(&str, ArrayRef)> {
        let column =
            |of: fn(&(i64, i64)) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(pairs.iter().map(of))) };
        vec![("id", column(|pair| pair.0)), ("other_id", column(|pair| pair.1))]
    };
    let pairs = [(0, other as i64), (0, other as i64), (5, 5), (7, 7), (3, 5000)];
    let labels: ArrayRef = Arc::new(BooleanArray::from(vec![false, true, true, false, true]));
    write_columns(&file, [number(&pairs), vec![("label", labels)]].concat());
    let run = place.path("run");
    let said = mine(&place.input(), &run, &format!("{FLAGS} --verdicts {}", file.display())).ok().stderr;
    for wanted in [
        "1 right answers, whose rows never meet, 0 pairs that are no suspects",
        "1 judged pairs are of rows that are not mined, such as id 5000",
        "1 pairs are judged both ways",
        "the own positives of 1 rows are judged wrong",
        "the own positives of 1 rows are judged right",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let lines = inspect(&run, 0..1);
    assert!(!lines[0].cleared.contains(&2) && lines[0].window.start == 5);
}

#[test]
fn files_that_are_no_verdicts_are_refused_before_the_search() {
    let data = Dataset::planted(120, 12, 26);
    let place = Place::with(&data);
    let file = place.path("judged.parquet");
    let ids = |ids: &[i64]| -> ArrayRef { Arc::new(Int64Array::from(ids.to_vec())) };
    let label = || -> ArrayRef { Arc::new(BooleanArray::from(vec![true, false])) };
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let refused = |columns: Vec<(&str, ArrayRef)>, more: &str, words: &[&str]| {
        write_columns(&file, columns);
        let run = place.path("run");
        let outcome = mine(&place.input(), &run, &format!("{FLAGS} {more} --verdicts {}", file.display()));
        assert!(!outcome.refuses(words).stderr.contains("recall@"), "refused after the search");
        let _ = std::fs::remove_dir_all(&run);
    };
    let both = || vec![("id", ids(&[0, 1])), ("other_id", ids(&[2, 3]))];
    let with = |name: &'static str, array: ArrayRef| [both(), vec![(name, array)]].concat();
    let name = "judged.parquet";
    refused(both(), "", &[name, "label or relevance", "candidates"]);
    refused(vec![("id", ids(&[0, 1])), ("label", label())], "", &[name, "no column other_id"]);
    let two: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 0.6]));
    refused([with("label", label()), vec![("relevance", two)]].concat(), "", &[name, "two columns of verdicts"]);
    refused(with("label", texts.clone()), "", &[name, "truth values", "Utf8"]);
    let foreign = vec![("id", texts.clone()), ("other_id", texts), ("label", label())];
    refused(foreign, "", &[name, "column id of integers", "Utf8"]);
    refused(with("label", label()), "--rows-per-key 2", &["--rows-per-key", "--verdicts"]);
    let outcome = mine(&place.input(), &place.path("run"), &format!("{FLAGS} --verdict-threshold 2"));
    assert!(outcome.stderr.contains("0.3..0.7"), "{}", outcome.stderr);
    let wrong: ArrayRef = Arc::new(Int8Array::from(vec![1, 3]));
    refused(with("label", wrong), "", &[name, "row 1", "label 3"]);
    let wrong: ArrayRef = Arc::new(Float64Array::from(vec![0.5, f64::NAN]));
    refused(with("relevance", wrong), "", &[name, "row 1", "relevance NaN"]);
    let holes: ArrayRef = Arc::new(Int64Array::from(vec![Some(4), None]));
    refused(vec![("id", holes), ("other_id", ids(&[2, 3])), ("label", label())], "", &[name, "row 1", "null"]);
    let strangers = vec![("id", ids(&[500, 600])), ("other_id", ids(&[2, 3])), ("label", label())];
    refused(strangers, "", &["no judged pair is of rows of this input", "500"]);
    std::fs::write(&file, b"PAR1 and no more").unwrap();
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --verdicts {}", file.display())).refuses(&[name]);
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --verdicts {}", place.path("none").display()))
        .refuses(&["none"]);
    let idle = mine(&place.input(), &place.path("idle"), &format!("{FLAGS} --verdict-threshold 0.4")).ok().stderr;
    assert!(idle.contains("--verdict-threshold has no effect here"), "{idle}");
}
