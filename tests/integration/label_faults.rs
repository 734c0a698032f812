//! Labels that cannot be compared by value, and columns that have none, are refused: by their types before any work.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, ListArray, StructArray,
    TimestampMillisecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type};

use super::command::{Place, call, mine};
use super::dataset::Dataset;
use super::labels::{
    FLAGS, HALF, ROWS, add_column, days, decimals, floats, halves, ints, seconds, shard, texts, with_columns,
};

/// Refused by `plan` and by `mine --dry-run` as well, and before a run folder is made.
#[track_caller]
fn refused_before_work(place: &Place, flags: &str, words: &[&str]) {
    let (input, run) = (place.input(), place.path("refused"));
    let of_plan = ["plan", input.to_str().unwrap()];
    call(of_plan.into_iter().chain(FLAGS.split(' ')).chain(flags.split(' '))).refuses(words);
    mine(&input, &run, &format!("{FLAGS} {flags} --dry-run")).refuses(words);
    mine(&input, &run, &format!("{FLAGS} {flags}")).refuses(words);
    assert!(!run.exists(), "{flags}: refused before the run folder is made");
}

#[test]
fn types_that_do_not_compare_are_refused_with_both_files() {
    let both = ["part-0.parquet", "part-1.parquet", "column doc", "cast"];
    let zoned = |values| -> ArrayRef { Arc::new(seconds(values).with_timezone("UTC")) };
    let truths = |values: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(values.into_iter().map(|value| value.map(|value| value > 3)).collect::<BooleanArray>())
    };
    let cases: [([ArrayRef; 2], [&str; 2]); 6] = [
        (halves(floats, texts), ["Float64", "Utf8"]),
        (halves(texts, decimals(2)), ["Utf8", "Decimal128"]),
        (halves(|values| Arc::new(seconds(values)), zoned), ["Timestamp(s)", "UTC"]),
        (halves(days, ints), ["Date32", "Int64"]),
        (halves(truths, texts), ["Boolean", "Utf8"]),
        (halves(texts, |values| cast(&texts(values), &DataType::Binary).unwrap()), ["Utf8", "Binary"]),
    ];
    for (columns, types) in cases {
        let place = with_columns("doc", columns);
        for flag in ["--key-column doc", "--task-column doc"] {
            refused_before_work(&place, flag, &[&both[..], &types].concat());
        }
    }
}

#[test]
fn columns_without_labels_are_refused() {
    let words =
        |half: usize| -> ArrayRef { ints((half * HALF..half * HALF + HALF).map(|row| Some(row as i64)).collect()) };
    let list = |values: ArrayRef| -> ArrayRef {
        let field = Arc::new(Field::new("item", values.data_type().clone(), true));
        Arc::new(FixedSizeListArray::new(field, 1, values, None))
    };
    let record = |values: ArrayRef| -> ArrayRef {
        Arc::new(StructArray::from(vec![(Arc::new(Field::new("a", DataType::Int64, true)), values)]))
    };
    let place = with_columns("doc", [list(words(0)), list(words(1))]);
    refused_before_work(&place, "--task-column doc", &["column doc", "lists of Int64", "one task in a row"]);
    refused_before_work(&place, "--id-column doc", &["column doc", "lists of Int64", "--id-column"]);
    let place = with_columns("doc", [list(list(words(0))), list(list(words(1)))]);
    refused_before_work(&place, "--key-column doc", &["column doc", "no labels", "part-0.parquet"]);
    let place = with_columns("doc", [words(0), record(words(1))]);
    for role in ["key", "task", "id"] {
        refused_before_work(&place, &format!("--{role}-column doc"), &["column doc", "Struct", "part-1.parquet"]);
    }
    refused_before_work(&place, "--key-column query_embedding", &["query_embedding", "embeddings"]);
}

