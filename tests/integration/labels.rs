//! Ids, tasks and keys by value, whatever types the shards give them: what shares a key by value shares no batch, what
//! is missing is counted.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeListArray, Float64Array,
    Int32Array, Int64Array, LargeListArray, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampSecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use batchmine::run::{Manifest, Stage};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::command::{MADE, Outcome, Place, assert_same, call, files, inspect, mine, verify};
use super::dataset::Dataset;
use super::table;

/// Rows of a shard.
pub const HALF: usize = 24;
pub const ROWS: usize = 2 * HALF;
/// A window of all rows: a row's list has each row that is no negative of it by its keys alone.
pub const FLAGS: &str = "--skip 1 --window 46 --cluster-size 2 --batch-size 8";

/// Adds a column to a Parquet file.
pub fn add_column(path: &Path, name: &str, column: ArrayRef) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let batch = reader.with_batch_size(1 << 20).build().unwrap().next().unwrap().unwrap();
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
    let columns = [batch.columns(), &[column]].concat();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

pub fn shard(place: &Place, file: usize) -> PathBuf {
    place.input().join(format!("part-{file}.parquet"))
}

/// Two shards whose column `name` has these values.
pub fn with_columns(name: &str, halves: [ArrayRef; 2]) -> Place {
    let place = Place::with(&Dataset { files: 2, ..Dataset::planted(ROWS, 12, 61) });
    for (file, column) in halves.into_iter().enumerate() {
        add_column(&shard(&place, file), name, column);
    }
    place
}

type KeySets = Vec<BTreeSet<String>>;

/// Mines, and checks against the keys of each row, by value: lists have all rows but those that share a key, and no
/// batch and no cluster has two such rows.
#[track_caller]
fn check_keys(place: &Place, flags: &str, keys: &KeySets) -> Outcome {
    let run = place.path("run");
    let outcome = mine(&place.input(), &run, &format!("{FLAGS} {flags}")).ok();
    verify(&run).ok();
    let share = |a: usize, b: usize| !keys[a].is_disjoint(&keys[b]);
    let lines = inspect(&run, 0..keys.len());
    for line in &lines {
        let expected: BTreeSet<usize> =
            (0..keys.len()).filter(|row| *row != line.row && !share(*row, line.row)).collect();
        let found: BTreeSet<usize> = line.neighbors.iter().map(|neighbor| neighbor.0).collect();
        assert_eq!(found, expected, "{flags}: the list of row {} with {:?}", line.row, keys[line.row]);
    }
    let batches: Vec<(i64, usize)> = table::read(&run).iter().map(|row| (row.batch, row.row)).collect();
    let clusters = lines.iter().filter_map(|line| Some((line.cluster?, line.row)));
    let in_batches: BTreeSet<usize> = batches.iter().map(|(_, row)| *row).collect();
    assert_eq!(in_batches.len(), batches.len(), "each row once");
    // Rows that would be alone in a batch are in none.
    let alone: Vec<usize> = (0..keys.len()).filter(|row| !in_batches.contains(row)).collect();
    for (at, a) in alone.iter().enumerate() {
        alone[at + 1..].iter().for_each(|b| assert!(share(*a, *b), "rows {a} and {b} could share a batch"));
    }
    for groups in [batches, clusters.collect()] {
        for (index, (group, a)) in groups.iter().enumerate() {
            let same = groups[index + 1..].iter().filter(|(other, _)| other == group);
            same.for_each(|(_, b)| assert!(!share(*a, *b), "{flags}: rows {a} and {b} share a key and {group}"));
        }
    }
    outcome
}

/// Keys of eight values, and none in some rows of the second shard.
fn eight(row: usize) -> Option<i64> {
    (row % 11 != 3 || row < HALF).then_some(row as i64 % 8)
}

/// Both shards of a column of [`eight`] values, each made in its own way.
pub fn halves(
    first: impl Fn(Vec<Option<i64>>) -> ArrayRef,
    second: impl Fn(Vec<Option<i64>>) -> ArrayRef,
) -> [ArrayRef; 2] {
    [first((0..HALF).map(eight).collect()), second((HALF..ROWS).map(eight).collect())]
}

fn eight_keys() -> KeySets {
    (0..ROWS).map(|row| eight(row).map(|key| key.to_string()).into_iter().collect()).collect()
}

