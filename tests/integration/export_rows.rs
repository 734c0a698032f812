//! What `export` does with rows and columns that a trainer cannot take as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, NullArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use serde_json::Value;

use super::command::{Place, export, mine};
use super::dataset::{Dataset, write_columns};
use super::exported::{Told, column, expected, keep_negatives, lines, parquet, strings, told};
use super::table;

const FLAGS: &str = "--skip 3 --window 30 --cluster-size 4 --batch-size 16 --hard-negatives 3";

/// Two tasks, and a key that pairs of rows share: rows 0 and 2, 1 and 3, 4 and 6, …
fn pairs() -> Dataset {
    Dataset::planted(203, 16, 91)
        .with_tasks(|row| ["news", "wiki"][row % 2].into())
        .with_key(|row| Some(key(row)))
        .with_text("query", |row| Some(format!("question {row}")))
        .with_text("positive", |row| Some(format!("answer {row}")))
}

fn key(row: usize) -> String {
    format!("{} {}", row % 2, row / 4)
}

#[test]
fn rows_without_negatives_get_those_of_their_batch_and_no_batch_changes() {
    let place = Place::with(&pairs());
    let run = place.path("run");
    // Two rows of a key may share a batch.
    mine(&place.input(), &run, &format!("{FLAGS} --rows-per-key 2 --task-column task --key-column key0")).ok();
    let none = |row: usize| row.is_multiple_of(5);
    keep_negatives(&run, |row| if none(row) { 0 } else { 1 + row % 3 });
    let table = table::read(&run);
    let row_of: BTreeMap<String, usize> = (0..203).map(|row| (format!("answer {row}"), row)).collect();
    let mates = |row: usize| {
        let batch = table.iter().find(|other| other.row == row).unwrap().batch;
        table.iter().filter(move |other| other.batch == batch).map(|other| other.row).collect::<Vec<_>>()
    };
    assert!(
        table
            .iter()
            .any(|row| none(row.row) && mates(row.row).iter().any(|m| *m != row.row && key(*m) == key(row.row)))
    );
    for format in ["sentence-transformers", "flagembedding", "tevatron"] {
        let out = place.path(format);
        let said = export(&run, format, &out, "").ok().stderr;
        // Batches, queries and positives are those of the table, one for one.
        let wanted = expected(format, &table, &place.input(), |_| Vec::new());
        let found = told(&out, format, 16);
        let sides = |batches: &[Vec<Told>]| -> Vec<Vec<(String, String)>> {
            batches.iter().map(|batch| batch.iter().map(|(q, p, _)| (q.clone(), p.clone())).collect()).collect()
        };
        assert_eq!(sides(&found), sides(&wanted), "{format}");
        let mut filled = 0;
        for (_, own, negatives) in found.iter().flatten() {
            let row = row_of[own];
            let rows: Vec<usize> = negatives.iter().map(|text| row_of[text]).collect();
            assert!(
                !rows.is_empty() && rows.iter().all(|other| *other != row && key(*other) != key(row)),
                "{format}: {row}"
            );
            if none(row) {
                filled += 1;
                assert!(rows.len() == 3 && rows.iter().all(|other| mates(row).contains(other)), "{format}: {rows:?}");
            }
        }
        assert!(filled > 20, "{filled}");
        assert!(said.contains(&format!("{filled} rows have no hard negative: they got")), "{said}");
        let record: Value = serde_json::from_slice(&fs::read(out.join("_export.json")).unwrap()).unwrap();
        assert_eq!(record["negatives-filled"].as_u64(), Some(filled));
        assert_eq!(record["negatives-without"].as_u64(), Some(filled));
        let short = found.iter().flatten().filter(|(_, own, _)| {
            let row = row_of[own];
            none(row) || row % 3 < 2
        });
        assert_eq!(record["negatives-short"].as_u64(), Some(short.count() as u64));
        let again = export(&run, format, &out, "").ok().stderr;
        assert!(again.contains("already"), "{again}");
        export(&run, format, &place.path(&format!("{format}-0")), "--negatives 0").ok();
    }
    // The score of a given negative is that of the query with it.
    let batch = lines(&place.path("flagembedding/data/batch-00000000.jsonl"));
    for line in &batch {
        let (given, scores) = (line["neg"].as_array().unwrap(), line["neg_scores"].as_array().unwrap());
        assert_eq!(given.len(), scores.len());
        assert!(scores.iter().all(|score| score.as_f64().unwrap().abs() <= 1.0001));
    }
    // These trainers read rows without.
    for format in ["swift", "arctic", "b3"] {
        let out = place.path(format);
        let said = export(&run, format, &out, "").ok().stderr;
        assert!(said.contains("have no hard negative, and are written without"), "{said}");
        let rows = told(&out, format, if format == "b3" { 4 } else { 16 });
        let empty = rows.iter().flatten().filter(|(_, own, _)| none(row_of[own]));
        assert!(empty.clone().count() > 0 && empty.clone().all(|(.., negatives)| negatives.is_empty()), "{format}");
    }
    keep_negatives(&run, |_| 0);
    let said = export(&run, "tevatron", &place.path("no negatives"), "").ok().stderr;
    assert!(said.contains("no row of these batches has a hard negative"), "{said}");
}