#[test]
fn numbers_that_are_in_one_type_only_are_refused_with_their_row() {
    let floats = |at: usize, value: f64| -> ArrayRef {
        let value = |row| Some(if row == at || row == at + 5 { value } else { row as f64 });
        Arc::new((0..HALF).map(value).collect::<Float64Array>())
    };
    let whole = || ints((0..HALF).map(|row| Some(100 + row as i64)).collect());
    for (value, said) in [(75.25, "75.25"), (1e17, "1e17"), (f64::INFINITY, "inf")] {
        let place = with_columns("doc", [whole(), floats(7, value)]);
        for role in ["key", "task", "id"] {
            let words =
                ["part-1.parquet", "row 7", "column doc", said, "2 values", "Int64", "Float64", "part-0.parquet"];
            mine(&place.input(), &place.path(role), &format!("{FLAGS} --{role}-column doc")).refuses(&words);
        }
    }
    let single: Float32Array = (0..HALF).map(|row| Some(row as f32 + 0.5)).collect();
    let place = with_columns("doc", [Arc::new(single), floats(1, 2.0)]);
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --key-column doc")).refuses(&[
        "part-0.parquet",
        "row 0",
        "0.5",
        "24 values",
        "Float32",
        "Float64",
    ]);
    let lists = ListArray::from_iter_primitive::<Float64Type, _, _>(
        (0..HALF).map(|row| Some([Some(1.0), Some(row as f64 / 2.0)])),
    );
    let place = with_columns("doc", [whole(), Arc::new(lists)]);
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --key-column doc")).refuses(&[
        "part-1.parquet",
        "row 1",
        "0.5",
        "12 values",
        "part-0.parquet",
    ]);
}

#[test]
fn ids_that_cannot_be_are_refused() {
    let numbers = || ints((0..HALF).map(|row| Some(row as i64)).collect());
    let refused = |second: ArrayRef, words: &[&str]| {
        let place = with_columns("id", [numbers(), second]);
        mine(&place.input(), &place.path("run"), FLAGS).refuses(&[&["column id"], words].concat());
    };
    let times: TimestampMillisecondArray = (0..HALF).map(|row| Some(1_700_000_000_000 + row as i64)).collect();
    refused(Arc::new(times), &["Int64", "Timestamp(ms)", "part-0.parquet", "part-1.parquet"]);
    refused(Arc::new((0..HALF).map(|row| Some(row == 1)).collect::<BooleanArray>()), &["Boolean", "--id-column NAME"]);
    let mut floats: Vec<f64> = (HALF..ROWS).map(|row| row as f64).collect();
    floats[4] = 7.0;
    refused(Arc::new(Float64Array::from(floats.clone())), &["two rows have the same id", "id 7", "row 4", "row 7"]);
    floats[4] = f64::NAN;
    refused(Arc::new(Float64Array::from(floats)), &["an id is missing", "a NaN", "1 are NaN", "row 4"]);
    let large: UInt64Array = (0..HALF).map(|row| Some(u64::MAX - row as u64)).collect();
    refused(Arc::new(large), &["int64", "18446744073709551615", "row 0", "strings"]);
    // The second file alone has ids: row numbers must not take their place.
    let place = Place::with(&Dataset { files: 2, ..Dataset::planted(ROWS, 12, 61) });
    add_column(&shard(&place, 1), "id", numbers());
    refused_before_work(
        &place,
        "--seed 1",
        &["some files have ids", "part-0.parquet", "part-1.parquet", "--id-column"],
    );
}

#[test]
fn a_task_that_is_missing_is_refused_with_its_count() {
    let column = |from: usize| -> ArrayRef {
        let value = |row: usize| match row % 8 {
            3 => Some(f64::NAN),
            5 => None,
            _ => Some((row % 2) as f64),
        };
        Arc::new((from..from + HALF).map(value).collect::<Float64Array>())
    };
    let place = with_columns("task", [column(0), column(HALF)]);
    let words = ["column task", "row 3", "a NaN", "of 48 rows 6 are null and 6 are NaN"];
    let input = place.input();
    let plan = ["plan", input.to_str().unwrap(), "--task-column", "task"];
    call(plan.into_iter().chain(FLAGS.split(' '))).refuses(&words);
    mine(&place.input(), &place.path("run"), &format!("{FLAGS} --task-column task")).refuses(&words);
}