pub fn ints(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

pub fn floats(values: Vec<Option<i64>>) -> ArrayRef {
    // A hole as pandas has it.
    Arc::new(
        values.into_iter().map(|value| Some(value.map_or(f64::NAN, |value| value as f64))).collect::<Float64Array>(),
    )
}

pub fn texts(values: Vec<Option<i64>>) -> ArrayRef {
    cast(&ints(values), &DataType::Utf8).unwrap()
}

pub fn decimals(scale: i8) -> impl Fn(Vec<Option<i64>>) -> ArrayRef {
    move |values| {
        let unscaled = values.into_iter().map(|value| value.map(|value| i128::from(value) * 10i128.pow(scale as u32)));
        Arc::new(unscaled.collect::<Decimal128Array>().with_precision_and_scale(20, scale).unwrap())
    }
}

const DAY: i64 = 86_400;

pub fn days(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| value.map(|value| value as i32 - 3)).collect::<Date32Array>())
}

pub fn seconds(values: Vec<Option<i64>>) -> TimestampSecondArray {
    values.into_iter().map(|value| value.map(|value| (value - 3) * DAY)).collect()
}

fn microseconds(values: Vec<Option<i64>>) -> TimestampMicrosecondArray {
    values.into_iter().map(|value| value.map(|value| (value - 3) * DAY * 1_000_000)).collect()
}

#[test]
fn keys_of_two_types_are_compared_by_value() {
    let to = |data_type: DataType| move |values| cast(&ints(values), &data_type).unwrap();
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let as_dictionary = move |values| cast(&texts(values), &dictionary).unwrap();
    let cases: Vec<(&str, [ArrayRef; 2])> = vec![
        ("int64 and float64 with holes", halves(ints, floats)),
        ("float64 and uint8", halves(floats, to(DataType::UInt8))),
        ("float32 and float64", halves(to(DataType::Float32), floats)),
        ("float16 and int32", halves(to(DataType::Float16), to(DataType::Int32))),
        ("decimals of two scales", halves(decimals(2), decimals(3))),
        ("decimal and int64", halves(decimals(2), ints)),
        ("decimal and float64", halves(decimals(0), floats)),
        ("int64 and text", halves(ints, texts)),
        ("dictionary and int32", halves(as_dictionary.clone(), to(DataType::Int32))),
        (
            "large text and dictionary",
            halves(|values| cast(&texts(values), &DataType::LargeUtf8).unwrap(), as_dictionary),
        ),
        ("date and timestamp", halves(days, |values| Arc::new(seconds(values)))),
        ("dates", halves(days, |values| cast(&days(values), &DataType::Date64).unwrap())),
        ("units", halves(|values| Arc::new(seconds(values)), |values| Arc::new(microseconds(values)))),
        (
            "zones",
            halves(
                |values| Arc::new(seconds(values).with_timezone("UTC")),
                |values| Arc::new(microseconds(values).with_timezone("+02:00")),
            ),
        ),
    ];
    for (name, columns) in cases {
        let place = with_columns("doc", columns);
        let said = check_keys(&place, "--key-column doc", &eight_keys()).stderr;
        let without = eight_keys().iter().filter(|keys| keys.is_empty()).count();
        assert!(said.contains(&format!("column `doc`: {without} of 48 rows have no key")), "{name}: {said}");
    }
}

#[test]
fn booleans_are_one_and_zero_among_numbers() {
    let first: BooleanArray = (0..HALF).map(|row| (row % 12 < 2).then_some(row % 12 == 1)).collect();
    let second: Int64Array = (HALF..ROWS).map(|row| Some(row as i64 % 12)).collect();
    let key = |row: usize| (row >= HALF || row % 12 < 2).then(|| (row % 12).to_string());
    let place = with_columns("doc", [Arc::new(first), Arc::new(second)]);
    check_keys(&place, "--key-column doc", &(0..ROWS).map(|row| key(row).into_iter().collect()).collect());
}

#[test]
fn a_shard_without_a_value_has_the_type_of_the_others() {
    let nothing = arrow::array::new_null_array(&DataType::Null, HALF);
    let key = |row: usize| (row >= HALF).then(|| (row as f64 / 4.0).floor() + 0.25);
    let some: Float64Array = (HALF..ROWS).map(key).collect();
    let place = with_columns("doc", [nothing, Arc::new(some)]);
    let keys = (0..ROWS).map(|row| key(row).map(|key| key.to_string()).into_iter().collect()).collect();
    check_keys(&place, "--key-column doc", &keys);
}