/// Writes a file of a folder again, with some columns put in the place of others or beside them.
fn with_columns(folder: &Path, columns: Vec<(&str, ArrayRef)>) {
    let path = folder.join("part-0.parquet");
    let rows = parquet(&path);
    let schema = rows.schema();
    let fields = schema.fields().iter().map(|field| field.name().as_str()).zip(rows.columns().iter().cloned());
    let mut all: Vec<(&str, ArrayRef)> =
        fields.filter(|(name, _)| !columns.iter().any(|(new, _)| new == name)).collect();
    all.extend(columns);
    write_columns(&path, all);
}

/// A run of 80 rows, some of whose columns are others.
fn mined(columns: Vec<(&str, ArrayRef)>) -> (Place, PathBuf) {
    let data = Dataset::planted(80, 16, 5).with_text("query", |row| Some(format!("question {row}")));
    let place = Place::with(&data.with_text("positive", |row| Some(format!("answer {row}"))));
    with_columns(&place.input(), columns);
    let run = place.path("run");
    mine(&place.input(), &run, "--skip 3 --window 12 --cluster-size 4 --batch-size 16").ok();
    (place, run)
}

fn numbers() -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(0..80))
}

fn texts(name: &str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..80).map(|row| format!("{name} {row}"))))
}

fn lists() -> ArrayRef {
    let field = Arc::new(Field::new("item", DataType::Utf8, true));
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([1; 80]), texts("answer"), None))
}

#[test]
fn a_column_of_a_usual_name_and_another_type_is_named_with_its_type() {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Int64));
    let cases: [(&str, ArrayRef, [&str; 3]); 5] = [
        ("query", numbers(), ["column query", "Int64", "--query-text"]),
        ("positive", lists(), ["column positive", "List", "one text of each list"]),
        ("query", cast(&texts("q"), &DataType::Binary).unwrap(), ["column query", "Binary", "UTF-8"]),
        ("positive", Arc::new(NullArray::new(80)), ["column positive", "Null", "--positive-text"]),
        ("positive", cast(&numbers(), &dictionary).unwrap(), ["column positive", "Dictionary", "no texts"]),
    ];
    for (name, array, words) in cases {
        let (place, run) = mined(vec![(name, array)]);
        export(&run, "swift", &place.path("out"), "").refuses(&[&["not a column of texts"], &words[..]].concat());
        let named = format!("--{name}-text {name}");
        export(&run, "swift", &place.path("out"), &named).refuses(&words[..2]);
    }
    // Another column of texts stands in for numbers, and not for a list of texts.
    let (place, run) = mined(vec![("query", numbers()), ("query_text", texts("other"))]);
    export(&run, "swift", &place.path("out"), "").ok();
    assert!(lines(&place.path("out/train.jsonl"))[0]["messages"][0]["content"].as_str().unwrap().starts_with("other "));
    let (place, run) = mined(vec![("positive", lists()), ("answer", texts("other"))]);
    export(&run, "swift", &place.path("out"), "").refuses(&["column positive", "List"]);
    export(&run, "swift", &place.path("out"), "--positive-text answer").ok();
}

#[test]
fn image_paths_that_are_no_strings_are_refused_by_the_format_that_has_them() {
    for name in ["qry_image_path", "pos_image_path"] {
        let (place, run) = mined(vec![(name, numbers())]);
        export(&run, "b3", &place.path("b3"), "").refuses(&["image paths", name, "Int64"]);
        export(&run, "swift", &place.path("swift"), "").ok();
    }
    let large = cast(&texts("image"), &DataType::LargeUtf8).unwrap();
    let (place, run) = mined(vec![("pos_image_path", large)]);
    export(&run, "b3", &place.path("b3"), "").ok();
    let task = parquet(&place.path("b3/all/train-00000-of-00001.parquet"));
    let answers = strings(&task, "pos_text");
    let paths: Vec<String> = answers.iter().map(|text| text.replace("answer", "image")).collect();
    assert_eq!(strings(&task, "pos_image_path"), paths);
}

#[test]
fn files_may_differ_in_how_they_store_strings_and_empty_ones_in_everything() {
    let (place, run) = mined(Vec::new());
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    let half = |name: &str, at: usize, kind: &DataType| cast(&texts(name).slice(at, 40), kind).unwrap();
    for (file, kind) in [DataType::Utf8, DataType::LargeUtf8].iter().enumerate() {
        let names = [("query", "question"), ("positive", "answer"), ("origin", "site")];
        let columns = names.map(|(name, text)| (name, half(text, 40 * file, kind))).to_vec();
        let mixed: ArrayRef = if file == 0 { numbers().slice(0, 40) } else { half("x", 0, kind) };
        write_columns(&source.join(format!("{file}.parquet")), [columns, vec![("mixed", mixed)]].concat());
    }
    write_columns(&source.join("2.parquet"), vec![("query", Arc::new(NullArray::new(0)))]);
    let flags = format!("--source {}", source.display());
    let said = export(&run, "b3", &place.path("b3"), &flags).ok().stderr;
    assert!(said.contains("not copied") && said.contains("mixed"), "{said}");
    let task = parquet(&place.path("b3/all/train-00000-of-00001.parquet"));
    let origins: Vec<String> = strings(&task, "qry").iter().map(|text| text.replace("question", "site")).collect();
    assert_eq!(strings(&task, "origin"), origins);
    assert!(task.column_by_name("mixed").is_none());
    assert_eq!(column(&place.input(), "query").len(), 80);
    export(&run, "swift", &place.path("swift"), &flags).ok();
}
