//! Vectors as writers store them are read to the bit: the same rows give the same run whatever holds them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Float64Array,
    Int8Array, Int32Array, Int64Array, ListArray, NullArray, StructArray, UInt8Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Float32Type};
use half::bf16;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::command::{Place, assert_same, call, files, mine};
use super::dataset::{Dataset, write_columns};

/// Puts flat values into a column.
type Wrapper<'a> = &'a dyn Fn(&[f64]) -> ArrayRef;
/// The columns of a file.
type NamedColumns = Vec<(&'static str, ArrayRef)>;

const ROWS: usize = 120;
const DIM: usize = 8;
const FLAGS: &str = "--skip 2 --window 8 --cluster-size 4 --batch-size 16";

/// Whole numbers from −2 to 2: every number type has them.
fn data() -> Dataset {
    Dataset::integers(ROWS, DIM, 5)
}

fn field(data_type: &DataType) -> Arc<Field> {
    Arc::new(Field::new("element", data_type.clone(), true))
}

fn fixed(items: ArrayRef, length: usize) -> ArrayRef {
    Arc::new(FixedSizeListArray::new(field(items.data_type()), length as i32, items, None))
}

fn lists(items: ArrayRef, length: usize) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length, items.len() / length));
    Arc::new(ListArray::new(field(items.data_type()), offsets, items, None))
}

fn of_struct(fields: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let of = |(name, column): (&str, ArrayRef)| (Field::new(name, column.data_type().clone(), true), column);
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = fields.into_iter().map(of).unzip();
    Arc::new(StructArray::new(Fields::from(fields), columns, None))
}

fn floats(values: &[f64]) -> ArrayRef {
    Arc::new(values.iter().map(|value| Some(*value as f32)).collect::<Float32Array>())
}

fn binary(values: &[f64], bytes: impl Fn(f64) -> Vec<u8>) -> Vec<Vec<u8>> {
    values.chunks(DIM).map(|row| row.iter().flat_map(|value| bytes(*value)).collect()).collect()
}

/// A place whose input has both sides in the form that `column` gives flat values.
fn stored(data: &Dataset, column: impl Fn(&[f64]) -> ArrayRef) -> Place {
    let place = Place::empty();
    let sides = [("query_embedding", &data.queries), ("positive_embedding", &data.positives)];
    let columns = sides.map(|(name, rows)| (name, column(&rows.concat()))).to_vec();
    write_columns(&place.input().join("part-0.parquet"), columns);
    place
}

/// What the search found, and what followed, is the same as of plain singles.
#[track_caller]
fn same_as_singles(place: &Place, reference: &Dataset, flags: &str, metric: &str) {
    let plain = Place::with(reference);
    let flags_of = |own: &str| format!("{FLAGS} --metric {metric} {own}");
    mine(&plain.input(), &plain.path("run"), &flags_of("")).ok();
    mine(&place.input(), &place.path("run"), &flags_of(flags)).ok();
    assert_same(&place.path("run"), &plain.path("run"), &["neighbors", "edges", "clusters"]);
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/files").join(name)
}

#[test]
fn number_types() {
    type Column = fn(&[f64]) -> ArrayRef;
    let all: [(&str, Column); 8] = [
        ("", |values| lists(Arc::new(values.iter().map(|v| Some(*v as i8)).collect::<Int8Array>()), DIM)),
        ("", |values| lists(Arc::new(values.iter().map(|v| Some(*v)).collect::<Float64Array>()), DIM)),
        ("--dtype bf16", |values| {
            let rows = binary(values, |value| bf16::from_f64(value).to_le_bytes().to_vec());
            Arc::new(FixedSizeBinaryArray::try_from_iter(rows.into_iter()).unwrap())
        }),
        ("--dtype int8", |values| {
            let rows = binary(values, |value| vec![value as i8 as u8]);
            Arc::new(FixedSizeBinaryArray::try_from_iter(rows.into_iter()).unwrap())
        }),
        ("--dtype f32", |values| {
            let rows = binary(values, |value| (value as f32).to_le_bytes().to_vec());
            Arc::new(BinaryArray::from_iter_values(rows))
        }),
        ("--dtype f64", |values| Arc::new(BinaryArray::from_iter_values(binary(values, |v| v.to_le_bytes().to_vec())))),
        ("--dtype bf16", |values| {
            let rows = binary(values, |value| bf16::from_f64(value).to_le_bytes().to_vec());
            Arc::new(BinaryArray::from_iter_values(rows))
        }),
        ("", |values| fixed(Arc::new(values.iter().map(|v| Some(*v as i8)).collect::<Int8Array>()), DIM)),
    ];
    for (flags, column) in all {
        same_as_singles(&stored(&data(), column), &data(), flags, "dot");
    }
}

