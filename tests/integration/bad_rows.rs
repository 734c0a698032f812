//! Rows whose embeddings cannot be used: all of them are named, or left out of everything.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::command::{Place, call, mine, verify};
use super::dataset::{Dataset, Fault, Float, Ids, Layout, npy};
use super::table::{self, Row};

const ROWS: usize = 300;
const DIM: usize = 12;
const FLAGS: &str = "--skip 2 --window 10 --cluster-size 4 --batch-size 16 --task-column task --key-column key0";
const BAD: [usize; 5] = [0, 7, 19, 25, 299];

/// Rows of two tasks, some of which cannot be used; their labels are as bad.
fn data() -> Dataset {
    let mut data = Dataset::planted(ROWS, DIM, 3)
        .with_tasks(|row| format!("task {}", row % 3 % 2))
        .with_key(|row| Some(format!("key {}", row / 2)))
        .with_text_ids();
    data.queries[0] = vec![0.0; DIM];
    data.queries[7][3] = f64::NAN;
    data.positives[19][11] = f64::INFINITY;
    data.positives[299] = vec![-0.0; DIM];
    data.queries[299][0] = f64::NAN;
    data.tasks[7] = None;
    data.keys[0][0] = None;
    if let Ids::Text(ids) = &mut data.ids {
        ids[0] = None;
        ids[19] = ids[20].clone();
    }
    Dataset { layout: Layout::List, fault: Some((Fault::NullEmbedding, 25)), files: 2, row_group_rows: 64, ..data }
}

fn good() -> Vec<usize> {
    (0..ROWS).filter(|row| !BAD.contains(row)).collect()
}

/// What a batch table says, without the numbers of rows.
fn content(run: &Path) -> Vec<Row> {
    let unnumbered = |list: Vec<(usize, String, f32)>| list.into_iter().map(|(_, id, score)| (0, id, score)).collect();
    let of = |row: Row| Row { row: 0, negatives: row.negatives.map(unnumbered), ..row };
    table::read(run).into_iter().map(of).collect()
}

/// The list of bad rows: (row, column, kind, found).
fn listed(run: &Path) -> Vec<(i64, String, String, String)> {
    let file = File::open(run.join("bad_rows.parquet")).unwrap();
    let mut all = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let text = |name: &str, row| batch.column_by_name(name).unwrap().as_string::<i32>().value(row).to_owned();
        let number = |name: &str, row| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(row);
        for row in 0..batch.num_rows() {
            let input = number("row", row);
            let in_file = if input < 150 { input } else { input - 150 };
            assert_eq!(number("row_in_file", row), in_file);
            assert!(text("file", row).ends_with(if input < 150 { "part-0.parquet" } else { "part-1.parquet" }));
            all.push((input, text("column", row), text("fault", row), text("found", row)));
        }
    }
    all
}

#[test]
fn dropped_rows_are_as_if_they_had_never_been() {
    let (place, other) = (Place::with(&data()), Place::empty());
    let clean = Dataset { fault: None, files: 1, ..data().subset(&good()) };
    clean.write(&other.input());
    let flags = format!("{FLAGS} --hard-negatives 2");
    let said = mine(&place.input(), &place.path("run"), &format!("{flags} --bad-rows drop")).ok().said();
    assert!(said.contains("5 of 300 rows are left out") && said.contains("bad_rows.parquet"), "{said}");
    mine(&other.input(), &other.path("run"), &flags).ok();
    assert_eq!(content(&place.path("run")), content(&other.path("run")));
    // Row numbers are those of the input.
    let good = good();
    let rows: Vec<usize> = table::read(&other.path("run")).iter().map(|row| good[row.row]).collect();
    assert_eq!(table::read(&place.path("run")).iter().map(|row| row.row).collect::<Vec<_>>(), rows);
    verify(&place.path("run")).ok();
    let report = call(["report".as_ref(), place.path("run").as_os_str()]).ok();
    drop(report);
    let (_, footer) = table::load(&table::parts(&place.path("run"))[0]);
    let pairs: BTreeMap<_, _> = footer
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()))
        .collect();
    assert_eq!(pairs["batchmine.bad_rows_dropped"], "5");
    let positive = |kind: &str, found: &str| ("positive_embedding".to_owned(), kind.to_owned(), found.to_owned());
    let query = |kind: &str, found: &str| ("query_embedding".to_owned(), kind.to_owned(), found.to_owned());
    let expected = [
        (0, query("zero", "all values zero")),
        (7, query("not finite", "NaN at dimension 3")),
        (19, positive("not finite", "inf at dimension 11")),
        (25, positive("null", "a null")),
        (299, query("not finite", "NaN at dimension 0")),
        (299, positive("zero", "all values zero")),
    ];
    let expected = expected.map(|(row, (column, kind, found))| (row, column, kind, found));
    assert_eq!(listed(&place.path("run")), expected);
}