#[test]
fn text_beside_integers_is_as_it_is_written() {
    let first = ints((0..HALF).map(|row| Some(row as i64 % 8)).collect());
    let padded = |row: usize| format!("{:02}", row % 8);
    let second: StringArray = (HALF..ROWS).map(|row| Some(padded(row))).collect();
    let key = |row: usize| if row < HALF { (row % 8).to_string() } else { padded(row) };
    let place = with_columns("doc", [first, Arc::new(second)]);
    check_keys(&place, "--key-column doc", &(0..ROWS).map(|row| BTreeSet::from([key(row)])).collect());
}

#[test]
fn bytes_are_keys_whether_they_are_text_or_not() {
    let bytes = |row: usize| [0xff, (row % 8) as u8];
    let first = BinaryArray::from_iter_values((0..HALF).map(bytes));
    let second = arrow::array::FixedSizeBinaryArray::try_from_iter((HALF..ROWS).map(bytes)).unwrap();
    let place = with_columns("doc", [Arc::new(first), Arc::new(second)]);
    let keys = (0..ROWS).map(|row| BTreeSet::from([format!("{:?}", bytes(row))])).collect();
    let said = check_keys(&place, "--key-column doc", &keys).stderr;
    assert!(!said.contains("have no key"), "{said}");
    mine(&place.input(), &place.path("tasks"), &format!("{FLAGS} --task-column doc"))
        .refuses(&["UTF-8", "ff00", "doc"]);
}

/// Floats of which 150 of 240 are no number, of three shards.
#[test]
fn a_nan_is_no_key_and_zero_has_no_sign() {
    let value = |row: usize| match row % 8 {
        0..5 => f64::NAN,
        5 => [0.0, -0.0][row / 8 % 2],
        _ => row as f64 / 2.0,
    };
    let data = Dataset { files: 3, ..Dataset::planted(240, 12, 62) };
    let place = Place::with(&data);
    for file in 0..3 {
        let column: Float64Array = (file * 80..file * 80 + 80).map(|row| Some(value(row))).collect();
        add_column(&shard(&place, file), "doc", Arc::new(column));
    }
    let key = |row: usize| Some(value(row)).filter(|value| !value.is_nan()).map(|value| (value + 0.0).to_string());
    let run = place.path("run");
    let flags = "--skip 1 --window 238 --cluster-size 2 --batch-size 6 --key-column doc";
    let said = mine(&place.input(), &run, flags).ok().stderr;
    assert!(said.contains("column `doc`: 150 of 240 rows have no key: 150 NaN"), "{said}");
    for line in inspect(&run, 0..240) {
        let own = key(line.row);
        let others = (0..240).filter(|row| *row != line.row && (own.is_none() || key(*row) != own)).count();
        assert_eq!(line.neighbors.len(), others, "row {}", line.row);
    }
    let batches = table::read(&run).iter().map(|row| row.batch).max().unwrap() + 1;
    assert!(batches < 60, "{batches} batches: 30 rows of one key, and all others fit among them");
    verify(&run).ok();
    let keys = &facts(&run)["keys"];
    let expected =
        json!([{"column": "doc", "rows_without": 150, "null": 0, "nan": 150, "empty": 0, "empty_lists": null}]);
    assert_eq!(*keys, expected);
}

fn facts(run: &Path) -> Value {
    Manifest::read(&run.join("manifest.json")).unwrap().unwrap().stages[&Stage::Vectors].facts.clone()
}

#[test]
fn empty_text_is_a_key_only_if_it_is_said() {
    let text = |row: usize| match row % 4 {
        0 | 3 => String::new(),
        1 => format!("a{row}"),
        _ => "b".to_owned(),
    };
    let column = |rows: std::ops::Range<usize>| -> ArrayRef {
        Arc::new(rows.map(|row| Some(text(row))).collect::<StringArray>())
    };
    let place = with_columns("doc", [column(0..HALF), column(HALF..ROWS)]);
    let sets = |empty: bool| -> KeySets {
        (0..ROWS).map(|row| Some(text(row)).filter(|key| empty || !key.is_empty()).into_iter().collect()).collect()
    };
    let count = sets(false).iter().filter(|keys| keys.is_empty()).count();
    assert_eq!(count, 24, "of the test itself");
    let said = check_keys(&place, "--key-column doc", &sets(false)).stderr;
    assert!(said.contains("column `doc`: 24 of 48 rows have no key: 24 empty (--empty-keys value"), "{said}");
    let run = place.path("run");
    let settings =
        || Manifest::read(&run.join("manifest.json")).unwrap().unwrap().stages[&Stage::Vectors].settings.clone();
    assert_eq!(settings().get("empty_keys"), None, "the default is not recorded: fingerprints stay");
    let flags = format!("{FLAGS} --key-column doc --empty-keys");
    mine(&place.input(), &run, &format!("{flags} missing")).ok();
    mine(&place.input(), &run, &format!("{flags} value")).refuses(&["empty_keys", "value", "--replace"]);
    let said = check_keys(&place, "--key-column doc --empty-keys value --replace", &sets(true)).stderr;
    assert!(!said.contains("have no key"), "{said}");
}