#[test]
fn unsigned_bytes_and_scales() {
    let moved = |by: f64, times: f64| {
        let mut data = data();
        let all = data.queries.iter_mut().chain(&mut data.positives);
        all.flatten().for_each(|value| *value = (*value + by) * times);
        data
    };
    let unsigned = |values: &[f64]| -> ArrayRef {
        lists(Arc::new(values.iter().map(|value| Some((*value + 2.0) as u8)).collect::<UInt8Array>()), DIM)
    };
    let signed = |values: &[f64]| -> ArrayRef {
        lists(Arc::new(values.iter().map(|value| Some(*value as i8)).collect::<Int8Array>()), DIM)
    };
    same_as_singles(&stored(&data(), unsigned), &moved(2.0, 1.0), "", "dot");
    same_as_singles(&stored(&data(), unsigned), &moved(2.0, 0.25), "--embedding-scale 0.25", "dot");
    same_as_singles(&stored(&data(), signed), &moved(0.0, 0.5), "--embedding-scale 0.5", "dot");
    same_as_singles(&stored(&data(), signed), &data(), "--embedding-scale 0.5", "cosine");
}

#[test]
fn wrappers() {
    let spark = |values: &[f64]| {
        let rows = values.len() / DIM;
        let nulls = NullBuffer::new_null(rows);
        let none = ListArray::new(
            field(&DataType::Int32),
            OffsetBuffer::from_lengths(vec![0; rows]),
            Arc::new(Int32Array::from(Vec::<i32>::new())),
            Some(nulls),
        );
        of_struct(vec![
            ("type", Arc::new(Int8Array::from(vec![1; rows]))),
            ("size", Arc::new(Int32Array::from(vec![None; rows]))),
            ("indices", Arc::new(none)),
            ("values", lists(Arc::new(values.iter().map(|value| Some(*value)).collect::<Float64Array>()), DIM)),
        ])
    };
    let all: [Wrapper<'_>; 6] = [
        &|values| lists(of_struct(vec![("element", floats(values))]), DIM),
        &|values| of_struct(vec![("vector", lists(floats(values), DIM))]),
        &|values| lists(lists(floats(values), DIM), 1),
        &|values| fixed(fixed(floats(values), DIM), 1),
        &|values| lists(lists(lists(floats(values), DIM), 1), 1),
        &spark,
    ];
    for column in all {
        same_as_singles(&stored(&data(), column), &data(), "", "cosine");
    }
}

#[test]
fn a_file_of_duckdb_before_its_arrays_were_lists() {
    let place = Place::empty();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(fixture("duckdb-1.1.3-array.parquet")).unwrap());
    let batch = reader.unwrap().with_batch_size(1 << 20).build().unwrap().next().unwrap().unwrap();
    let plain = |name: &str| {
        let values = batch.column_by_name(name).unwrap().as_list::<i32>().values().clone();
        let values = values.as_struct().column(0).as_primitive::<Float32Type>().clone();
        (0..batch.num_rows())
            .map(|row| values.values()[16 * row..][..16].iter().map(|v| f64::from(*v)).collect())
            .collect::<Vec<Vec<f64>>>()
    };
    let reference = Dataset::of(16, plain("query_embedding"), plain("positive_embedding"));
    fs::create_dir(place.input()).unwrap();
    fs::copy(fixture("duckdb-1.1.3-array.parquet"), place.input().join("a.parquet")).unwrap();
    same_as_singles(&place, &reference, "", "cosine");
}

#[test]
fn a_file_of_spark() {
    let place = Place::empty();
    mine(&fixture("spark-vectorudt.parquet"), &place.path("run"), FLAGS).ok();
    let run = place.path("run");
    let said = call(["inspect", run.to_str().unwrap(), "--rows", "0..1", "--vectors", "--json"]).ok().stdout;
    let line: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(line["query"][0].as_f64().unwrap() as f32, -1.060_643_7);
    assert_eq!(line["positive"][15].as_f64().unwrap() as f32, 0.250_374_14);
}

#[test]
fn a_sparse_vector_is_named() {
    let place = Place::empty();
    let kinds = |rows: usize| Arc::new((0..rows).map(|row| Some(i8::from(row != 17))).collect::<Int8Array>());
    let column = |values: &[f64]| {
        let rows = values.len() / DIM;
        let values: ArrayRef = Arc::new(values.iter().map(|value| Some(*value)).collect::<Float64Array>());
        of_struct(vec![
            ("type", kinds(rows)),
            ("size", Arc::new(Int32Array::from(vec![DIM as i32; rows]))),
            ("indices", lists(Arc::new(Int32Array::from(vec![0; rows])), 1)),
            ("values", lists(values, DIM)),
        ])
    };
    let sides = [("query_embedding", data().queries), ("positive_embedding", data().positives)];
    let sides = sides.map(|(name, rows)| (name, column(&rows.concat()))).to_vec();
    write_columns(&place.input().join("part-0.parquet"), sides);
    let words = ["a vector is sparse", "part-0.parquet", "row 17", "--bad-rows"];
    mine(&place.input(), &place.path("run"), FLAGS).refuses(&words);
}