#[test]
fn all_bad_rows_are_counted_and_the_first_named() {
    let mut data = Dataset { files: 2, ..Dataset::planted(ROWS, DIM, 3) };
    (100..130).for_each(|row| data.queries[row][1] = f64::NAN);
    data.positives[200] = vec![0.0; DIM];
    let place = Place::with(&data);
    let run = place.path("run");
    let flags = "--skip 2 --window 10 --cluster-size 4 --batch-size 16";
    let said = mine(&place.input(), &run, flags)
        .refuses(&["31 rows", "30 not finite in query_embedding", "1 zero in positive_embedding", "and 11 more"])
        .said();
    assert!(
        said.contains("part-0.parquet, row group 0, row 100, column query_embedding: NaN at dimension 1"),
        "{said}"
    );
    assert!(said.contains("--bad-rows drop") && said.contains("bad_rows.parquet"), "{said}");
    assert_eq!(listed(&run).iter().map(|line| line.0).collect::<Vec<_>>(), [(100..130).collect(), vec![200]].concat());
    // The list goes once the rows are mended.
    let mut data = data.clone();
    (100..130).for_each(|row| data.queries[row][1] = 0.5);
    data.positives[200] = vec![1.0; DIM];
    data.write(&place.input());
    mine(&place.input(), &run, flags).ok();
    assert!(!run.join("bad_rows.parquet").exists());
}

#[test]
fn a_dry_run_reads_every_row() {
    let place = Place::with(&data());
    let run = place.path("run");
    let dry = |flags: &str| mine(&place.input(), &run, &format!("{FLAGS} {flags} --dry-run"));
    dry("").refuses(&["5 rows", "1 null in positive_embedding", "row 7", "--bad-rows drop"]);
    let said = dry("--bad-rows drop").ok().said();
    assert!(said.contains("295 rows can be used") && said.contains("5 rows are left out"), "{said}");
    assert!(said.contains("norms of query_embedding 0.") || said.contains("norms of query_embedding 1."), "{said}");
    let mut twice = Dataset::planted(ROWS, DIM, 3).with_text_ids();
    if let Ids::Text(ids) = &mut twice.ids {
        ids[200] = ids[100].clone();
    }
    let place = Place::with(&twice);
    let flags = "--skip 2 --window 10 --cluster-size 4 --batch-size 16 --dry-run";
    mine(&place.input(), &run, flags).refuses(&["two rows have the same id", "row 200", "--id-column none"]);
    let said = mine(&place.input(), &run, &format!("{flags} --id-column none")).ok().said();
    assert!(said.contains("300 rows can be used"), "{said}");
    assert!(!run.exists());
}

#[test]
fn no_row_is_left() {
    let mut data = Dataset::planted(ROWS, DIM, 3);
    data.queries.iter_mut().for_each(|query| query[0] = f64::NAN);
    let place = Place::with(&data);
    let flags = "--skip 2 --window 10 --cluster-size 4 --batch-size 16 --bad-rows drop";
    mine(&place.input(), &place.path("run"), flags).refuses(&["300 rows"]);
    mine(&place.input(), &place.path("run"), &format!("{flags} --dry-run")).refuses(&["300 rows"]);
}

#[test]
fn the_usual_length_counts_though_the_first_row_has_another() {
    for fault in [Fault::TooLong, Fault::NullEmbedding] {
        let data = Dataset { layout: Layout::List, fault: Some((fault, 0)), ..Dataset::planted(ROWS, DIM, 3) };
        let place = Place::with(&data);
        let flags = "--skip 2 --window 10 --cluster-size 4 --batch-size 16";
        mine(&place.input(), &place.path("run"), flags).refuses(&["row 0", "positive_embedding"]);
        let said = mine(&place.input(), &place.path("run"), &format!("{flags} --bad-rows drop")).ok().said();
        assert!(said.contains("1 of 300 rows"), "{said}");
    }
}

#[test]
fn values_out_of_the_range_of_singles_are_called_so() {
    let mut data = Dataset { float: Float::F64, ..Dataset::planted(ROWS, DIM, 3) };
    data.queries[3] = (1..=DIM).map(|value| value as f64 * 1e-50).collect();
    let place = Place::with(&data);
    let flags = "--skip 2 --window 10 --cluster-size 4 --batch-size 16";
    let words = ["row 3", "query_embedding", "below the range of f32", "1.2e-49", "scale the column up"];
    mine(&place.input(), &place.path("run"), flags).refuses(&words);
    data.queries[3] = vec![1e200; DIM];
    data.write(&place.input());
    let words = ["row 3", "query_embedding", "beyond the range of f32", "1e200", "scale the column down"];
    mine(&place.input(), &place.path("other"), flags).refuses(&words);
}

#[test]
fn arrays_have_bad_rows_too() {
    let mut data = Dataset::planted(ROWS, DIM, 3);
    data.positives[40][2] = f64::NAN;
    data.queries[41] = vec![0.0; DIM];
    let place = Place::empty();
    std::fs::create_dir(place.input()).unwrap();
    for (name, side) in [("queries.npy", &data.queries), ("positives.npy", &data.positives)] {
        let bytes = npy(Float::F32, &[ROWS, DIM], false, side.iter().flatten().copied());
        std::fs::write(place.input().join(name), bytes).unwrap();
    }
    let flags = "--skip 2 --window 10 --cluster-size 4 --batch-size 16";
    mine(&place.input(), &place.path("run"), flags).refuses(&["2 rows", "row 40", "row 41", "NaN at dimension 2"]);
    mine(&place.input(), &place.path("run"), &format!("{flags} --bad-rows drop")).ok();
    let rows: Vec<usize> = table::read(&place.path("run")).iter().map(|row| row.row).collect();
    assert!(rows.len() >= 290 && !rows.contains(&40) && !rows.contains(&41) && rows.contains(&299));
    verify(&place.path("run")).ok();
}