/// Lists of some elements a row, which the oracle has as text.
fn lists(row: usize) -> Option<Vec<Option<i64>>> {
    match row % 12 {
        0 => None,
        1 => Some(vec![]),
        2 => Some(vec![None]),
        3 => Some(vec![Some(row as i64 + 1000); 2]),
        _ => Some(vec![Some(row as i64 % 7), None, Some(100 + row as i64 % 9), Some(row as i64 % 7)]),
    }
}

fn list_keys(lists: impl Fn(usize) -> Option<Vec<Option<i64>>>) -> KeySets {
    let texts = |row| lists(row).into_iter().flatten().flatten().map(|element| element.to_string()).collect();
    (0..ROWS).map(texts).collect()
}

#[test]
fn rows_whose_lists_have_any_element_in_common_exclude_each_other() {
    let first = ListArray::from_iter_primitive::<Int64Type, _, _>((0..HALF).map(lists));
    let as_floats =
        |row| lists(row).map(|list| list.into_iter().map(|value| Some(value.map_or(f64::NAN, |v| v as f64))));
    let second = LargeListArray::from_iter_primitive::<Float64Type, _, _>((HALF..ROWS).map(as_floats));
    let place = with_columns("docs", [Arc::new(first), Arc::new(second)]);
    let said = check_keys(&place, "--key-column docs", &list_keys(lists)).stderr;
    let words =
        "column `docs`: 12 of 48 rows have no key: rows and elements that are none: 22 null, 18 NaN, 4 empty lists";
    assert!(said.contains(words), "{said}");
    let run = place.path("run");
    let inspected = call([Path::new("inspect"), &run.join("vectors/keys-000.lst")]).ok().stdout;
    assert!(inspected.contains("key list file") && inspected.contains("rows: 48"), "{inspected}");
    call([Path::new("report"), &run]).ok();
    // The order in which threads come changes nothing.
    let other = place.path("one thread");
    mine(&place.input(), &other, &format!("{FLAGS} --key-column docs --threads 1")).ok();
    assert_same(&other, &run, &[&["vectors"], &MADE[..]].concat());
    assert!(files(&run, &["vectors"]).iter().all(|(name, _)| name != "vectors/keys-001.lst"));
}

#[test]
fn a_value_is_a_list_of_one_and_columns_of_lists_stand_beside_others() {
    let pair = |row: usize| vec![Some(row as i64 % 10), Some(50 + row as i64 % 13)];
    let flat: Int64Array = (0..HALF).flat_map(pair).collect();
    let field = Arc::new(Field::new("item", DataType::Int64, true));
    let first = FixedSizeListArray::new(field, 2, Arc::new(flat), None);
    let place = with_columns("docs", [Arc::new(first), texts((HALF..ROWS).map(|row| Some(row as i64 % 10)).collect())]);
    for (file, rows) in [0..HALF, HALF..ROWS].into_iter().enumerate() {
        let words = rows.clone().map(|row| Some(vec![Some(row as i64 / 3)]));
        add_column(&shard(&place, file), "more", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(words)));
        add_column(
            &shard(&place, file),
            "one",
            ints(rows.map(|row| (row % 6 == 0).then_some(row as i64 / 12)).collect()),
        );
    }
    let docs = list_keys(|row| Some(if row < HALF { pair(row) } else { vec![Some(row as i64 % 10)] }));
    let all = docs.into_iter().enumerate().map(|(row, docs)| {
        let one = (row % 6 == 0).then(|| format!("one {}", row / 12));
        docs.into_iter().chain([format!("more {}", row / 3)]).chain(one).collect()
    });
    check_keys(&place, "--key-column docs --key-column one --key-column more", &all.collect());
    let names: Vec<String> = files(&place.path("run"), &["vectors"]).into_iter().map(|(name, _)| name).collect();
    let lists: Vec<&String> = names.iter().filter(|name| name.ends_with(".lst")).collect();
    assert_eq!(lists, ["vectors/keys-000.lst", "vectors/keys-001.lst"]);
}