#[test]
fn what_a_type_does_not_say_is_refused_before_work() {
    let bytes = |values: &[f64]| -> ArrayRef {
        let rows = binary(values, |value| bf16::from_f64(value).to_le_bytes().to_vec());
        Arc::new(FixedSizeBinaryArray::try_from_iter(rows.into_iter()).unwrap())
    };
    let refused = |place: &Place, flags: &str, words: &[&str]| {
        let run = place.path("run");
        mine(&place.input(), &run, &format!("{FLAGS} {flags}")).refuses(words);
        assert!(!run.exists(), "{flags}");
    };
    refused(&stored(&data(), bytes), "", &["query_embedding", "--dtype bf16", "int8"]);
    refused(&stored(&data(), bytes), "--dtype f32 --embedding-scale 2", &["--embedding-scale"]);
    refused(&Place::with(&data()), "--dtype f32", &["--dtype f32", "part-0.parquet", "leave --dtype out"]);
    refused(&Place::with(&data()), "--embedding-scale 0.5", &["--embedding-scale 0.5"]);
    refused(&Place::with(&data()), "--embedding-scale 0", &["above zero"]);
    let integers = |values: &[f64]| -> ArrayRef {
        lists(Arc::new(values.iter().map(|value| Some(*value as i64)).collect::<Int64Array>()), DIM)
    };
    refused(&stored(&data(), integers), "", &["query_embedding", "Int64", "int8"]);
    let two = |values: &[f64]| lists(lists(floats(values), DIM / 2), 2);
    mine(&stored(&data(), two).input(), &Place::empty().path("run"), FLAGS).refuses(&[
        "not exactly one embedding",
        "column query_embedding",
        "row 0",
        "a list of 2 vectors",
    ]);
}

#[test]
fn an_empty_shard_says_nothing() {
    for name in ["part-a.parquet", "part-z.parquet"] {
        let place = Place::with(&data().with_tasks(|row| format!("task {}", row % 2)).with_text_ids());
        let nothing = || -> ArrayRef { Arc::new(NullArray::new(0)) };
        let columns = ["id", "task", "query_embedding", "positive_embedding"].map(|name| (name, nothing())).to_vec();
        write_columns(&place.input().join(name), columns);
        mine(&place.input(), &place.path("run"), &format!("{FLAGS} --task-column task")).ok();
    }
    // A shard without the columns, too; and one of nulls has rows that cannot be used.
    let place = Place::with(&data());
    write_columns(&place.input().join("part-a.parquet"), vec![("other", Arc::new(NullArray::new(0)))]);
    mine(&place.input(), &place.path("run"), FLAGS).ok();
    let columns = ["query_embedding", "positive_embedding"].map(|name| (name, Arc::new(NullArray::new(3)) as ArrayRef));
    write_columns(&place.input().join("part-z.parquet"), columns.to_vec());
    mine(&place.input(), &place.path("nulls"), FLAGS).refuses(&[
        "3 rows",
        "part-z.parquet",
        "3 null in query_embedding",
    ]);
    mine(&place.input(), &place.path("dropped"), &format!("{FLAGS} --bad-rows drop")).ok();
}

#[test]
fn a_page_whose_checksum_does_not_fit() {
    let words = ["page-crc-flipped.parquet", "column query_embedding, row group 0", "CRC"];
    mine(&fixture("page-crc-flipped.parquet"), &Place::empty().path("run"), FLAGS).refuses(&words);
}

#[test]
fn a_column_that_is_there_twice() {
    let plain = |rows: Vec<Vec<f64>>| lists(floats(&rows.concat()), DIM);
    let (query, positive) = (plain(data().queries), plain(data().positives));
    let ids = |from: i64| -> ArrayRef { Arc::new((from..from + ROWS as i64).map(Some).collect::<Int64Array>()) };
    let both = || vec![("query_embedding", query.clone()), ("positive_embedding", positive.clone())];
    let cases: [(NamedColumns, &str, &str); 4] = [
        ([both(), vec![("query_embedding", positive.clone())]].concat(), "", "query_embedding"),
        ([both(), vec![("id", ids(0)), ("id", ids(5))]].concat(), "", "id"),
        ([both(), vec![("doc", ids(0)), ("doc", ids(5))]].concat(), "--key-column doc", "doc"),
        ([both(), vec![("doc", ids(0)), ("doc", ids(5))]].concat(), "--task-column doc", "doc"),
    ];
    for (columns, flags, name) in cases {
        let place = Place::empty();
        write_columns(&place.input().join("part-0.parquet"), columns);
        let column = format!("column {name}");
        let words = ["more than once", "part-0.parquet", column.as_str()];
        mine(&place.input(), &place.path("run"), &format!("{FLAGS} {flags}")).refuses(&words);
    }
    // Nobody asks for it: it cannot be misread.
    let place = Place::empty();
    write_columns(&place.input().join("part-0.parquet"), [both(), vec![("doc", ids(0)), ("doc", ids(5))]].concat());
    mine(&place.input(), &place.path("run"), FLAGS).ok();
    assert!(!files(&place.path("run"), &["batches"]).is_empty());
}