#[test]
fn the_plan_counts_the_elements_of_lists() {
    let wide = |row: usize| Some((0..40).map(|element| Some(row as i64 * 100 + element)).collect::<Vec<_>>());
    let column = |rows: std::ops::Range<usize>| -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows.map(wide)))
    };
    let place = with_columns("docs", [column(0..HALF), column(HALF..ROWS)]);
    let input = place.input();
    let plan = |flags: &str| -> Value {
        let words = ["plan", input.to_str().unwrap(), "--json", "--skip", "1", "--window", "40"];
        serde_json::from_str(&call(words.into_iter().chain(flags.split_whitespace())).ok().stdout).unwrap()
    };
    let bytes = |plan: &Value, what: &str| plan[what]["vectors"].as_u64().unwrap();
    let (with, without) = (plan("--key-column docs"), plan(""));
    // 28 bytes a row with a key column, 20 without one.
    let elements = 40 * ROWS as u64;
    assert_eq!(bytes(&with, "memory_bytes") - bytes(&without, "memory_bytes"), 24 * elements + 8 * ROWS as u64);
    assert_eq!(bytes(&with, "disk_bytes") - bytes(&without, "disk_bytes"), 4 * elements + 8 * ROWS as u64);
}

#[test]
fn ids_of_all_shards_decide_what_ids_are() {
    let run_ids = |halves: [ArrayRef; 2]| {
        let place = with_columns("id", halves);
        let run = place.path("run");
        mine(&place.input(), &run, FLAGS).ok();
        let ids: Vec<String> = inspect(&run, 0..ROWS).into_iter().map(|line| line.id).collect();
        assert!(table::read(&run).iter().all(|row| row.id == ids[row.row]), "the table has the same ids");
        (facts(&run)["ids"].clone(), ids)
    };
    let numbers = |from: usize| ints((from..from + HALF).map(|row| Some(75 + row as i64)).collect());
    let expected: Vec<String> = (0..ROWS).map(|row| (75 + row).to_string()).collect();
    let whole: Float64Array = (HALF..ROWS).map(|row| Some(75.0 + row as f64)).collect();
    assert_eq!(run_ids([numbers(0), Arc::new(whole)]), (json!("int64"), expected.clone()));
    let small: Int32Array = (0..HALF).map(|row| Some(75 + row as i32)).collect();
    let unsigned: UInt64Array = (HALF..ROWS).map(|row| Some(75 + row as u64)).collect();
    assert_eq!(run_ids([Arc::new(small), Arc::new(unsigned)]), (json!("int64"), expected.clone()));
    let padded: StringArray = (0..HALF).map(|row| Some(format!("{:05}", 75 + row))).collect();
    let (kind, ids) = run_ids([numbers(0), Arc::new(padded)]);
    assert_eq!((kind, &ids[..HALF]), (json!("string"), &expected[..HALF]));
    assert_eq!((&*ids[0], &*ids[HALF]), ("75", "00075"), "two ids");
}

#[test]
fn tasks_of_one_type_keep_their_names() {
    let tasks = |columns: [ArrayRef; 2]| {
        let place = with_columns("task", columns);
        let run = place.path("run");
        mine(&place.input(), &run, "--skip 1 --window 4 --cluster-size 2 --batch-size 4 --task-column task").ok();
        let names = inspect(&run, 0..ROWS).into_iter().map(|line| line.task.unwrap());
        names.collect::<BTreeSet<String>>().into_iter().collect::<Vec<String>>()
    };
    let two = |from: usize| (from..from + HALF).map(|row| Some(row as i64 % 2)).collect::<Vec<_>>();
    let both = |make: &dyn Fn(Vec<Option<i64>>) -> ArrayRef| [make(two(0)), make(two(HALF))];
    assert_eq!(tasks(both(&floats)), ["0.0", "1.0"]);
    assert_eq!(tasks(both(&decimals(2))), ["0.00", "1.00"]);
    assert_eq!(tasks(both(&days)), ["1969-12-29", "1969-12-30"]);
    assert_eq!(tasks(both(&|values| Arc::new(seconds(values)))), ["1969-12-29T00:00:00", "1969-12-30T00:00:00"]);
    assert_eq!(tasks(both(&|values| cast(&ints(values), &DataType::Boolean).unwrap())), ["false", "true"]);
    assert_eq!(tasks(both(&|values| cast(&texts(values), &DataType::Binary).unwrap())), ["0", "1"]);
    // Of two types a task has the name of its value.
    assert_eq!(tasks([floats(two(0)), ints(two(HALF))]), ["0", "1"]);
    assert_eq!(tasks([days(two(0)), Arc::new(seconds(two(HALF)))]), ["1969-12-29T00:00:00", "1969-12-30T00:00:00"]);
}
